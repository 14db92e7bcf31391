"""The confusion matrix of the test rows: counts, and shares of each true class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.findings.records import Findings
from pipeline.pictures import style
from pipeline.pictures.names import label, short
from pipeline.pictures.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Counts = NDArray[np.int64]

WITH_SHARES, WITH_COUNTS, LABELLED = 8, 20, 30
"""Classes up to which a cell says its share, its count, and up to which each has its label."""
LETTER = 0.08
"""Inches of a name's letter."""
TOLD = 3
"""Confusions that the alternative text names."""


def picture(findings: Findings, true: Counts, called: Counts) -> Picture:
    """Return the confusion matrix.

    Args:
        findings: Names of the classes.
        true: Classes of the test rows, (rows,).
        called: Classes that the network said, (rows,).
    """
    matrix = counted(true, called, classes=len(findings.classes))
    return Picture(
        name="classes/confusion",
        title="Confusion matrix of the test rows",
        alt=_words(matrix, findings.classes),
        draw=lambda: _draw(matrix, findings.classes),
    )


def counted(true: Counts, called: Counts, *, classes: int) -> Counts:
    """Count the rows of each pair, (classes, classes): true ones down, called ones across."""
    pairs = np.bincount(true * classes + called, minlength=classes**2)
    return pairs.reshape(classes, classes)


def _words(matrix: Counts, classes: Sequence[str]) -> str:
    rows = int(matrix.sum())
    told = f"{int(np.trace(matrix)):,} of {rows:,} test rows are right"
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    worst = np.argsort(-wrong, axis=None, kind="stable")[:TOLD]
    pairs = [(int(at) // len(matrix), int(at) % len(matrix)) for at in worst]
    confused = [
        f"{short(classes[true])} taken for {short(classes[called])} "
        f"({wrong[true, called]:,} of {matrix[true].sum():,})"
        for true, called in pairs
        if wrong[true, called]
    ]
    return f"{told}; most often confused: {', '.join(confused)}." if confused else f"{told}."


def _draw(matrix: Counts, classes: Sequence[str]) -> "Figure":
    from matplotlib import pyplot
    from matplotlib.colors import PowerNorm

    count = len(classes)
    room = LETTER * max(map(len, _labels(classes).values()))
    side = min(style.WIDTH - 1.5 - room, max(2.0, 0.75 * count))
    size = (side + room + 1.5, side + 0.6 + (room if _are_upright(classes) else 0))
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    totals = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    axes.set_facecolor(style.QUIET)  # a class without a test row has no shares
    norm = PowerNorm(0.5, vmin=0, vmax=1)  # a few rows that were confused are to be seen, too
    cells = axes.imshow(shares, cmap=style.SHARES, norm=norm, interpolation="nearest")
    if count <= WITH_COUNTS:
        _write(axes, matrix, shares)
    _name(axes, classes)
    bar = figure.colorbar(cells, ax=axes, shrink=0.8, label="share of the true class")
    bar.set_ticks([0, 0.05, 0.2, 0.5, 1], labels=["0", "5%", "20%", "50%", "100%"])
    return figure


def _write(axes: "Axes", matrix: Counts, shares: NDArray[np.float64]) -> None:
    count = len(matrix)
    both = count <= WITH_SHARES
    size = 9 if both else min(9.0, 110 / count)
    for (true, called), rows in np.ndenumerate(matrix):
        share = shares[true, called]
        if not both and rows == 0:
            continue  # a field of zeros hides what was confused
        text = f"{rows:,}\n{share:.0%}" if both and np.isfinite(share) else f"{rows:,}"
        colour = style.DARK if share > 0.3 else style.BRIGHT
        axes.text(called, true, text, ha="center", va="center", color=colour, fontsize=size)


def _labels(classes: Sequence[str]) -> dict[int, str]:
    """Return the names by place: of every class or, where they are many, of evenly chosen ones."""
    step = -(-len(classes) // LABELLED)
    most = 20 if len(classes) <= WITH_SHARES else 14
    return {place: label(classes[place], most) for place in range(0, len(classes), step)}


def _are_upright(classes: Sequence[str]) -> bool:
    """Tell whether the names below lie on each other unless they are turned."""
    return len(classes) * max(map(len, _labels(classes).values())) > 40


def _name(axes: "Axes", classes: Sequence[str]) -> None:
    names = _labels(classes)
    size = 9.0 if len(classes) <= WITH_SHARES else 7.5
    axes.set_xticks(
        list(names),
        list(names.values()),
        rotation=90 if _are_upright(classes) else 0,
        fontsize=size,
    )
    axes.set_yticks(list(names), list(names.values()), fontsize=size)
    axes.tick_params(length=0 if len(classes) <= WITH_COUNTS else 2)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.spines[:].set_visible(False)
