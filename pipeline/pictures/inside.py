"""Hidden layers for some rows: sums of channels, channels, kernels, states, gates, dense layers."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from pipeline.findings import Array, Findings, Floats, Inside
from pipeline.pictures import style
from pipeline.pictures.style import (
    Picture,
    around_zero,
    heat_maps,
    label,
    limits,
    short,
)
from pipeline.terminal import significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colour maps: brighter is more; blue is negative, white is zero, red is positive.
GREY, SIGNED = "gray", "RdBu_r"
#: Most layers that are drawn, evenly spaced if there are more.
MOST_LAYERS = 7
#: Most features of a series that are drawn as lines; more are drawn as a heat map.
MOST_LINES = 6
#: Longest name of a row in columns.
NAME = 14
GATES = ("forget gate", "input gate", "output gate", "reset gate", "update gate")
#: Values of a recurrent cell, in the order in which they are drawn.
SEEN = (*GATES, "candidate", "cell", "state")
#: Most rows that are drawn side by side.
MOST_SAMPLES = 3
#: Most layers and directions whose gates are drawn.
MOST_GATED = 4
#: Name of the input among the layers.
INPUT = "input"
#: Most features whose names stand below their columns; more than the first number are rotated.
FLAT_NAMES, MOST_NAMES = 6, 60
#: Most channels of all samples together that fit into a picture.
MOST_TILES = 200
#: Most samples side by side if each is a mosaic of channels.
ACROSS = 3
#: Most kernels of an input channel, and most input channels, that are drawn.
MOST_KERNELS, MOST_INPUTS = 64, 4


@dataclass(frozen=True, slots=True, eq=False)
class LayerView:
    """One view of one layer: values (samples, …), and a note on what was left out."""

    layer: str
    note: str
    values: Floats

    @property
    def title(self) -> str:
        """The layer's name, and what was left out below it."""
        name = label(self.layer.removeprefix("layers."), 22)
        return f"{name}\n({self.note.replace(', ', chr(10))})" if self.note else name


_Views = Sequence[LayerView]
_ViewsByKind = Mapping[str, list[LayerView]]
#: `panel_grid` with a title, and the names of rows and columns.
_NewGrid = Callable[..., tuple["Figure", Array]]
#: A label, and the view that is drawn as a heat map over time for each sample.
_Row = tuple[str, LayerView]


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield convolutions, states and gates over time, and dense layers, if they were recorded."""
    inside = findings.inside
    if inside is None:
        return
    views, all_rows = _views_by_kind(inside), _words(inside)
    # A user's own network may have both images and series.
    maps = views["feature map"]
    shown, left_out = _some_layers([v for v in maps if v.values.ndim == maps[0].values.ndim])
    if shown:
        title = "Feature maps (sum over the channels of each layer)"
        told = "Inputs and sums over the channels of each convolutional layer, after its activation"
        words = f"{told}, for {all_rows}: {_spans(shown)}."
        draw: Callable[[], Figure] = partial(_draw_maps, findings, inside, shown, left_out)
        yield Picture("inside/feature_maps", title, words, draw)
    for view in views["channels"]:
        count = view.values.shape[1]
        rows = _words(inside, max(1, MOST_TILES // count))
        words = f"{count} channels for {rows}: {_spans([view])}."
        name, draw = f"channels_{_file_of(view.layer)}", partial(_channels, findings, inside, view)
        yield Picture(f"inside/{name}", f"Channels of {view.layer}", words, draw)
    if kernels := views["kernels"]:
        count = sum(len(view.values) for view in kernels)
        words = f"{count} kernels ({', '.join(map(_shape_of, kernels))}): {_spans(kernels)}."
        draw = partial(_draw_kernels, findings, kernels)
        yield Picture("inside/kernels", "Kernels of the first convolution", words, draw)
    yield from _over_time_pictures(findings, inside, views)
    shown, left_out = _some_layers([one for one in views["activation"] if one.values.ndim == 2])
    if shown:
        words = f"Activations of the units for {all_rows}: {_spans(shown)}."
        draw = partial(_activations, findings, inside, shown, left_out)
        yield Picture("inside/activations", "Activations of the dense layers", words, draw)


def _over_time_pictures(
    findings: Findings, inside: Inside, views: _ViewsByKind
) -> Iterator[Picture]:
    """Yield pictures of the states, and of the gates of each layer and direction that has gates."""
    steps = [view for view in views["activation"] if view.values.ndim == 3]
    states, left_out = _some_layers([*views["state"], *steps])
    told = f"Heat maps by step and unit for {_words(inside, MOST_SAMPLES)}"
    draw = partial(_over_time, findings, inside)
    if states:
        rows, title = [(view.title, view) for view in states], "States over time"
        words = f"{told}: {_spans(states)}."
        yield Picture("inside/states", title, words, partial(draw, rows, title, left_out))
    gated: dict[str, list[_Row]] = {}
    for layer in (state.layer for state in views["state"]):
        rows = [(kind, view) for kind in SEEN for view in views[kind] if view.layer == layer]
        if any(kind in GATES for kind, _ in rows):
            gated[layer] = rows
    few = f"{MOST_GATED} of {len(gated)} layers" if len(gated) > MOST_GATED else ""
    for layer, rows in islice(gated.items(), MOST_GATED):
        words = f"{told}: {'; '.join(f'{kind} {_span(view.values)}' for kind, view in rows)}."
        name = f"inside/gates_{_file_of(layer)}" if len(gated) > 1 else "inside/gates"
        drawing = partial(draw, rows, f"Gates of {rows[0][1].title}", few)
        yield Picture(name, f"Gates of {layer} over time", words, drawing)


def _views_by_kind(inside: Inside) -> _ViewsByKind:
    """Return the views of each kind, such as `feature map`, from the input to the output."""
    found: dict[str, list[LayerView]] = defaultdict(list)
    for name, values in inside.views.items():
        kind, _, place = name.partition("/")
        layer, _, note = place.partition(" (")
        found[kind].append(LayerView(layer, note.rstrip(")"), values))
    return found


def _some_layers(views: _Views) -> tuple[_Views, str]:
    """Return at most `MOST_LAYERS` views, and a note on how many there are."""
    if len(views) <= MOST_LAYERS:
        return views, ""
    places = np.linspace(0, len(views) - 1, MOST_LAYERS).round().astype(int)
    return [views[place] for place in places], f"{MOST_LAYERS} of {len(views)} layers"


def _file_of(layer: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "_", layer).strip("_.") or "layer"


def _row_names(inside: Inside, between: str = "\n") -> list[str]:
    """Return the label of each sample and its row number."""
    return [
        f"{label(name, NAME)}{between}row {row}"
        for name, row in zip(inside.labels, inside.rows, strict=True)
    ]


def _words(inside: Inside, most: int | None = None) -> str:
    """Return which rows a picture shows, `most` of them or all, for its alternative text."""
    shown, count = inside.labels[:most], len(inside.rows)
    of = f"{len(shown)} of " if len(shown) < count else ""
    named = ", ".join(short(name, NAME) for name in shown)
    return f"{of}{count} {'row' if count == 1 else 'rows'} ({named})"


def _span(values: Array) -> str:
    return "from {} to {}".format(*(significant(end, 3) for end in limits(values)))


def _spans(views: _Views) -> str:
    return ", ".join(f"{short(view.layer, 40)} {_span(view.values)}" for view in views)


def _heading(findings: Findings, text: str, *notes: str) -> str:
    told = [note for note in notes if note]
    shown = len(set(findings.inside.labels)) if findings.inside is not None else 0
    samples = dict(findings.config.get("feature_maps") or {}).get("samples")
    if samples is None and shown < len(findings.classes):
        told.append(f"{shown} of {len(findings.classes)} classes")
    if findings.units:
        told.append(f"row labels: target in {label(findings.units)}")
    return text + (f"\n({', '.join(told)})" if told else "")


def _as_series(sample: Floats) -> Floats:
    """Return a sample as (steps, features); a table's values are steps of one feature."""
    return sample if sample.ndim == 2 else sample.reshape(-1, 1)


def _draw_inputs(findings: Findings, inside: Inside, panels: Array) -> tuple[float, float]:
    """Draw a sample in each of the axes, and return the smallest and the largest value.

    A sample is drawn as lines on one scale for all, or as a heat map if it has many features.
    """
    names, inputs = findings.features, inside.inputs[: len(panels)]
    low, high = limits(inputs)
    for axes, series in zip(panels, map(_as_series, inputs), strict=True):
        steps, features = series.shape
        axes.tick_params(labelsize=7)
        if features > MOST_LINES:
            extent = (-0.5, steps - 0.5, -0.5, features - 0.5)
            look = {"extent": extent, "origin": "lower"}
            heat_maps([axes], [series.T], around_zero(series), SIGNED, **look)
            axes.locator_params(axis="y", integer=True)
            continue
        for index in range(features):
            name = label(names[index]) if index < len(names) else f"feature {index + 1}"
            axes.plot(series[:, index], linewidth=1.1, label=name, color=style.CYCLE[index])
        room = 0.05 * (high - low)
        axes.set(xlim=(-0.5, steps - 0.5), ylim=(low - room, high + room))
        axes.spines[["top", "right"]].set_visible(False)
    return low, high


def _bare(panels: Array) -> None:
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)


def _name_last_row(axes: Array, name: str) -> None:
    """Name the x axis of the last row only, and remove the ticks of the other rows."""
    for axis in axes[:-1].flat:
        axis.set_xticks([])
    for axis in axes[-1]:
        style.whole_numbers(axis, most=6)
        axis.set_xlabel(name, fontsize=8)


# ── convolutions ────────────────────────────────────────────────────────────────────────────────


def _draw_maps(findings: Findings, inside: Inside, views: _Views, left_out: str) -> "Figure":
    """Draw a row for each sample: the input, then each layer's sum, all on the layer's scale."""
    title = _heading(findings, "Sum over the channels of each layer", left_out)
    titles = [INPUT, *(view.title for view in views)]
    new_grid = partial(style.panel_grid, title, titles=titles, rows=_row_names(inside))
    draw = _grey_maps if views[0].values.ndim == 3 else _curve_maps
    return draw(findings, inside, views, new_grid)


def _grey_maps(_: Findings, inside: Inside, views: _Views, new_grid: _NewGrid) -> "Figure":
    """Draw images in grey, with the scale of each layer below them."""
    height, width = views[0].values.shape[1:]
    tall = min(2.0, max(0.4, height / width))
    samples, columns = len(inside.rows), len(views) + 1
    cell = min(1.3 if samples <= 4 else 0.8, 8.0 / columns)
    size = (1.3 + cell * columns, 1.1 + cell * tall * samples)
    heights = [1.0] * samples + [0.07]  # the last row holds the scales
    shape = (samples + 1, columns)
    figure, grid = new_grid(shape, size=size, height_ratios=heights)
    axes = grid[:-1]
    scales = grid[-1]
    scales[0].remove()
    for axis, picture in zip(axes[:, 0], _input_images(inside.inputs), strict=True):
        axis.imshow(picture, cmap=GREY)
    for column, view, below in zip(axes[:, 1:].T, views, scales[1:], strict=True):
        image = heat_maps(column, view.values, limits(view.values), GREY, aspect=None)
        style.add_scale(figure, image, below, below=True)
    _bare(axes)
    return figure


def _input_images(samples: Floats) -> Floats:
    """Return images (samples, height, width); RGB from 0 to 1 in a last axis for three channels."""
    if samples.ndim != 4:
        return np.stack([_as_series(one) for one in samples])
    images = np.moveaxis(samples, 1, 3) if samples.shape[1] == 3 else samples.sum(axis=1)
    low, high = limits(images)
    shown: Floats = np.clip((np.nan_to_num(images) - low) / (high - low), 0, 1)
    return shown


def _curve_maps(findings: Findings, inside: Inside, views: _Views, new_grid: _NewGrid) -> "Figure":
    """Draw series as curves: the input, then each layer's sum over a grey strip."""
    samples, columns = len(inside.rows), len(views) + 1
    size = (1.5 + 1.75 * columns, 1.3 + 0.75 * samples)
    figure, axes = new_grid((samples, columns), size=size)
    ends = _draw_inputs(findings, inside, axes[:, 0])
    for axis in axes[:, 0]:
        if not axis.images:
            axis.set_yticks(ends, [f"{end:.2g}" for end in ends])
    length = len(_as_series(inside.inputs[0]))
    for column, view in zip(axes[:, 1:].T, views, strict=True):
        for axis, values in zip(column, view.values, strict=True):
            _curve_over_strip(axis, values, length=length, ends=limits(view.values))
    _name_last_row(axes, "step" if findings.kind == "series" else "variable")
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
    extent = left, right, bottom, top = -0.5, length - 0.5, low - 1.3 * room, low - 0.3 * room
    heat_maps([axes], [values[None]], ends, GREY, extent=extent)
    corners = ([left, right, right, left, left], [bottom, bottom, top, top, bottom])
    axes.plot(*corners, color=style.QUIET, linewidth=0.6)  # a frame, since the strip may be white
    axes.set(xlim=(-0.5, length - 0.5), ylim=(low - 1.4 * room, high + 0.2 * room))
    axes.set_yticks(ends, [f"{end:.2g}" for end in ends])
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)


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
    title = _heading(findings, text, view.note, few)
    names = _row_names(inside, ", ")[:shown]
    figure, axes = style.panel_grid(title, (down, across), size=size, titles=names, gap=0.14)
    _bare(axes)
    aspect = "auto" if flat else None
    image = heat_maps(
        axes.flat, images, limits(view.values), GREY, interpolation="nearest", aspect=aspect
    )
    if flat:
        axes[-1, 0].set_xlabel("position", fontsize=8)
        axes[0, 0].set_ylabel("channel", fontsize=8)
    style.add_scale(figure, image, axes)
    return figure


def _side_by_side(channels: Floats) -> Floats:
    """Return (channels, height, width) as a mosaic with gaps (NaN); (channels, length) as it is."""
    if channels.ndim == 2:
        return channels
    count, height, width = channels.shape
    least = int(np.ceil(np.sqrt(count)))
    # Full rows, unless the mosaic becomes a long strip.
    across = next((n for n in range(least, 2 * least) if count % n == 0), least)
    times = -(-10 // max(height, width))  # so that the gaps are narrow beside few pixels
    gap = max(1, times * max(height, width) // 10)
    tiles = channels.repeat(times, axis=1).repeat(times, axis=2)
    # Each tile has a gap below it and to its right; those at the edges are cut off.
    around = ((0, -count % across), (0, gap), (0, gap))
    tiles = np.pad(tiles, around, constant_values=np.nan)
    _, height, width = tiles.shape
    rows = tiles.reshape(-1, across, height, width).swapaxes(1, 2)
    mosaic: Floats = rows.reshape(-1, across * width)[:-gap, :-gap]
    return mosaic


def _draw_kernels(findings: Findings, views: _Views) -> "Figure":
    """Draw the first kernels, a column for each input channel, around zero."""
    inputs = min(MOST_INPUTS, max(view.values.shape[1] for view in views))
    mosaics = [
        [_side_by_side(one) for one in view.values[:MOST_KERNELS, :inputs].swapaxes(0, 1)]
        for view in views
    ]
    tall = [max(0.2, min(2.0, row[0].shape[0] / row[0].shape[1])) for row in mosaics]
    size = (1.6 + 2.2 * inputs, 0.9 + sum(max(0.5, 2.2 * height) for height in tall))
    few = [f"{MOST_KERNELS} of {len(v.values)}" for v in views if len(v.values) > MOST_KERNELS]
    note = f"\n({few[0]} kernels)" if few else ""
    title = f"Kernels of {views[0].title.split()[0]}{note}"
    figure, axes = style.panel_grid(
        title,
        (len(views), inputs),
        size=size,
        titles=_channel_names(findings, views[0].values.shape[1])[:inputs],
        rows=[f"{len(view.values)} kernels\n{_shape_of(view)}" for view in views],
        gap=0.12,
        height_ratios=tall,
    )
    ends = around_zero(np.concatenate([view.values.ravel() for view in views]))
    _bare(axes)
    for row, images in zip(axes, mosaics, strict=True):
        image = heat_maps(row, images, ends, SIGNED, interpolation="nearest", aspect=None)
    style.add_scale(figure, image, axes, text="weight")
    return figure


def _channel_names(findings: Findings, channels: int) -> list[str]:
    if channels == len(findings.features):
        return [label(name) for name in findings.features]
    return [f"input channel {number + 1}" for number in range(channels)] if channels > 1 else []


def _shape_of(view: LayerView) -> str:
    lengths = view.values.shape[2:]
    return f"length {lengths[0]}" if len(lengths) == 1 else "×".join(map(str, lengths))


# ── recurrent and dense layers ──────────────────────────────────────────────────────────────────


def _over_time(
    findings: Findings, inside: Inside, rows: Sequence[_Row], text: str, left_out: str
) -> "Figure":
    """Draw the input of a few samples, and below it the values at each of its steps."""
    samples = min(MOST_SAMPLES, len(inside.rows))
    few = f"{samples} of {len(inside.rows)} rows" if samples < len(inside.rows) else ""
    size = (1.6 + 2.5 * samples, 1.6 + 1.15 * len(rows))
    title = _heading(findings, text, left_out, few)
    names = _row_names(inside, ", ")[:samples]
    figure, axes = style.panel_grid(title, (len(rows) + 1, samples), size=size, titles=names)
    _draw_inputs(findings, inside, axes[0])
    axes[0, 0].set_ylabel("input\nfeature" if axes[0, 0].images else "input", fontsize=8)
    length = len(_as_series(inside.inputs[0]))
    for line, (word, view) in zip(axes[1:], rows, strict=True):
        units = view.values.shape[2]
        extent = (-0.5, length - 0.5, 0.5, units + 0.5)
        look = {"interpolation": "nearest", "origin": "lower", "extent": extent}
        images = view.values[:samples].swapaxes(1, 2)
        is_gate = word in GATES
        ends = (0.0, 1.0) if is_gate else around_zero(images)
        image = heat_maps(line, images, ends, style.SHARES if is_gate else SIGNED, **look)
        for axis in line:
            axis.tick_params(labelsize=7)
        line[0].set_yticks(sorted({1, units}))
        line[0].set_ylabel(f"{word}\nunit", fontsize=8)
        style.add_scale(figure, image, line)
    for axis in axes[:, 1:].flat:
        axis.set_yticks([])  # ticks take most of Matplotlib's time
    _name_last_row(axes, "step")
    figure.align_ylabels(axes[:, 0])
    if len(axes[0, 0].get_lines()) > 1:
        style.below(figure, axes[0, 0], columns=4)
    return figure


def _activations(findings: Findings, inside: Inside, views: _Views, left_out: str) -> "Figure":
    """Draw a heat map of each layer: a row for each sample, a column for each unit."""
    if inside.inputs.ndim == 2:
        views = [LayerView(INPUT, "", inside.inputs), *views]
    samples = len(inside.rows)
    names = findings.features if len(findings.features) <= MOST_NAMES else ()
    is_rotated = views[0].layer == INPUT and len(names) > FLAT_NAMES
    room = 0.07 * min(style.LONGEST, max(map(len, names))) if is_rotated else 0.0
    size = (7.0, 0.9 + room + len(views) * (0.7 + (0.2 if samples <= 5 else 0.14) * samples))
    title = _heading(findings, "Activations of the dense layers", left_out)
    titles = [view.title.replace("\n", " ") for view in views]
    figure, axes = style.panel_grid(title, (len(views), 1), size=size, titles=titles)
    for axis, view in zip(axes[:, 0], views, strict=True):
        signed, columns = bool((view.values < 0).any()), view.values.shape[1]
        ends = around_zero(view.values) if signed else limits(view.values)
        extent = (0.5, columns + 0.5, samples - 0.5, -0.5)
        look = {"interpolation": "nearest", "extent": extent}
        image = heat_maps([axis], [view.values], ends, SIGNED if signed else GREY, **look)
        axis.set_yticks(range(samples), _row_names(inside, ", "), fontsize=7)
        if view.layer == INPUT and columns == len(names):
            cut = [label(name, style.LONGEST if is_rotated else 90 // columns) for name in names]
            axis.set_xticks(range(1, columns + 1), cut, rotation=90 if is_rotated else 0)
        else:
            style.whole_numbers(axis, most=10)
        axis.tick_params(axis="x", labelsize=7)
        style.add_scale(figure, image, axis)
    axes[-1, 0].set_xlabel("unit", fontsize=8)
    return figure
