"""How well the classes of the test rows are told apart: confusion, curves, calibration."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.findings import Array, Findings, TestRows
from pipeline.pictures import style
from pipeline.pictures.style import NotDrawnError, Picture, label, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Counts = NDArray[np.int64]
Vector = NDArray[np.float64]

#: Most classes for which cells show shares, cells show counts, and each class has a label.
WITH_SHARES, WITH_COUNTS, LABELLED = 8, 20, 30
#: Width of a character of a name in inches.
LETTER = 0.08
#: Number of confusions, or of lowest areas, in an alternative text.
TOLD = 3
#: Most classes whose curves have a colour and a name; if there are more, the worst ones do.
NAMED = 10
#: Most points of a curve that is drawn; a vector graphic contains each of them.
MOST_POINTS = 600
#: Positions on the x axis at which the curves of the classes are averaged.
GRID = np.linspace(0.0, 1.0, 201)
#: Bins of the probabilities, of equal width.
BINS = 10


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield pictures of the tested classes; none for a regression or without test rows."""
    test = findings.test
    if test is None or findings.task == "regression" or not len(test.targets):
        return
    classes = findings.classes
    pairs = test.targets * len(classes) + test.called(findings.threshold)
    matrix = np.bincount(pairs, minlength=len(classes) ** 2).reshape(len(classes), -1)
    draw: Callable[[], Figure] = partial(_draw_confusion, matrix, classes)
    words = _confusion_words(matrix, classes)
    yield Picture("classes/confusion", "Confusion matrix (test rows)", words, draw)
    for plot in _PLOTS:
        found = _by_class(plot, test)
        draw = partial(_draw_curves, plot, findings, test, found)
        yield Picture(plot.name, plot.title, _curve_words(plot, findings, found), draw)
    yield _calibration(findings, test)


# ── confusion matrix ────────────────────────────────────────────────────────────────────────────


def _confusion_words(matrix: Counts, classes: Sequence[str]) -> str:
    told = f"{int(np.trace(matrix)):,} of {int(matrix.sum()):,} test rows are classified correctly"
    wrong, confused = matrix - np.diag(np.diag(matrix)), []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:TOLD]:
        true, said = divmod(int(place), len(classes))
        if rows := wrong[true, said]:
            names = f"{short(classes[true])} predicted as {short(classes[said])}"
            confused.append(f"{names} ({rows:,} of {matrix[true].sum():,})")
    return f"{told}. Most frequent errors: {', '.join(confused)}." if confused else f"{told}."


def _draw_confusion(matrix: Counts, classes: Sequence[str]) -> "Figure":
    from matplotlib import pyplot
    from matplotlib.colors import PowerNorm

    count = len(classes)
    step = -(-count // LABELLED)
    most = 20 if count <= WITH_SHARES else 14
    names = {place: label(classes[place], most) for place in range(0, count, step)}
    longest = max(map(len, names.values()))
    upright, room = count * longest > 40, LETTER * longest  # otherwise the names would overlap
    side = min(style.WIDTH - 1.5 - room, max(2.0, 0.75 * count))
    size = (side + room + 1.5, side + 0.6 + room * upright)
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    totals = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    axes.set_facecolor(style.QUIET)  # a class without test rows has no shares
    norm = PowerNorm(0.5, vmin=0, vmax=1)  # makes a few confused rows visible
    cells = axes.imshow(shares, cmap=style.SHARES, norm=norm, interpolation="nearest")
    if count <= WITH_COUNTS:
        _write_counts(axes, matrix, shares)
    look: dict[str, Any] = {"labels": [*names.values()]}
    look["fontsize"] = 9.0 if count <= WITH_SHARES else 7.5
    axes.set_xticks([*names], rotation=90 if upright else 0, **look)
    axes.set_yticks([*names], **look)
    axes.tick_params(length=0 if count <= WITH_COUNTS else 2)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(cells, ax=axes, shrink=0.8, label="share of the true class")
    bar.set_ticks([0, 0.05, 0.2, 0.5, 1], labels=["0", "5%", "20%", "50%", "100%"])
    return figure


def _write_counts(axes: "Axes", matrix: Counts, shares: Vector) -> None:
    both = len(matrix) <= WITH_SHARES
    look: dict[str, Any] = {"ha": "center", "va": "center"}
    look["fontsize"] = 9 if both else min(9.0, 110 / len(matrix))
    for (true, said), rows in np.ndenumerate(matrix):
        share = shares[true, said]
        if both or rows:  # many zeros would hide what was confused
            told = f"\n{share:.0%}" if both and np.isfinite(share) else ""
            colour = style.DARK if share > 0.3 else style.BRIGHT
            axes.text(said, true, f"{rows:,}{told}", color=colour, **look)


# ── curves over all thresholds ──────────────────────────────────────────────────────────────────


class ThresholdCurve(NamedTuple):
    """A curve of one class against all others, over every threshold; `x` and `y` are (points,).

    `area` is the area under the curve, or the average precision.
    """

    x: Vector
    y: Vector
    area: float


def roc(scores: Array, own: Array) -> ThresholdCurve:
    """Return the true positive rate over the false positive rate.

    `own` says which rows are of the class, bool (rows,); it must contain both values.
    """
    true, false = _counts(scores, own)
    x = np.append(0.0, false / false[-1])
    y = np.append(0.0, true / true[-1])
    return ThresholdCurve(x, y, float(np.trapezoid(y, x)))


def precision_recall(scores: Array, own: Array) -> ThresholdCurve:
    """Return the precision over the recall, from the highest threshold to the lowest.

    The area is the average precision, a sum of rectangles: linear interpolation would be too
    optimistic (Davis and Goadrich 2006). At least one row must be of the class.
    """
    true, false = _counts(scores, own)
    recall = np.append(0.0, true / true[-1])
    precision = np.append(1.0, true / (true + false))
    return ThresholdCurve(recall, precision, float(np.sum(np.diff(recall) * precision[1:])))


def _counts(scores: Array, own: Array) -> tuple[Vector, Vector]:
    """Count rows of the class, and other rows, at or above each score, from the highest score."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # last of equal scores
    true = np.cumsum(own[order], dtype=np.float64)[last]
    return true, last + 1 - true


class _CurvePlot(NamedTuple):
    """One of the two pictures of curves.

    Args:
        name: Name of the picture.
        title: Title of the picture.
        called: Name of the curve in a sentence.
        area: Name of the area under the curve in a sentence.
        axes: Labels of the x and the y axis.
        curve: Computes the curve from scores (rows,) and from which rows are of the class (rows,).
        by_steps: Whether a value holds from its point back to the previous point.
    """

    name: str
    title: str
    called: str
    area: str
    axes: tuple[str, str]
    curve: Callable[[Array, Array], ThresholdCurve]
    by_steps: bool = False

    def draw(self, axes: "Axes", curve: ThresholdCurve, **look: Any) -> None:
        """Draw a curve of at most `MOST_POINTS` points."""
        count = len(curve.x)
        kept = np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).astype(np.int64))
        steps = "steps-pre" if self.by_steps else "default"
        axes.plot(curve.x[kept], curve.y[kept], drawstyle=steps, **look)

    def heights(self, curve: ThresholdCurve) -> Array:
        """Return the height of a curve at each place of the grid, (201,)."""
        if not self.by_steps:
            return np.asarray(np.interp(GRID, curve.x, curve.y))
        after = np.searchsorted(curve.x, GRID, side="left")
        return np.asarray(curve.y[np.minimum(after, len(curve.y) - 1)])


_PLOTS = (
    _CurvePlot(
        "classes/precision_recall",
        "Precision-recall curve",
        "precision-recall curve",
        "average precision",
        ("recall", "precision"),
        precision_recall,
        by_steps=True,
    ),
    _CurvePlot(
        "classes/roc",
        "ROC curve",
        "ROC curve",
        "area",
        ("false positive rate", "true positive rate (recall)"),
        roc,
    ),
)


def _by_class(plot: _CurvePlot, test: TestRows) -> dict[int, ThresholdCurve]:
    """Return the curves of the classes by index, the smallest area first.

    A class needs test rows in it and outside of it; a binary task has the positive class only. The
    result is empty if a probability is not finite.
    """
    if not np.isfinite(test.outputs).all():
        return {}
    columns = {1: test.outputs} if test.outputs.ndim == 1 else dict(enumerate(test.outputs.T))
    found = {
        index: plot.curve(scores, test.targets == index)
        for index, scores in columns.items()
        if 0 < (test.targets == index).sum() < len(test.targets)
    }
    return dict(sorted(found.items(), key=lambda one: one[1].area))


def _curve_words(plot: _CurvePlot, findings: Findings, found: dict[int, ThresholdCurve]) -> str:
    if not found:
        return f"No {plot.called}."
    if findings.task == "binary":
        name = short(findings.classes[1])
        return f"The {plot.called} of class {name}: {plot.area} {found[1].area:.3f}."
    worst = [f"{short(findings.classes[at])} ({curve.area:.3f})" for at, curve in found.items()]
    mean = np.mean([curve.area for curve in found.values()])
    absent = len(findings.classes) - len(found)
    left = f"; classes without test rows: {absent}" if absent else ""
    told = f"mean {plot.area} {mean:.3f}, lowest: {', '.join(worst[:TOLD])}{left}"
    return f"The {plot.called} of each class against the rest: {told}."


def _draw_curves(
    plot: _CurvePlot, findings: Findings, test: TestRows, found: dict[int, ThresholdCurve]
) -> "Figure":
    if not np.isfinite(test.outputs).all():
        raise NotDrawnError("some probabilities are NaN or infinite")
    if not found:
        only = short(findings.classes[int(test.targets[0])])
        raise NotDrawnError(f"all test rows are of class {only!r}")
    figure, grid = style.panels(height=4.4)
    axes = grid[0, 0]
    if findings.task == "binary":
        _draw_binary(axes, plot, findings, test, found[1])
    else:
        _draw_several(axes, plot, findings.classes, found)
    share = float(np.mean([(test.targets == index).mean() for index in found]))
    chance = (share, share) if plot.by_steps else (0.0, 1.0)  # what a guess gives
    axes.plot((0, 1), chance, color=style.NAIVE, linestyle=":", linewidth=1.5, label="chance")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), xlabel=plot.axes[0], ylabel=plot.axes[1])
    style.below(figure, axes, columns=2)
    return figure


def _draw_binary(
    axes: "Axes", plot: _CurvePlot, findings: Findings, test: TestRows, curve: ThresholdCurve
) -> None:
    own = test.targets == 1
    if test.linear is not None and np.isfinite(test.linear).all():
        line = plot.curve(test.linear, own)
        name = f"linear: {line.area:.3f}"
        plot.draw(axes, line, color=style.LINEAR, linestyle="--", label=name)
    name = f"{label(findings.classes[1])}: {curve.area:.3f}"
    plot.draw(axes, curve, color=style.NETWORK, linewidth=2, label=name)
    said = test.outputs > findings.threshold
    recall, other = said[own].mean(), said[~own].mean()
    precision = own[said].mean() if said.any() else 1.0
    at = (recall, precision) if plot.by_steps else (other, recall)
    what = f"threshold {findings.threshold:.3g}"
    axes.plot(*at, "o", color=style.NETWORK, ms=8, mec=style.foreground(), label=what)


def _draw_several(
    axes: "Axes", plot: _CurvePlot, classes: Sequence[str], found: dict[int, ThresholdCurve]
) -> None:
    named = sorted(found) if len(found) <= NAMED else [*found][:NAMED]
    for index in set(found) - set(named):
        plot.draw(axes, found[index], color=style.QUIET, linewidth=0.5, alpha=0.4)
    for order, index in enumerate(named):
        name = f"{label(classes[index])}: {found[index].area:.3f}"
        plot.draw(axes, found[index], **style.line_of(order), linewidth=1.3, label=name)
    height = np.mean([plot.heights(curve) for curve in found.values()], axis=0)
    mean = np.mean([curve.area for curve in found.values()])
    axes.plot(GRID, height, color=style.foreground(), linewidth=2.5, label=f"mean: {mean:.3f}")


# ── calibration ─────────────────────────────────────────────────────────────────────────────────


class Reliability(NamedTuple):
    """Mean probabilities and shares of right rows, in bins of equal width.

    For each non-empty bin, (bins,): `given` is the mean probability, `found` the share of rows that
    were right, `counts` the number of rows.
    """

    given: Vector
    found: Vector
    counts: Counts

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance over the rows (Naeini et al. 2015)."""
        return float(np.average(np.abs(self.given - self.found), weights=self.counts))

    @property
    def spread(self) -> tuple[Vector, Vector]:
        """Ends of Wilson's 95 % interval of each share, (bins,) and (bins,)."""
        z, rows, share = 1.96, self.counts, self.found
        centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
        half = z * np.sqrt(share * (1 - share) / rows + (z / (2 * rows)) ** 2) / (1 + z**2 / rows)
        return centre - half, centre + half


def reliability(probabilities: Array, right: Array, *, bins: int) -> Reliability:
    """Return the reliability of probabilities (rows,); `right` is bool, (rows,)."""
    inner = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    place = np.searchsorted(inner, probabilities)
    counts = np.bincount(place, minlength=bins)
    seen = counts > 0
    given, found = (
        np.bincount(place, weights=one, minlength=bins)[seen] / counts[seen]
        for one in (probabilities, right)
    )
    return Reliability(given, found, counts[seen])


def _calibration(findings: Findings, test: TestRows) -> Picture:
    """Return the picture of calibration, of the positive class or of the predicted class."""
    if test.outputs.ndim == 1:
        given, right = test.outputs, test.targets == 1
        what = f"predicted probability of {short(findings.classes[1])}"
    else:
        given, right = test.outputs.max(1), test.outputs.argmax(1) == test.targets
        what = "probability of the predicted class"
    found, told = None, "No calibration."
    if np.isfinite(given).all():
        found = reliability(given, right, bins=BINS)
        told = (
            f"Calibration of the {what}: expected calibration error {found.error:.3f} "
            f"({len(given):,} test rows, {BINS} bins)."
        )
    draw = partial(_draw_calibration, found, given, what, has_intervals=test.groups is None)
    return Picture("classes/calibration", "Calibration", told, draw)


def _draw_calibration(
    found: Reliability | None, given: Array, what: str, *, has_intervals: bool
) -> "Figure":
    """Draw the calibration; Wilson's intervals require independent rows."""
    if found is None:
        raise NotDrawnError("some probabilities are NaN or infinite")
    figure, axes = style.panels(2, 1, height=2.4, sharex=True, height_ratios=(3, 1))
    upper, lower = axes[:, 0]
    upper.plot((0, 1), (0, 1), color=style.NAIVE, linestyle=":", label="perfect calibration")
    low, high = found.spread
    ends = np.clip((found.found - low, high - found.found), 0, None)
    look: dict[str, Any] = {"color": style.NETWORK, "marker": "o", "ms": 5, "capsize": 3}
    look["label"] = "network, 95 % CI" if has_intervals else "network"
    upper.errorbar(found.given, found.found, yerr=ends if has_intervals else None, **look)
    upper.set(ylim=(-0.03, 1.03), ylabel="observed frequency")
    upper.set_title(f"expected calibration error {found.error:.3f}")
    lower.hist(given, bins=np.linspace(0, 1, BINS + 1), color=style.NETWORK, rwidth=0.9)
    lower.set(ylabel="rows", xlim=(-0.02, 1.02), xlabel=label(what, 60))
    style.below(figure, upper, columns=2)
    return figure
