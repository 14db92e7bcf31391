"""Pictures of predictions: forecasts, residuals, worst mistakes; importance of columns."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.sample_findings import Kind, made_findings, of_rows, scored_rows, with_test
from matplotlib.axes import Axes
from pictures.drawn import (
    axes_of,
    curves_of,
    figure_of,
    legend_of,
    lines_of,
    names_of,
    picture,
    reason,
    widths_of,
)

from pipeline.base.findings import ColumnImportances, Findings, Mistakes, TestRows


def forecasts(rows: int = 80) -> Findings:
    return made_findings(task="regression", kind="series", rows=rows)


def points_of(axes: Axes) -> np.ndarray:
    return np.asarray(axes.collections[0].get_offsets())


def several_steps(*, channels: int, horizon: int, rows: int = 60) -> Findings:
    """Findings whose value at time t is t + 1000 for each channel, forecast 0.5 too high."""
    names = tuple(f"channel {index}" for index in range(channels))
    numbers = np.arange(100, 100 + rows)
    steps = np.repeat(np.arange(horizon), channels)
    offsets = np.tile(1000 * np.arange(channels), horizon)
    targets = (numbers[:, None] + steps + offsets).astype(np.float64)
    test = TestRows(
        rows=numbers, targets=targets, outputs=targets + 0.5, baselines={"naive": targets - 1}
    )
    return replace(forecasts(), targets=names, features=names, horizon=horizon, test=test)


def test_one_step_forecast_is_drawn_beside_truth() -> None:
    """The naive forecast is drawn too."""
    findings = forecasts()
    test, drawn = scored_rows(findings), lines_of(axes_of(findings, "forecast/truth"))
    held = {"true": test.targets, "network": test.outputs, "naive": test.baselines["naive"]}
    assert set(drawn) == set(held)
    for name, values in held.items():
        assert values is not None
        assert drawn[name].x.tolist() == test.rows.tolist()
        np.testing.assert_allclose(drawn[name].y, values[:, 0])
    # Of many rows the last are shown.
    axes = axes_of(forecasts(rows=1234), "forecast/truth")
    assert axes.get_title() == "the last 200 of 1,234 test rows"
    assert len(lines_of(axes)["true"].x) == 200


def test_line_breaks_at_missing_rows() -> None:
    halves = of_rows(forecasts(rows=30), np.r_[0:10, 20:30])
    values = lines_of(axes_of(halves, "forecast/truth"))["network"].y.astype(float)
    assert np.flatnonzero(np.isnan(values)).tolist() == [10]
    assert len(values) == 21


def test_multi_step_forecasts_follow_the_past_truth() -> None:
    drawn = figure_of(several_steps(channels=1, horizon=5), "forecast/truth").axes
    assert len(drawn) == 4
    for axes in drawn[1:]:
        said = lines_of(axes)["network"]
        start = said.x[0]
        assert said.x.tolist() == [start + step for step in range(5)]
        np.testing.assert_allclose(said.y, start + np.arange(5) + 0.5)
        (before,) = [curve for curve in curves_of(axes) if len(curve.x) == 11]
        np.testing.assert_allclose(before.x, np.arange(start - 10, start + 1))
        np.testing.assert_allclose(before.y, before.x)


def test_forecast_channels_have_separate_lines() -> None:
    figure = figure_of(several_steps(channels=2, horizon=3), "forecast/truth")
    for channel, (left, right) in enumerate(np.asarray(figure.axes).reshape(2, 2)):
        assert left.get_ylabel() == f"channel {channel}\n(kW)"
        said = lines_of(right)["network"]
        np.testing.assert_allclose(said.y, said.x + 1000 * channel + 0.5)


def test_independent_rows_are_a_scatter_plot() -> None:
    """Predicted values are drawn over true ones."""
    findings = made_findings(task="regression", rows=50)
    test, axes = scored_rows(findings), axes_of(findings, "forecast/truth")
    np.testing.assert_allclose(points_of(axes), np.column_stack([test.targets, test.outputs]))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true (kW)", "predicted (kW)")


@pytest.mark.parametrize("kind", ["table", "series"])
def test_residuals_are_counted_and_drawn(kind: Kind) -> None:
    """They are drawn over the time of a series, else over the prediction."""
    findings = made_findings(task="regression", kind=kind, rows=90)
    test, figure = scored_rows(findings), figure_of(findings, "forecast/residuals")
    off = (test.outputs - test.targets).ravel()
    cloud, counts = figure.axes
    across = test.rows if kind == "series" else test.outputs.ravel()
    np.testing.assert_allclose(points_of(cloud), np.column_stack([across, off]), atol=1e-5)
    assert sum(widths_of(counts)) == 90
    assert legend_of(figure) == ["network", "naive"]
    assert f"median {np.median(off):.3f}" in picture(findings, "forecast/residuals").alt
    for name in ("truth", "residuals"):  # so is a single row
        one = made_findings(task="regression", kind=kind, rows=1)
        figure_of(one, f"forecast/{name}").canvas.draw()


def test_nan_predictions_are_left_out() -> None:
    """If all are NaN, that is the reason for no picture."""
    findings = made_findings(task="regression", rows=20)
    outputs = scored_rows(findings).outputs.copy()
    outputs[:5] = np.nan
    assert len(points_of(axes_of(with_test(findings, outputs=outputs), "forecast/truth"))) == 15
    none = with_test(findings, outputs=np.full_like(outputs, np.nan))
    for name in ("truth", "residuals"):
        assert reason(none, f"forecast/{name}") == "all predictions are NaN or infinite"


def importances(falls: np.ndarray, *names: str) -> Findings:
    names = names or tuple(f"column {index}" for index in range(len(falls)))
    found = ColumnImportances(metric="f1", part="validation", columns=names, falls=falls)
    return made_findings(importances=found)


def test_importance_bars_are_sorted_means() -> None:
    """Each bar is the mean of the repeats."""
    falls = np.array([[0.1, 0.3], [0.5, 0.7], [-0.1, 0.1]])
    findings = importances(falls, "low", "high", "none")
    axes = axes_of(findings, "columns/importance")
    assert [text.get_text() for text in axes.get_yticklabels()] == ["high", "low", "none"]
    assert widths_of(axes) == pytest.approx([0.6, 0.2, 0])
    np.testing.assert_allclose(points_of(axes)[:, 0], [0.5, 0.7, 0.1, 0.3, -0.1, 0.1])
    told = picture(findings, "columns/importance").alt
    assert "largest: high 0.600, low 0.200, none 0.000" in told


def test_twenty_of_many_importances_are_drawn() -> None:
    """The title says how many columns were measured."""
    falls = np.random.default_rng(0).random((10_000, 5))
    axes = axes_of(importances(falls), "columns/importance")
    assert len(axes.patches) == 20
    assert axes.get_title(loc="left") == "The 20 most important of 10,000 columns."
    falls[30:] = np.nan
    told = axes_of(importances(falls), "columns/importance").get_title(loc="left")
    assert told.startswith("30 of 10,000 columns were measured (")


@pytest.mark.parametrize(
    ("fall", "message"),
    [
        (np.nan, "f1 is undefined, so importances are undefined"),
        (0.0, "f1 on the validation rows does not change when a column is shuffled"),
    ],
)
def test_undrawable_importances_state_the_reason(fall: float, message: str) -> None:
    assert reason(importances(np.full((3, 5), fall)), "columns/importance") == message


def with_mistakes(inputs: np.ndarray, **more: Any) -> tuple[Findings, np.ndarray]:
    """Findings whose worst mistakes have these inputs, and the positions of these mistakes."""
    findings = made_findings(**more)
    found = scored_rows(findings).worst(findings.threshold, count=len(inputs))
    mistakes = Mistakes(positions=found, inputs=inputs[: len(found)])
    return replace(findings, mistakes=mistakes), found


def test_misclassified_image_shows_classes_and_probabilities() -> None:
    greys = np.random.rand(4, 1, 6, 9)
    findings, positions = with_mistakes(greys, kind="images", classes=5)
    test, drawn = scored_rows(findings), figure_of(findings, "mistakes/worst").axes
    for axes, at in zip(drawn, positions, strict=True):
        true, said = test.targets[at], test.outputs[at].argmax()
        assert true != said
        assert axes.get_title() == (
            f"true class class {true} ({100 * test.outputs[at, true]:.0f} %)\n"
            f"predicted class {said} ({100 * test.outputs[at, said]:.0f} %)"
        )
    pixels = np.asarray(drawn[1].images[0].get_array())
    np.testing.assert_allclose(pixels, greys[1, 0])
    # Bytes of three channels are a picture in its own colours.
    colours = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    findings, _ = with_mistakes(colours, kind="images")
    pixels = np.asarray(axes_of(findings, "mistakes/worst").images[0].get_array())
    np.testing.assert_allclose(pixels, colours[0].transpose(1, 2, 0) / 255)


def test_mispredicted_series_shows_features_and_truth() -> None:
    inputs = np.random.rand(3, 24, 2)
    findings, _ = with_mistakes(inputs, kind="series", task="binary")
    drawn = lines_of(figure_of(findings, "mistakes/worst").axes[2])
    for index, name in enumerate(("load", "wind")):
        np.testing.assert_allclose(drawn[name].y, inputs[2, :, index])
    findings, (at, *_) = with_mistakes(inputs, kind="series", task="regression")
    test, axes = scored_rows(findings), axes_of(findings, "mistakes/worst")
    np.testing.assert_allclose(curves_of(axes)[0].y, inputs[0, :, 0])  # `load` alone
    for name, values in (("true", test.targets), ("network", test.outputs)):
        assert lines_of(axes)[name].x.tolist() == [24]
        np.testing.assert_allclose(lines_of(axes)[name].y, values[at])


def test_no_mistakes_means_no_picture() -> None:
    nothing = Mistakes(positions=np.arange(0), inputs=np.empty((0, 1, 8, 8)))
    findings = made_findings(kind="images", mistakes=nothing)
    assert picture(findings, "mistakes/worst").alt == "No errors."
    assert reason(findings, "mistakes/worst") == "no errors on the test rows"
    for folder in ("mistakes", "forecast"):  # a table's rows have no looks, classes no forecast
        assert names_of(made_findings(kind="table"), folder) == []
