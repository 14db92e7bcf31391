"""Precision over recall, and the ROC curve, of each class against all others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.findings.records import Array, Findings, TestRows
from pipeline.pictures import style
from pipeline.pictures.names import label, short
from pipeline.pictures.picture import NotDrawnError, Picture
from pipeline.pictures.ranking import Curve, precision_recall, roc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 10
"""Classes that have a colour and a name; of more, the worst have."""
MOST_POINTS = 600
"""Of a curve that is drawn; a vector graphic writes each down."""
GRID = np.linspace(0.0, 1.0, 201)
"""Where the curves of the classes are averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plot:
    """One of the two pictures of curves.

    Args:
        name: Of the picture.
        title: Of the picture.
        called: What the curve is called in a sentence.
        area: What its area is called.
        axes: What stands below and beside it.
        curve: Makes it of scores (rows,) and of whether a row is of the class (rows,).
        by_steps: Whether the value holds from a point back to the one before.
    """

    name: str
    title: str
    called: str
    area: str
    axes: tuple[str, str]
    curve: Callable[[Array, Array], Curve]
    by_steps: bool


_PLOTS = (
    _Plot(
        name="classes/precision_recall",
        title="Precision and recall at every threshold",
        called="precision-recall curve",
        area="average precision",
        axes=("recall", "precision"),
        curve=precision_recall,
        by_steps=True,
    ),
    _Plot(
        name="classes/roc",
        title="ROC curve",
        called="ROC curve",
        area="area",
        axes=("false positive rate", "true positive rate (recall)"),
        curve=roc,
        by_steps=False,
    ),
)


def pictures(findings: Findings, test: TestRows) -> Iterator[Picture]:
    """Yield both pictures of curves; they say why where there is none."""
    for plot in _PLOTS:
        found = _by_class(plot, findings, test.outputs, test.targets)
        yield Picture(
            name=plot.name,
            title=plot.title,
            alt=_curve_words(plot, findings, found),
            draw=partial(_draw_curves, plot, findings, test, found),
        )


def _by_class(plot: _Plot, findings: Findings, outputs: Array, targets: Array) -> dict[int, Curve]:
    """Return the curve of each class that some test rows are of and some are not.

    In a binary task that is the positive one. There is none where a probability is no number.
    """
    if not np.isfinite(outputs).all():
        return {}
    if outputs.ndim == 1:
        columns = {1: outputs}
    else:
        columns = {index: outputs[:, index] for index in range(len(findings.classes))}
    return {
        index: plot.curve(scores, targets == index)
        for index, scores in columns.items()
        if 0 < (targets == index).sum() < len(targets)
    }


def _curve_words(plot: _Plot, findings: Findings, found: dict[int, Curve]) -> str:
    if not found:
        return f"There is no {plot.called}."
    if findings.task == "binary":
        (curve,) = found.values()
        name = short(findings.classes[1])
        return f"The {plot.called} of {name} against the others; {plot.area} {curve.area:.3f}."
    worst = ", ".join(
        f"{short(findings.classes[index])} {found[index].area:.3f}" for index in _worst(found)[:3]
    )
    mean = np.mean([curve.area for curve in found.values()])
    told = f"The {plot.called} of each class against all others; mean {plot.area} {mean:.3f}"
    absent = len(findings.classes) - len(found)
    left = f"; {absent} without test rows" if absent else ""
    return f"{told}; the lowest: {worst}{left}."


def _worst(found: dict[int, Curve]) -> list[int]:
    return sorted(found, key=lambda index: found[index].area)


def _draw_curves(
    plot: _Plot, findings: Findings, test: TestRows, found: dict[int, Curve]
) -> "Figure":
    if not found:
        raise NotDrawnError(_why_none(plot, findings, test))
    figure, grid = style.panels(height=4.4)
    axes = grid[0, 0]
    if findings.task == "binary":
        _draw_binary(axes, plot, findings, test, found[1])
    else:
        _draw_several(axes, plot, findings.classes, found)
    _draw_chance(axes, plot, test, found)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.04)
    axes.set_xlabel(plot.axes[0])
    axes.set_ylabel(plot.axes[1])
    style.below(figure, axes, columns=2)
    return figure


def _why_none(plot: _Plot, findings: Findings, test: TestRows) -> str:
    if not np.isfinite(test.outputs).all():
        return f"some probabilities are no numbers: there is no {plot.called}"
    held = findings.classes[int(test.targets[0])]
    return f"the test rows hold one class only, {short(held)!r}: there is no {plot.called}"


def _draw_binary(
    axes: "Axes", plot: _Plot, findings: Findings, test: TestRows, curve: Curve
) -> None:
    if test.linear is not None and np.isfinite(test.linear).all():
        line = plot.curve(test.linear, test.targets == 1)
        _draw(
            axes, plot, line, color=style.LINEAR, linestyle="--", label=f"linear: {line.area:.3f}"
        )
    name = f"{label(findings.classes[1])}: {curve.area:.3f}"
    _draw(axes, plot, curve, color=style.NETWORK, linewidth=2, label=name)
    called = test.outputs > findings.threshold
    own = test.targets == 1
    recall = (called & own).sum() / own.sum()
    other = (called & ~own).sum() / (~own).sum()
    precision = own[called].mean() if called.any() else 1.0
    at = (recall, precision) if plot.by_steps else (other, recall)
    what = f"at threshold {findings.threshold:.3g}"
    axes.plot(*at, "o", color=style.NETWORK, ms=8, mec=style.foreground(), label=what)


def _draw_several(
    axes: "Axes", plot: _Plot, classes: Sequence[str], found: dict[int, Curve]
) -> None:
    named = sorted(found) if len(found) <= NAMED else _worst(found)[:NAMED]
    for index in set(found) - set(named):
        _draw(axes, plot, found[index], color=style.QUIET, linewidth=0.5, alpha=0.4)
    for order, index in enumerate(named):
        name = f"{label(classes[index])}: {found[index].area:.3f}"
        _draw(axes, plot, found[index], **style.line_of(order), linewidth=1.3, label=name)
    mean = np.mean([curve.area for curve in found.values()])
    height = np.mean([_at(plot, curve) for curve in found.values()], axis=0)
    axes.plot(GRID, height, color=style.foreground(), linewidth=2.5, label=f"mean: {mean:.3f}")


def _at(plot: _Plot, curve: Curve) -> Array:
    """Return the height of a curve along the grid, (201,)."""
    if not plot.by_steps:
        return np.asarray(np.interp(GRID, curve.x, curve.y))
    after = np.searchsorted(curve.x, GRID, side="left")
    heights: Array = curve.y[np.minimum(after, len(curve.y) - 1)]
    return heights


def _draw(axes: "Axes", plot: _Plot, curve: Curve, **look: Any) -> None:
    kept = np.arange(len(curve.x))
    if len(kept) > MOST_POINTS:
        kept = np.unique(np.linspace(0, len(kept) - 1, MOST_POINTS).astype(np.int64))
    steps = "steps-pre" if plot.by_steps else "default"
    axes.plot(curve.x[kept], curve.y[kept], drawstyle=steps, **look)


def _draw_chance(axes: "Axes", plot: _Plot, test: TestRows, found: dict[int, Curve]) -> None:
    """Draw what a guess gives: the diagonal, or the share of the class's rows."""
    share = float(np.mean([(test.targets == index).mean() for index in found]))
    ends = (share, share) if plot.by_steps else (0.0, 1.0)
    axes.plot((0, 1), ends, color=style.NAIVE, linestyle=":", linewidth=1.5, label="chance")
