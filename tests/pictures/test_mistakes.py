"""The worst mistakes: which rows they are, and how they are shown."""

from dataclasses import replace

import numpy as np
import pytest
from drawn import figure_of, lines_of, names_of, picture
from findings_made import made_findings

from pipeline.findings.records import Findings, Mistakes, TestRows
from pipeline.mistakes import worst
from pipeline.pictures.picture import NotDrawnError


def test_rows_of_which_the_true_class_was_least_probable_are_the_worst() -> None:
    outputs = np.array([[0.1, 0.9, 0], [0.6, 0.4, 0], [0.5, 0.3, 0.2], [1.0, 0, 0]])
    test = TestRows(rows=np.arange(4), targets=np.array([0, 0, 2, 1]), outputs=outputs)
    # Row 1 is right; the true classes of the others were said with 0.1, 0.2 and 0.
    assert worst(test, threshold=0.5, count=8).tolist() == [3, 0, 2]
    assert worst(test, threshold=0.5, count=2).tolist() == [3, 0]


def test_in_a_binary_task_the_threshold_says_what_is_a_mistake() -> None:
    test = TestRows(
        rows=np.arange(4),
        targets=np.array([1, 1, 0, 0]),
        outputs=np.array([0.7, 0.95, 0.85, 0.2]),
    )
    assert worst(test, threshold=0.5, count=8).tolist() == [2]
    assert worst(test, threshold=0.8, count=8).tolist() == [2, 0]
    assert worst(test, threshold=1.0, count=8).tolist() == [0, 1]


def test_an_error_counts_in_deviations_of_its_own_target() -> None:
    targets = np.column_stack([np.arange(10.0), 1000 * np.arange(10.0)])
    outputs = targets.copy()
    outputs[3, 1] += 900  # less than one step of a thousand
    outputs[6, 0] -= 2  # two steps
    test = TestRows(rows=np.arange(10), targets=targets, outputs=outputs)
    assert worst(test, threshold=0.5, count=5).tolist() == [6, 3]


def test_rows_of_which_no_number_was_said_are_the_worst_of_all() -> None:
    values = np.array([[1.0], [2.0], [3.0]])
    outputs = np.array([[9.0], [np.nan], [3.0]])
    test = TestRows(rows=np.arange(3), targets=values, outputs=outputs)
    assert worst(test, threshold=0.5, count=5).tolist() == [1, 0]
    shares = np.array([[0.9, 0.1], [np.nan, np.nan], [0.2, 0.8]])
    test = TestRows(rows=np.arange(3), targets=np.array([1, 0, 1]), outputs=shares)
    assert worst(test, threshold=0.5, count=5).tolist() == [1, 0]


def test_a_value_that_nobody_knows_is_no_mistake_and_no_rows_have_none() -> None:
    targets = np.array([[1.0], [np.nan], [1.0]])
    test = TestRows(rows=np.arange(3), targets=targets, outputs=np.array([[1.0], [2.0], [4.0]]))
    assert worst(test, threshold=0.5, count=5).tolist() == [2]
    nothing = np.empty((0, 1))
    empty = TestRows(rows=np.arange(0), targets=nothing, outputs=nothing)
    assert worst(empty, threshold=0.5, count=5).tolist() == []


def shown(findings: Findings, inputs: np.ndarray) -> Findings:
    assert findings.test is not None
    found = worst(findings.test, threshold=findings.threshold, count=len(inputs))
    return replace(findings, mistakes=Mistakes(positions=found, inputs=inputs[: len(found)]))


def test_an_image_is_shown_with_both_classes_and_their_probabilities() -> None:
    findings = shown(made_findings(kind="images", classes=5), np.random.rand(4, 1, 6, 9))
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
    findings = shown(made_findings(kind="images"), inputs)
    with figure_of(findings, "mistakes/worst") as figure:
        pixels = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(pixels, inputs[0].transpose(1, 2, 0) / 255)


def test_a_series_is_shown_with_a_line_for_each_feature() -> None:
    findings = shown(made_findings(kind="series", task="binary"), np.random.rand(3, 24, 2))
    assert findings.mistakes is not None
    with figure_of(findings, "mistakes/worst") as figure:
        drawn = lines_of(figure.axes[2])
    for index, name in enumerate(("load", "wind")):
        expected = findings.mistakes.inputs[2, :, index]
        np.testing.assert_allclose(drawn[name].get_ydata(), expected)


def test_a_forecast_is_shown_after_its_window_with_the_truth() -> None:
    findings = shown(made_findings(kind="series", task="regression"), np.random.rand(2, 24, 2))
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
    message = "^no test row was mistaken$"
    with (
        pytest.raises(NotDrawnError, match=message),
        figure_of(findings, "mistakes/worst"),
    ):
        pass


def test_the_rows_of_a_table_have_no_looks() -> None:
    assert names_of(made_findings(kind="table"), "mistakes") == []
