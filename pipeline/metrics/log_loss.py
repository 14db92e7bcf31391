"""Log loss, the cross-entropy of the predicted probabilities."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from pipeline.metrics import Metric

if TYPE_CHECKING:
    from pipeline.metrics._rows import ClassCounts, Values

#: Probabilities are at least this far from 0 and 1, as in scikit-learn: the precision of float32.
LEAST = 2.0**-23


def score(rows: ClassCounts) -> Values:
    """Average the negative logarithm of the probability of each row's true class."""
    import numpy as np

    if rows.is_binary:
        chances = np.where(rows.targets == 1, rows.outputs, 1 - rows.outputs)
    else:
        chances = np.take_along_axis(rows.outputs, rows.targets[:, None], axis=1)[:, 0]
    clipped = chances.astype(np.float64).clip(LEAST, 1 - LEAST)
    return rows.row_mean(-np.log(clipped))


METRIC = Metric(
    name="log_loss",
    label="log loss",
    tasks=("binary", "multiclass"),
    better="min",
    bounds=(0.0, inf),
    score=score,
    glossary="mean negative logarithm of the probability that is predicted for the true class",
    chinese="对数损失",
)
