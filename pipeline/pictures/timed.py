"""Forecasts of a series in time, with the truth and the naive forecast beside them."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.findings.records import Array, Findings, TestRows
from pipeline.pictures import style
from pipeline.pictures.names import label
from pipeline.pictures.picture import NotDrawnError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CHANNELS = 3
MOST_ROWS = 200
"""Rows of one step's forecasts that are told apart at this width."""
WINDOWS = 4
"""Forecasts of several steps that are shown, evenly chosen."""
BEFORE = 2
"""Truth before such a forecast, in lengths of it."""


def times(findings: Findings, test: TestRows) -> Array:
    """Return the time that each output is about, int64 (rows, outputs)."""
    steps = np.repeat(np.arange(findings.horizon), len(findings.targets))
    return np.asarray(test.rows)[:, None] + steps


def truth(findings: Findings, test: TestRows) -> "Figure":
    """Draw forecasts over the true values: all in one line, or some of several steps."""
    if not np.isfinite(test.outputs).any():
        raise NotDrawnError("no forecast of a test row is a number")
    return _one_step(findings, test) if findings.horizon == 1 else _several_steps(findings, test)


# ── one step ────────────────────────────────────────────────────────────────────────────────────


def _one_step(findings: Findings, test: TestRows) -> "Figure":
    channels = min(len(findings.targets), MOST_CHANNELS)
    figure, axes = style.panels(channels, height=3.6 if channels == 1 else 2.4, sharex=True)
    shown = slice(max(0, len(test.rows) - MOST_ROWS), None)
    for index, panel in enumerate(axes[:, 0]):
        for look, values in _lines(test):
            panel.plot(*_with_gaps(test.rows[shown], values[shown, index]), **look)
        panel.set_ylabel(_axis(findings, index))
    if len(test.rows) > MOST_ROWS:
        axes[0, 0].set_title(f"the last {MOST_ROWS} of {len(test.rows):,} test rows")
    axes[-1, 0].set_xlabel("time (row)")
    style.below(figure, axes[0, 0], columns=3)
    return figure


def _lines(test: TestRows) -> list[tuple[dict[str, Any], Array]]:
    """Return what is drawn, and how; the network's comes last, on top."""
    mark = style.mark(len(test.rows))
    lines: list[tuple[dict[str, Any], Array]] = []
    if test.naive is not None:
        look = {"color": style.NAIVE, "linestyle": ":", "linewidth": 1.3, "label": "naive"}
        lines.append((look, test.naive))
    true = {"color": style.foreground(), "linewidth": 1.6, "label": "truth"}
    said = {"color": style.NETWORK, "linestyle": "--", "linewidth": 1.8, "label": "network"}
    return [
        *lines,
        (true | {"marker": mark, "ms": 3}, test.targets),
        (said | {"marker": mark, "ms": 3}, test.outputs),
    ]


def _with_gaps(rows: Array, values: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Break a line where rows are missing, by a value that is no number."""
    after = np.flatnonzero(np.diff(rows) > 1) + 1
    places = np.insert(rows.astype(np.float64), after, rows[after] - 0.5)
    return places, np.insert(style.only_finite(values), after, np.nan)


def _axis(findings: Findings, channel: int) -> str:
    name = findings.targets[channel]
    if findings.units in ("", name):
        return label(name)
    return f"{label(name)}\n({label(findings.units, 20)})"


# ── several steps ───────────────────────────────────────────────────────────────────────────────


def _several_steps(findings: Findings, test: TestRows) -> "Figure":
    """Draw a few forecasts of each channel, after the truth that came before them."""
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
            panel.set_ylabel(_axis(findings, channel))
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
