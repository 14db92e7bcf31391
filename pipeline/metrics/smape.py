"""Symmetric mean absolute percentage error (Makridakis 1993)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.metrics import Metric

if TYPE_CHECKING:
    from pipeline.metrics._rows import ScoredValues, Values


def score(rows: ScoredValues) -> Values:
    """Average 2 |error| / (|prediction| + |target|), where 0/0 is 0."""
    from pipeline.metrics._rows import ratios

    return rows.mean(ratios(2 * abs(rows.errors), abs(rows.values) + abs(rows.targets)))


METRIC = Metric(
    name="smape",
    label="sMAPE",
    tasks=("regression",),
    better="min",
    bounds=(0.0, 2.0),
    score=score,
    glossary=(
        "symmetric mean absolute percentage error, as a share: the error over the mean size of "
        "prediction and target, between 0 and 2"
    ),
    chinese="对称平均绝对百分比误差",
)
