"""Mean absolute error over all outputs."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from pipeline.metrics import Metric

if TYPE_CHECKING:
    from pipeline.metrics._rows import ValueRows, Values


def score(rows: ValueRows) -> Values:
    """Mean of the errors' sizes."""
    return rows.mean(abs(rows.errors))


METRIC = Metric(
    name="mae",
    label="MAE",
    tasks=("regression",),
    better="min",
    bounds=(0.0, inf),
    score=score,
    glossary="mean absolute error, in the target's units",
    chinese="平均绝对误差",
    order=7,
    is_main=True,
)
