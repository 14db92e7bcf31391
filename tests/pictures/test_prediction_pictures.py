"""Pictures of predictions: forecasts, residuals, worst mistakes; importance of columns."""

from dataclasses import replace

import numpy as np
import pytest
from drawn import figure_of, legend_of, lines_of, names_of, picture, reason
from findings_made import made_findings, with_test

from pipeline.findings import ColumnImportances, Findings, Mistakes, TestRows


def several_steps(*, channels: int, horizon: int, rows: int = 60) -> Findings:
    """Findings whose value at time t is t + 1000 for each channel, forecast 0.5 too high."""
    names = tuple(f"channel {index}" for index in range(channels))
    numbers = np.arange(100, 100 + rows)
    steps = np.repeat(np.arange(horizon), channels)
    offsets = np.tile(1000 * np.arange(channels), horizon)
    targets = (numbers[:, None] + steps + offsets).astype(np.float64)
    test = TestRows(rows=numbers, targets=targets, outputs=targets + 0.5, naive=targets - 1)
    findings = made_findings(task="regression", kind="series")
    return replace(findings, targets=names, features=names, horizon=horizon, test=test)


def test_a_forecast_of_one_step_lies_beside_the_truth_and_the_naive_one() -> None:
    findings = made_findings(task="regression", kind="series", rows=80)
    test = findings.test
    with figure_of(findings, "forecast/truth") as figure:
        drawn = lines_of(figure.axes[0])
    held = {"truth": test.targets, "network": test.outputs, "naive": test.naive}
    assert set(drawn) == set(held)
    for name, values in held.items():
        assert drawn[name].get_xdata().tolist() == test.rows.tolist()
        np.testing.assert_allclose(drawn[name].get_ydata(), values[:, 0])
    # Of many rows the last are shown.
    findings = made_findings(task="regression", kind="series", rows=1234)
    with figure_of(findings, "forecast/truth") as figure:
        assert figure.axes[0].get_title() == "the last 200 of 1,234 test rows"
        assert len(lines_of(figure.axes[0])["truth"].get_xdata()) == 200


def test_a_line_is_broken_where_rows_are_missing() -> None:
    findings = made_findings(task="regression", kind="series", rows=30)
    keys, kept = ("rows", "targets", "outputs", "naive"), np.r_[0:10, 20:30]
    halves = with_test(findings, **{key: getattr(findings.test, key)[kept] for key in keys})
    with figure_of(halves, "forecast/truth") as figure:
        values = np.asarray(lines_of(figure.axes[0])["network"].get_ydata(), dtype=float)
    assert np.flatnonzero(np.isnan(values)).tolist() == [10]
    assert len(values) == 21


def test_forecasts_of_several_steps_follow_the_truth_that_came_before() -> None:
    findings = several_steps(channels=1, horizon=5)
    with figure_of(findings, "forecast/truth") as figure:
        assert len(figure.axes) == 4
        for axes in figure.axes[1:]:
            drawn = lines_of(axes)
            start = drawn["network"].get_xdata()[0]
            assert drawn["network"].get_xdata().tolist() == [start + step for step in range(5)]
            np.testing.assert_allclose(drawn["network"].get_ydata(), start + np.arange(5) + 0.5)
            (before,) = [line for line in axes.lines if len(line.get_xdata()) == 11]
            np.testing.assert_allclose(before.get_xdata(), np.arange(start - 10, start + 1))
            np.testing.assert_allclose(before.get_ydata(), before.get_xdata())


def test_channels_that_are_forecast_together_are_told_apart() -> None:
    findings = several_steps(channels=2, horizon=3)
    with figure_of(findings, "forecast/truth") as figure:
        rows = np.asarray(figure.axes).reshape(2, 2)
        for channel, (left, right) in enumerate(rows):
            assert left.get_ylabel() == f"channel {channel}\n(kW)"
            drawn = lines_of(right)["network"]
            expected = drawn.get_xdata() + 1000 * channel + 0.5
            np.testing.assert_allclose(drawn.get_ydata(), expected)


def test_independent_rows_are_a_cloud_of_predicted_over_true_values() -> None:
    findings = made_findings(task="regression", rows=50)
    test = findings.test
    with figure_of(findings, "forecast/truth") as figure:
        (axes,) = figure.axes
        points = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(points, np.column_stack([test.targets, test.outputs]))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true (kW)", "predicted (kW)")


@pytest.mark.parametrize("kind", ["table", "series"])
def test_residuals_are_counted_and_drawn_over_time_or_prediction(kind: str) -> None:
    findings = made_findings(task="regression", kind=kind, rows=90)
    test = findings.test
    off = (test.outputs - test.targets).ravel()
    with figure_of(findings, "forecast/residuals") as figure:
        cloud, counts = figure.axes
        points = np.asarray(cloud.collections[0].get_offsets())
        counted = sum(bar.get_width() for bar in counts.patches if hasattr(bar, "get_width"))
        assert legend_of(figure) == ["network", "naive"]
    across = test.rows if kind == "series" else test.outputs.ravel()
    np.testing.assert_allclose(points, np.column_stack([across, off]), atol=1e-5)
    assert counted == 90
    told = picture(findings, "forecast/residuals").alt
    assert f"median {np.median(off):.4f}" in told


def test_rows_of_which_no_number_was_said_are_left_out_and_all_of_them_are_a_reason() -> None:
    findings = made_findings(task="regression", rows=20)
    outputs = findings.test.outputs.copy()
    outputs[:5] = np.nan
    with figure_of(with_test(findings, outputs=outputs), "forecast/truth") as figure:
        assert len(figure.axes[0].collections[0].get_offsets()) == 15
    none = with_test(findings, outputs=np.full_like(outputs, np.nan))
    for name in ("truth", "residuals"):
        assert reason(none, f"forecast/{name}") == "no prediction of a test row is a number"


def test_a_single_test_row_can_be_drawn() -> None:
    for kind in ("table", "series"):
        findings = made_findings(task="regression", kind=kind, rows=1)
        for name in ("truth", "residuals"):
            with figure_of(findings, f"forecast/{name}") as figure:
                figure.canvas.draw()


def importances(falls: np.ndarray, names: tuple[str, ...] | None = None) -> ColumnImportances:
    names = names or tuple(f"column {index}" for index in range(len(falls)))
    return ColumnImportances(metric="f1", part="validation", columns=names, falls=falls)


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
        told = figure.axes[0].get_title(loc="left")
    assert told.startswith("Of 10,000 columns 30 were measured each")


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
    found = findings.test.worst(findings.threshold, count=len(inputs))
    return replace(findings, mistakes=Mistakes(positions=found, inputs=inputs[: len(found)]))


def test_an_image_is_shown_with_both_classes_and_their_probabilities() -> None:
    findings = with_mistakes(made_findings(kind="images", classes=5), np.random.rand(4, 1, 6, 9))
    test = findings.test
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


def test_the_rows_of_a_table_have_no_looks_and_classes_no_forecast() -> None:
    for folder in ("mistakes", "forecast"):
        assert names_of(made_findings(kind="table"), folder) == []
