"""Convolutional layers for some rows: the sum of all channels, each channel, the first kernels."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.findings import Findings, Floats, Inside
from pipeline.pictures import style
from pipeline.pictures.inside import (
    GREY,
    SIGNED,
    LayerView,
    add_scale,
    around_zero,
    as_series,
    draw_series,
    file_of,
    heading,
    limits,
    row_names,
    some_layers,
    spans,
    titled_figure,
    views_of,
    words,
)
from pipeline.pictures.picture import Picture
from pipeline.pictures.style import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TILES = 200
"""Channels of all samples together that fit into a picture."""
ACROSS = 3
"""Samples side by side where each is a mosaic of channels."""
MAPS_TITLE = "Channels of each layer, added up"
MOST_KERNELS, MOST_INPUTS = 64, 4
"""Kernels of an input channel, and input channels, that are drawn."""


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield the pictures of convolutional layers; of channels and kernels if they were recorded."""
    inside = findings.inside
    if inside is not None:
        yield from _maps(findings, inside)
        for view in views_of(inside, "channels"):
            told = f"{view.values.shape[1]} channels gives, {spans([view])}"
            yield Picture(
                name=f"inside/channels_{file_of(view.layer)}",
                title=f"Channels of {view.layer}",
                alt=f"{words(inside)} and what each of {told}.",
                draw=partial(_channels, findings, inside, view),
            )
        yield from _kernels(findings, inside)


def _bare(axes: "Axes") -> None:
    """Remove ticks and frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _name_row(axes: "Axes", name: str) -> None:
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)


# ── sums over the channels ──────────────────────────────────────────────────────────────────────


def _maps(findings: Findings, inside: Inside) -> Iterator[Picture]:
    found = views_of(inside, "feature map")
    # A user's own network may have both, images and series.
    views, left_out = some_layers([v for v in found if v.values.ndim == found[0].values.ndim])
    if views:
        draw = _grey_maps if views[0].values.ndim == 3 else _curve_maps
        yield Picture(
            name="inside/feature_maps",
            title="Feature maps: each hidden layer's channels added up",
            alt=f"{words(inside)}, each input beside the sum over the channels of each "
            f"convolutional layer after its activation: {spans(views)}.",
            draw=partial(draw, findings, inside, views, left_out),
        )


def _grey_maps(
    findings: Findings, inside: Inside, views: Sequence[LayerView], left_out: str
) -> "Figure":
    """Draw a row for each sample: the input, then each layer's sum, all on the layer's scale."""
    height, width = views[0].values.shape[1:]
    tall = min(2.0, max(0.4, height / width))
    samples, columns = len(inside.rows), len(views) + 1
    cell = min(1.3 if samples <= 4 else 0.8, 8.0 / columns)
    size = (1.3 + cell * columns, 1.1 + cell * tall * samples)
    heights = [1.0] * samples + [0.07]  # the last row are the scales
    shape = (samples + 1, columns)
    title = heading(findings, MAPS_TITLE, left_out)
    figure, grid = titled_figure(title, shape, size=size, height_ratios=heights)
    axes, scales = grid[:-1], grid[-1]
    scales[0].remove()
    for axis, name, picture in zip(
        axes[:, 0], row_names(inside), _input_images(inside.inputs), strict=True
    ):
        _name_row(axis, name)
        axis.imshow(picture, cmap=GREY)
    axes[0, 0].set_title("input", fontsize=8)
    for column, view, below in zip(axes[:, 1:].T, views, scales[1:], strict=True):
        low, high = limits(view.values)
        for axis, values in zip(column, view.values, strict=True):
            image = axis.imshow(values, cmap=GREY, vmin=low, vmax=high)
        column[0].set_title(view.title, fontsize=8)
        add_scale(figure, image, below, below=True)
    for axis in axes.flat:
        _bare(axis)
    return figure


def _input_images(samples: Floats) -> Floats:
    """Return (samples, height, width) or, of three channels, RGB from 0 to 1 in a last axis."""
    if samples.ndim != 4:
        return np.stack([as_series(one) for one in samples])
    images = np.moveaxis(samples, 1, 3) if samples.shape[1] == 3 else samples.sum(axis=1)
    low, high = limits(images)
    shown: Floats = np.clip((np.nan_to_num(images) - low) / (high - low), 0, 1)
    return shown


def _curve_maps(
    findings: Findings, inside: Inside, views: Sequence[LayerView], left_out: str
) -> "Figure":
    """Draw a row for each sample: the input, then each layer's sum as a curve over a grey strip."""
    samples, columns = len(inside.rows), len(views) + 1
    size = (1.5 + 1.75 * columns, 1.3 + 0.75 * samples)
    title = heading(findings, MAPS_TITLE, left_out)
    figure, axes = titled_figure(title, (samples, columns), size=size)
    length = len(as_series(inside.inputs[0]))
    low, high = limits(inside.inputs)
    room = 0.05 * (high - low)
    for axis, name, sample in zip(axes[:, 0], row_names(inside), inside.inputs, strict=True):
        draw_series(axis, as_series(sample), findings.features)
        _name_row(axis, name)
        if not axis.images:  # a heat map has the features along this axis
            axis.set_ylim(low - room, high + room)
            axis.set_yticks((low, high), [f"{end:.2g}" for end in (low, high)])
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
    axes.plot(*corners, color=style.QUIET, linewidth=0.6)  # a frame, since the strip may be white
    axes.set_xlim(-0.5, length - 0.5)
    axes.set_ylim(low - 1.4 * room, high + 0.2 * room)
    axes.set_yticks(ends, [f"{end:.2g}" for end in ends])
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)


# ── channels and kernels ────────────────────────────────────────────────────────────────────────


def _channels(findings: Findings, inside: Inside, view: LayerView) -> "Figure":
    """Draw a mosaic of a layer's channels for each sample, all on one scale."""
    flat = view.values.ndim == 3  # (samples, channels, positions)
    shown = max(1, min(len(view.values), MOST_TILES // view.values.shape[1]))
    across = min(ACROSS, shown)
    down = -(-shown // across)
    images = [_side_by_side(values) for values in view.values[:shown]]
    tall = 0.7 if flat else images[0].shape[0] / images[0].shape[1]
    size = (0.9 + 2.3 * across, 0.9 + down * (0.4 + 2 * tall))
    few = f"{shown} of {len(view.values)} rows" if shown < len(view.values) else ""
    text = f"Channels of {view.title.partition(chr(10))[0]}"
    title = heading(findings, text, view.note, few)
    figure, axes = titled_figure(title, (down, across), size=size, gap=0.14)
    low, high = limits(view.values)
    look = {"cmap": GREY, "vmin": low, "vmax": high, "interpolation": "nearest"}
    for axis in axes.flat:
        _bare(axis)
    for axis, image, name in zip(axes.flat, images, row_names(inside, ", "), strict=False):
        drawn = axis.imshow(image, **look, aspect="auto" if flat else None)
        axis.set_title(name, fontsize=8)
    if flat:
        axes[-1, 0].set_xlabel("position", fontsize=8)
        axes[0, 0].set_ylabel("channel", fontsize=8)
    add_scale(figure, drawn, axes)
    return figure


def _side_by_side(channels: Floats) -> Floats:
    """Return (channels, height, width) as a mosaic with gaps (NaN); (channels, length) as it is."""
    if channels.ndim == 2:
        return channels
    count, height, width = channels.shape
    least = int(np.ceil(np.sqrt(count)))
    # Full rows, unless the mosaic becomes a long strip.
    across = next((n for n in range(least, 2 * least) if count % n == 0), least)
    down = -(-count // across)
    times = -(-10 // max(height, width))  # so that the gaps are narrow beside few pixels
    tiles = channels.repeat(times, axis=1).repeat(times, axis=2)
    _, height, width = tiles.shape
    gap = max(1, max(height, width) // 10)
    mosaic = np.full((down * (height + gap) - gap, across * (width + gap) - gap), np.nan)
    for index, tile in enumerate(tiles):
        top, left = index // across * (height + gap), index % across * (width + gap)
        mosaic[top : top + height, left : left + width] = tile
    return mosaic.astype(np.float32)


def _kernels(findings: Findings, inside: Inside) -> Iterator[Picture]:
    kernels = views_of(inside, "kernels")
    if kernels:
        shapes = ", ".join(map(_shape_of, kernels))
        yield Picture(
            name="inside/kernels",
            title="Kernels of the first convolution",
            alt=f"{sum(len(view.values) for view in kernels)} kernels, {shapes}: {spans(kernels)}.",
            draw=partial(_draw_kernels, findings, kernels),
        )


def _draw_kernels(findings: Findings, views: Sequence[LayerView]) -> "Figure":
    """Draw the first kernels, a column for each input channel, around zero."""
    inputs = min(MOST_INPUTS, max(view.values.shape[1] for view in views))
    mosaics = [_mosaics(view, inputs) for view in views]
    tall = [max(0.2, min(2.0, row[0].shape[0] / row[0].shape[1])) for row in mosaics]
    size = (1.6 + 2.2 * inputs, 0.9 + sum(max(0.5, 2.2 * height) for height in tall))
    few = [f"{MOST_KERNELS} of {len(v.values)}" for v in views if len(v.values) > MOST_KERNELS]
    note = f"\n({few[0]} kernels)" if few else ""
    title = f"Kernels of {views[0].title.split()[0]}{note}"
    shape = (len(views), inputs)
    figure, axes = titled_figure(title, shape, size=size, gap=0.12, height_ratios=tall)
    low, high = around_zero(np.concatenate([view.values.ravel() for view in views]))
    for axis in axes.flat:
        _bare(axis)
    for row, view, images in zip(axes, views, mosaics, strict=True):
        _name_row(row[0], f"{len(view.values)} kernels\n{_shape_of(view)}")
        for axis, image in zip(row, images, strict=False):
            drawn = axis.imshow(image, cmap=SIGNED, vmin=low, vmax=high, interpolation="nearest")
    for number, axis in enumerate(axes[0]):
        axis.set_title(_channel_name(findings, views[0], number), fontsize=8)
    add_scale(figure, drawn, axes, text="weight")
    return figure


def _mosaics(view: LayerView, inputs: int) -> list[Floats]:
    """Return a mosaic of kernels for each input channel."""
    kernels = view.values[:MOST_KERNELS, :inputs].swapaxes(0, 1)
    return [_side_by_side(channel) for channel in kernels]


def _shape_of(view: LayerView) -> str:
    lengths = view.values.shape[2:]
    return f"length {lengths[0]}" if len(lengths) == 1 else "×".join(map(str, lengths))


def _channel_name(findings: Findings, view: LayerView, number: int) -> str:
    channels = view.values.shape[1]
    if channels == len(findings.features):
        return label(findings.features[number])
    return f"input channel {number + 1}" if channels > 1 else ""
