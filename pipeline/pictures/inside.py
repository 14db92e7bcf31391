"""Hidden layers for some rows: recurrent layers step by step, dense layers unit by unit.

Convolutional layers, with the same helpers, are in `pipeline.pictures.inside_maps`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.findings import Array, Findings, Floats, Inside
from pipeline.pictures import style
from pipeline.pictures.picture import Picture
from pipeline.pictures.style import label, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

GREY, SIGNED = "gray", "RdBu_r"
"""Colour maps: brighter is more; blue is negative, white is zero, red is positive."""
MOST_LAYERS = 7
"""Layers that are drawn, evenly spaced if there are more."""
MOST_LINES = 6
"""Features of a series that are drawn as lines; more are a heat map."""
NAME = 14
"""Columns of the name of a row."""
GATES = ("forget gate", "input gate", "output gate", "reset gate", "update gate")
SEEN = (*GATES, "candidate", "cell", "state")
"""Values of a recurrent cell, in the order in which they are drawn."""
MOST_SAMPLES = 3
"""Rows that are drawn side by side."""
MOST_GATED = 4
"""Layers and directions whose gates are drawn; the states show all of them."""
INPUT = "input"
"""Name of the input among the layers."""
MOST_NAMES = 6
"""Features whose names fit below their columns."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerView:
    """One view of one layer.

    Args:
        layer: Name of the layer, as `layers.layer1 backward`.
        note: What was left out, as `every 2nd step`; empty = nothing.
        values: (samples, …).
    """

    layer: str
    note: str
    values: Floats

    @property
    def title(self) -> str:
        """The layer's name, and what was left out below it."""
        name = label(self.layer.removeprefix("layers."), 22)
        return f"{name}\n({self.note.replace(', ', chr(10))})" if self.note else name


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield states and gates over time, and the activations of dense layers, if there are any."""
    inside = findings.inside
    if inside is not None:
        yield from _states(findings, inside)
        yield from _gates(findings, inside)
        yield from _dense(findings, inside)


# ── views, names and limits ─────────────────────────────────────────────────────────────────────


def views_of(inside: Inside, kind: str) -> list[LayerView]:
    """Return the views of a kind, such as `feature map`, from the input to the output."""
    found = []
    for name, values in inside.views.items():
        word, _, place = name.partition("/")
        if word == kind:
            layer, _, note = place.partition(" (")
            found.append(LayerView(layer=layer, note=note.rstrip(")"), values=values))
    return found


def some_layers(views: Sequence[LayerView]) -> tuple[list[LayerView], str]:
    """Return at most `MOST_LAYERS` views, and a note on how many there are."""
    if len(views) <= MOST_LAYERS:
        return list(views), ""
    places = np.linspace(0, len(views) - 1, MOST_LAYERS).round().astype(int)
    return [views[place] for place in places], f"{MOST_LAYERS} of {len(views)} layers"


def file_of(layer: str) -> str:
    """Return a layer's name as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", layer).strip("_.") or "layer"


def row_names(inside: Inside, between: str = "\n") -> list[str]:
    """Return the label of each sample and its row number."""
    return [
        f"{label(name, NAME)}{between}row {row}"
        for name, row in zip(inside.labels, inside.rows, strict=True)
    ]


def words(inside: Inside) -> str:
    """Return which rows a picture shows, for its alternative text."""
    named = ", ".join(short(name, NAME) for name in inside.labels)
    return f"{len(inside.rows)} {'row' if len(inside.rows) == 1 else 'rows'} ({named})"


def span(values: Array) -> str:
    """Return the range of some values, for an alternative text."""
    low, high = limits(values)
    return f"from {low:.3g} to {high:.3g}"


def spans(views: Sequence[LayerView]) -> str:
    """Return the range of each layer's values, for an alternative text."""
    return ", ".join(f"{short(view.layer, 40)} {span(view.values)}" for view in views)


def limits(values: Array) -> tuple[float, float]:
    """Return the smallest and the largest of all finite values, never equal."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def around_zero(values: Array) -> tuple[float, float]:
    """Return the ends of a scale around zero; the largest 1 % of the values may lie beyond."""
    finite = np.abs(values[np.isfinite(values)])
    high = float(np.quantile(finite, 0.99) or finite.max()) if finite.size else 1.0
    return -(high or 1.0), high or 1.0


# ── axes ────────────────────────────────────────────────────────────────────────────────────────


def heading(findings: Findings, text: str, *notes: str) -> str:
    """Return a figure's title: what it shows, and how much of it."""
    told = [note for note in notes if note]
    shown = len(set(findings.inside.labels)) if findings.inside is not None else 0
    samples = dict(findings.config.get("feature_maps") or {}).get("samples")
    if samples is None and shown < len(findings.classes):
        told.append(f"{shown} of {len(findings.classes)} classes")
    if findings.units:
        told.append(f"rows named by their target in {label(findings.units)}")
    return text + (f"\n({', '.join(told)})" if told else "")


def titled_figure(
    title: str,
    shape: tuple[int, int],
    *,
    size: tuple[float, float],
    gap: float = 0.04,
    **more: Any,
) -> "tuple[Figure, Array]":
    """Return a figure with a title, and its axes (rows, columns).

    Args:
        title: Of the figure.
        shape: Rows and columns of axes.
        size: Width and height in inches.
        gap: Inches around each of the axes.
        more: Goes to `pyplot.subplots`.
    """
    from matplotlib import pyplot
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=gap, h_pad=gap)
    figure, axes = pyplot.subplots(*shape, figsize=size, squeeze=False, layout=layout, **more)
    figure.suptitle(title, fontsize=10)
    return figure, np.asarray(axes)


def add_scale(
    figure: "Figure", image: "AxesImage", axes: Any, *, below: bool = False, text: str = ""
) -> None:
    """Draw the colour scale of an image.

    Args:
        figure: Where to draw.
        image: Whose scale it is; one around zero has pointed ends, since values may lie beyond.
        axes: One or several that share it, to the right of them; those to fill if `below`.
        below: Whether it is horizontal.
        text: What the numbers are.
    """
    least, most = image.get_clim()
    signed = least < 0 < most
    extend: Literal["both", "neither"] = "both" if signed else "neither"
    if below:
        bar = figure.colorbar(image, cax=axes, orientation="horizontal", extend=extend)
    else:
        aspect = 30 if np.ndim(axes) == 2 and len(axes) > 1 else 14
        bar = figure.colorbar(
            image, ax=axes, fraction=0.06, pad=0.015, aspect=aspect, extend=extend
        )
    ticks = [least, 0.0 if signed else (least + most) / 2, most]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.ax.tick_params(labelsize=7, length=2)
    bar.outline.set_visible(False)
    if text:
        bar.set_label(text, fontsize=8)


def as_series(sample: Floats) -> Floats:
    """Return a sample as (steps, features); a table's values are steps of one feature."""
    return sample if sample.ndim == 2 else sample.reshape(-1, 1)


def draw_series(axes: "Axes", series: Floats, names: Sequence[str]) -> None:
    """Draw (steps, features): lines, or a heat map if there are many features."""
    steps, features = series.shape
    axes.tick_params(labelsize=7)
    if features > MOST_LINES:
        low, high = around_zero(series)
        extent = (-0.5, steps - 0.5, -0.5, features - 0.5)
        axes.imshow(
            series.T, cmap=SIGNED, vmin=low, vmax=high, aspect="auto", extent=extent, origin="lower"
        )
        return
    for index in range(features):
        name = label(names[index]) if index < len(names) else f"feature {index + 1}"
        axes.plot(series[:, index], linewidth=1.1, label=name, color=style.CYCLE[index])
    axes.set_xlim(-0.5, steps - 0.5)
    axes.spines[["top", "right"]].set_visible(False)


# ── over time ───────────────────────────────────────────────────────────────────────────────────

_Row = tuple[str, LayerView]
"""A label, and the view that is drawn as a heat map over time for each sample."""


def _states(findings: Findings, inside: Inside) -> Iterator[Picture]:
    steps = [view for view in views_of(inside, "activation") if view.values.ndim == 3]
    states, left_out = some_layers([*views_of(inside, "state"), *steps])
    if states:
        rows = [(view.title, view) for view in states]
        yield Picture(
            name="inside/states",
            title="States over time",
            alt=f"Heat maps, step by step and unit by unit, of {words(inside)}: {spans(states)}.",
            draw=partial(_over_time, findings, inside, rows, "States over time", left_out),
        )


def _gates(findings: Findings, inside: Inside) -> Iterator[Picture]:
    """Yield a picture of each layer and direction that has gates."""
    gated: dict[str, list[_Row]] = {}
    for state in views_of(inside, "state"):
        found = [(kind, view) for kind in SEEN for view in views_of(inside, kind)]
        rows = [(kind, view) for kind, view in found if view.layer == state.layer]
        if any(kind in GATES for kind, _ in rows):
            gated[state.layer] = rows
    few = f"{MOST_GATED} of {len(gated)} layers" if len(gated) > MOST_GATED else ""
    for layer, rows in islice(gated.items(), MOST_GATED):
        told = "; ".join(f"{kind} {span(view.values)}" for kind, view in rows)
        text = f"Gates of {rows[0][1].title}"
        yield Picture(
            name=f"inside/gates_{file_of(layer)}" if len(gated) > 1 else "inside/gates",
            title=f"Gates of {layer} over time",
            alt=f"Heat maps, step by step and unit by unit, of {words(inside)}: {told}.",
            draw=partial(_over_time, findings, inside, rows, text, few),
        )


def _over_time(
    findings: Findings, inside: Inside, rows: Sequence[_Row], text: str, left_out: str
) -> "Figure":
    """Draw the input of a few samples, and below it the values at each of its steps."""
    samples = min(MOST_SAMPLES, len(inside.rows))
    few = f"{samples} of {len(inside.rows)} rows" if samples < len(inside.rows) else ""
    size = (1.6 + 2.5 * samples, 1.6 + 1.15 * len(rows))
    title = heading(findings, text, left_out, few)
    figure, axes = titled_figure(title, (len(rows) + 1, samples), size=size)
    _draw_inputs(findings, inside, axes[0])
    length = len(as_series(inside.inputs[0]))
    for line, row in zip(axes[1:], rows, strict=True):
        _draw_row(line, row, length=length)
        add_scale(figure, line[0].images[0], line)
    # Ticks take most of Matplotlib's time.
    for axis in axes[:-1].flat:
        axis.set_xticks([])
    for axis in axes[:, 1:].flat:
        axis.set_yticks([])
    for axis in axes[-1]:
        axis.set_xlabel("step", fontsize=8)
    figure.align_ylabels(axes[:, 0])
    if len(axes[0, 0].get_lines()) > 1:
        style.below(figure, axes[0, 0], columns=4)
    return figure


def _draw_inputs(findings: Findings, inside: Inside, line: Array) -> None:
    inputs = inside.inputs[: len(line)]
    low, high = limits(inputs)
    for axis, sample, name in zip(line, inputs, row_names(inside, ", "), strict=False):
        draw_series(axis, as_series(sample), findings.features)
        axis.set_title(name, fontsize=8)
        if not axis.images:
            room = 0.05 * (high - low)
            axis.set_ylim(low - room, high + room)
    line[0].set_ylabel("input\nfeature" if line[0].images else "input", fontsize=8)


def _draw_row(line: Array, row: _Row, *, length: int) -> None:
    text, view = row
    gate, units = text in GATES, view.values.shape[2]
    low, high = (0.0, 1.0) if gate else around_zero(view.values[: len(line)])
    for axis, sample in zip(line, view.values, strict=False):
        axis.imshow(
            sample.T,
            cmap=style.SHARES if gate else SIGNED,
            vmin=low,
            vmax=high,
            aspect="auto",
            interpolation="nearest",
            origin="lower",
            extent=(-0.5, length - 0.5, 0.5, units + 0.5),
        )
        axis.tick_params(labelsize=7)
    line[0].set_yticks(sorted({1, units}))
    line[0].set_ylabel(f"{text}\nunit", fontsize=8)


# ── dense layers ────────────────────────────────────────────────────────────────────────────────


def _dense(findings: Findings, inside: Inside) -> Iterator[Picture]:
    found = [view for view in views_of(inside, "activation") if view.values.ndim == 2]
    views, left_out = some_layers(found)
    if views:
        yield Picture(
            name="inside/activations",
            title="Activations of each dense layer",
            alt=f"{words(inside)} and what each unit gives: {spans(views)}.",
            draw=partial(_activations, findings, inside, views, left_out),
        )


def _activations(
    findings: Findings, inside: Inside, views: Sequence[LayerView], left_out: str
) -> "Figure":
    """Draw a heat map of each layer: a row for each sample, a column for each unit."""
    if inside.inputs.ndim == 2:
        views = [LayerView(layer=INPUT, note="", values=inside.inputs), *views]
    samples = len(inside.rows)
    size = (7.0, 0.9 + len(views) * (0.7 + (0.2 if samples <= 5 else 0.14) * samples))
    title = heading(findings, "Activations of each dense layer", left_out)
    figure, axes = titled_figure(title, (len(views), 1), size=size)
    for axis, view in zip(axes[:, 0], views, strict=True):
        signed = bool((view.values < 0).any())
        low, high = around_zero(view.values) if signed else limits(view.values)
        image = axis.imshow(
            view.values,
            cmap=SIGNED if signed else GREY,
            vmin=low,
            vmax=high,
            aspect="auto",
            interpolation="nearest",
            extent=(0.5, view.values.shape[1] + 0.5, samples - 0.5, -0.5),
        )
        axis.set_title(view.title.replace("\n", " "), fontsize=8)
        axis.set_yticks(range(samples), row_names(inside, ", "), fontsize=7)
        _name_columns(axis, view, findings)
        add_scale(figure, image, axis)
    axes[-1, 0].set_xlabel("unit", fontsize=8)
    return figure


def _name_columns(axes: "Axes", view: LayerView, findings: Findings) -> None:
    columns = view.values.shape[1]
    if view.layer == INPUT and columns == len(findings.features) <= MOST_NAMES:
        names = [label(name, 90 // columns) for name in findings.features]
        axes.set_xticks(range(1, columns + 1), names)
    else:
        style.whole_numbers(axes, most=10)
    axes.tick_params(axis="x", labelsize=7)
