"""Where a binary task draws its line: the threshold that a rule finds on validation rows."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

BEST_F1 = "best_f1"
_RECALL = re.compile(r"recall_at_(?P<least>0?\.\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A threshold that a rule has found.

    Args:
        threshold: Probability above which a row counts as positive.
        metric: What the rule looks at, f1 or recall.
        reached: Its value on the rows that were looked at.
        rows: How many those were.
    """

    threshold: float
    metric: str
    reached: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """Every way to tell rows apart by a threshold, the highest threshold first.

    Args:
        thresholds: Midpoints between neighbouring scores, float32 (cuts,), so that a comparison
            of float32 scores with them comes to the same wherever it is made.
        hits: Positive rows above each, (cuts,).
        called: Rows above each, (cuts,).
        positives: Positive rows in all.
    """

    thresholds: NDArray[np.float32]
    hits: NDArray[np.int64]
    called: NDArray[np.int64]
    positives: int

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the positive rows above each threshold."""
        return np.asarray(self.hits / self.positives)

    @property
    def f1(self) -> NDArray[np.float64]:
        """2 TP / (2 TP + FP + FN) at each threshold."""
        return np.asarray(2 * self.hits / (self.called + self.positives))


def find_threshold(rule: str, probabilities: Tensor, targets: Tensor) -> Found:
    """Apply a rule to rows whose class is known.

    Args:
        rule: `best_f1`: the threshold with the highest F1, of equals the nearest to 0.5.
            `recall_at_0.9`: the highest threshold at which at least this share of the positive
            rows is found.
        probabilities: Of the positive class, float32 (rows,).
        targets: Classes, 0 or 1, (rows,); at least one row is positive.
    """
    cuts = cuts_between(probabilities.cpu().numpy(), targets.cpu().numpy() == 1)
    is_f1 = rule == BEST_F1
    values = cuts.f1 if is_f1 else cuts.recall
    index = _best(cuts) if is_f1 else _highest(cuts, least_recall(rule))
    return Found(
        threshold=float(cuts.thresholds[index]),
        metric="f1" if is_f1 else "recall",
        reached=float(values[index]),
        rows=len(targets),
    )


def least_recall(rule: str) -> float:
    """Return the recall that `recall_at_0.9` asks for."""
    match = _RECALL.fullmatch(rule)
    assert match is not None, rule
    return float(match["least"])


def cuts_between(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> Cuts:
    """List the thresholds at which something changes.

    Args:
        scores: (rows,), 0 to 1.
        positive: Which rows are positive, (rows,).
    """
    order = np.argsort(-scores, kind="stable")
    upper = np.unique(scores)[::-1]
    lower = np.append(upper[1:], np.float32(0))  # half the lowest score calls every row
    middle = (upper + lower) / np.float32(2)
    # Between two float32 that touch there is no third, and the lower one does the same.
    thresholds = np.where(middle < upper, middle, lower)
    called = np.searchsorted(-scores[order], -thresholds)  # rows strictly above
    hits = np.append(0, np.cumsum(positive[order]))[called]
    return Cuts(thresholds=thresholds, hits=hits, called=called, positives=int(positive.sum()))


def _best(cuts: Cuts) -> int:
    best = np.flatnonzero(cuts.f1 == cuts.f1.max())
    return int(best[np.argmin(np.abs(cuts.thresholds[best] - 0.5))])


def _highest(cuts: Cuts, least: float) -> int:
    enough = np.flatnonzero(cuts.recall >= least)
    # A score of exactly 0 lies above no threshold: the lowest one comes nearest then.
    return int(enough[0]) if len(enough) else len(cuts.recall) - 1
