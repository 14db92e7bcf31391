"""What the pictures of a network's inside have in common: samples, layers, scales, inputs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.findings.records import Array, Findings, Floats, Inside
from pipeline.pictures import style
from pipeline.pictures.names import label, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

GREY, SIGNED = "gray", "RdBu_r"
"""Brighter is more; blue is negative, white is zero, red is positive."""
MOST_LAYERS = 7
"""Layers that are drawn side by side, evenly spaced where there are more."""
MOST_LINES = 6
"""Features of a series that are drawn as lines; more are a heat map."""
NAME = 14
"""Columns that the name of a row may take beside a picture."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
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
        """The layer's name as a heading, what was left out below it."""
        name = label(self.layer.removeprefix("layers."), 22)
        return f"{name}\n({self.note.replace(', ', chr(10))})" if self.note else name


def views_of(inside: Inside, kind: str) -> list[View]:
    """Return the views of a kind, such as `feature map`, from the input to the output."""
    found = []
    for name, values in inside.views.items():
        word, _, place = name.partition("/")
        if word == kind:
            layer, _, note = place.partition(" (")
            found.append(View(layer=layer, note=note.rstrip(")"), values=values))
    return found


def some_layers(views: Sequence[View]) -> tuple[list[View], str]:
    """Return as many views as a picture has room for, and what to say of the others."""
    if len(views) <= MOST_LAYERS:
        return list(views), ""
    places = np.linspace(0, len(views) - 1, MOST_LAYERS).round().astype(int)
    return [views[place] for place in places], f"{MOST_LAYERS} of {len(views)} layers"


def file_of(layer: str) -> str:
    """Return a layer's name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", layer).strip("_.") or "layer"


def row_names(inside: Inside) -> list[str]:
    """Return what each sample is, and its row, on two lines."""
    return [
        f"{label(name, NAME)}\nrow {row}"
        for name, row in zip(inside.labels, inside.rows, strict=True)
    ]


def heading(findings: Findings, text: str, *notes: str) -> str:
    """Return a figure's title: what it shows, and of how much."""
    samples = dict(findings.config.get("feature_maps") or {}).get("samples")
    shown = len(set(findings.inside.labels)) if findings.inside is not None else 0
    classes = len(findings.classes)
    told = [note for note in notes if note]
    if samples is None and shown < classes:
        told.append(f"{shown} of {classes} classes")
    if findings.units:
        told.append(f"rows named by their target in {label(findings.units)}")
    return text + (f"\n({', '.join(told)})" if told else "")


def words(inside: Inside) -> str:
    """Return which rows a picture shows, for its alternative text."""
    named = ", ".join(short(name, NAME) for name in inside.labels)
    return f"{len(inside.rows)} {'row' if len(inside.rows) == 1 else 'rows'} ({named})"


def spans(views: Sequence[View]) -> str:
    """Return the range of each layer's values, for an alternative text."""
    told = []
    for view in views:
        low, high = limits(view.values)
        told.append(f"{short(view.layer, 40)} from {low:.3g} to {high:.3g}")
    return ", ".join(told)


def limits(values: Array) -> tuple[float, float]:
    """Return the smallest and the largest of all finite values, never the same."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def around_zero(values: Array) -> tuple[float, float]:
    """Return the ends of a scale around zero; the largest hundredth of the values may be beyond."""
    finite = np.abs(values[np.isfinite(values)])
    high = float(np.quantile(finite, 0.99) or finite.max()) if finite.size else 1.0
    return -(high or 1.0), high or 1.0


def figure_of(
    rows: int, columns: int, *, size: tuple[float, float], gap: float = 0.04, **more: Any
) -> "tuple[Figure, Array]":
    """Return a figure and its axes (rows, columns).

    Args:
        rows: Of axes.
        columns: Of axes.
        size: Width and height in inches.
        gap: Inches around each of the axes.
        more: Goes to `pyplot.subplots`.
    """
    from matplotlib import pyplot
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=gap, h_pad=gap)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=size, squeeze=False, layout=layout, **more
    )
    return figure, np.asarray(axes)


def bare(axes: "Axes") -> None:
    """Take away all but what is drawn, and what stands beside it."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def named(axes: "Axes", name: str) -> None:
    """Put a sample's name to the left of its row of pictures."""
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)


def scale(figure: "Figure", image: "AxesImage", axes: Any, *, side: str, text: str = "") -> None:
    """Draw the colour scale of an image.

    Args:
        figure: Where to draw.
        image: Whose scale it is; around zero it has points, since values may lie beyond.
        axes: One or several that share it and make room for it at their right; where `side` is
            `bottom`, those that it fills.
        side: `right` or `bottom`.
        text: What the numbers are.
    """
    least, most = image.get_clim()
    signed = least < 0 < most
    extend: Literal["both", "neither"] = "both" if signed else "neither"
    if side == "bottom":
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


def as_images(samples: Floats) -> Floats:
    """Return (samples, channels, height, width) from 0 to 1: RGB, or the sums over the channels."""
    pictures = np.moveaxis(samples, 1, 3) if samples.shape[1] == 3 else samples.sum(axis=1)
    low, high = limits(pictures)
    shown: Floats = np.clip((np.nan_to_num(pictures) - low) / (high - low), 0, 1)
    return shown


def as_series(sample: Floats) -> Floats:
    """Return a sample as (steps, features); a table's values are steps of one feature."""
    return sample if sample.ndim == 2 else sample.reshape(-1, 1)


def draw_series(axes: "Axes", series: Floats, names: Sequence[str]) -> None:
    """Draw (steps, features): lines, or a heat map where there are many features."""
    steps, features = series.shape
    if features > MOST_LINES:
        low, high = around_zero(series)
        extent = (-0.5, steps - 0.5, -0.5, features - 0.5)
        axes.imshow(
            series.T, cmap=SIGNED, vmin=low, vmax=high, aspect="auto", extent=extent, origin="lower"
        )
        axes.tick_params(labelsize=7)
        return
    for index in range(features):
        name = label(names[index]) if index < len(names) else f"feature {index + 1}"
        axes.plot(series[:, index], linewidth=1.1, label=name, color=style.CYCLE[index])
    axes.set_xlim(-0.5, steps - 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
