"""Draws pictures of some findings, and reads what is in them."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from helpers.sample_findings import Kind, made_findings
from helpers.sample_networks import build
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from pipeline.base.findings import Array, Findings, Inside
from pipeline.inside.views import inside_of
from pipeline.pictures.gallery import drawing, gallery, texts
from pipeline.pictures.style import NotDrawnError, Picture

ROOM_FOR_ROUNDING = 1.5
"""Dots that texts may share."""
SHAPES = {"mlp": (30,), "cnn1d": (24, 2), "cnn2d": (3, 12, 8)}
KINDS: dict[int, Kind] = {1: "table", 2: "series", 3: "images"}


def opened(
    model: str, labels: Sequence[str] = ("ash", "beech"), *, classes: Any = None, **changes: object
) -> Findings:
    """Findings of a network that nobody has trained, opened for random rows.

    Args:
        model: Name of the network, some of whose parameters `changes` replaces.
        labels: Class of each row.
        classes: Names of the classes, or their number.
        changes: Parameters of the network.
    """
    shape = SHAPES.get(model, (20, 2))
    torch.manual_seed(0)
    network = build(model, shape, 3, **changes)
    inputs = torch.randn(len(labels), *shape, generator=torch.Generator().manual_seed(1))
    inside = Inside(
        rows=np.arange(len(labels)) * 1000,
        labels=tuple(labels),
        inputs=inputs.numpy(),
        views=inside_of(network, inputs, channels=True),
    )
    return made_findings(kind=KINDS[len(shape)], inside=inside, rows=30, classes=classes)


def inside_findings(findings: Findings) -> Inside:
    """The hidden values of findings that have some."""
    assert findings.inside is not None
    return findings.inside


def names_of(findings: Findings, folder: str) -> list[str]:
    return [one.name for one in gallery(findings) if one.name.startswith(f"{folder}/")]


def picture(findings: Findings, name: str) -> Picture:
    return next(one for one in gallery(findings) if one.name == name)


def figure_of(findings: Findings, name: str) -> Figure:
    with drawing(texts(findings)):
        return picture(findings, name).draw()


def axes_of(findings: Findings, name: str) -> Axes:
    """Return the first axes of a picture."""
    return figure_of(findings, name).axes[0]


def reason(findings: Findings, name: str) -> str:
    """Why a picture is not drawn."""
    with pytest.raises(NotDrawnError) as caught:
        figure_of(findings, name)
    return str(caught.value)


class Curve(NamedTuple):
    """A line as it is drawn."""

    label: str
    x: Array
    y: Array
    marker: str
    colour: str


def curves_of(axes: Axes) -> list[Curve]:
    return [
        Curve(
            label=str(line.get_label()).strip(),
            x=np.asarray(line.get_xdata()),
            y=np.asarray(line.get_ydata()),
            marker=str(line.get_marker()),
            colour=to_hex(line.get_color()),
        )
        for line in axes.lines
    ]


def lines_of(axes: Axes) -> dict[str, Curve]:
    return {curve.label: curve for curve in curves_of(axes)}


def widths_of(axes: Axes) -> list[float]:
    """The lengths of horizontal bars."""
    return [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text().strip() for legend in figure.legends for text in legend.get_texts()]


def readable(findings: Findings, folder: str = "") -> Iterator[tuple[str, Figure]]:
    """Yield name and figure of each picture that can be drawn, so that no text lies on another."""
    with drawing(texts(findings)):
        for one in (one for one in gallery(findings) if one.name.startswith(folder)):
            assert one.alt.strip().endswith("."), one.name
            figure, why = None, ""
            try:
                figure = one.draw()
            except NotDrawnError as error:
                why = str(error)
            assert why[:27] in ("", "all test rows are of class "), one.name
            if figure is not None:
                assert overlapping(figure) == [], one.name
                yield one.name, figure
                pyplot.close(figure)


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Name the texts of a figure that lie on each other."""
    figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in _seen(figure)]
    return [
        (one, other)
        for (one, a), (other, b) in combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > ROOM_FOR_ROUNDING
        and min(a.y1, b.y1) - max(a.y0, b.y0) > ROOM_FOR_ROUNDING
    ]


def _seen(figure: Figure) -> Iterator[Text]:
    found: list[Text] = [*figure.texts]
    found += [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        found += [child for child in axes.get_children() if isinstance(child, Text)]
        for axis in (axes.xaxis, axes.yaxis):
            found.append(axis.label)
            # Of all its ticks, an axis draws those that lie between its ends.
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            found += [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    return (text for text in found if text.get_visible() and text.get_text().strip())
