"""Area under the ROC curve, averaged over the classes for which it is defined.

A pair of a row of the class and another row counts 1 if the former has the higher score, and half
if both have the same (Hanley and McNeil 1982).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.metrics import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.metrics._rows import ClassCounts, Values


def score(rows: ClassCounts) -> Values:
    """Return the mean area of each draw; a binary task has the area of its positive class."""
    import numpy as np

    from pipeline.metrics._rows import class_mean, count_classes

    outputs = rows.outputs[:, None] if rows.is_binary else rows.outputs
    first_class = int(rows.is_binary)
    if rows.weights is None:
        area = _area(outputs, rows.targets - first_class)
        return np.array([area], dtype=rows.precision)
    areas = np.stack(
        [
            _weighted_area(rows.weights, column, rows.targets == number)
            for number, column in enumerate(outputs.T, start=first_class)
        ],
        axis=1,
    )
    is_defined = ~np.isnan(areas)
    return class_mean(np.where(is_defined, areas, 0.0), count_classes(is_defined, np.float64))


def _area(probabilities: NDArray[np.float32], columns: NDArray[np.int64]) -> float:
    """Return the mean area of all rows, once each.

    Args:
        probabilities: Probabilities of some classes, (rows, classes), in [0, 1].
        columns: Column of each row's class, (rows,); rows with a negative one belong to none.
    """
    import numpy as np

    scores = _ordered_integers(probabilities)
    rows, classes = scores.shape
    # The scores of all classes lie behind each other, those of a class after 2**32 times its index,
    # so that one search finds the ranks of all rows in the scores of their classes.
    after = np.arange(classes) << 32
    ordered = (np.sort(scores.T, axis=1) + after[:, None]).ravel()
    has_column = columns >= 0
    columns = columns[has_column]
    searched = np.sort(scores[has_column, columns] + after[columns])
    ranks = np.searchsorted(ordered, searched, side="left")
    ranks += np.searchsorted(ordered, searched, side="right")
    columns = searched >> 32
    positives = np.bincount(columns, minlength=classes)
    sums = np.bincount(columns, weights=ranks - 2 * rows * columns, minlength=classes)
    pairs = positives * (rows - positives)
    is_defined = pairs > 0
    areas = (sums - positives**2)[is_defined] / (2 * pairs[is_defined])
    return float(areas.mean()) if len(areas) else np.nan


def _ordered_integers(probabilities: NDArray[Any]) -> NDArray[np.int32]:
    """Return integers >= 0 that are ordered as numbers >= 0 are; those of NaN are the largest.

    The bits of such a number are such an integer, except for the sign of NaN or zero.
    """
    import numpy as np

    bits = probabilities.astype(np.float32, copy=False).view(np.int32)
    return bits & np.int32(2**31 - 1)


def _weighted_area(weights: Values, scores: Values, positive: NDArray[np.bool_]) -> Values:
    """Return the area under the ROC curve of each draw; NaN if a draw has rows of one kind only."""
    import numpy as np

    from pipeline.metrics._rows import ratios

    order = np.argsort(scores, kind="stable")
    ordered = weights[:, order]
    levels = np.unique(scores[order], return_inverse=True)[1]
    ups = ordered * positive[order]
    downs = ordered - ups
    starts = np.flatnonzero(np.diff(levels, prepend=-1))
    if len(starts) < len(levels):  # rows with one score are one level
        ups = np.add.reduceat(ups, starts, axis=1)
        downs = np.add.reduceat(downs, starts, axis=1)
    below = np.cumsum(downs, axis=1)
    pairs = ups.sum(1) * below[:, -1]
    below -= downs / 2
    return ratios(np.einsum("dl,dl->d", ups, below), pairs, empty=np.nan)


METRIC = Metric(
    name="auroc",
    label="AUROC",
    tasks=("binary", "multiclass"),
    better="max",
    bounds=(0.0, 1.0),
    score=score,
    glossary="area under the ROC curve: 0.5 is chance, 1 is perfect",
    chinese="ROC 曲线下面积",
    order=5,
    is_main=True,
    ranks_rows=True,
)
