"""Hidden layers for some rows: sums of channels, channels, kernels, states, gates, dense layers."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from pipeline.base.findings import Array, Findings, Floats, Inside
from pipeline.base.terminal import significant
from pipeline.pictures import style
from pipeline.pictures.style import Picture, around_zero, heat_maps, label, limits, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colour maps: brighter is more; blue is negative, white is zero, red is positive.
GREY = "gray"
SIGNED = "RdBu_r"
#: Most layers that are drawn, evenly spaced if there are more.
MOST_LAYERS = 7
#: Most features of a series that are drawn as lines; more are drawn as a heat map.
MOST_LINES = 6
#: Longest name of a row in columns.
NAME = 14
GATES = ("forget gate", "input gate", "output gate", "reset gate", "update gate")
#: Values of a recurrent cell, in the order in which they are drawn.
KINDS = (*GATES, "candidate", "cell", "state")
#: Most rows that are drawn side by side.
MOST_SAMPLES = 3
#: Most layers and directions whose gates are drawn.
MOST_GATED = 4
#: Name of the input among the layers.
INPUT = "input"
#: Most features whose names stand below their columns; more than the first number are rotated.
FLAT_NAMES = 6
MOST_NAMES = 60
#: Most channels of all samples together that fit into a picture.
MOST_TILES = 200
#: Most samples side by side if each is a mosaic of channels.
ACROSS = 3
#: Most kernels of an input channel, and most input channels, that are drawn.
MOST_KERNELS = 64
MOST_INPUTS = 4


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
    views = _views_by_kind(inside)
    all_rows = _words(inside)
    # A user's own network may have both images and series.
    feature_maps = views["feature map"]
    maps, left_out = _some_layers(
        [view for view in feature_maps if view.values.ndim == feature_maps[0].values.ndim]
    )
    if maps:
        title = "Feature maps (sum over the channels of each layer)"
        words = (
            "Inputs and sums over the channels of each convolutional layer, after its activation, "
            f"for {all_rows}: {_spans(maps)}."
        )
        draw: Callable[[], Figure] = partial(_draw_maps, findings, inside, maps, left_out)
        yield Picture("inside/feature_maps", title, words, draw)
    for view in views["channels"]:
        count = view.values.shape[1]
        rows = _words(inside, max(1, MOST_TILES // count))
        words = f"{count} channels for {rows}: {_spans([view])}."
        name = f"inside/channels_{_file_of(view.layer)}"
        draw = partial(_channels, findings, inside, view)
        yield Picture(name, f"Channels of {view.layer}", words, draw)
    kernels = views["kernels"]
    if kernels:
        count = sum(len(view.values) for view in kernels)
        shapes = ", ".join(map(_shape_of, kernels))
        words = f"{count} kernels ({shapes}): {_spans(kernels)}."
        draw = partial(_draw_kernels, findings, kernels)
        yield Picture("inside/kernels", "Kernels of the first convolution", words, draw)
    yield from _over_time_pictures(findings, inside, views)
    dense = [view for view in views["activation"] if view.values.ndim == 2]
    layers, left_out = _some_layers(dense)
    if layers:
        words = f"Activations of the units for {all_rows}: {_spans(layers)}."
        draw = partial(_activations, findings, inside, layers, left_out)
        yield Picture("inside/activations", "Activations of the dense layers", words, draw)


def _over_time_pictures(
    findings: Findings, inside: Inside, views: _ViewsByKind
) -> Iterator[Picture]:
    """Yield pictures of the states, and of the gates of each layer and direction that has gates."""
    steps = [view for view in views["activation"] if view.values.ndim == 3]
    states, left_out = _some_layers([*views["state"], *steps])
    heading = f"Heat maps by step and unit for {_words(inside, MOST_SAMPLES)}"
    draw = partial(_over_time, findings, inside)
    if states:
        rows = [(view.title, view) for view in states]
        title = "States over time"
        words = f"{heading}: {_spans(states)}."
        yield Picture("inside/states", title, words, partial(draw, rows, title, left_out))
    gated: dict[str, list[_Row]] = {}
    for state in views["state"]:
        rows = _rows_of_layer(views, state.layer)
        if any(kind in GATES for kind, _ in rows):
            gated[state.layer] = rows
    left_out = f"{MOST_GATED} of {len(gated)} layers" if len(gated) > MOST_GATED else ""
    for layer, rows in islice(gated.items(), MOST_GATED):
        spans = "; ".join(f"{kind} {_span(view.values)}" for kind, view in rows)
        name = f"inside/gates_{_file_of(layer)}" if len(gated) > 1 else "inside/gates"
        draw_gates = partial(draw, rows, f"Gates of {rows[0][1].title}", left_out)
        yield Picture(name, f"Gates of {layer} over time", f"{heading}: {spans}.", draw_gates)


def _rows_of_layer(views: _ViewsByKind, layer: str) -> list[_Row]:
    rows = []
    for kind in KINDS:
        rows += [(kind, view) for view in views[kind] if view.layer == layer]
    return rows


def _views_by_kind(inside: Inside) -> _ViewsByKind:
    """Return the views of each kind, such as `feature map`, from the input to the output."""
    views: dict[str, list[LayerView]] = defaultdict(list)
    for name, values in inside.views.items():
        kind, _, location = name.partition("/")
        layer, _, note = location.partition(" (")
        views[kind].append(LayerView(layer, note.rstrip(")"), values))
    return views


def _some_layers(views: _Views) -> tuple[_Views, str]:
    """Return at most `MOST_LAYERS` views, and a note on how many there are."""
    if len(views) <= MOST_LAYERS:
        return views, ""
    indices = np.linspace(0, len(views) - 1, MOST_LAYERS).round().astype(int)
    return [views[index] for index in indices], f"{MOST_LAYERS} of {len(views)} layers"


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
    labels = inside.labels[:most]
    count = len(inside.rows)
    total = f"{count} row" if count == 1 else f"{count} rows"
    names = ", ".join(short(name, NAME) for name in labels)
    if len(labels) < count:
        return f"{len(labels)} of {total} ({names})"
    return f"{total} ({names})"


def _span(values: Array) -> str:
    low, high = limits(values)
    return f"from {significant(low, 3)} to {significant(high, 3)}"


def _spans(views: _Views) -> str:
    return ", ".join(f"{short(view.layer, 40)} {_span(view.values)}" for view in views)


def _heading(findings: Findings, text: str, *notes: str) -> str:
    remarks = [note for note in notes if note]
    classes = len(set(findings.inside.labels)) if findings.inside is not None else 0
    samples = dict(findings.config.get("feature_maps") or {}).get("samples")
    if samples is None and classes < len(findings.classes):
        remarks.append(f"{classes} of {len(findings.classes)} classes")
    if findings.units:
        remarks.append(f"row labels: target in {label(findings.units)}")
    return f"{text}\n({', '.join(remarks)})" if remarks else text


def _as_series(sample: Floats) -> Floats:
    """Return a sample as (steps, features); a table's values are steps of one feature."""
    return sample if sample.ndim == 2 else sample.reshape(-1, 1)


def _draw_inputs(findings: Findings, inside: Inside, panels: Array) -> tuple[float, float]:
    """Draw a sample in each of the axes, and return the smallest and the largest value.

    A sample is drawn as lines on one scale for all, or as a heat map if it has many features.
    """
    names = findings.features
    inputs = inside.inputs[: len(panels)]
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
    samples = len(inside.rows)
    columns = len(views) + 1
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
        return np.stack([_as_series(sample) for sample in samples])
    images = np.moveaxis(samples, 1, 3) if samples.shape[1] == 3 else samples.sum(axis=1)
    low, high = limits(images)
    scaled: Floats = np.clip((np.nan_to_num(images) - low) / (high - low), 0, 1)
    return scaled


def _curve_maps(findings: Findings, inside: Inside, views: _Views, new_grid: _NewGrid) -> "Figure":
    """Draw series as curves: the input, then each layer's sum over a grey strip."""
    samples = len(inside.rows)
    columns = len(views) + 1
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
    left = -0.5
    right = length - 0.5
    bottom = low - 1.3 * room
    top = low - 0.3 * room
    heat_maps([axes], [values[None]], ends, GREY, extent=(left, right, bottom, top))
    # A frame, since the strip may be white.
    corners = ([left, right, right, left, left], [bottom, bottom, top, top, bottom])
    axes.plot(*corners, color=style.QUIET, linewidth=0.6)
    axes.set(xlim=(left, right), ylim=(low - 1.4 * room, high + 0.2 * room))
    axes.set_yticks(ends, [f"{end:.2g}" for end in ends])
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)


def _channels(findings: Findings, inside: Inside, view: LayerView) -> "Figure":
    """Draw a mosaic of a layer's channels for each sample, all on one scale."""
    are_series = view.values.ndim == 3  # (samples, channels, positions)
    samples = max(1, min(len(view.values), MOST_TILES // view.values.shape[1]))
    across = min(ACROSS, samples)
    down = -(-samples // across)
    images = [_side_by_side(values) for values in view.values[:samples]]
    tall = 0.7 if are_series else images[0].shape[0] / images[0].shape[1]
    size = (0.9 + 2.3 * across, 0.9 + down * (0.4 + 2 * tall))
    sample_note = f"{samples} of {len(view.values)} rows" if samples < len(view.values) else ""
    text = f"Channels of {view.title.partition(chr(10))[0]}"
    title = _heading(findings, text, view.note, sample_note)
    names = _row_names(inside, ", ")[:samples]
    figure, axes = style.panel_grid(title, (down, across), size=size, titles=names, gap=0.14)
    _bare(axes)
    aspect = "auto" if are_series else None
    image = heat_maps(
        axes.flat, images, limits(view.values), GREY, interpolation="nearest", aspect=aspect
    )
    if are_series:
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
    divisors = [number for number in range(least, 2 * least) if count % number == 0]
    across = divisors[0] if divisors else least
    zoom = -(-10 // max(height, width))  # so that the gaps are narrow beside few pixels
    gap = max(1, zoom * max(height, width) // 10)
    tiles = channels.repeat(zoom, axis=1).repeat(zoom, axis=2)
    # Each tile has a gap below it and to its right; those at the edges are cut off.
    padding = ((0, -count % across), (0, gap), (0, gap))
    tiles = np.pad(tiles, padding, constant_values=np.nan)
    _, height, width = tiles.shape
    rows = tiles.reshape(-1, across, height, width).swapaxes(1, 2)
    mosaic: Floats = rows.reshape(-1, across * width)[:-gap, :-gap]
    return mosaic


def _draw_kernels(findings: Findings, views: _Views) -> "Figure":
    """Draw the first kernels, a column for each input channel, around zero."""
    inputs = min(MOST_INPUTS, max(view.values.shape[1] for view in views))
    title = f"Kernels of {views[0].title.split()[0]}"
    larger = [len(view.values) for view in views if len(view.values) > MOST_KERNELS]
    if larger:
        title += f"\n({MOST_KERNELS} of {larger[0]} kernels)"
    mosaics = []
    ratios = []
    height = 0.9
    for view in views:
        kernels = view.values[:MOST_KERNELS, :inputs].swapaxes(0, 1)  # by input channel
        mosaics.append([_side_by_side(images) for images in kernels])
        rows, columns = mosaics[-1][0].shape
        ratios.append(max(0.2, min(2.0, rows / columns)))
        height += max(0.5, 2.2 * ratios[-1])
    figure, axes = style.panel_grid(
        title,
        (len(views), inputs),
        size=(1.6 + 2.2 * inputs, height),
        titles=_channel_names(findings, views[0].values.shape[1])[:inputs],
        rows=[f"{len(view.values)} kernels\n{_shape_of(view)}" for view in views],
        gap=0.12,
        height_ratios=ratios,
    )
    weights = [view.values.ravel() for view in views]
    ends = around_zero(np.concatenate(weights))
    _bare(axes)
    for row, images in zip(axes, mosaics, strict=True):
        image = heat_maps(row, images, ends, SIGNED, interpolation="nearest", aspect=None)
    style.add_scale(figure, image, axes, text="weight")
    return figure


def _channel_names(findings: Findings, channels: int) -> list[str]:
    if channels == len(findings.features):
        return [label(name) for name in findings.features]
    if channels == 1:
        return []
    return [f"input channel {number}" for number in range(1, channels + 1)]


def _shape_of(view: LayerView) -> str:
    lengths = view.values.shape[2:]
    if len(lengths) == 1:
        return f"length {lengths[0]}"
    return "×".join(map(str, lengths))


# ── recurrent and dense layers ──────────────────────────────────────────────────────────────────


def _over_time(
    findings: Findings, inside: Inside, rows: Sequence[_Row], text: str, left_out: str
) -> "Figure":
    """Draw the input of a few samples, and below it the values at each of its steps."""
    samples = min(MOST_SAMPLES, len(inside.rows))
    sample_note = f"{samples} of {len(inside.rows)} rows" if samples < len(inside.rows) else ""
    size = (1.6 + 2.5 * samples, 1.6 + 1.15 * len(rows))
    title = _heading(findings, text, left_out, sample_note)
    names = _row_names(inside, ", ")[:samples]
    figure, axes = style.panel_grid(title, (len(rows) + 1, samples), size=size, titles=names)
    _draw_inputs(findings, inside, axes[0])
    axes[0, 0].set_ylabel("input\nfeature" if axes[0, 0].images else "input", fontsize=8)
    length = len(_as_series(inside.inputs[0]))
    for line, (row_name, view) in zip(axes[1:], rows, strict=True):
        units = view.values.shape[2]
        extent = (-0.5, length - 0.5, 0.5, units + 0.5)
        look = {"interpolation": "nearest", "origin": "lower", "extent": extent}
        images = view.values[:samples].swapaxes(1, 2)
        is_gate = row_name in GATES
        ends = (0.0, 1.0) if is_gate else around_zero(images)
        image = heat_maps(line, images, ends, style.SHARES if is_gate else SIGNED, **look)
        for axis in line:
            axis.tick_params(labelsize=7)
        line[0].set_yticks(sorted({1, units}))
        line[0].set_ylabel(f"{row_name}\nunit", fontsize=8)
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
    row_height = 0.2 if samples <= 5 else 0.14
    size = (7.0, 0.9 + room + len(views) * (0.7 + row_height * samples))
    title = _heading(findings, "Activations of the dense layers", left_out)
    titles = [view.title.replace("\n", " ") for view in views]
    figure, axes = style.panel_grid(title, (len(views), 1), size=size, titles=titles)
    for axis, view in zip(axes[:, 0], views, strict=True):
        is_signed = bool((view.values < 0).any())
        columns = view.values.shape[1]
        ends = around_zero(view.values) if is_signed else limits(view.values)
        extent = (0.5, columns + 0.5, samples - 0.5, -0.5)
        look = {"interpolation": "nearest", "extent": extent}
        image = heat_maps([axis], [view.values], ends, SIGNED if is_signed else GREY, **look)
        axis.set_yticks(range(samples), _row_names(inside, ", "), fontsize=7)
        if view.layer == INPUT and columns == len(names):
            longest = style.LONGEST if is_rotated else 90 // columns
            labels = [label(name, longest) for name in names]
            axis.set_xticks(range(1, columns + 1), labels, rotation=90 if is_rotated else 0)
        else:
            style.whole_numbers(axis, most=10)
        axis.tick_params(axis="x", labelsize=7)
        style.add_scale(figure, image, axis)
    axes[-1, 0].set_xlabel("unit", fontsize=8)
    return figure
