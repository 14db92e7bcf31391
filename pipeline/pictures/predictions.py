"""Predictions of the test rows: forecasts, residuals, worst mistakes; importance of columns."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.findings import Array, ColumnImportances, Findings, Mistakes, TestRows
from pipeline.base.terminal import rounded
from pipeline.metrics import direction
from pipeline.pictures import style
from pipeline.pictures.style import NotDrawnError, Picture, label, short

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
MOST_NAMED = 3


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield predictions and residuals, the worst mistakes, and the importance of columns."""
    test = findings.test
    if test is not None and findings.task == "regression" and len(test.targets):
        title = "Forecasts and true values" if findings.targets else "Predicted and true values"
        draw = _scatter
        if findings.targets:
            draw = _several_steps if findings.horizon > 1 else _one_step
        words = _truth_words(findings, test)
        yield Picture("forecast/truth", title, words, partial(draw, findings, test))
        title = "Residuals (predicted − true)"
        words = _residual_words(findings, test)
        yield Picture("forecast/residuals", title, words, partial(_residuals, findings, test))
    mistakes = findings.mistakes
    if mistakes is not None and test is not None and findings.kind in ACROSS:
        words = _mistake_words(findings, test, mistakes.positions)
        draw_mistakes = partial(_mistakes, findings, test, mistakes)
        yield Picture("mistakes/worst", "Worst errors (test rows)", words, draw_mistakes)
    importances = findings.importances
    if importances is not None and importances.columns:
        title = "Permutation importance of columns"
        words = _importance_words(importances)
        yield Picture("columns/importance", title, words, partial(_importances, importances))


def _truth_words(findings: Findings, test: TestRows) -> str:
    scores = []
    for name, key in (("network", "test/rmse"), ("naive", "naive/rmse")):
        rmse = findings.metrics.get(key, np.nan)
        if np.isfinite(rmse):
            scores.append(f"{name} {rounded(rmse)}")
    errors = f" RMSE: {', '.join(scores)}{_in_units(findings)}." if scores else ""
    target = short(findings.label or ", ".join(findings.targets) or "the target", 60)
    return f"Predicted and true values of {target} for {len(test.targets):,} test rows.{errors}"


def _residual_words(findings: Findings, test: TestRows) -> str:
    residuals = _finite(_residuals_of(test.outputs, test.targets))
    if not len(residuals):
        return "No residuals: all predictions are NaN or infinite."
    low = np.percentile(residuals, 5, method="lower")
    high = np.percentile(residuals, 95, method="higher")
    return (
        f"Predicted minus true value: median {rounded(np.median(residuals))}, 90 % between "
        f"{rounded(low)} and {rounded(high)}{_in_units(findings)}."
    )


def _mistake_words(findings: Findings, test: TestRows, positions: Array) -> str:
    if not len(positions):
        return "No errors."
    rows = []
    for position in positions[:MOST_NAMED]:
        values = ", ".join(_true_and_predicted(findings, test, position, 24))
        rows.append(f"row {test.rows[position]}: {values}")
    count = min(len(positions), MOST_MISTAKES[findings.kind])
    return f"The {count} worst errors on the test rows, starting with {'; '.join(rows)}."


def _in_units(findings: Findings, most: int = style.LONGEST) -> str:
    return f" {short(findings.units, most)}" if findings.units else ""


def _bracketed(findings: Findings) -> str:
    return f" ({label(findings.units, 20)})" if findings.units else ""


def _residuals_of(outputs: Array, targets: Array) -> Vector:
    return np.asarray(outputs, dtype=np.float64) - np.asarray(targets, dtype=np.float64)


def _finite(values: Vector) -> Vector:
    return values[np.isfinite(values)]


def _sample(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(positions) <= MOST_POINTS:
        return positions
    return np.random.default_rng(0).choice(positions, MOST_POINTS, replace=False)


def _scatter(findings: Findings, test: TestRows) -> "Figure":
    outputs = min(test.targets.shape[1], MOST_OUTPUTS)
    columns = min(2, outputs)
    figure, axes = style.panels(outputs, columns, height=4.4 if columns == 1 else 3)
    for index, panel in enumerate(axes.flat[:outputs]):
        true = test.targets[:, index]
        predicted = test.outputs[:, index]
        finite = np.flatnonzero(np.isfinite(true) & np.isfinite(predicted))
        if not len(finite):
            raise NotDrawnError("all predictions are NaN or infinite")
        points = _sample(finite)
        panel.scatter(true[points], predicted[points], s=12, alpha=0.6, lw=0, color=style.NETWORK)
        values = np.concatenate([true[finite], predicted[finite]])
        ends = (float(values.min()), float(values.max()))
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
    last_rows = slice(max(0, len(test.rows) - MOST_ROWS), None)
    for index, panel in enumerate(axes[:, 0]):
        for look, values in _lines(test):
            line = _with_gaps(
                test.rows[last_rows], values[last_rows, index], stride=findings.stride
            )
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
    columns = min(2, len(chosen))
    count = channels * len(chosen)
    figure, axes = style.panels(count, columns, height=2.4)
    for index, panel in enumerate(axes.flat[:count]):
        channel, window = divmod(index, len(chosen))
        _draw_window(panel, findings, test, int(chosen[window]), channel)
        if index % columns == 0:
            panel.set_ylabel(_channel_label(findings, channel))
    for panel in axes[-1]:
        panel.set_xlabel("time (row)")
    style.below(figure, axes[0, 0], columns=3)
    return figure


def _draw_window(axes: "Axes", findings: Findings, test: TestRows, row: int, channel: int) -> None:
    steps = findings.horizon
    start = int(test.rows[row])
    # The outputs of a row are ordered by step, and by channel within a step.
    outputs = slice(channel, None, len(findings.targets))
    for look, values in _lines(test):
        axes.plot(start + np.arange(steps), style.only_finite(values[row, outputs]), **look)
    before = (test.rows >= start - BEFORE * steps) & (test.rows < start)
    if before.any():
        rows = np.append(test.rows[before], start)
        values = np.append(test.targets[before, channel], test.targets[row, channel])
        line = _with_gaps(rows, values, stride=findings.stride)
        axes.plot(*line, color=style.foreground(), linewidth=1.6)
    axes.axvline(start - 0.5, color=style.QUIET, linewidth=1, linestyle=":")
    axes.set_title(f"from row {start:,}", fontsize=9)
    style.whole_numbers(axes, most=5)


def _lines(test: TestRows) -> Iterator[tuple[dict[str, Any], Array]]:
    """Yield the style and the values of each line; the network's line comes last, on top."""
    if not np.isfinite(test.outputs).any():
        raise NotDrawnError("all predictions are NaN or infinite")
    marks: dict[str, Any] = {"marker": style.mark(len(test.rows)), "ms": 3}
    if "naive" in test.baselines:
        look = {"color": style.NAIVE, "linestyle": ":", "linewidth": 1.3, "label": "naive"}
        yield look, test.baselines["naive"]
    yield {"color": style.foreground(), "linewidth": 1.6, "label": "true", **marks}, test.targets
    look = {"color": style.NETWORK, "linestyle": "--", "linewidth": 1.8, "label": "network"}
    yield look | marks, test.outputs


def _with_gaps(rows: Array, values: Array, *, stride: int) -> tuple[Vector, Vector]:
    gaps = np.flatnonzero(np.diff(rows) > stride) + 1
    positions = np.insert(rows.astype(np.float64), gaps, rows[gaps] - 0.5)
    return positions, np.insert(style.only_finite(values), gaps, np.nan)


def _channel_label(findings: Findings, channel: int) -> str:
    name = findings.targets[channel]
    if findings.units in ("", name):
        return label(name)
    return f"{label(name)}\n({label(findings.units, 20)})"


def _residuals(findings: Findings, test: TestRows) -> "Figure":
    """Draw the residuals of all outputs over time or prediction, and their histogram."""
    residuals = _residuals_of(test.outputs, test.targets).ravel()
    if not np.isfinite(residuals).any():
        raise NotDrawnError("all predictions are NaN or infinite")
    figure, axes = style.panels(2, 2, sharey=True, width_ratios=(3, 2))
    scatter, histogram = axes[0]
    if findings.targets:
        steps = np.repeat(np.arange(findings.horizon), len(findings.targets))
        across = np.asarray(test.rows)[:, None] + steps
        scatter.set_xlabel("time (row)")
    else:
        across = test.outputs
        scatter.set_xlabel(f"predicted{_bracketed(findings)}")
    points = _sample(np.flatnonzero(np.isfinite(residuals)))
    look: dict[str, Any] = {"s": 10, "alpha": 0.6, "lw": 0, "color": style.NETWORK}
    scatter.scatter(across.ravel()[points], residuals[points], **look)
    scatter.axhline(0, color=style.foreground(), linewidth=1, linestyle=":")
    scatter.set_ylabel(f"predicted − true{_bracketed(findings)}")
    _draw_histogram(histogram, test, residuals)
    style.below(figure, histogram, columns=3)
    return figure


def _draw_histogram(axes: "Axes", test: TestRows, residuals: Vector) -> None:
    samples = [_finite(residuals)]
    if "naive" in test.baselines:
        samples.append(_finite(_residuals_of(test.baselines["naive"], test.targets)))
    bins = np.histogram_bin_edges(np.concatenate(samples), bins="fd")
    if len(bins) > MOST_BINS:
        bins = np.linspace(bins[0], bins[-1], MOST_BINS + 1)
    common: dict[str, Any] = {"bins": bins, "orientation": "horizontal"}
    outline: dict[str, Any] = {"histtype": "step", "linestyle": "--", "linewidth": 1.6}
    looks: list[dict[str, Any]] = [
        {"color": style.NETWORK, "alpha": 0.7, "label": "network"},
        {"color": style.NAIVE, "label": "naive", **outline},
    ]
    for sample, look in zip(samples, looks, strict=False):
        axes.hist(sample, **common, **look)
    axes.set_xlabel("count")


# ── mistakes ────────────────────────────────────────────────────────────────────────────────────


def _true_and_predicted(
    findings: Findings, test: TestRows, position: int, most: int
) -> tuple[str, str]:
    """Return the true and the predicted value of a row, as a line each."""
    if findings.task == "regression":
        units = _in_units(findings, 8)
        true = _first_values(test.targets[position])
        predicted = _first_values(test.outputs[position])
        return f"true {true}{units}", f"predicted {predicted}{units}"
    true_class = int(test.targets[position])
    predicted_class = int(test.called(findings.threshold)[position])
    probabilities = test.probabilities[position]
    names = []
    for index in (true_class, predicted_class):
        name = short(findings.classes[index], most)
        names.append(f"{name} ({100 * probabilities[index]:.0f} %)")
    return f"true class {names[0]}", f"predicted {names[1]}"


def _first_values(values: Array) -> str:
    first = ", ".join(rounded(float(value)) for value in values[:2])
    return f"{first}, …" if len(values) > 2 else first


def _mistakes(findings: Findings, test: TestRows, mistakes: Mistakes) -> "Figure":
    positions = mistakes.positions[: MOST_MISTAKES[findings.kind]]
    if not len(positions):
        raise NotDrawnError("no errors on the test rows")
    are_images = findings.kind == "images"
    columns = ACROSS[findings.kind]
    figure, axes = style.panels(len(positions), columns, height=HEIGHTS[findings.kind])
    for panel, position, inputs in zip(axes.flat, positions, mistakes.inputs, strict=False):
        if are_images:
            _draw_image(panel, inputs)
        else:
            _draw_series(panel, findings, inputs)
            if findings.targets:
                _draw_forecast(panel, findings, test, position, steps=len(inputs))
        lines = _true_and_predicted(findings, test, position, 10 if are_images else 20)
        panel.set_title("\n".join(label(line, 40) for line in lines), fontsize=7.5)
    if not are_images:
        for panel in axes.flat[max(0, len(positions) - columns) : len(positions)]:
            panel.set_xlabel("step", fontsize=8)
    style.below(figure, axes[0, 0], columns=4)
    return figure


def _draw_image(axes: "Axes", image: Array) -> None:
    """Draw an image (channels, height, width): three channels in colour, else their mean in grey.

    Bytes are divided by 255, values from 0 to 1 are kept, and others are scaled to their range.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low = float(values.min())
    high = float(values.max())
    if image.dtype == np.uint8:
        low = 0.0
        high = 255.0
    elif low >= 0 and high <= 1:
        low = 0.0
        high = 1.0
    values = (values - low) / (high - low if high > low else 1.0)
    if len(values) == 3:
        axes.imshow(values.transpose(1, 2, 0), interpolation="nearest")
    else:
        axes.imshow(values.mean(0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)


def _draw_series(axes: "Axes", findings: Findings, steps: Array) -> None:
    """Draw each feature of a sample (steps, features), or only the forecast ones."""
    features = steps.shape[1]
    names = findings.features or tuple(str(number) for number in range(1, features + 1))
    forecast = [names.index(name) for name in findings.targets if name in names]
    drawn_features = forecast[:MOST_CHANNELS] or range(min(features, MOST_FEATURES))
    for order, feature in enumerate(drawn_features):
        look: dict[str, Any] = style.line_of(order)
        if forecast:
            look = {"color": style.foreground(), "linestyle": style.LINES[order]}
        has_name = features > 1 and len(forecast) != 1
        name = label(names[feature]) if has_name else None
        axes.plot(style.only_finite(steps[:, feature]), linewidth=1.2, **look, label=name)
    style.whole_numbers(axes, most=6)
    axes.tick_params(labelsize=7)


def _draw_forecast(
    axes: "Axes", findings: Findings, test: TestRows, position: int, *, steps: int
) -> None:
    channels = len(findings.targets)
    after = steps + np.arange(findings.horizon)
    for values, colour, mark, name in (
        (test.targets, style.foreground(), "o", "true"),
        (test.outputs, style.NETWORK, "X", "network"),
    ):
        look: dict[str, Any] = {"color": colour, "marker": mark, "ms": 4, "linewidth": 1.2}
        for channel in range(min(channels, MOST_CHANNELS)):
            look |= {"linestyle": style.LINES[channel], "label": None if channel else name}
            axes.plot(after, style.only_finite(values[position, channel::channels]), **look)
    axes.axvline(steps - 0.5, color=style.QUIET, linestyle=":", linewidth=1)


# ── importance of columns ───────────────────────────────────────────────────────────────────────


def _mean_importances(importances: ColumnImportances) -> tuple[Array, Array]:
    """Return the mean over the repeats, and the indices of measured columns, best first."""
    falls = style.only_finite(importances.falls)
    is_measured = ~np.isnan(falls).any(1)
    means = np.where(is_measured, np.nan_to_num(falls).mean(1), -np.inf)
    order = np.argsort(-means, kind="stable")[: int(is_measured.sum())]
    return means, order


def _importance_words(importances: ColumnImportances) -> str:
    means, order = _mean_importances(importances)
    largest = []
    for index in order[:MOST_NAMED]:
        name = short(importances.columns[index])
        largest.append(f"{name} {rounded(float(means[index]))}")
    return (
        f"{_change(importances).capitalize()} of {short(importances.metric)} on the "
        f"{importances.part} rows when a column is shuffled; largest: "
        f"{', '.join(largest) or 'none'}. {_left_out(importances, len(order))}"
    ).strip()


def _change(importances: ColumnImportances) -> str:
    return "increase" if direction(importances.metric) == "min" else "decrease"


def _left_out(importances: ColumnImportances, measured: int) -> str:
    count = len(importances.columns)
    if measured < count:
        return f"{measured:,} of {count:,} columns were measured (the most important groups)."
    if count > MOST_COLUMNS:
        return f"The {MOST_COLUMNS} most important of {count:,} columns."
    return ""


def _importances(importances: ColumnImportances) -> "Figure":
    means, order = _mean_importances(importances)
    if not len(order):
        raise NotDrawnError(f"{importances.metric} is undefined, so importances are undefined")
    if not importances.falls[order].any():
        raise NotDrawnError(
            f"{importances.metric} on the {importances.part} rows does not change when a column is "
            "shuffled"
        )
    columns = order[:MOST_COLUMNS]
    figure, axes = style.panels(height=1.5 + 0.27 * len(columns))
    panel = axes[0, 0]
    positions = np.arange(len(columns))
    panel.barh(positions, means[columns], height=0.6, color=style.TRAIN)
    repeats = importances.falls[columns]
    look = {"color": style.QUIET, "edgecolors": style.foreground(), "linewidths": 0.4}
    heights = np.repeat(positions, repeats.shape[1])
    panel.scatter(repeats, heights, zorder=3, label="single shuffles", s=9, **look)
    panel.axvline(0, color=style.foreground(), linewidth=0.8)
    names = [label(importances.columns[index], 28) for index in columns]
    panel.set_yticks(positions, names, fontsize=9)
    panel.set_ylim(len(columns) - 0.4, -0.6)
    panel.grid(visible=False, axis="y")
    panel.set_xlabel(
        f"{_change(importances)} of {label(importances.metric)} ({importances.part} rows)"
    )
    note = _left_out(importances, len(order))
    if note:
        panel.set_title(note.replace("measured, ", "measured,\n"), fontsize=9, loc="left")
    style.below(figure, panel, columns=1)
    return figure
