"""A comparison as a picture: means with their intervals, every repeat, the baselines."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.pictures.picture import NotDrawnError, drawing, save
from pipeline.study.outcome.comparison import DATA, Block, Cell, Comparison
from pipeline.study.outcome.statistics import spread
from pipeline.study.outcome.wording import short_names, shown_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES_A_CELL = 0.42
LINES = {"naive": ":", "linear": "--"}


def write_comparison_picture(comparison: Comparison, path: Path) -> list[str]:
    """Draw a panel a data set: each cell's mean, its 95 % interval and its repeats.

    Returns:
        Notes: why there is no picture, or which letters no font has.
    """
    if not _drawable(comparison):
        return ["no picture of the comparison: no trial has completed"]
    with drawing(comparison_names(comparison)) as notes:
        save(comparison_figure(comparison), path)
    return notes


def comparison_names(comparison: Comparison) -> Iterator[str]:
    """Yield all names that the picture holds."""
    for block in comparison.blocks:
        yield block.data
        yield from (_name(comparison, cell) for cell in block.cells)


def comparison_figure(comparison: Comparison) -> "Figure":
    """Draw what `write_comparison_picture` writes.

    Raises:
        NotDrawnError: No trial has completed.
    """
    from matplotlib import pyplot

    blocks = _drawable(comparison)
    if not blocks:
        raise NotDrawnError("no trial has completed")
    most = max(len(block.cells) for block in blocks)
    figure, axes = pyplot.subplots(
        1,
        len(blocks),
        figsize=(5.2 * len(blocks), 1.8 + INCHES_A_CELL * most),
        squeeze=False,
        layout="constrained",
    )
    for panel, block in zip(axes[0], blocks, strict=True):
        _draw(panel, comparison, block, [_name(comparison, cell) for cell in block.cells])
    return figure


def _drawable(comparison: Comparison) -> list[Block]:
    return [block for block in comparison.blocks if _has_values(comparison, block)]


def _has_values(comparison: Comparison, block: Block) -> bool:
    return any(cell.spread(comparison.by) is not None for cell in block.cells)


def _name(comparison: Comparison, cell: Cell) -> str:
    own = [key for key in comparison.keys if key != DATA]
    names = short_names(own)
    if not own:
        return "network"
    if len(own) == 1:
        return shown_text(cell.settings[own[0]] or None)
    return " ".join(f"{names[key]}={shown_text(cell.settings[key] or None)}" for key in own)


def _draw(axes: "Axes", comparison: Comparison, block: Block, labels: Sequence[str]) -> None:
    for height, cell in enumerate(block.cells):
        _draw_cell(axes, comparison, cell, height)
    for baseline in block.baselines:
        found = spread(list(baseline.values.get(comparison.by, {}).values()))
        beside = [n for n, cell in enumerate(block.cells) if baseline.stands_beside(cell)]
        if found is not None:
            low, high = [height - 0.5 for height in beside], [height + 0.5 for height in beside]
            look: dict[str, Any] = {"linestyle": LINES[baseline.kind], "label": baseline.kind}
            axes.vlines([found.mean] * len(beside), low, high, color="0.4", **look)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel(comparison.by)
    axes.grid(visible=True, axis="x", alpha=0.3)
    if block.data:
        axes.set_title(block.data)
    shown = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if shown:  # each kind once, however often it stands there
        axes.legend(shown.values(), shown.keys(), loc="best", fontsize="small")


def _draw_cell(axes: "Axes", comparison: Comparison, cell: Cell, height: int) -> None:
    found = cell.spread(comparison.by)
    if found is None:
        axes.text(0.02, height, "none complete", transform=axes.get_yaxis_transform(), va="center")
        return
    repeats = list(cell.values[comparison.by].values())
    axes.scatter(repeats, [height] * len(repeats), s=16, color="0.7", zorder=2)
    low, high = found.interval or (found.mean, found.mean)
    axes.errorbar(
        found.mean,
        height,
        xerr=[[found.mean - low], [high - found.mean]],
        fmt="o",
        color="tab:blue" if cell.is_best else "black",
        capsize=4,
        zorder=3,
    )
