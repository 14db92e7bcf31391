"""Pictures of a network's worst mistakes and of the importance of columns."""

from dataclasses import replace

import numpy as np
import pytest
from drawn import figure_of, lines_of, names_of, picture, reason
from findings_made import made_findings

from pipeline.findings import Findings, Importances, Mistakes
from pipeline.mistakes import worst


def importances(falls: np.ndarray, names: tuple[str, ...] | None = None) -> Importances:
    names = names or tuple(f"column {index}" for index in range(len(falls)))
    return Importances(metric="f1", part="validation", columns=names, falls=falls)


def test_the_bars_are_the_means_of_the_repeats_the_most_important_first() -> None:
    falls = np.array([[0.1, 0.3], [0.5, 0.7], [-0.1, 0.1]])
    findings = made_findings(importances=importances(falls, ("low", "high", "none")))
    with figure_of(findings, "columns/importance") as figure:
        (axes,) = figure.axes
        assert [text.get_text() for text in axes.get_yticklabels()] == ["high", "low", "none"]
        assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.6, 0.2, 0])
        dots = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(dots[:, 0], [0.5, 0.7, 0.1, 0.3, -0.1, 0.1])
    told = picture(findings, "columns/importance").alt
    assert "most for: high 0.6000, low 0.2000, none 0.0000" in told


def test_of_many_columns_twenty_are_drawn_and_the_title_says_what_was_measured() -> None:
    falls = np.random.default_rng(0).random((10_000, 5))
    all_measured = made_findings(importances=importances(falls))
    with figure_of(all_measured, "columns/importance") as figure:
        (axes,) = figure.axes
        assert len(axes.patches) == 20
        assert axes.get_title(loc="left") == "The 20 most important of 10,000 columns."
    falls[30:] = np.nan
    some = made_findings(importances=importances(falls))
    with figure_of(some, "columns/importance") as figure:
        assert (
            figure.axes[0]
            .get_title(loc="left")
            .startswith("Of 10,000 columns 30 were measured each")
        )


@pytest.mark.parametrize(
    ("fall", "message"),
    [
        (np.nan, "no column has an importance: f1 is no number"),
        (0.0, "no column alone changes f1 on the validation rows"),
    ],
)
def test_importances_that_tell_nothing_are_named_as_the_reason(fall: float, message: str) -> None:
    findings = made_findings(importances=importances(np.full((3, 5), fall)))
    assert reason(findings, "columns/importance") == message


def with_mistakes(findings: Findings, inputs: np.ndarray) -> Findings:
    assert findings.test is not None
    found = worst(findings.test, threshold=findings.threshold, count=len(inputs))
    return replace(findings, mistakes=Mistakes(positions=found, inputs=inputs[: len(found)]))


def test_an_image_is_shown_with_both_classes_and_their_probabilities() -> None:
    findings = with_mistakes(made_findings(kind="images", classes=5), np.random.rand(4, 1, 6, 9))
    test = findings.test
    assert test is not None
    assert findings.mistakes is not None
    with figure_of(findings, "mistakes/worst") as figure:
        titles = [axes.get_title() for axes in figure.axes]
        pixels = np.asarray(figure.axes[1].images[0].get_array())
    for title, at in zip(titles, findings.mistakes.positions, strict=True):
        true, said = test.targets[at], test.outputs[at].argmax()
        assert true != said
        assert title == (
            f"true: class {true} ({test.outputs[at, true]:.0%})\n"
            f"said: class {said} ({test.outputs[at, said]:.0%})"
        )
    np.testing.assert_allclose(pixels, findings.mistakes.inputs[1, 0])


def test_bytes_of_three_channels_are_a_picture_in_its_own_colours() -> None:
    inputs = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    findings = with_mistakes(made_findings(kind="images"), inputs)
    with figure_of(findings, "mistakes/worst") as figure:
        pixels = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(pixels, inputs[0].transpose(1, 2, 0) / 255)


def test_a_series_is_shown_with_a_line_for_each_feature() -> None:
    findings = with_mistakes(made_findings(kind="series", task="binary"), np.random.rand(3, 24, 2))
    assert findings.mistakes is not None
    with figure_of(findings, "mistakes/worst") as figure:
        drawn = lines_of(figure.axes[2])
    for index, name in enumerate(("load", "wind")):
        expected = findings.mistakes.inputs[2, :, index]
        np.testing.assert_allclose(drawn[name].get_ydata(), expected)


def test_a_forecast_is_shown_after_its_window_with_the_truth() -> None:
    findings = with_mistakes(
        made_findings(kind="series", task="regression"), np.random.rand(2, 24, 2)
    )
    test = findings.test
    assert test is not None
    assert findings.mistakes is not None
    at = findings.mistakes.positions[0]
    with figure_of(findings, "mistakes/worst") as figure:
        drawn = lines_of(figure.axes[0])
        window = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(window, findings.mistakes.inputs[0, :, 0])  # `load` alone
    for name, values in (("truth", test.targets), ("network", test.outputs)):
        assert drawn[name].get_xdata().tolist() == [24]
        np.testing.assert_allclose(drawn[name].get_ydata(), values[at])


def test_a_test_without_mistakes_says_so_in_place_of_a_picture() -> None:
    nothing = Mistakes(positions=np.arange(0), inputs=np.empty((0, 1, 8, 8)))
    findings = made_findings(kind="images", mistakes=nothing)
    assert picture(findings, "mistakes/worst").alt == "No test row was mistaken."
    assert reason(findings, "mistakes/worst") == "no test row was mistaken"


def test_the_rows_of_a_table_have_no_looks() -> None:
    assert names_of(made_findings(kind="table"), "mistakes") == []
