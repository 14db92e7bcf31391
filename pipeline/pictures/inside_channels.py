"""Convolutions one by one: each channel of each layer, and the kernels of the first."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.findings.records import Findings, Floats, Inside
from pipeline.pictures.inside_parts import (
    GREY,
    SIGNED,
    View,
    around_zero,
    bare,
    figure_of,
    file_of,
    heading,
    limits,
    named,
    row_names,
    scale,
    spans,
    views_of,
    words,
)
from pipeline.pictures.names import label
from pipeline.pictures.picture import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TILES = 200
"""Channels of all samples together that a picture has room for."""
ACROSS = 3
"""Samples side by side where each is a mosaic of channels."""
MOST_KERNELS, MOST_INPUTS = 64, 4
"""Kernels of an input channel, and input channels, that are drawn."""


def pictures(findings: Findings, inside: Inside) -> Iterator[Picture]:
    """Yield the pictures of channels and kernels, where they were asked for."""
    for view in views_of(inside, "channels"):
        yield _channels_picture(findings, inside, view)
    kernels = views_of(inside, "kernels")
    if kernels:
        shapes = ", ".join(_shape_of(view) for view in kernels)
        yield Picture(
            name="inside/kernels",
            title="Kernels of the first convolution",
            alt=f"{sum(len(view.values) for view in kernels)} kernels, {shapes}: {spans(kernels)}.",
            draw=lambda: _kernels(findings, kernels),
        )


def _channels_picture(findings: Findings, inside: Inside, view: View) -> Picture:
    channels = view.values.shape[1]
    return Picture(
        name=f"inside/channels_{file_of(view.layer)}",
        title=f"Channels of {view.layer}",
        alt=f"{words(inside)} and what each of {channels} channels gives, {spans([view])}.",
        draw=lambda: _channels(findings, inside, view),
    )


def _channels(findings: Findings, inside: Inside, view: View) -> "Figure":
    """Draw a mosaic of a layer's channels for each sample, all on one scale."""
    channels = view.values.shape[1]
    shown = max(1, min(len(view.values), MOST_TILES // channels))
    across = min(ACROSS, shown)
    down = -(-shown // across)
    pictures = [_side_by_side(values) for values in view.values[:shown]]
    tall = pictures[0].shape[0] / pictures[0].shape[1] if view.values.ndim == 4 else 0.7
    size = (0.9 + 2.3 * across, 0.9 + down * (0.4 + 2 * tall))
    figure, axes = figure_of(down, across, size=size, gap=0.14)
    few = f"{shown} of {len(view.values)} rows" if shown < len(view.values) else ""
    title = f"Channels of {view.title.partition(chr(10))[0]}"
    figure.suptitle(heading(findings, title, view.note, few), fontsize=10)
    low, high = limits(view.values)
    names = row_names(inside)
    for axis in axes.flat:
        bare(axis)
    for axis, picture, name in zip(axes.flat, pictures, names, strict=False):
        image = axis.imshow(
            picture, cmap=GREY, vmin=low, vmax=high, interpolation="nearest", **_shape(view)
        )
        axis.set_title(name.replace("\n", ", "), fontsize=8)
    if view.values.ndim == 3:
        axes[-1, 0].set_xlabel("position", fontsize=8)
        axes[0, 0].set_ylabel("channel", fontsize=8)
    scale(figure, image, axes, side="right")
    return figure


def _shape(view: View) -> dict[str, str]:
    return {"aspect": "auto"} if view.values.ndim == 3 else {}


def _side_by_side(channels: Floats) -> Floats:
    """Return (channels, height, width) as a mosaic with gaps (NaN); (channels, length) as it is."""
    if channels.ndim == 2:
        return channels
    count, height, width = channels.shape
    least = int(np.ceil(np.sqrt(count)))
    # Without gaps at the end where that makes it no long strip.
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


def _kernels(findings: Findings, views: Sequence[View]) -> "Figure":
    """Draw the first kernels, a column for each channel that they read, around zero."""
    inputs = min(MOST_INPUTS, max(view.values.shape[1] for view in views))
    mosaics = [_mosaics(view, inputs) for view in views]
    tall = [max(0.2, min(2.0, row[0].shape[0] / row[0].shape[1])) for row in mosaics]
    size = (1.6 + 2.2 * inputs, 0.9 + sum(max(0.5, 2.2 * height) for height in tall))
    figure, axes = figure_of(len(views), inputs, size=size, gap=0.12, height_ratios=tall)
    low, high = around_zero(np.concatenate([view.values.ravel() for view in views]))
    for axis in axes.flat:
        bare(axis)
    for row, view, pictures_ in zip(axes, views, mosaics, strict=True):
        named(row[0], f"{len(view.values)} kernels\n{_shape_of(view)}")
        for axis, picture in zip(row, pictures_, strict=False):
            image = axis.imshow(picture, cmap=SIGNED, vmin=low, vmax=high, interpolation="nearest")
    for number, axis in enumerate(axes[0]):
        axis.set_title(_channel_name(findings, views[0], number), fontsize=8)
    few = [f"{MOST_KERNELS} of {len(v.values)}" for v in views if len(v.values) > MOST_KERNELS]
    note = f"\n({few[0]} kernels)" if few else ""
    figure.suptitle(f"Kernels of {views[0].title.split()[0]}{note}", fontsize=10)
    scale(figure, image, axes, side="right", text="weight")
    return figure


def _mosaics(view: View, inputs: int) -> list[Floats]:
    """Return a mosaic of kernels for each channel that they read."""
    kernels = view.values[:MOST_KERNELS, :inputs].swapaxes(0, 1)
    return [_side_by_side(channel) for channel in kernels]


def _shape_of(view: View) -> str:
    lengths = view.values.shape[2:]
    return f"length {lengths[0]}" if len(lengths) == 1 else "×".join(map(str, lengths))


def _channel_name(findings: Findings, view: View, number: int) -> str:
    channels = view.values.shape[1]
    if channels == len(findings.features):
        return label(findings.features[number])
    return f"input channel {number + 1}" if channels > 1 else ""
