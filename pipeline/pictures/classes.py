"""How well a network separates the classes of the test rows: confusion, curves, calibration."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.base.findings import Array, Findings, TestRows
from pipeline.pictures import style
from pipeline.pictures.style import NotDrawnError, Picture, label, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Counts = NDArray[np.int64]
Vector = NDArray[np.float64]

#: Most classes for which cells show shares, cells show counts, and each class has a label.
WITH_SHARES = 8
WITH_COUNTS = 20
LABELLED = 30
#: Width of a character of a name in inches.
LETTER = 0.08
#: Number of confusions, or of lowest areas, in an alternative text.
MOST_LISTED = 3
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
        curves = _curves_by_class(plot, test)
        draw = partial(_draw_curves, plot, findings, test, curves)
        yield Picture(plot.name, plot.title, _curve_words(plot, findings, curves), draw)
    yield _calibration(findings, test)


# ── confusion matrix ────────────────────────────────────────────────────────────────────────────


def _confusion_words(matrix: Counts, classes: Sequence[str]) -> str:
    correct = int(np.trace(matrix))
    words = f"{correct:,} of {int(matrix.sum()):,} test rows are classified correctly."
    errors = matrix - np.diag(np.diag(matrix))
    confusions = []
    for position in np.argsort(-errors, axis=None, kind="stable")[:MOST_LISTED]:
        true, predicted = divmod(int(position), len(classes))
        rows = errors[true, predicted]
        if rows:
            names = f"{short(classes[true])} predicted as {short(classes[predicted])}"
            confusions.append(f"{names} ({rows:,} of {matrix[true].sum():,})")
    return f"{words} Most frequent errors: {', '.join(confusions)}." if confusions else words


def _draw_confusion(matrix: Counts, classes: Sequence[str]) -> "Figure":
    from matplotlib import pyplot
    from matplotlib.colors import PowerNorm

    count = len(classes)
    step = -(-count // LABELLED)
    most = 20 if count <= WITH_SHARES else 14
    labelled = range(0, count, step)
    names = [label(classes[index], most) for index in labelled]
    longest = max(map(len, names))
    is_upright = count * longest > 40  # otherwise the names would overlap
    room = LETTER * longest
    side = min(style.WIDTH - 1.5 - room, max(2.0, 0.75 * count))
    size = (side + room + 1.5, side + 0.6 + (room if is_upright else 0.0))
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    totals = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    axes.set_facecolor(style.QUIET)  # a class without test rows has no shares
    norm = PowerNorm(0.5, vmin=0, vmax=1)  # makes a few confused rows visible
    cells = axes.imshow(shares, cmap=style.SHARES, norm=norm, interpolation="nearest")
    if count <= WITH_COUNTS:
        _write_counts(axes, matrix, shares)
    look: dict[str, Any] = {"labels": names, "fontsize": 9.0 if count <= WITH_SHARES else 7.5}
    axes.set_xticks(labelled, rotation=90 if is_upright else 0, **look)
    axes.set_yticks(labelled, **look)
    axes.tick_params(length=0 if count <= WITH_COUNTS else 2)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(cells, ax=axes, shrink=0.8, label="share of the true class")
    bar.set_ticks([0, 0.05, 0.2, 0.5, 1], labels=["0", "5%", "20%", "50%", "100%"])
    return figure


def _write_counts(axes: "Axes", matrix: Counts, shares: Vector) -> None:
    with_shares = len(matrix) <= WITH_SHARES
    look: dict[str, Any] = {"ha": "center", "va": "center"}
    look["fontsize"] = 9 if with_shares else min(9.0, 110 / len(matrix))
    for (true, predicted), rows in np.ndenumerate(matrix):
        if not rows and not with_shares:
            continue  # many zeros would hide what was confused
        share = shares[true, predicted]
        text = f"{rows:,}"
        if with_shares and np.isfinite(share):
            text += f"\n{share:.0%}"
        colour = style.DARK if share > 0.3 else style.BRIGHT
        axes.text(predicted, true, text, color=colour, **look)


# ── curves over all thresholds ──────────────────────────────────────────────────────────────────


class ThresholdCurve(NamedTuple):
    """A curve of one class against all others, over every threshold; `x` and `y` are (points,).

    `area` is the area under the curve, or the average precision.
    """

    x: Vector
    y: Vector
    area: float


def roc(scores: Array, in_class: Array) -> ThresholdCurve:
    """Return the true positive rate over the false positive rate.

    `in_class` says which rows are of the class, bool (rows,); it must contain both values.
    """
    true, false = _counts(scores, in_class)
    x = np.append(0.0, false / false[-1])
    y = np.append(0.0, true / true[-1])
    return ThresholdCurve(x, y, float(np.trapezoid(y, x)))


def precision_recall(scores: Array, in_class: Array) -> ThresholdCurve:
    """Return the precision over the recall, from the highest threshold to the lowest.

    The area is the average precision, a sum of rectangles: linear interpolation would be too
    optimistic (Davis and Goadrich 2006). At least one row must be of the class.
    """
    true, false = _counts(scores, in_class)
    recall = np.append(0.0, true / true[-1])
    precision = np.append(1.0, true / (true + false))
    return ThresholdCurve(recall, precision, float(np.sum(np.diff(recall) * precision[1:])))


def _counts(scores: Array, in_class: Array) -> tuple[Vector, Vector]:
    """Count rows of the class, and other rows, at or above each score, from the highest score."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # last of equal scores
    true = np.cumsum(in_class[order], dtype=np.float64)[last]
    return true, last + 1 - true


class _CurvePlot(NamedTuple):
    """One of the two pictures of curves.

    Args:
        name: Name of the picture.
        title: Title of the picture.
        curve_name: Name of the curve in a sentence.
        area: Name of the area under the curve in a sentence.
        axes: Labels of the x and the y axis.
        curve: Computes the curve from scores (rows,) and from which rows are of the class (rows,).
        by_steps: Whether a value holds from its point back to the previous point.
    """

    name: str
    title: str
    curve_name: str
    area: str
    axes: tuple[str, str]
    curve: Callable[[Array, Array], ThresholdCurve]
    by_steps: bool = False

    def draw(self, axes: "Axes", curve: ThresholdCurve, **look: Any) -> None:
        """Draw a curve of at most `MOST_POINTS` points."""
        count = len(curve.x)
        points = np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).astype(np.int64))
        steps = "steps-pre" if self.by_steps else "default"
        axes.plot(curve.x[points], curve.y[points], drawstyle=steps, **look)

    def heights(self, curve: ThresholdCurve) -> Array:
        """Return the height of a curve at each position of the grid, (201,)."""
        if not self.by_steps:
            return np.asarray(np.interp(GRID, curve.x, curve.y))
        next_points = np.searchsorted(curve.x, GRID, side="left")
        return np.asarray(curve.y[np.minimum(next_points, len(curve.y) - 1)])


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


def _curves_by_class(plot: _CurvePlot, test: TestRows) -> dict[int, ThresholdCurve]:
    """Return the curves of the classes by index, the smallest area first.

    A class needs test rows in it and outside of it; a binary task has the positive class only. The
    result is empty if a probability is not finite.
    """
    if not np.isfinite(test.outputs).all():
        return {}
    columns = {1: test.outputs} if test.outputs.ndim == 1 else dict(enumerate(test.outputs.T))
    curves = {}
    for index, scores in columns.items():
        in_class = test.targets == index
        if in_class.any() and not in_class.all():
            curves[index] = plot.curve(scores, in_class)
    return dict(sorted(curves.items(), key=lambda item: item[1].area))


def _curve_words(plot: _CurvePlot, findings: Findings, curves: dict[int, ThresholdCurve]) -> str:
    if not curves:
        return f"No {plot.curve_name}."
    if findings.task == "binary":
        name = short(findings.classes[1])
        return f"The {plot.curve_name} of class {name}: {plot.area} {curves[1].area:.3f}."
    areas = [curve.area for curve in curves.values()]
    lowest = []
    for index in [*curves][:MOST_LISTED]:
        lowest.append(f"{short(findings.classes[index])} ({curves[index].area:.3f})")
    words = (
        f"The {plot.curve_name} of each class against the rest: "
        f"mean {plot.area} {np.mean(areas):.3f}, lowest: {', '.join(lowest)}"
    )
    absent = len(findings.classes) - len(curves)
    return f"{words}; classes without test rows: {absent}." if absent else f"{words}."


def _draw_curves(
    plot: _CurvePlot, findings: Findings, test: TestRows, curves: dict[int, ThresholdCurve]
) -> "Figure":
    if not np.isfinite(test.outputs).all():
        raise NotDrawnError("some probabilities are NaN or infinite")
    if not curves:
        name = short(findings.classes[int(test.targets[0])])
        raise NotDrawnError(f"all test rows are of class {name!r}")
    figure, grid = style.panels(height=4.4)
    axes = grid[0, 0]
    if findings.task == "binary":
        _draw_binary(axes, plot, findings, test, curves[1])
    else:
        _draw_several(axes, plot, findings.classes, curves)
    share = float(np.mean([(test.targets == index).mean() for index in curves]))
    chance = (share, share) if plot.by_steps else (0.0, 1.0)  # what a guess gives
    axes.plot((0, 1), chance, color=style.NAIVE, linestyle=":", linewidth=1.5, label="chance")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), xlabel=plot.axes[0], ylabel=plot.axes[1])
    style.below(figure, axes, columns=2)
    return figure


def _draw_binary(
    axes: "Axes", plot: _CurvePlot, findings: Findings, test: TestRows, curve: ThresholdCurve
) -> None:
    positive = test.targets == 1
    linear = test.baselines.get("linear")
    if linear is not None and np.isfinite(linear).all():
        line = plot.curve(linear, positive)
        name = f"linear: {line.area:.3f}"
        plot.draw(axes, line, color=style.LINEAR, linestyle="--", label=name)
    name = f"{label(findings.classes[1])}: {curve.area:.3f}"
    plot.draw(axes, curve, color=style.NETWORK, linewidth=2, label=name)
    flagged = test.outputs > findings.threshold
    recall = flagged[positive].mean()
    if plot.by_steps:
        precision = positive[flagged].mean() if flagged.any() else 1.0
        point = (recall, precision)
    else:
        point = (flagged[~positive].mean(), recall)
    name = f"threshold {findings.threshold:.3g}"
    axes.plot(*point, "o", color=style.NETWORK, ms=8, mec=style.foreground(), label=name)


def _draw_several(
    axes: "Axes", plot: _CurvePlot, classes: Sequence[str], curves: dict[int, ThresholdCurve]
) -> None:
    named = sorted(curves) if len(curves) <= NAMED else [*curves][:NAMED]
    for index in set(curves) - set(named):
        plot.draw(axes, curves[index], color=style.QUIET, linewidth=0.5, alpha=0.4)
    for order, index in enumerate(named):
        name = f"{label(classes[index])}: {curves[index].area:.3f}"
        plot.draw(axes, curves[index], **style.line_of(order), linewidth=1.3, label=name)
    height = np.mean([plot.heights(curve) for curve in curves.values()], axis=0)
    mean = np.mean([curve.area for curve in curves.values()])
    axes.plot(GRID, height, color=style.foreground(), linewidth=2.5, label=f"mean: {mean:.3f}")


# ── calibration ─────────────────────────────────────────────────────────────────────────────────


class Reliability(NamedTuple):
    """Mean probabilities and shares of right rows, in bins of equal width.

    For each non-empty bin, (bins,): `confidence` is the mean probability, `accuracy` the share of
    rows that were right, `counts` the number of rows.
    """

    confidence: Vector
    accuracy: Vector
    counts: Counts

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance over the rows (Naeini et al. 2015)."""
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.counts))

    @property
    def spread(self) -> tuple[Vector, Vector]:
        """Ends of Wilson's 95 % interval of each share, (bins,) and (bins,)."""
        z = 1.96
        rows = self.counts
        share = self.accuracy
        centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
        half = z * np.sqrt(share * (1 - share) / rows + (z / (2 * rows)) ** 2) / (1 + z**2 / rows)
        return centre - half, centre + half


def reliability(probabilities: Array, is_correct: Array, *, bins: int) -> Reliability:
    """Return the reliability of probabilities (rows,); `is_correct` is bool, (rows,)."""
    inner_edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    bin_of_row = np.searchsorted(inner_edges, probabilities)
    counts = np.bincount(bin_of_row, minlength=bins)
    probability_sums = np.bincount(bin_of_row, weights=probabilities, minlength=bins)
    correct_sums = np.bincount(bin_of_row, weights=is_correct, minlength=bins)
    used = counts > 0
    return Reliability(
        probability_sums[used] / counts[used], correct_sums[used] / counts[used], counts[used]
    )


def _calibration(findings: Findings, test: TestRows) -> Picture:
    """Return the picture of calibration, of the positive class or of the predicted class."""
    if test.outputs.ndim == 1:
        probabilities = test.outputs
        is_correct = test.targets == 1
        name = f"predicted probability of {short(findings.classes[1])}"
    else:
        probabilities = test.outputs.max(1)
        is_correct = test.outputs.argmax(1) == test.targets
        name = "probability of the predicted class"
    calibration = None
    words = "No calibration."
    if np.isfinite(probabilities).all():
        calibration = reliability(probabilities, is_correct, bins=BINS)
        words = (
            f"Calibration of the {name}: expected calibration error {calibration.error:.3f} "
            f"({len(probabilities):,} test rows, {BINS} bins)."
        )
    has_intervals = test.groups is None  # Wilson's intervals require independent rows
    draw = partial(_draw_calibration, calibration, probabilities, name, has_intervals=has_intervals)
    return Picture("classes/calibration", "Calibration", words, draw)


def _draw_calibration(
    calibration: Reliability | None, probabilities: Array, name: str, *, has_intervals: bool
) -> "Figure":
    if calibration is None:
        raise NotDrawnError("some probabilities are NaN or infinite")
    figure, axes = style.panels(2, 1, height=2.4, sharex=True, height_ratios=(3, 1))
    upper, lower = axes[:, 0]
    upper.plot((0, 1), (0, 1), color=style.NAIVE, linestyle=":", label="perfect calibration")
    low, high = calibration.spread
    ends = np.clip((calibration.accuracy - low, high - calibration.accuracy), 0, None)
    look: dict[str, Any] = {"color": style.NETWORK, "marker": "o", "ms": 5, "capsize": 3}
    look["label"] = "network, 95 % CI" if has_intervals else "network"
    yerr = ends if has_intervals else None
    upper.errorbar(calibration.confidence, calibration.accuracy, yerr=yerr, **look)
    upper.set(ylim=(-0.03, 1.03), ylabel="observed frequency")
    upper.set_title(f"expected calibration error {calibration.error:.3f}")
    lower.hist(probabilities, bins=np.linspace(0, 1, BINS + 1), color=style.NETWORK, rwidth=0.9)
    lower.set(ylabel="rows", xlim=(-0.02, 1.02), xlabel=label(name, 60))
    style.below(figure, upper, columns=2)
    return figure
