"""Draws pictures of some findings, and reads what is in them."""

from collections.abc import Iterator
from itertools import combinations

import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from pipeline.base.findings import Findings
from pipeline.pictures.gallery import drawing, gallery, texts
from pipeline.pictures.style import NotDrawnError, Picture

ROOM_FOR_ROUNDING = 1.5
"""Dots that texts may share."""


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


def lines_of(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()).strip(): line for line in axes.lines}


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
        found += [*axes.texts, axes.title, axes._left_title]
        for axis in (axes.xaxis, axes.yaxis):
            found.append(axis.label)
            # Of all its ticks, an axis draws those that lie between its ends.
            found += [tick.label1 for tick in axis._update_ticks()]
    return (text for text in found if text.get_visible() and text.get_text().strip())
