"""Dense layers: what each unit gives for some rows."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.findings.records import Findings, Inside
from pipeline.pictures.inside_parts import (
    GREY,
    SIGNED,
    View,
    around_zero,
    figure_of,
    heading,
    limits,
    row_names,
    scale,
    some_layers,
    spans,
    views_of,
    words,
)
from pipeline.pictures.names import label
from pipeline.pictures.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INPUT = "input"
"""Stands where the layers' names stand."""
MOST_NAMES = 6
"""Features whose names have room below their columns."""


def pictures(findings: Findings, inside: Inside) -> Iterator[Picture]:
    """Yield the picture of a network's dense layers, if it has any."""
    found = [view for view in views_of(inside, "activation") if view.values.ndim == 2]
    views, left_out = some_layers(found)
    if views:
        yield Picture(
            name="inside/activations",
            title="Activations of each dense layer",
            alt=f"{words(inside)} and what each unit gives: {spans(views)}.",
            draw=lambda: _activations(findings, inside, views, left_out),
        )


def _activations(
    findings: Findings, inside: Inside, views: Sequence[View], left_out: str
) -> "Figure":
    """Draw a heat map of each layer: a row for each sample, a column for each unit."""
    if inside.inputs.ndim == 2:
        views = [View(layer=INPUT, note="", values=inside.inputs), *views]
    samples = len(inside.rows)
    size = (7.0, 0.9 + len(views) * (0.7 + (0.2 if samples <= 5 else 0.14) * samples))
    figure, axes = figure_of(len(views), 1, size=size)
    figure.suptitle(heading(findings, "Activations of each dense layer", left_out), fontsize=10)
    names = [name.replace("\nrow ", ", row ") for name in row_names(inside)]
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
        axis.set_yticks(range(samples), names, fontsize=7)
        _name_columns(axis, view, findings)
        scale(figure, image, axis, side="right")
    axes[-1, 0].set_xlabel("unit", fontsize=8)
    return figure


def _name_columns(axes: "Axes", view: View, findings: Findings) -> None:
    from matplotlib.ticker import MaxNLocator

    columns = view.values.shape[1]
    if view.layer == INPUT and columns == len(findings.features) <= MOST_NAMES:
        names = [label(name, 90 // columns) for name in findings.features]
        axes.set_xticks(range(1, columns + 1), names)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(axis="x", labelsize=7)
