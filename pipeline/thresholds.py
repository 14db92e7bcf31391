"""The probability above which a binary task calls a row positive, found on validation rows."""

import re
from dataclasses import dataclass

import numpy as np
from torch import Tensor

BEST_F1 = "best_f1"
_RECALL = re.compile(r"recall_at_(?P<least>0?\.\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundThreshold:
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


def find_threshold(rule: str, probabilities: Tensor, targets: Tensor) -> FoundThreshold:
    """Apply a rule to rows whose class is known.

    The thresholds that are tried are the midpoints between neighbouring probabilities, in float32,
    so that a comparison of float32 values with them comes to the same wherever it is made.

    Args:
        rule: `best_f1`: the threshold with the highest F1, of equals the nearest to 0.5.
            `recall_at_0.9`: the highest threshold at which at least this share of the positive
            rows is found.
        probabilities: Of the positive class, float32 (rows,).
        targets: Classes, 0 or 1, (rows,); at least one row is positive.
    """
    scores, positive = probabilities.cpu().numpy(), targets.cpu().numpy() == 1
    order = np.argsort(-scores, kind="stable")
    upper = np.unique(scores)[::-1]
    lower = np.append(upper[1:], np.float32(0))  # half the lowest score calls every row
    middle = (upper + lower) / np.float32(2)
    # Between two float32 that touch there is no third, and the lower one does the same.
    thresholds = np.where(middle < upper, middle, lower)
    called = np.searchsorted(-scores[order], -thresholds)  # rows strictly above
    hits = np.append(0, np.cumsum(positive[order]))[called]
    if rule == BEST_F1:
        values = 2 * hits / (called + positive.sum())  # 2 TP / (2 TP + FP + FN)
        best = np.flatnonzero(values == values.max())
        index = int(best[np.argmin(np.abs(thresholds[best] - 0.5))])
    else:
        match = _RECALL.fullmatch(rule)
        assert match is not None, rule
        values = hits / positive.sum()
        enough = np.flatnonzero(values >= float(match["least"]))
        # A score of exactly 0 lies above no threshold: the lowest one comes nearest then.
        index = int(enough[0]) if len(enough) else len(values) - 1
    return FoundThreshold(
        threshold=float(thresholds[index]),
        metric="f1" if rule == BEST_F1 else "recall",
        reached=float(values[index]),
        rows=len(targets),
    )
