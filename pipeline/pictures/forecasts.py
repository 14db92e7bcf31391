"""What a regression says of the test rows: against the truth, and by how much it is off."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.findings.records import Findings, TestRows
from pipeline.pictures import style, timed
from pipeline.pictures.names import label, short
from pipeline.pictures.picture import NotDrawnError, Picture
from pipeline.terminal import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Vector = NDArray[np.float64]

MOST_OUTPUTS = 4
"""Outputs that have a place of their own."""
MOST_POINTS = 2000
"""Of a cloud; more, a vector graphic would write each down."""
MOST_BINS = 40


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield forecast against truth, and residuals; nothing for classes or without a test."""
    test = findings.test
    if test is None or findings.task != "regression" or not len(test.targets):
        return
    in_time = bool(findings.targets)
    yield Picture(
        name="forecast/truth",
        title="Forecast and truth" if in_time else "Predicted and true values",
        alt=_truth_words(findings, test),
        draw=lambda: (timed.truth if in_time else _truth)(findings, test),
    )
    yield Picture(
        name="forecast/residuals",
        title="Residuals: by how much the network is off",
        alt=_residual_words(findings, test),
        draw=lambda: _residuals(findings, test),
    )


# ── words ───────────────────────────────────────────────────────────────────────────────────────


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


def _off(outputs: NDArray[np.generic], targets: NDArray[np.generic]) -> Vector:
    return np.asarray(outputs, dtype=np.float64) - np.asarray(targets, dtype=np.float64)


# ── independent rows ────────────────────────────────────────────────────────────────────────────


def _truth(findings: Findings, test: TestRows) -> "Figure":
    """Draw each predicted value over the true one."""
    outputs = min(test.targets.shape[1], MOST_OUTPUTS)
    columns = min(2, outputs)
    figure, axes = style.panels(-(-outputs // columns), columns, height=4.4 if columns == 1 else 3)
    for index, panel in enumerate(axes.flat):
        if index >= outputs:
            panel.remove()
            continue
        _draw_cloud(panel, test.targets[:, index], test.outputs[:, index])
        panel.set_xlabel(f"true{_bracketed(findings)}")
        panel.set_ylabel(f"predicted{_bracketed(findings)}")
        if test.targets.shape[1] > 1:
            panel.set_title(f"value {index + 1} of {test.targets.shape[1]}")
    style.below(figure, axes[0, 0], columns=2)
    return figure


def _draw_cloud(axes: "Axes", true: Vector, said: Vector) -> None:
    known = np.flatnonzero(np.isfinite(true) & np.isfinite(said))
    if not len(known):
        raise NotDrawnError("no prediction of a test row is a number")
    shown = _some(known)
    axes.scatter(true[shown], said[shown], s=12, alpha=0.6, lw=0, color=style.NETWORK)
    both = np.concatenate([true[known], said[known]])
    ends = (float(both.min()), float(both.max()))
    axes.plot(ends, ends, color=style.foreground(), linestyle=":", label="predicted = true")


def _some(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return at most `MOST_POINTS` positions, drawn at random."""
    if len(positions) <= MOST_POINTS:
        return positions
    return np.random.default_rng(0).choice(positions, MOST_POINTS, replace=False)


def _bracketed(findings: Findings) -> str:
    return f" ({label(findings.units, 20)})" if findings.units else ""


# ── residuals ───────────────────────────────────────────────────────────────────────────────────


def _residuals(findings: Findings, test: TestRows) -> "Figure":
    """Draw the residuals of all outputs over time or prediction, and how often each occurs."""
    off = _off(test.outputs, test.targets).ravel()
    if not np.isfinite(off).any():
        raise NotDrawnError("no prediction of a test row is a number")
    figure, axes = style.panels(1, 2, sharey=True, width_ratios=(3, 2))
    cloud, counts = axes[0]
    over = timed.times(findings, test) if findings.targets else test.outputs
    shown = _some(np.flatnonzero(np.isfinite(off)))
    cloud.scatter(over.ravel()[shown], off[shown], s=10, alpha=0.6, lw=0, color=style.NETWORK)
    cloud.axhline(0, color=style.foreground(), linewidth=1, linestyle=":")
    cloud.set_xlabel("time (row)" if findings.targets else f"predicted{_bracketed(findings)}")
    cloud.set_ylabel(f"predicted − true{_bracketed(findings)}")
    _draw_counts(counts, off, test)
    style.below(figure, counts, columns=3)
    return figure


def _draw_counts(axes: "Axes", off: Vector, test: TestRows) -> None:
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
