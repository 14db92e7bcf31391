"""Curves of a class against all others, over every threshold that its probability may have."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.findings.records import Array

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """A curve and what lies below it.

    Args:
        x: (points,).
        y: (points,).
        area: Below it; of precision and recall the average precision.
    """

    x: Vector
    y: Vector
    area: float


def roc(scores: Array, own: Array) -> Curve:
    """Return the true positive rate over the false positive rate.

    Args:
        scores: Probability of the class, (rows,).
        own: Whether a row is of the class, bool (rows,); some are and some are not.
    """
    true, false = _counts(scores, own)
    x = np.concatenate([[0.0], false / false[-1]])
    y = np.concatenate([[0.0], true / true[-1]])
    return Curve(x=x, y=y, area=float(np.trapezoid(y, x)))


def precision_recall(scores: Array, own: Array) -> Curve:
    """Return the precision over the recall, from the highest threshold to the lowest.

    The area is the average precision, a sum of rectangles: straight lines between the points
    would promise what no threshold gives (Davis and Goadrich 2006).

    Args:
        scores: Probability of the class, (rows,).
        own: Whether a row is of the class, bool (rows,); some are.
    """
    true, false = _counts(scores, own)
    recall = np.concatenate([[0.0], true / true[-1]])
    precision = np.concatenate([[1.0], true / (true + false)])
    return Curve(x=recall, y=precision, area=float(np.sum(np.diff(recall) * precision[1:])))


def _counts(scores: Array, own: Array) -> tuple[Vector, Vector]:
    """Count the rows of the class, and the others, at or above each score, from the highest."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of equal scores
    true = np.cumsum(own[order], dtype=np.float64)[last]
    return true, last + 1 - true
