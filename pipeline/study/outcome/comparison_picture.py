"""The picture of a comparison: each cell's mean, its 95 % interval and its repeats."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.pictures import style
from pipeline.pictures.gallery import drawing, write
from pipeline.pictures.style import NotDrawnError, Picture, label
from pipeline.scoring.baselines import all_baselines
from pipeline.study.outcome.comparison import (
    DATA,
    NETWORK,
    Comparison,
    ComparisonCell,
    repeats_words,
)
from pipeline.study.outcome.summary import short_names, shown_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Height of a cell in inches.
CELL = 0.42
MOST_CELLS_IN_ALT = 8


def write_comparison_picture(comparison: Comparison, folder: Path) -> list[str]:
    """Write `comparison.png`; return notes on why it is missing, or which letters no font has."""
    picture = comparison_picture(comparison, "comparison", title="comparison")
    with drawing(comparison_names(comparison)) as notes:
        reason = write(picture, folder)
    return [*notes, f"no picture of the comparison: {reason}"] if reason else notes


def comparison_picture(comparison: Comparison, name: str, *, title: str) -> Picture:
    """Return a picture of each cell's mean, 95 % interval and repeats, a panel per data set."""
    phrases = []
    for cell in comparison.cells[:MOST_CELLS_IN_ALT]:
        values = cell.spread(comparison.by)
        if not values.n:
            continue
        point = ", ".join(f"{k}={shown_text(v or None)}" for k, v in cell.settings.items())
        repeats = repeats_words(comparison, values.n)
        phrases.append(f"{point or NETWORK} {values.words()} over {repeats}")
    alt = f"{comparison.by}: {'; '.join(phrases) or 'none completed'}"
    return Picture(name, title, alt, partial(_draw_comparison, comparison))


def comparison_names(comparison: Comparison) -> Iterator[str]:
    """Yield all names that occur in the picture of a comparison."""
    for cell in comparison.cells:
        yield f"{cell.settings.get(DATA, '')} {_cell_name(comparison, cell)}"


def _cell_name(comparison: Comparison, cell: ComparisonCell) -> str:
    keys = [key for key in comparison.keys if key != DATA]
    texts = [shown_text(cell.settings[key] or None) for key in keys]
    if len(texts) == 1:
        return texts[0]
    pairs = zip(short_names(keys).values(), texts, strict=True)
    return " ".join(map("=".join, pairs)) or "network"


def _draw_comparison(comparison: Comparison) -> "Figure":
    by = comparison.by
    blocks = []
    for block in comparison.blocks:
        cells = [cell for cell in block if cell.kind == NETWORK]
        if any(cell.spread(by).n for cell in cells):
            blocks.append((cells, block[len(cells) :]))
    if not blocks:
        raise NotDrawnError("no trial has completed")
    count = len(blocks)
    most = max(len(cells) for cells, _ in blocks)
    size = (max(style.WIDTH, 5.2 * count), 1.3 + CELL * most)
    figure, axes = style.panels(count, count, figsize=size)
    for panel, (cells, baselines) in zip(axes[0], blocks, strict=True):
        for height, cell in enumerate(cells):
            _draw_cell(panel, by, cell, height)
        for baseline in baselines:
            _draw_baseline(panel, by, baseline, cells)
        panel.set_yticks(range(len(cells)), [_cell_name(comparison, cell) for cell in cells])
        panel.set(ylim=(len(cells) - 0.5, -0.5), xlabel=by)
        panel.grid(visible=False, axis="y")
        if cells[0].settings.get(DATA):
            panel.set_title(label(cells[0].settings[DATA]))
    style.below(figure, *axes[0], columns=4)
    return figure


def _draw_cell(axes: "Axes", by: str, cell: ComparisonCell, height: int) -> None:
    values = cell.spread(by)
    if not values.n:
        axes.text(0.02, height, "none complete", transform=axes.get_yaxis_transform(), va="center")
        return
    repeats = list(cell.by_repeat(by).values())
    look: dict[str, Any] = {"s": 16, "color": style.QUIET, "zorder": 2, "label": "each repeat"}
    axes.scatter(repeats, [height] * len(repeats), **look)
    mean = values.mean
    low, high = values.interval or (mean, mean)
    color = style.TRAIN if cell.is_best else style.foreground()
    reach = [[mean - low], [high - mean]]
    axes.errorbar(mean, height, xerr=reach, fmt="o", color=color, capsize=4, zorder=3)


def _draw_baseline(
    axes: "Axes", by: str, baseline: ComparisonCell, cells: Sequence[ComparisonCell]
) -> None:
    """Draw a line at the mean of a baseline, across the networks that share its values."""
    values = baseline.spread(by)
    if not values.n:
        return
    settings = baseline.settings.items()
    heights = np.array(
        [height for height, cell in enumerate(cells) if settings <= cell.settings.items()]
    )
    kind = all_baselines()[baseline.kind]
    color = style.LINEAR if kind.is_fitted else style.NAIVE
    look: dict[str, Any] = {"color": color, "linestyle": kind.line, "label": kind.name}
    axes.vlines(
        np.full(len(heights), values.mean), heights - 0.5, heights + 0.5, linewidth=1.6, **look
    )
