"""Root mean squared error over all outputs."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from pipeline.metrics import Metric

if TYPE_CHECKING:
    from pipeline.metrics._rows import ValueRows, Values


def score(rows: ValueRows) -> Values:
    """Root of the mean of all squared errors."""
    root: Values = rows.mean(rows.errors**2) ** 0.5
    return root


METRIC = Metric(
    name="rmse",
    label="RMSE",
    tasks=("regression",),
    better="min",
    bounds=(0.0, inf),
    score=score,
    glossary="root mean squared error, in the target's units",
    chinese="均方根误差",
    order=6,
    is_main=True,
    rank=1,
)
