"""A regression's predictions of the test rows: beside the true values, and their residuals."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.findings import Array, Findings, TestRows
from pipeline.pictures import style
from pipeline.pictures.picture import NotDrawnError, Picture
from pipeline.pictures.style import label, short
from pipeline.terminal import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Vector = NDArray[np.float64]

MOST_OUTPUTS = 4
"""Outputs that have a panel."""
MOST_POINTS = 2000
"""Points of a scatter plot; a vector graphic contains each of them."""
MOST_BINS = 40
MOST_CHANNELS = 3
MOST_ROWS = 200
"""Forecasts of one step that are told apart at this width."""
WINDOWS = 4
"""Forecasts of several steps that are shown, evenly chosen."""
BEFORE = 2
"""True values before such a forecast, in lengths of it."""


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield predictions and residuals; nothing for classes or without a test."""
    test = findings.test
    if test is None or findings.task != "regression" or not len(test.targets):
        return
    draw = _scatter if not findings.targets else _one_step
    if findings.horizon > 1 and findings.targets:
        draw = _several_steps
    yield Picture(
        name="forecast/truth",
        title="Forecast and truth" if findings.targets else "Predicted and true values",
        alt=_truth_words(findings, test),
        draw=partial(draw, findings, test),
    )
    yield Picture(
        name="forecast/residuals",
        title="Residuals: by how much the network is off",
        alt=_residual_words(findings, test),
        draw=partial(_residuals, findings, test),
    )


def _truth_words(findings: Findings, test: TestRows) -> str:
    told = [
        f"{name} {number(findings.metrics[key])}"
        for name, key in (("network", "test/rmse"), ("naive", "naive/rmse"))
        if np.isfinite(findings.metrics.get(key, np.nan))
    ]
    errors = f" Root mean squared error: {', '.join(told)}{_in_units(findings)}." if told else ""
    what = short(findings.label or ", ".join(findings.targets) or "the target", 60)
    return f"Predicted and true values of {what} for {len(test.targets):,} test rows.{errors}"


def _residual_words(findings: Findings, test: TestRows) -> str:
    off = _off(test.outputs, test.targets)
    off = off[np.isfinite(off)]
    if not len(off):
        return "There are no residuals: no prediction is a number."
    middle = np.median(off)
    low, high = np.percentile(off, 5, method="lower"), np.percentile(off, 95, method="higher")
    return (
        f"Predicted minus true value: median {number(middle)}, nine of ten lie between "
        f"{number(low)} and {number(high)}{_in_units(findings)}."
    )


def _in_units(findings: Findings) -> str:
    return f" {short(findings.units)}" if findings.units else ""


def _bracketed(findings: Findings) -> str:
    return f" ({label(findings.units, 20)})" if findings.units else ""


def _off(outputs: Array, targets: Array) -> Vector:
    return np.asarray(outputs, dtype=np.float64) - np.asarray(targets, dtype=np.float64)


def _some(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at most `MOST_POINTS` positions, drawn at random."""
    if len(positions) <= MOST_POINTS:
        return positions
    return np.random.default_rng(0).choice(positions, MOST_POINTS, replace=False)


# ── independent rows ────────────────────────────────────────────────────────────────────────────


def _scatter(findings: Findings, test: TestRows) -> "Figure":
    """Draw each predicted value over the true one."""
    outputs = min(test.targets.shape[1], MOST_OUTPUTS)
    columns = min(2, outputs)
    figure, axes = style.panels(-(-outputs // columns), columns, height=4.4 if columns == 1 else 3)
    for panel in axes.flat[outputs:]:
        panel.remove()
    for index, panel in enumerate(axes.flat[:outputs]):
        true, said = test.targets[:, index], test.outputs[:, index]
        known = np.flatnonzero(np.isfinite(true) & np.isfinite(said))
        if not len(known):
            raise NotDrawnError("no prediction of a test row is a number")
        shown = _some(known)
        panel.scatter(true[shown], said[shown], s=12, alpha=0.6, lw=0, color=style.NETWORK)
        both = np.concatenate([true[known], said[known]])
        ends = (float(both.min()), float(both.max()))
        panel.plot(ends, ends, color=style.foreground(), linestyle=":", label="predicted = true")
        panel.set_xlabel(f"true{_bracketed(findings)}")
        panel.set_ylabel(f"predicted{_bracketed(findings)}")
        if test.targets.shape[1] > 1:
            panel.set_title(f"value {index + 1} of {test.targets.shape[1]}")
    style.below(figure, axes[0, 0], columns=2)
    return figure


# ── forecasts of a series ───────────────────────────────────────────────────────────────────────


def _one_step(findings: Findings, test: TestRows) -> "Figure":
    """Draw the forecasts of one step as a line over the true values."""
    _require_numbers(test)
    channels = min(len(findings.targets), MOST_CHANNELS)
    figure, axes = style.panels(channels, height=3.6 if channels == 1 else 2.4, sharex=True)
    shown = slice(max(0, len(test.rows) - MOST_ROWS), None)
    for index, panel in enumerate(axes[:, 0]):
        for look, values in _lines(test):
            panel.plot(*_with_gaps(test.rows[shown], values[shown, index]), **look)
        panel.set_ylabel(_channel_label(findings, index))
    if len(test.rows) > MOST_ROWS:
        axes[0, 0].set_title(f"the last {MOST_ROWS} of {len(test.rows):,} test rows")
    axes[-1, 0].set_xlabel("time (row)")
    style.below(figure, axes[0, 0], columns=3)
    return figure


def _several_steps(findings: Findings, test: TestRows) -> "Figure":
    """Draw a few forecasts of each channel, after the true values before them."""
    _require_numbers(test)
    channels = min(len(findings.targets), MOST_CHANNELS)
    chosen = np.unique(np.linspace(0, len(test.rows) - 1, WINDOWS).round().astype(np.int64))
    if channels > 1:
        chosen = chosen[-2:]
    columns = min(2, len(chosen))
    rows = channels if channels > 1 else -(-len(chosen) // columns)
    figure, axes = style.panels(rows, columns, height=2.4)
    for place, panel in enumerate(axes.flat):
        channel, window = divmod(place, columns) if channels > 1 else (0, place)
        if window >= len(chosen):
            panel.remove()
            continue
        _draw_window(panel, findings, test, row=int(chosen[window]), channel=channel)
        panel.set_title(f"from row {test.rows[chosen[window]]:,}", fontsize=9)
        style.whole_numbers(panel, most=5)
        if place % columns == 0:
            panel.set_ylabel(_channel_label(findings, channel))
    for panel in axes[-1]:
        panel.set_xlabel("time (row)")
    style.below(figure, axes[0, 0], columns=3)
    return figure


def _draw_window(
    axes: "Axes", findings: Findings, test: TestRows, *, row: int, channel: int
) -> None:
    steps = findings.horizon
    own = slice(channel, None, len(findings.targets))  # outputs go step by step
    start = int(test.rows[row])
    for look, values in _lines(test):
        axes.plot(start + np.arange(steps), style.only_finite(values[row, own]), **look)
    before = (test.rows >= start - BEFORE * steps) & (test.rows < start)
    if before.any():
        at = np.append(test.rows[before], start)
        values = np.append(test.targets[before, channel], test.targets[row, channel])
        axes.plot(*_with_gaps(at, values), color=style.foreground(), linewidth=1.6)
    axes.axvline(start - 0.5, color=style.QUIET, linewidth=1, linestyle=":")


def _require_numbers(test: TestRows) -> None:
    if not np.isfinite(test.outputs).any():
        raise NotDrawnError("no forecast of a test row is a number")


def _lines(test: TestRows) -> Iterator[tuple[dict[str, Any], Array]]:
    """Yield the look and the values of each line; the network's comes last, on top."""
    marks = {"marker": style.mark(len(test.rows)), "ms": 3}
    if test.naive is not None:
        look = {"color": style.NAIVE, "linestyle": ":", "linewidth": 1.3, "label": "naive"}
        yield look, test.naive
    true = {"color": style.foreground(), "linewidth": 1.6, "label": "truth"}
    yield true | marks, test.targets
    said = {"color": style.NETWORK, "linestyle": "--", "linewidth": 1.8, "label": "network"}
    yield said | marks, test.outputs


def _with_gaps(rows: Array, values: Array) -> tuple[Vector, Vector]:
    """Break a line by NaN where rows are missing."""
    after = np.flatnonzero(np.diff(rows) > 1) + 1
    places = np.insert(rows.astype(np.float64), after, rows[after] - 0.5)
    return places, np.insert(style.only_finite(values), after, np.nan)


def _channel_label(findings: Findings, channel: int) -> str:
    name = findings.targets[channel]
    if findings.units in ("", name):
        return label(name)
    return f"{label(name)}\n({label(findings.units, 20)})"


# ── residuals ───────────────────────────────────────────────────────────────────────────────────


def _residuals(findings: Findings, test: TestRows) -> "Figure":
    """Draw the residuals of all outputs over time or prediction, and their histogram."""
    off = _off(test.outputs, test.targets).ravel()
    if not np.isfinite(off).any():
        raise NotDrawnError("no prediction of a test row is a number")
    figure, axes = style.panels(1, 2, sharey=True, width_ratios=(3, 2))
    cloud, counts = axes[0]
    over, what = test.outputs, f"predicted{_bracketed(findings)}"
    if findings.targets:
        steps = np.repeat(np.arange(findings.horizon), len(findings.targets))
        over, what = np.asarray(test.rows)[:, None] + steps, "time (row)"
    shown = _some(np.flatnonzero(np.isfinite(off)))
    cloud.scatter(over.ravel()[shown], off[shown], s=10, alpha=0.6, lw=0, color=style.NETWORK)
    cloud.axhline(0, color=style.foreground(), linewidth=1, linestyle=":")
    cloud.set_xlabel(what)
    cloud.set_ylabel(f"predicted − true{_bracketed(findings)}")
    _draw_histogram(counts, off, test)
    style.below(figure, counts, columns=3)
    return figure


def _draw_histogram(axes: "Axes", off: Vector, test: TestRows) -> None:
    every = {"network": off}
    if test.naive is not None:
        every["naive"] = _off(test.naive, test.targets).ravel()
    kept = {name: values[np.isfinite(values)] for name, values in every.items()}
    bins = np.histogram_bin_edges(np.concatenate(list(kept.values())), bins="fd")
    if len(bins) > MOST_BINS:
        bins = np.linspace(bins[0], bins[-1], MOST_BINS + 1)
    common: dict[str, Any] = {"bins": bins, "orientation": "horizontal"}
    axes.hist(kept["network"], color=style.NETWORK, alpha=0.7, label="network", **common)
    if "naive" in kept:
        look: dict[str, Any] = {"histtype": "step", "linestyle": "--", "linewidth": 1.6}
        axes.hist(kept["naive"], color=style.NAIVE, label="naive", **look, **common)
    axes.set_xlabel("count")
