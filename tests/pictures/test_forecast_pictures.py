"""Pictures of a regression: forecasts over time, clouds of independent rows, residuals."""

from dataclasses import replace

import numpy as np
import pytest
from drawn import figure_of, legend_of, lines_of, names_of, picture, reason
from findings_made import made_findings

from pipeline.findings import Findings, TestRows


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
    assert test is not None
    assert test.naive is not None
    with figure_of(findings, "forecast/truth") as figure:
        drawn = lines_of(figure.axes[0])
    held = {"truth": test.targets, "network": test.outputs, "naive": test.naive}
    assert set(drawn) == set(held)
    for name, values in held.items():
        assert drawn[name].get_xdata().tolist() == test.rows.tolist()
        np.testing.assert_allclose(drawn[name].get_ydata(), values[:, 0])


def test_of_many_rows_the_last_are_shown_and_the_title_says_so() -> None:
    findings = made_findings(task="regression", kind="series", rows=1234)
    with figure_of(findings, "forecast/truth") as figure:
        assert figure.axes[0].get_title() == "the last 200 of 1,234 test rows"
        assert len(lines_of(figure.axes[0])["truth"].get_xdata()) == 200


def test_a_line_is_broken_where_rows_are_missing() -> None:
    findings = made_findings(task="regression", kind="series", rows=30)
    test = findings.test
    assert test is not None
    kept = np.r_[0:10, 20:30]
    halves = TestRows(rows=test.rows[kept], targets=test.targets[kept], outputs=test.outputs[kept])
    with figure_of(replace(findings, test=halves), "forecast/truth") as figure:
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
    assert test is not None
    with figure_of(findings, "forecast/truth") as figure:
        (axes,) = figure.axes
        points = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(points, np.column_stack([test.targets, test.outputs]))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true (kW)", "predicted (kW)")


@pytest.mark.parametrize("kind", ["table", "series"])
def test_residuals_are_counted_and_drawn_over_time_or_prediction(kind: str) -> None:
    findings = made_findings(task="regression", kind=kind, rows=90)  # type: ignore[arg-type] # a string
    test = findings.test
    assert test is not None
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
    test = findings.test
    assert test is not None
    outputs = test.outputs.copy()
    outputs[:5] = np.nan
    some = replace(findings, test=replace(test, outputs=outputs))
    with figure_of(some, "forecast/truth") as figure:
        assert len(figure.axes[0].collections[0].get_offsets()) == 15
    none = replace(findings, test=replace(test, outputs=np.full_like(outputs, np.nan)))
    for name in ("truth", "residuals"):
        assert reason(none, f"forecast/{name}") == "no prediction of a test row is a number"


def test_a_single_test_row_can_be_drawn() -> None:
    for kind in ("table", "series"):
        findings = made_findings(task="regression", kind=kind, rows=1)  # type: ignore[arg-type] # a string
        for name in ("truth", "residuals"):
            with figure_of(findings, f"forecast/{name}") as figure:
                figure.canvas.draw()


def test_classes_have_no_forecast() -> None:
    assert names_of(made_findings(), "forecast") == []
