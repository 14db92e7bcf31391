"""Predictions of the test rows: forecasts, residuals, worst mistakes; importance of columns."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.findings import Array, ColumnImportances, Findings, Mistakes, TestRows
from pipeline.metrics import direction
from pipeline.pictures import style
from pipeline.pictures.style import NotDrawnError, Picture, label, short
from pipeline.terminal import rounded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Vector = NDArray[np.float64]

#: Most outputs that have a panel.
MOST_OUTPUTS = 4
#: Most points of a scatter plot.
MOST_POINTS = 2000
MOST_BINS = 40
#: Most channels of a forecast that are drawn.
MOST_CHANNELS = len(style.LINES)
#: Most forecasts of one step that can be told apart at this width.
MOST_ROWS = 200
#: Number of forecasts of several steps that are shown, evenly spaced.
WINDOWS = 4
#: Number of true values before such a forecast, as a multiple of its length.
BEFORE = 2
MOST_MISTAKES = {"images": 12, "series": 6}
#: Number of rows side by side by kind of data; the rows of a table are not shown.
ACROSS = {"images": 4, "series": 2}
#: Height of a panel in inches.
HEIGHTS = {"images": 2.05, "series": 1.9}
MOST_FEATURES = 12
MOST_COLUMNS = 20
#: Number of rows or columns in an alternative text.
TOLD = 3


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield predictions and residuals, the worst mistakes, and the importance of columns."""
    test, mistakes, importances = findings.test, findings.mistakes, findings.importances
    if test is not None and findings.task == "regression" and len(test.targets):
        title = "Forecasts and true values" if findings.targets else "Predicted and true values"
        draw = _scatter
        if findings.targets:
            draw = _several_steps if findings.horizon > 1 else _one_step
        words = _truth_words(findings, test)
        yield Picture("forecast/truth", title, words, partial(draw, findings, test))
        title, words = "Residuals (predicted − true)", _residual_words(findings, test)
        yield Picture("forecast/residuals", title, words, partial(_residuals, findings, test))
    if mistakes is not None and test is not None and findings.kind in ACROSS:
        title, words, at = "Worst errors (test rows)", "No errors.", mistakes.positions
        if len(at):
            told = [
                f"row {test.rows[n]}: {', '.join(_said(findings, test, n, 24))}" for n in at[:TOLD]
            ]
            shown = min(len(at), MOST_MISTAKES[findings.kind])
            words = f"The {shown} worst errors on the test rows, starting with {'; '.join(told)}."
        draw_all = partial(_mistakes, findings, test, mistakes)
        yield Picture("mistakes/worst", title, words, draw_all)
    if importances is not None and importances.columns:
        title, words = "Permutation importance of columns", _importance_words(importances)
        yield Picture("columns/importance", title, words, partial(_importances, importances))


def _truth_words(findings: Findings, test: TestRows) -> str:
    told = [
        f"{name} {rounded(findings.metrics[key])}"
        for name, key in (("network", "test/rmse"), ("naive", "naive/rmse"))
        if np.isfinite(findings.metrics.get(key, np.nan))
    ]
    errors = f" RMSE: {', '.join(told)}{_in_units(findings)}." if told else ""
    what = short(findings.label or ", ".join(findings.targets) or "the target", 60)
    return f"Predicted and true values of {what} for {len(test.targets):,} test rows.{errors}"


def _residual_words(findings: Findings, test: TestRows) -> str:
    off = _finite(_off(test.outputs, test.targets))
    if not len(off):
        return "No residuals: all predictions are NaN or infinite."
    low, high = np.percentile(off, 5, method="lower"), np.percentile(off, 95, method="higher")
    return (
        f"Predicted minus true value: median {rounded(np.median(off))}, 90 % between "
        f"{rounded(low)} and {rounded(high)}{_in_units(findings)}."
    )


def _in_units(findings: Findings, most: int = style.LONGEST) -> str:
    return f" {short(findings.units, most)}" if findings.units else ""


def _bracketed(findings: Findings) -> str:
    return f" ({label(findings.units, 20)})" if findings.units else ""


def _off(outputs: Array, targets: Array) -> Vector:
    return np.asarray(outputs, dtype=np.float64) - np.asarray(targets, dtype=np.float64)


def _finite(values: Vector) -> Vector:
    return values[np.isfinite(values)]


def _some(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(positions) <= MOST_POINTS:
        return positions
    return np.random.default_rng(0).choice(positions, MOST_POINTS, replace=False)


def _scatter(findings: Findings, test: TestRows) -> "Figure":
    outputs = min(test.targets.shape[1], MOST_OUTPUTS)
    columns = min(2, outputs)
    figure, axes = style.panels(outputs, columns, height=4.4 if columns == 1 else 3)
    for index, panel in enumerate(axes.flat[:outputs]):
        true, said = test.targets[:, index], test.outputs[:, index]
        known = np.flatnonzero(np.isfinite(true) & np.isfinite(said))
        if not len(known):
            raise NotDrawnError("all predictions are NaN or infinite")
        shown = _some(known)
        panel.scatter(true[shown], said[shown], s=12, alpha=0.6, lw=0, color=style.NETWORK)
        both = np.concatenate([true[known], said[known]])
        ends = (float(both.min()), float(both.max()))
        panel.plot(ends, ends, color=style.foreground(), linestyle=":", label="predicted = true")
        units = _bracketed(findings)
        panel.set(xlabel=f"true{units}", ylabel=f"predicted{units}")
        if test.targets.shape[1] > 1:
            panel.set_title(f"value {index + 1} of {test.targets.shape[1]}")
    style.below(figure, axes[0, 0], columns=2)
    return figure


# ── forecasts of a series ───────────────────────────────────────────────────────────────────────


def _one_step(findings: Findings, test: TestRows) -> "Figure":
    """Draw the forecasts of one step as a line over the true values."""
    channels = min(len(findings.targets), MOST_CHANNELS)
    figure, axes = style.panels(channels, height=3.6 if channels == 1 else 2.4, sharex=True)
    shown = slice(max(0, len(test.rows) - MOST_ROWS), None)
    for index, panel in enumerate(axes[:, 0]):
        for look, values in _lines(test):
            line = _with_gaps(test.rows[shown], values[shown, index], stride=findings.stride)
            panel.plot(*line, **look)
        panel.set_ylabel(_channel_label(findings, index))
    if len(test.rows) > MOST_ROWS:
        axes[0, 0].set_title(f"the last {MOST_ROWS} of {len(test.rows):,} test rows")
    style.whole_numbers(axes[-1, 0], most=8)
    axes[-1, 0].set_xlabel("time (row)")
    style.below(figure, axes[0, 0], columns=3)
    return figure


def _several_steps(findings: Findings, test: TestRows) -> "Figure":
    """Draw a few forecasts of each channel, with the true values before them."""
    channels = min(len(findings.targets), MOST_CHANNELS)
    chosen = np.unique(np.linspace(0, len(test.rows) - 1, WINDOWS).round().astype(np.int64))
    if channels > 1:
        chosen = chosen[-2:]
    columns, count = min(2, len(chosen)), channels * len(chosen)
    figure, axes = style.panels(count, columns, height=2.4)
    for place, panel in enumerate(axes.flat[:count]):
        channel, window = divmod(place, len(chosen))
        _draw_window(panel, findings, test, int(chosen[window]), channel)
        if place % columns == 0:
            panel.set_ylabel(_channel_label(findings, channel))
    for panel in axes[-1]:
        panel.set_xlabel("time (row)")
    style.below(figure, axes[0, 0], columns=3)
    return figure


def _draw_window(axes: "Axes", findings: Findings, test: TestRows, row: int, channel: int) -> None:
    steps, start = findings.horizon, int(test.rows[row])
    own = slice(channel, None, len(findings.targets))  # outputs are in the order of steps
    for look, values in _lines(test):
        axes.plot(start + np.arange(steps), style.only_finite(values[row, own]), **look)
    before = (test.rows >= start - BEFORE * steps) & (test.rows < start)
    if before.any():
        at = np.append(test.rows[before], start)
        values = np.append(test.targets[before, channel], test.targets[row, channel])
        line = _with_gaps(at, values, stride=findings.stride)
        axes.plot(*line, color=style.foreground(), linewidth=1.6)
    axes.axvline(start - 0.5, color=style.QUIET, linewidth=1, linestyle=":")
    axes.set_title(f"from row {start:,}", fontsize=9)
    style.whole_numbers(axes, most=5)


def _lines(test: TestRows) -> Iterator[tuple[dict[str, Any], Array]]:
    """Yield the style and the values of each line; the network's line comes last, on top."""
    if not np.isfinite(test.outputs).any():
        raise NotDrawnError("all predictions are NaN or infinite")
    marks: dict[str, Any] = {"marker": style.mark(len(test.rows)), "ms": 3}
    if test.naive is not None:
        look = {"color": style.NAIVE, "linestyle": ":", "linewidth": 1.3, "label": "naive"}
        yield look, test.naive
    yield {"color": style.foreground(), "linewidth": 1.6, "label": "true", **marks}, test.targets
    said = {"color": style.NETWORK, "linestyle": "--", "linewidth": 1.8, "label": "network"}
    yield said | marks, test.outputs


def _with_gaps(rows: Array, values: Array, *, stride: int) -> tuple[Vector, Vector]:
    after = np.flatnonzero(np.diff(rows) > stride) + 1
    places = np.insert(rows.astype(np.float64), after, rows[after] - 0.5)
    return places, np.insert(style.only_finite(values), after, np.nan)


def _channel_label(findings: Findings, channel: int) -> str:
    name = findings.targets[channel]
    if findings.units in ("", name):
        return label(name)
    return f"{label(name)}\n({label(findings.units, 20)})"


def _residuals(findings: Findings, test: TestRows) -> "Figure":
    """Draw the residuals of all outputs over time or prediction, and their histogram."""
    off = _off(test.outputs, test.targets).ravel()
    if not np.isfinite(off).any():
        raise NotDrawnError("all predictions are NaN or infinite")
    figure, axes = style.panels(2, 2, sharey=True, width_ratios=(3, 2))
    cloud, counts = axes[0]
    over, what = test.outputs, f"predicted{_bracketed(findings)}"
    if findings.targets:
        steps = np.repeat(np.arange(findings.horizon), len(findings.targets))
        over, what = np.asarray(test.rows)[:, None] + steps, "time (row)"
    shown = _some(np.flatnonzero(np.isfinite(off)))
    cloud.scatter(over.ravel()[shown], off[shown], s=10, alpha=0.6, lw=0, color=style.NETWORK)
    cloud.axhline(0, color=style.foreground(), linewidth=1, linestyle=":")
    cloud.set(xlabel=what, ylabel=f"predicted − true{_bracketed(findings)}")
    kept, step = [_finite(off)], {"histtype": "step", "linestyle": "--", "linewidth": 1.6}
    looks: list[dict[str, Any]] = [
        {"color": style.NETWORK, "alpha": 0.7, "label": "network"},
        {"color": style.NAIVE, "label": "naive", **step},
    ]
    if test.naive is not None:
        kept.append(_finite(_off(test.naive, test.targets)))
    bins = np.histogram_bin_edges(np.concatenate(kept), bins="fd")
    if len(bins) > MOST_BINS:
        bins = np.linspace(bins[0], bins[-1], MOST_BINS + 1)
    for values, look in zip(kept, looks, strict=False):
        counts.hist(values, bins=bins, orientation="horizontal", **look)
    counts.set_xlabel("count")
    style.below(figure, counts, columns=3)
    return figure


# ── mistakes ────────────────────────────────────────────────────────────────────────────────────


def _said(findings: Findings, test: TestRows, at: int, most: int) -> tuple[str, str]:
    """Return the true and the predicted value of a row, as a line each."""
    if findings.task == "regression":
        units = _in_units(findings, 8)
        said = [
            ", ".join(rounded(float(value)) for value in values[at][:2])
            + (", …" if len(values[at]) > 2 else "")
            for values in (test.targets, test.outputs)
        ]
        return f"true {said[0]}{units}", f"predicted {said[1]}{units}"
    shares = test.probabilities[at]
    pair = int(test.targets[at]), int(test.called(findings.threshold)[at])
    names = [f"{short(findings.classes[one], most)} ({100 * shares[one]:.0f} %)" for one in pair]
    return f"true class {names[0]}", f"predicted {names[1]}"


def _mistakes(findings: Findings, test: TestRows, found: Mistakes) -> "Figure":
    shown = found.positions[: MOST_MISTAKES[findings.kind]]
    if not len(shown):
        raise NotDrawnError("no errors on the test rows")
    images, columns = findings.kind == "images", ACROSS[findings.kind]
    figure, axes = style.panels(len(shown), columns, height=HEIGHTS[findings.kind])
    for panel, at, inputs in zip(axes.flat, shown, found.inputs, strict=False):
        if images:
            _draw_image(panel, inputs)
        else:
            _draw_series(panel, findings, inputs)
            if findings.targets:
                _draw_forecast(panel, findings, test, at, steps=len(inputs))
        lines = _said(findings, test, at, 10 if images else 20)
        panel.set_title("\n".join(label(line, 40) for line in lines), fontsize=7.5)
    if not images:
        for panel in axes.flat[max(0, len(shown) - columns) : len(shown)]:
            panel.set_xlabel("step", fontsize=8)
    style.below(figure, axes[0, 0], columns=4)
    return figure


def _draw_image(axes: "Axes", image: Array) -> None:
    """Draw an image (channels, height, width): three channels in colour, else their mean in grey.

    Bytes are divided by 255, values from 0 to 1 are kept, and others are scaled to their range.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = float(values.min()), float(values.max())
    if image.dtype == np.uint8 or (low >= 0 and high <= 1):
        low, high = 0.0, 255.0 if image.dtype == np.uint8 else 1.0
    values = (values - low) / (high - low if high > low else 1.0)
    if len(values) == 3:
        axes.imshow(values.transpose(1, 2, 0), interpolation="nearest")
    else:
        axes.imshow(values.mean(0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)


def _draw_series(axes: "Axes", findings: Findings, steps: Array) -> None:
    """Draw each feature of a sample (steps, features), or only the forecast ones."""
    names = findings.features or tuple(str(one + 1) for one in range(steps.shape[1]))
    forecast = [names.index(name) for name in findings.targets if name in names]
    shown = forecast[:MOST_CHANNELS] or range(min(steps.shape[1], MOST_FEATURES))
    for order, feature in enumerate(shown):
        look: dict[str, Any] = style.line_of(order)
        if forecast:
            look = {"color": style.foreground(), "linestyle": style.LINES[order]}
        named = steps.shape[1] > 1 and len(forecast) != 1
        name = label(names[feature]) if named else None
        axes.plot(style.only_finite(steps[:, feature]), linewidth=1.2, **look, label=name)
    style.whole_numbers(axes, most=6)
    axes.tick_params(labelsize=7)


def _draw_forecast(
    axes: "Axes", findings: Findings, test: TestRows, at: int, *, steps: int
) -> None:
    channels = len(findings.targets)
    after = steps + np.arange(findings.horizon)
    for values, colour, mark, what in (
        (test.targets, style.foreground(), "o", "true"),
        (test.outputs, style.NETWORK, "X", "network"),
    ):
        look: dict[str, Any] = {"color": colour, "marker": mark, "ms": 4, "linewidth": 1.2}
        for channel in range(min(channels, MOST_CHANNELS)):
            look |= {"linestyle": style.LINES[channel], "label": None if channel else what}
            axes.plot(after, style.only_finite(values[at, channel::channels]), **look)
    axes.axvline(steps - 0.5, color=style.QUIET, linestyle=":", linewidth=1)


# ── importance of columns ───────────────────────────────────────────────────────────────────────


def _measured(found: ColumnImportances) -> tuple[Array, Array]:
    """Return the mean over the repeats, and the indices of measured columns, best first."""
    falls = style.only_finite(found.falls)
    known = ~np.isnan(falls).any(1)
    means = np.where(known, np.nan_to_num(falls).mean(1), -np.inf)
    order = np.argsort(-means, kind="stable")[: int(known.sum())]
    return means, order


def _importance_words(found: ColumnImportances) -> str:
    means, order = _measured(found)
    told = [f"{short(found.columns[at])} {rounded(float(means[at]))}" for at in order[:TOLD]]
    return (
        f"{_change(found).capitalize()} of {short(found.metric)} on the {found.part} rows when a "
        f"column is shuffled; largest: {', '.join(told) or 'none'}. {_left_out(found, len(order))}"
    ).strip()


def _change(found: ColumnImportances) -> str:
    return "increase" if direction(found.metric) == "min" else "decrease"


def _left_out(found: ColumnImportances, measured: int) -> str:
    count = len(found.columns)
    if measured < count:
        return f"{measured:,} of {count:,} columns were measured (the most important groups)."
    few = f"The {MOST_COLUMNS} most important of {count:,} columns."
    return few if count > MOST_COLUMNS else ""


def _importances(found: ColumnImportances) -> "Figure":
    means, order = _measured(found)
    if not len(order):
        raise NotDrawnError(f"{found.metric} is undefined, so importances are undefined")
    if not found.falls[order].any():
        raise NotDrawnError(
            f"{found.metric} on the {found.part} rows does not change when a column is shuffled"
        )
    shown = order[:MOST_COLUMNS]
    figure, axes = style.panels(height=1.5 + 0.27 * len(shown))
    panel, places = axes[0, 0], np.arange(len(shown))
    panel.barh(places, means[shown], height=0.6, color=style.TRAIN)
    repeats = found.falls[shown]
    look = {"color": style.QUIET, "edgecolors": style.foreground(), "linewidths": 0.4}
    heights = np.repeat(places, repeats.shape[1])
    panel.scatter(repeats, heights, zorder=3, label="single shuffles", s=9, **look)
    panel.axvline(0, color=style.foreground(), linewidth=0.8)
    panel.set_yticks(places, [label(found.columns[index], 28) for index in shown], fontsize=9)
    panel.set_ylim(len(shown) - 0.4, -0.6)
    panel.grid(visible=False, axis="y")
    panel.set_xlabel(f"{_change(found)} of {label(found.metric)} ({found.part} rows)")
    if left := _left_out(found, len(order)):
        panel.set_title(left.replace("measured, ", "measured,\n"), fontsize=9, loc="left")
    style.below(figure, panel, columns=1)
    return figure
