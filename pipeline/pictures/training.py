"""Pictures of a training: curves over the epochs, the range test, what happens in the layers."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.findings import Activity, Array, Findings, LrCurve, Vitals
from pipeline.base.terminal import counted, rounded, significant
from pipeline.pictures import style
from pipeline.pictures.style import NotDrawnError, Picture, label, layer_name, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

#: Height of a metric's panel in inches.
PANEL = 2.1
#: Most layers that are named in the legend; more get a colour bar.
NAMED = 8
COLOURS = "viridis"
#: Range of that map that is visible on a white and on a black background.
DARKEST = 0.28
BRIGHTEST = 0.75
#: Share of a layer's weights that a step usually moves.
USUAL = (1e-4, 1e-2)


def curve_pictures(findings: Findings) -> Iterator[Picture]:
    """Yield losses, validation metrics and learning rate over the epochs."""
    values_by_key = {}
    for key in set().union(*findings.history.values()):
        values = known_values(findings, key)
        if len(values):
            values_by_key[key] = values
    epochs = len(findings.history)
    within = f"In {counted(epochs, 'epoch')}"
    kept_weights = f"Kept weights: epoch {_kept_epoch(findings)}"
    if findings.has_diverged:
        kept_weights += f"; training diverged after {epochs} complete epochs"
    if findings.is_trained:
        parts = [part for part in style.PARTS if f"{part}/loss" in values_by_key]
        losses = []
        for part in parts:
            course = _course(values_by_key[f"{part}/loss"])
            losses.append(f"the {style.PARTS[part]['label']} loss {course}")
        words = "No epoch was completed."
        if losses:
            words = f"{within}, {' and '.join(losses)}. {kept_weights}."
        yield Picture("curves/loss", "Loss by epoch", words, partial(_losses, findings, parts))
    metrics = [key for key in values_by_key if key.startswith("val/") and key != "val/loss"]
    if metrics:
        metrics.sort(key=lambda key: (key != findings.monitor, key))  # the monitored one first
        scores = [_last_value(key, values_by_key[key]) for key in metrics]
        words = f"In the last epoch: {', '.join(scores)}. {kept_weights}."
        draw = partial(_metric_curves, findings, metrics)
        yield Picture("curves/metrics", "Validation metrics by epoch", words, draw)
    if "lr" in values_by_key:
        course = _course(values_by_key["lr"], partial(significant, digits=3))
        words = f"{within}, the learning rate {course}."
        yield Picture("curves/lr", "Learning rate by epoch", words, partial(_rate, findings))


def _last_value(key: str, values: Floats) -> str:
    text = f"{short(key.removeprefix('val/'))} {rounded(values[-1])}"
    if np.ptp(values) > 0:
        text += f" (range {rounded(values.min())} to {rounded(values.max())})"
    return text


def _curve(findings: Findings, key: str) -> Floats:
    """Return the value of each epoch, NaN if it has none, (epochs,)."""
    values = [findings.history[epoch].get(key, np.nan) for epoch in sorted(findings.history)]
    return style.only_finite(np.asarray(values))


def known_values(findings: Findings, key: str) -> Floats:
    """Return the values of the epochs that have a finite one."""
    values = _curve(findings, key)
    return values[~np.isnan(values)]


def _kept_epoch(findings: Findings) -> int:
    return findings.kept if findings.kept is not None else max(findings.history, default=0)


def _course(values: Floats, text: Callable[[float], str] = rounded) -> str:
    if np.ptp(values) == 0:
        verb = "stayed at" if len(values) > 1 else "was"
        return f"{verb} {text(values[0])}"
    ends = f"went from {text(values[0])} to {text(values[-1])}"
    lowest = values.min()
    if lowest in (values[0], values[-1]):
        return ends
    return f"{ends} (lowest {text(lowest)})"


def _losses(findings: Findings, parts: Sequence[str]) -> "Figure":
    if not parts:
        raise NotDrawnError("no epoch was completed")
    figure, grid = style.panels(height=3.6)
    axes = grid[0, 0]
    for part in parts:
        draw_curve(axes, findings, f"{part}/loss", **style.PARTS[part])
    losses = np.concatenate([line.get_ydata() for line in axes.lines])
    style.log_scale_if_wide(axes, losses)
    axes.set_ylabel("loss")
    mark_kept(axes, findings)
    if findings.has_diverged:
        axes.set_title("training diverged after these epochs")
    style.below(figure, axes, columns=3)
    return figure


def _metric_curves(findings: Findings, metrics: Sequence[str]) -> "Figure":
    count = len(metrics)
    columns = 2 if count in (2, 4) else min(3, count)
    figure, axes = style.panels(count, columns, height=PANEL, sharex=True)
    for panel, key in zip(axes.flat, metrics, strict=False):
        draw_curve(panel, findings, key, **style.PARTS["val"])
        weight = "bold" if key == findings.monitor else "normal"
        panel.set_title(label(key.removeprefix("val/")), fontsize=10, fontweight=weight)
        style.whole_numbers(panel, most=8 // columns)
        mark_kept(panel, findings)
    for panel in axes.flat[: max(0, count - columns)]:
        panel.set_xlabel("")
    for panel in axes.flat[count - columns : count]:
        panel.tick_params(labelbottom=True)  # also above a removed panel
    style.below(figure, axes[0, 0], columns=2)
    return figure


def _rate(findings: Findings) -> "Figure":
    figure, axes = style.panels(height=2.6)
    draw_curve(axes[0, 0], findings, "lr", color=style.foreground())
    if not style.log_scale_if_wide(axes[0, 0], _curve(findings, "lr")):
        axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].set_ylabel("learning rate")
    return figure


def draw_curve(axes: "Axes", findings: Findings, key: str, **look: Any) -> None:
    """Draw a value over the epochs."""
    epochs = sorted(findings.history)
    axes.plot(epochs, _curve(findings, key), marker=style.mark(len(epochs)), ms=3.5, **look)
    style.epochs_across(axes, epochs)


def mark_kept(axes: "Axes", findings: Findings) -> None:
    """Mark the epoch of the kept weights."""
    epoch = _kept_epoch(findings)
    if epoch in findings.history:
        name = f"kept weights: epoch {epoch}"
        axes.axvline(epoch, color=style.QUIET, linestyle=":", linewidth=1.5, zorder=1, label=name)


# ── over the learning rate ──────────────────────────────────────────────────────────────────────


def lr_range(curve: LrCurve) -> "Figure":
    """Draw the losses of a range test over the learning rate, and mark the rates that it found."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
    axes.set(xscale="log", xlabel="learning rate (optimizer.lr)", ylabel="training loss")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.scatter(curve.rates, curve.losses, s=12, c="0.6", label="single batches", zorder=2)
    if len(curve.smoothed):
        axes.plot(curve.rates, curve.smoothed, color=style.TRAIN, lw=2, label="smoothed", zorder=3)
        low = float(curve.smoothed.min())
        start = float(curve.smoothed[0])
        noise = (curve.losses - curve.smoothed)[: max(3, len(curve.losses) // 10)].std()
        height = max(start - low, 6 * float(noise))
        if height > 0:  # what is well above the first loss says nothing
            axes.set_ylim(low - 0.4 * height, start + 0.6 * height)
    if curve.suggestion is not None:
        small = {"color": style.TRAIN, "ms": 7}
        _mark_rate(axes, curve, curve.steepest, "steepest", marker="v", **small)
        _mark_rate(
            axes, curve, curve.suggestion, "suggested", marker="o", color=style.NETWORK, ms=10
        )
        _mark_rate(axes, curve, curve.lowest, "lowest", marker="s", **small)
        axes.axvline(curve.suggestion, color=style.NETWORK, lw=1.2, ls=":", zorder=2)
    if not len(curve.rates):
        axes.text(0.5, 0.5, "all losses are NaN or infinite", transform=axes.transAxes, ha="center")
        axes.set_yticks([])
    elif curve.blown_up is not None:
        end = 1.5 * max([curve.blown_up, *curve.rates[-1:].tolist()])
        name = f"diverges at {significant(curve.blown_up, 3)}"
        axes.axvspan(curve.blown_up, end, color="0.9", zorder=0, label=name)
        axes.set_xlim(right=end)
    title = "no learning rate is suggested"
    if curve.suggestion:
        title = f"suggested: optimizer.lr={curve.suggestion:g}"
    axes.set_title(title, loc="left")
    axes.legend(framealpha=0.9)
    return figure


def _mark_rate(axes: "Axes", curve: LrCurve, rate: float | None, name: str, **look: Any) -> None:
    """Mark a learning rate on the smoothed curve."""
    if rate is None:
        return
    loss = float(np.interp(np.log(rate), np.log(curve.rates), curve.smoothed))
    text = f"{name}: {significant(rate)}"
    axes.plot([rate], [loss], ls="", zorder=4, label=text, mec="white", **look)


# ── the layers ──────────────────────────────────────────────────────────────────────────────────


def layer_pictures(findings: Findings) -> Iterator[Picture]:
    """Yield gradient norms, sizes of updates and activations of the layers."""
    vitals = findings.vitals
    if vitals is not None and len(vitals.epochs) and vitals.layers:
        draw = partial(_gradients, findings, vitals)
        words = _gradient_words(vitals)
        yield Picture("layers/gradient_norms", "Gradient norm by layer", words, draw)
        title = "Relative size of a step by layer"
        yield Picture("layers/updates", title, _update_words(vitals), partial(_updates, vitals))
    activity = findings.activity
    if activity:
        draw = partial(_activity, activity)
        words = _activity_words(activity)
        yield Picture("layers/activity", "Dead units and saturated values", words, draw)


def _layers_and_epochs(vitals: Vitals) -> str:
    layers = counted(len(vitals.layers), "layer")
    return f"{layers} over {counted(len(vitals.epochs), 'epoch')}"


def _gradient_words(vitals: Vitals) -> str:
    norms = []
    for index, position in ((0, "first"), (-1, "last")):
        norm = float(vitals.gradients[-1, index])
        size = rounded(norm) if np.isfinite(norm) else "undefined"
        norms.append(f"{size} in the {position} layer ({layer_name(vitals.layers[index])})")
    return (
        f"Mean gradient norm of {_layers_and_epochs(vitals)}; in the last epoch {', '.join(norms)}."
    )


def _update_words(vitals: Vitals) -> str:
    words = f"Size of a step relative to the layer's weights, for {_layers_and_epochs(vitals)}"
    updates = style.only_finite(vitals.updates)
    updates = updates[~np.isnan(updates).all(1)]  # not every epoch has values
    if not len(updates):
        return f"{words}."
    ends = []
    for index in (int(np.nanargmin(updates[-1])), int(np.nanargmax(updates[-1]))):
        ends.append(f"{rounded(updates[-1][index])} ({layer_name(vitals.layers[index])})")
    return f"{words}; in the last epoch from {' to '.join(ends)}; usual: 0.0001 to 0.01."


def _activity_words(activity: Sequence[Activity]) -> str:
    layers = []
    for layer in activity:
        shares = _share_words(layer)
        if shares:
            kind = layer.kind.replace(" (", ", ").rstrip(")")
            layers.append(f"{layer_name(layer.layer)} ({kind}): {shares}")
    if not layers:
        return "No dead units and no saturated values."
    ellipsis = "; …" if len(layers) > 6 else ""
    return f"{'; '.join(layers[:6])}{ellipsis}."


def _share_words(layer: Activity) -> str:
    words = []
    if layer.dead > 0:
        words.append(f"{100 * layer.dead:.0f} % of the units are dead")
    if layer.saturated > 0:
        words.append(f"{100 * layer.saturated:.0f} % of the values are saturated")
    return ", ".join(words)


def _gradients(findings: Findings, vitals: Vitals) -> "Figure":
    figure, axes = _log_lines(vitals, vitals.gradients, quantity="mean gradient norm")
    epochs = [int(epoch) for epoch in vitals.epochs]
    total = [findings.history.get(epoch, {}).get("grad/norm", np.nan) for epoch in epochs]
    if np.isfinite(total).any():
        look: dict[str, Any] = {"color": style.foreground(), "linestyle": (0, (1, 1))}
        look |= {"linewidth": 2, "marker": style.mark(len(epochs)), "ms": 3}
        axes.plot(epochs, style.only_finite(np.asarray(total)), label="total", **look)
    threshold = findings.clipping.threshold
    if threshold is not None and findings.clipping.algorithm == "norm":
        low, high = axes.get_ylim()
        is_distant = not low / 30 < threshold < high * 30
        name = f"clipping threshold of the total: {threshold:g}"
        if is_distant:
            name += " (off the axis)"
        axes.axhline(threshold, color=style.SATURATED, linestyle="-.", linewidth=1.5, label=name)
        if is_distant:
            axes.set_ylim(low, high)
    style.below(figure, axes, columns=2)
    return figure


def _updates(vitals: Vitals) -> "Figure":
    figure, axes = _log_lines(vitals, vitals.updates, quantity="|step| / |weights|")
    axes.axhspan(*USUAL, color=style.NETWORK, alpha=style.SHADE, linewidth=0, label="usual range")
    style.below(figure, axes, columns=2)
    return figure


def _log_lines(vitals: Vitals, values: Array, *, quantity: str) -> "tuple[Figure, Axes]":
    """Draw `values` (epochs, layers), a line for each layer, coloured from input to output."""
    positive = style.only_finite(values)
    positive[positive <= 0] = np.nan  # not on a log axis
    if np.isnan(positive).all():
        raise NotDrawnError(f"{quantity}: no layer has a finite value above 0")
    figure, axes = style.panels(height=4.2)
    are_named = len(vitals.layers) <= NAMED
    mark = style.mark(len(vitals.epochs))
    colours = _colours(len(vitals.layers))
    for layer, course, colour in zip(vitals.layers, positive.T, colours, strict=True):
        drawn_epochs = ~np.isnan(course)
        name = label(layer_name(layer), 28) if are_named else None
        look: dict[str, Any] = {"color": colour, "marker": mark, "ms": 3, "label": name}
        axes[0, 0].plot(vitals.epochs[drawn_epochs], course[drawn_epochs], **look)
    axes[0, 0].set(yscale="log", ylabel=quantity)
    style.epochs_across(axes[0, 0], [int(epoch) for epoch in vitals.epochs])
    if not are_named:
        _colour_bar(figure, axes[0, 0], vitals.layers)
    return figure, axes[0, 0]


def _colours(layers: int) -> Array:
    import matplotlib as mpl

    colours: Array = mpl.colormaps[COLOURS](np.linspace(DARKEST, BRIGHTEST, layers))
    return colours


def _colour_bar(figure: "Figure", axes: "Axes", layers: Sequence[str]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    count = len(layers)
    scale = ScalarMappable(Normalize(0.5, count + 0.5), ListedColormap(_colours(count)))
    bar = figure.colorbar(scale, ax=axes, pad=0.02, aspect=30)
    numbers = np.unique(np.linspace(1, count, 4).round().astype(int)).tolist()
    names = [label(layer_name(layers[number - 1], 18)) for number in numbers]
    bar.set_ticks(numbers, labels=names)
    bar.ax.tick_params(labelsize=8)
    bar.ax.invert_yaxis()
    bar.ax.set_title("input", fontsize=8)
    bar.ax.set_xlabel("output", fontsize=8)


def _activity(activity: Sequence[Activity]) -> "Figure":
    height = 1.3 + 0.34 * len(activity)
    figure, axes = style.panels(2, 2, height=height, sharey=True, width_ratios=(3, 2))
    bars, means = axes[0]
    positions = np.arange(len(activity))
    dead = [layer.dead for layer in activity]
    _share_bars(bars, positions - 0.2, dead, color=style.DEAD, label="dead units")
    saturated = [layer.saturated for layer in activity]
    look: dict[str, Any] = {"color": style.SATURATED, "label": "saturated values"}
    _share_bars(bars, positions + 0.2, saturated, **look)
    if not any(map(_share_words, activity)):
        bars.set_title("no dead units, no saturated values", fontsize=9)
    bars.set_xlim(0, 112)
    bars.set_xticks([0, 50, 100], ["0", "50%", "100%"])
    names = [f"{label(layer_name(layer.layer, 22))}\n{label(layer.kind)}" for layer in activity]
    bars.set_yticks(positions, names)
    bars.tick_params(axis="y", labelsize=8)
    bars.invert_yaxis()
    look = {"fmt": "o", "ms": 4, "capsize": 3, "color": style.TRAIN}
    spread = [layer.deviation for layer in activity]
    means.errorbar([layer.mean for layer in activity], positions, xerr=spread, **look)
    means.set_xlabel("mean ± SD")
    style.below(figure, bars, columns=2)
    return figure


def _share_bars(axes: "Axes", positions: Array, shares: Sequence[float], **look: Any) -> None:
    percent = 100 * np.nan_to_num(np.asarray(shares, dtype=np.float64))
    bars = axes.barh(positions, percent, height=0.36, **look)
    texts = [f"{value:.0f}%" if value else "" for value in percent]
    axes.bar_label(bars, texts, padding=2, fontsize=8)
