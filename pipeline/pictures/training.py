"""Pictures of a training: curves over the epochs, the range test, what happens in the layers."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.findings import Activity, Array, Findings, LrCurve, Vitals
from pipeline.pictures import style
from pipeline.pictures.style import NotDrawnError, Picture, label, layer_name, short
from pipeline.terminal import rounded, significant

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
DARKEST, BRIGHTEST = 0.28, 0.75
#: Share of a layer's weights that a step usually moves.
USUAL = (1e-4, 1e-2)


def curve_pictures(findings: Findings) -> Iterator[Picture]:
    """Yield losses, validation metrics and learning rate over the epochs."""
    keys = {key for values in findings.history.values() for key in values}
    known = {key: values for key in keys if len(values := known_values(findings, key))}
    kept = f"Kept weights: epoch {_kept(findings)}"
    if findings.has_diverged:
        kept += f"; training diverged after {len(findings.history)} complete epochs"
    parts = [part for part in style.PARTS if f"{part}/loss" in known]
    told = [f"the {style.PARTS[p]['label']} loss {_course(known[f'{p}/loss'])}" for p in parts]
    within = f"In {(count := len(findings.history))} epoch{'s' * (count != 1)}"
    words = f"{within}, {' and '.join(told)}. {kept}." if told else "No epoch was completed."
    if findings.is_trained:
        yield Picture("curves/loss", "Loss by epoch", words, partial(_losses, findings, parts))
    own = known.keys() - {"val/loss"}
    metrics = [key for key in own if key.startswith("val/")]
    if metrics:
        metrics.sort(key=lambda key: (key != findings.monitor, key))  # the monitored one first
        told = []
        for key in metrics:
            values, name = known[key], short(key.removeprefix("val/"))
            between = f" (range {rounded(values.min())} to {rounded(values.max())})"
            told.append(f"{name} {rounded(values[-1])}{between * bool(np.ptp(values))}")
        words = f"In the last epoch: {', '.join(told)}. {kept}."
        draw = partial(_metric_curves, findings, metrics)
        yield Picture("curves/metrics", "Validation metrics by epoch", words, draw)
    if "lr" in known:
        words = (
            f"{within}, the learning rate {_course(known['lr'], partial(significant, digits=3))}."
        )
        yield Picture("curves/lr", "Learning rate by epoch", words, partial(_rate, findings))


def _curve(findings: Findings, key: str) -> Floats:
    """Return the value of each epoch, NaN if it has none, (epochs,)."""
    values = [findings.history[epoch].get(key, np.nan) for epoch in sorted(findings.history)]
    return style.only_finite(np.asarray(values))


def known_values(findings: Findings, key: str) -> Floats:
    """Return the values of the epochs that have a finite one."""
    values = _curve(findings, key)
    return values[~np.isnan(values)]


def _kept(findings: Findings) -> int:
    return findings.kept if findings.kept is not None else max(findings.history, default=0)


def _course(values: Floats, text: Callable[[float], str] = rounded) -> str:
    if np.ptp(values) == 0:
        return f"{'stayed at' if len(values) > 1 else 'was'} {text(values[0])}"
    ends = f"went from {text(values[0])} to {text(values[-1])}"
    lowest = values.min()
    return ends if lowest in (values[0], values[-1]) else f"{ends} (lowest {text(lowest)})"


def _losses(findings: Findings, parts: Sequence[str]) -> "Figure":
    if not parts:
        raise NotDrawnError("no epoch was completed")
    figure, grid = style.panels(height=3.6)
    axes = grid[0, 0]
    for part in parts:
        draw_curve(axes, findings, f"{part}/loss", **style.PARTS[part])
    style.log_scale_if_wide(axes, np.concatenate([line.get_ydata() for line in axes.lines]))
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
        panel.tick_params(labelbottom=True)  # also above an empty place
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
    epoch = _kept(findings)
    if epoch in findings.history:
        what = f"kept weights: epoch {epoch}"
        axes.axvline(epoch, color=style.QUIET, linestyle=":", linewidth=1.5, zorder=1, label=what)


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
        low, start = float(curve.smoothed.min()), float(curve.smoothed[0])
        noise = (curve.losses - curve.smoothed)[: max(3, len(curve.losses) // 10)].std()
        height = max(start - low, 6 * float(noise))
        if height > 0:  # what is well above the first loss says nothing
            axes.set_ylim(low - 0.4 * height, start + 0.6 * height)
    for rate, marker, words in (
        (curve.steepest, "v", "steepest"),
        (curve.suggestion, "o", "suggested"),
        (curve.lowest, "s", "lowest"),
    ):
        if curve.suggestion is not None and rate is not None:
            at = float(np.interp(np.log(rate), np.log(curve.rates), curve.smoothed))
            colour, size = (style.NETWORK, 10) if marker == "o" else (style.TRAIN, 7)
            look: dict[str, Any] = {"marker": marker, "color": colour, "ms": size, "mec": "white"}
            axes.plot([rate], [at], ls="", zorder=4, label=f"{words}: {significant(rate)}", **look)
    if curve.suggestion is not None:
        axes.axvline(curve.suggestion, color=style.NETWORK, lw=1.2, ls=":", zorder=2)
    if not len(curve.rates):
        axes.text(0.5, 0.5, "all losses are NaN or infinite", transform=axes.transAxes, ha="center")
        axes.set_yticks([])
    elif curve.blown_up is not None:
        end = 1.5 * max([curve.blown_up, *curve.rates[-1:].tolist()])
        what = f"diverges at {significant(curve.blown_up, 3)}"
        axes.axvspan(curve.blown_up, end, color="0.9", zorder=0, label=what)
        axes.set_xlim(right=end)
    suggested = f"suggested: optimizer.lr={curve.suggestion:g}" if curve.suggestion else ""
    axes.set_title(suggested or "no learning rate is suggested", loc="left")
    axes.legend(framealpha=0.9)
    return figure


# ── the layers ──────────────────────────────────────────────────────────────────────────────────


def layer_pictures(findings: Findings) -> Iterator[Picture]:
    """Yield gradient norms, sizes of updates and activations of the layers."""
    vitals, activity = findings.vitals, findings.activity
    if vitals is not None and len(vitals.epochs) and vitals.layers:
        layers, epochs = len(vitals.layers), len(vitals.epochs)
        counted = f"{layers} layer{'s' * (layers > 1)} over {epochs} epoch{'s' * (epochs > 1)}"
        names = [layer_name(layer) for layer in vitals.layers]
        told = []
        for at, end in ((0, "first"), (-1, "last")):
            norm = float(vitals.gradients[-1, at])
            size = rounded(norm) if np.isfinite(norm) else "undefined"
            told.append(f"{size} in the {end} layer ({names[at]})")
        words = f"Mean gradient norm of {counted}; in the last epoch {', '.join(told)}."
        draw = partial(_gradients, findings, vitals)
        yield Picture("layers/gradient_norms", "Gradient norm by layer", words, draw)
        words = f"Size of a step relative to the layer's weights, for {counted}"
        updates = style.only_finite(vitals.updates)
        known = updates[~np.isnan(updates).all(1)]  # not every epoch has values
        if len(known):
            low, high = int(np.nanargmin(known[-1])), int(np.nanargmax(known[-1]))
            told = [f"{rounded(known[-1][at])} ({names[at]})" for at in (low, high)]
            words += f"; in the last epoch from {' to '.join(told)}; usual: 0.0001 to 0.01"
        title, draw = "Relative size of a step by layer", partial(_updates, vitals)
        yield Picture("layers/updates", title, f"{words}.", draw)
    if activity:
        told = [
            f"{layer_name(one.layer)} ({one.kind.replace(' (', ', ').rstrip(')')}): {what}"
            for one in activity
            if (what := _share_words(one))
        ]
        words = f"{'; '.join(told[:6])}{'; …' if len(told) > 6 else ''}."
        words = words if told else "No dead units and no saturated values."
        draw = partial(_activity, activity)
        yield Picture("layers/activity", "Dead units and saturated values", words, draw)


def _share_words(one: Activity) -> str:
    shares = ((one.dead, "of the units are dead"), (one.saturated, "of the values are saturated"))
    return ", ".join(f"{100 * share:.0f} % {what}" for share, what in shares if share > 0)


def _gradients(findings: Findings, vitals: Vitals) -> "Figure":
    figure, axes = _log_lines(vitals, vitals.gradients, what="mean gradient norm")
    epochs = [int(epoch) for epoch in vitals.epochs]
    total = [findings.history.get(epoch, {}).get("grad/norm", np.nan) for epoch in epochs]
    if np.isfinite(total).any():
        look: dict[str, Any] = {"color": style.foreground(), "linestyle": (0, (1, 1))}
        look |= {"linewidth": 2, "marker": style.mark(len(epochs)), "ms": 3}
        axes.plot(epochs, style.only_finite(np.asarray(total)), label="total", **look)
    threshold = findings.clipping.threshold
    if threshold is not None and findings.clipping.algorithm == "norm":
        low, high = axes.get_ylim()
        distant = not low / 30 < threshold < high * 30  # stays outside the axis
        what = f"clipping threshold of the total: {threshold:g}{' (off the axis)' * distant}"
        axes.axhline(threshold, color=style.SATURATED, linestyle="-.", linewidth=1.5, label=what)
        if distant:
            axes.set_ylim(low, high)
    style.below(figure, axes, columns=2)
    return figure


def _updates(vitals: Vitals) -> "Figure":
    figure, axes = _log_lines(vitals, vitals.updates, what="|step| / |weights|")
    axes.axhspan(*USUAL, color=style.NETWORK, alpha=style.SHADE, linewidth=0, label="usual range")
    style.below(figure, axes, columns=2)
    return figure


def _log_lines(vitals: Vitals, values: Array, *, what: str) -> "tuple[Figure, Axes]":
    """Draw `values` (epochs, layers), a line for each layer, coloured from input to output."""
    drawn = style.only_finite(values)
    drawn[drawn <= 0] = np.nan  # not on a log axis
    if np.isnan(drawn).all():
        raise NotDrawnError(f"{what}: no layer has a finite value above 0")
    figure, axes = style.panels(height=4.2)
    few, mark = len(vitals.layers) <= NAMED, style.mark(len(vitals.epochs))
    colours = _colours(len(vitals.layers))
    for layer, course, colour in zip(vitals.layers, drawn.T, colours, strict=True):
        seen, name = ~np.isnan(course), label(layer_name(layer), 28) if few else None
        look: dict[str, Any] = {"color": colour, "marker": mark, "ms": 3, "label": name}
        axes[0, 0].plot(vitals.epochs[seen], course[seen], **look)
    axes[0, 0].set(yscale="log", ylabel=what)
    style.epochs_across(axes[0, 0], [int(epoch) for epoch in vitals.epochs])
    if not few:
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
    places = np.unique(np.linspace(1, count, 4).round().astype(int)).tolist()
    bar.set_ticks(places, labels=[label(layer_name(layers[at - 1], 18)) for at in places])
    bar.ax.tick_params(labelsize=8)
    bar.ax.invert_yaxis()
    bar.ax.set_title("input", fontsize=8)
    bar.ax.set_xlabel("output", fontsize=8)


def _activity(activity: Sequence[Activity]) -> "Figure":
    height = 1.3 + 0.34 * len(activity)
    figure, axes = style.panels(2, 2, height=height, sharey=True, width_ratios=(3, 2))
    (left, right), places = axes[0], np.arange(len(activity))
    for share, colour, offset, what in (
        ([one.dead for one in activity], style.DEAD, -0.2, "dead units"),
        ([one.saturated for one in activity], style.SATURATED, 0.2, "saturated values"),
    ):
        percent = 100 * np.nan_to_num(np.asarray(share, dtype=np.float64))
        bars = left.barh(places + offset, percent, height=0.36, color=colour, label=what)
        shown = [f"{one:.0f}%" if one else "" for one in percent]
        left.bar_label(bars, shown, padding=2, fontsize=8)
    if not any(map(_share_words, activity)):
        left.set_title("no dead units, no saturated values", fontsize=9)
    left.set_xlim(0, 112)
    left.set_xticks([0, 50, 100], ["0", "50%", "100%"])
    names = [f"{label(layer_name(one.layer, 22))}\n{label(one.kind)}" for one in activity]
    left.set_yticks(places, names)
    left.tick_params(axis="y", labelsize=8)
    left.invert_yaxis()
    look: dict[str, Any] = {"fmt": "o", "ms": 4, "capsize": 3, "color": style.TRAIN}
    spread = [one.deviation for one in activity]
    right.errorbar([one.mean for one in activity], places, xerr=spread, **look)
    right.set_xlabel("mean ± SD")
    style.below(figure, left, columns=2)
    return figure
