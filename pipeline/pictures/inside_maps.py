"""Convolutions: all channels of a layer added up into one grey picture, as the notes have it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.findings.records import Array, Findings, Floats, Inside
from pipeline.pictures import style
from pipeline.pictures.inside_parts import (
    GREY,
    View,
    as_images,
    as_series,
    bare,
    draw_series,
    figure_of,
    heading,
    limits,
    named,
    row_names,
    scale,
    some_layers,
    spans,
    views_of,
    words,
)
from pipeline.pictures.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pictures(findings: Findings, inside: Inside) -> Iterator[Picture]:
    """Yield the picture of a network's convolutional layers, if it has any."""
    found = views_of(inside, "feature map")
    # A network of one's own may have both, pictures and curves.
    views, left_out = some_layers([v for v in found if v.values.ndim == found[0].values.ndim])
    if views:
        draw = _grey_pictures if views[0].values.ndim == 3 else _curves
        yield Picture(
            name="inside/feature_maps",
            title="Feature maps: each hidden layer's channels added up",
            alt=f"{words(inside)}, each input beside the sum over the channels of each "
            f"convolutional layer after its activation: {spans(views)}.",
            draw=lambda: draw(findings, inside, views, left_out),
        )


def _grey_pictures(
    findings: Findings, inside: Inside, views: Sequence[View], left_out: str
) -> "Figure":
    """Draw a row for each sample: the input, then each layer's sum, all on the layer's scale."""
    height, width = views[0].values.shape[1:]
    tall = min(2.0, max(0.4, height / width))
    samples = len(inside.rows)
    cell = min(1.3 if samples <= 4 else 0.8, 8.0 / (len(views) + 1))
    size = (1.3 + cell * (len(views) + 1), 1.1 + cell * tall * samples)
    heights = [1.0] * samples + [0.07]  # the last row are the scales
    figure, grid = figure_of(samples + 1, len(views) + 1, size=size, height_ratios=heights)
    figure.suptitle(heading(findings, "Channels of each layer, added up", left_out), fontsize=10)
    axes, scales = grid[:-1], grid[-1]
    scales[0].remove()
    for row, name in zip(axes, row_names(inside), strict=True):
        named(row[0], name)
    for axis, picture in zip(axes[:, 0], _input_pictures(inside), strict=True):
        axis.imshow(picture, cmap=GREY)
    axes[0, 0].set_title("input", fontsize=8)
    for column, view, below in zip(axes[:, 1:].T, views, scales[1:], strict=True):
        low, high = limits(view.values)
        for axis, values in zip(column, view.values, strict=True):
            image = axis.imshow(values, cmap=GREY, vmin=low, vmax=high)
        column[0].set_title(view.title, fontsize=8)
        scale(figure, image, below, side="bottom")
    for axis in axes.flat:
        bare(axis)
    return figure


def _input_pictures(inside: Inside) -> Floats:
    inputs = inside.inputs
    return as_images(inputs) if inputs.ndim == 4 else np.stack([as_series(one) for one in inputs])


def _curves(findings: Findings, inside: Inside, views: Sequence[View], left_out: str) -> "Figure":
    """Draw a row for each sample: the input, then each layer's sum as a curve over a grey strip."""
    samples, columns = len(inside.rows), len(views) + 1
    size = (1.5 + 1.75 * columns, 1.3 + 0.75 * samples)
    figure, axes = figure_of(samples, columns, size=size)
    figure.suptitle(heading(findings, "Channels of each layer, added up", left_out), fontsize=10)
    length = len(as_series(inside.inputs[0]))
    for row, name, sample in zip(axes, row_names(inside), inside.inputs, strict=True):
        draw_series(row[0], as_series(sample), findings.features)
        named(row[0], name)
    _on_one_scale(axes[:, 0], limits(inside.inputs))
    axes[0, 0].set_title("input", fontsize=8)
    for column, view in zip(axes[:, 1:].T, views, strict=True):
        for axis, values in zip(column, view.values, strict=True):
            _curve_over_strip(axis, values, length=length, ends=limits(view.values))
        column[0].set_title(view.title, fontsize=8)
    for axis in axes[:-1].flat:
        axis.set_xticks([])
    for axis in axes[-1]:
        axis.set_xlabel("step" if findings.kind == "series" else "variable", fontsize=8)
    if len(axes[0, 0].get_lines()) > 1:
        style.below(figure, axes[0, 0], columns=4)
    return figure


def _on_one_scale(column: Array, ends: tuple[float, float]) -> None:
    """Give the inputs of all samples one axis of values; a heat map has its features there."""
    room = 0.05 * (ends[1] - ends[0])
    for axis in column:
        if not axis.images:
            axis.set_ylim(ends[0] - room, ends[1] + room)
            _mark_ends(axis, ends)


def _mark_ends(axes: "Axes", ends: tuple[float, float]) -> None:
    axes.set_yticks(ends, [f"{end:.2g}" for end in ends])


def _curve_over_strip(
    axes: "Axes", values: Floats, *, length: int, ends: tuple[float, float]
) -> None:
    low, high = ends
    room = 0.3 * (high - low)
    middles = (np.arange(len(values)) + 0.5) * length / len(values) - 0.5
    axes.plot(middles, values, color=style.CYCLE[0], linewidth=1.1)
    extent = (-0.5, length - 0.5, low - 1.3 * room, low - 0.3 * room)
    axes.imshow(values[None], cmap=GREY, vmin=low, vmax=high, aspect="auto", extent=extent)
    left, right, bottom, top = extent
    corners = ([left, right, right, left, left], [bottom, bottom, top, top, bottom])
    axes.plot(*corners, color=style.QUIET, linewidth=0.6)  # where it is white it has an end, too
    axes.set_xlim(-0.5, length - 0.5)
    axes.set_ylim(low - 1.4 * room, high + 0.2 * room)
    _mark_ends(axes, ends)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
