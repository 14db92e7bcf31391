"""The layers during training: gradient norms, sizes of the updates, activations."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.findings.records import Activity, Array, Findings, Vitals
from pipeline.pictures import style
from pipeline.pictures.picture import NotDrawnError, Picture
from pipeline.pictures.style import label, layer_name
from pipeline.terminal import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 8
"""Layers up to which each has its name in the legend; more get a colour bar."""
COLOURS = "viridis"
DARKEST, BRIGHTEST = 0.28, 0.75
"""Part of that map that is visible on a white and on a black background."""
USUAL = (1e-4, 1e-2)
"""Share of a layer's weights that a step usually moves."""


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield the pictures of the layers."""
    vitals = findings.vitals
    if vitals is not None and len(vitals.epochs) and vitals.layers:
        yield Picture(
            name="layers/gradient_norms",
            title="Gradient norm of each layer",
            alt=_gradient_words(vitals),
            draw=partial(_gradients, findings, vitals),
        )
        yield Picture(
            name="layers/updates",
            title="How far a step moves each layer's weights",
            alt=_update_words(vitals),
            draw=partial(_updates, vitals),
        )
    if findings.activity:
        yield Picture(
            name="layers/activity",
            title="What the activations give",
            alt=_activity_words(findings.activity),
            draw=partial(_activity, findings.activity),
        )


# ── alternative texts ───────────────────────────────────────────────────────────────────────────


def _gradient_words(vitals: Vitals) -> str:
    known = np.isfinite(vitals.gradients[-1])
    told = [
        f"{layer_name(vitals.layers[at])} "
        + (number(float(vitals.gradients[-1, at])) if known[at] else "no number")
        + f" (nearest the {end})"
        for at, end in ((0, "input"), (-1, "output"))
    ]
    return f"Mean gradient norm of {_counted(vitals)}; in the last epoch: {', '.join(told)}."


def _update_words(vitals: Vitals) -> str:
    updates = style.only_finite(vitals.updates)
    known = np.flatnonzero(~np.isnan(updates).all(1))  # not every epoch has values
    if not len(known):
        return f"Share of its weights that a step moves, for {_counted(vitals)}."
    last = updates[known[-1]]
    low, high = int(np.nanargmin(last)), int(np.nanargmax(last))
    return (
        f"Share of its weights that a step moves, for {_counted(vitals)}; at last from "
        f"{number(last[low])} ({layer_name(vitals.layers[low])}) to {number(last[high])} "
        f"({layer_name(vitals.layers[high])}); 0.0001 to 0.01 is usual."
    )


def _counted(vitals: Vitals) -> str:
    layers, epochs = len(vitals.layers), len(vitals.epochs)
    return f"{layers} layer{'s' * (layers > 1)} in {epochs} epoch{'s' * (epochs > 1)}"


def _activity_words(activity: Sequence[Activity]) -> str:
    told = [
        f"{layer_name(one.layer)} ({one.kind}): {what}"
        for one in activity
        if (what := _share_words(one))
    ]
    if not told:
        return "No unit is dead and no value saturated."
    return f"{'; '.join(told[:6])}{'; …' if len(told) > 6 else ''}."


def _share_words(one: Activity) -> str:
    shares = ((one.dead, "of the units dead"), (one.saturated, "of the values saturated"))
    return ", ".join(f"{share:.0%} {what}" for share, what in shares if share > 0)


# ── over the epochs ─────────────────────────────────────────────────────────────────────────────


def _gradients(findings: Findings, vitals: Vitals) -> "Figure":
    figure, axes = _log_lines(vitals, vitals.gradients, what="mean gradient norm")
    epochs = [int(epoch) for epoch in vitals.epochs]
    total = [findings.history.get(epoch, {}).get("grad/norm", np.nan) for epoch in epochs]
    if np.isfinite(total).any():
        axes.plot(
            epochs,
            style.only_finite(np.asarray(total)),
            color=style.foreground(),
            linestyle=(0, (1, 1)),
            linewidth=2,
            marker=style.mark(len(epochs)),
            ms=3,
            label="all together",
        )
    clipping = findings.clipping
    if clipping.threshold is not None and clipping.algorithm == "norm":
        _draw_threshold(axes, clipping.threshold)
    style.below(figure, axes, columns=2)
    return figure


def _draw_threshold(axes: "Axes", threshold: float) -> None:
    """Draw the clipping threshold; a distant one stays outside the axis."""
    low, high = axes.get_ylim()
    distant = not low / 30 < threshold < high * 30
    what = f"clipped above {threshold:g} (all together){', outside this picture' * distant}"
    axes.axhline(threshold, color=style.VALIDATION, linestyle="--", linewidth=1.5, label=what)
    if distant:
        axes.set_ylim(low, high)


def _updates(vitals: Vitals) -> "Figure":
    figure, axes = _log_lines(vitals, vitals.updates, what="|step| / |weights|")
    axes.axhspan(*USUAL, color=style.NETWORK, alpha=style.SHADE, linewidth=0, label="usual")
    style.below(figure, axes, columns=2)
    return figure


def _log_lines(vitals: Vitals, values: Array, *, what: str) -> "tuple[Figure, Axes]":
    """Draw `values` (epochs, layers), a line for each layer, coloured from input to output."""
    drawn = style.only_finite(values)
    drawn[drawn <= 0] = np.nan  # not on a log axis
    if np.isnan(drawn).all():
        raise NotDrawnError(f"no layer has a {what} that is a number above 0")
    figure, axes = style.panels(height=4.2)
    colours = _colours(len(vitals.layers))
    for index, name in enumerate(vitals.layers):
        seen = ~np.isnan(drawn[:, index])
        axes[0, 0].plot(
            vitals.epochs[seen],
            drawn[seen, index],
            color=colours[index],
            marker=style.mark(len(vitals.epochs)),
            ms=3,
            label=label(layer_name(name), 28) if len(vitals.layers) <= NAMED else None,
        )
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_ylabel(what)
    style.epochs_across(axes[0, 0], [int(epoch) for epoch in vitals.epochs])
    if len(vitals.layers) > NAMED:
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
    places = np.unique(np.linspace(1, count, 4).round().astype(int))
    bar.set_ticks(
        places.tolist(), labels=[label(layer_name(layers[place - 1], 18)) for place in places]
    )
    bar.ax.tick_params(labelsize=8)
    bar.ax.invert_yaxis()
    bar.ax.set_title("input", fontsize=8)
    bar.ax.set_xlabel("output", fontsize=8)


# ── activations ─────────────────────────────────────────────────────────────────────────────────


def _activity(activity: Sequence[Activity]) -> "Figure":
    height = 1.3 + 0.34 * len(activity)
    figure, axes = style.panels(1, 2, height=height, sharey=True, width_ratios=(3, 2))
    places = np.arange(len(activity))
    for share, colour, offset, what in (
        ([one.dead for one in activity], style.DEAD, -0.2, "dead units"),
        ([one.saturated for one in activity], style.SATURATED, 0.2, "saturated values"),
    ):
        percent = 100 * np.nan_to_num(np.asarray(share, dtype=np.float64))
        bars = axes[0, 0].barh(places + offset, percent, height=0.36, color=colour, label=what)
        shown = [f"{one:.0f}%" if one else "" for one in percent]
        axes[0, 0].bar_label(bars, shown, padding=2, fontsize=8)
    if not any(map(_share_words, activity)):
        axes[0, 0].set_title("none dead, none saturated", fontsize=9)
    axes[0, 0].set_xlim(0, 112)
    axes[0, 0].set_xticks([0, 50, 100], ["0", "50%", "100%"])
    axes[0, 0].set_yticks(
        places, [f"{label(layer_name(one.layer, 22))}\n{label(one.kind)}" for one in activity]
    )
    axes[0, 0].tick_params(axis="y", labelsize=8)
    axes[0, 0].invert_yaxis()
    axes[0, 1].errorbar(
        [one.mean for one in activity],
        places,
        xerr=[one.deviation for one in activity],
        fmt="o",
        ms=4,
        capsize=3,
        color=style.TRAIN,
    )
    axes[0, 1].set_xlabel("mean ± deviation")
    style.below(figure, axes[0, 0], columns=2)
    return figure
