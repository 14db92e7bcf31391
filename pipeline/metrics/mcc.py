"""Matthews' correlation coefficient of true and predicted classes (Gorodkin 2004)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.metrics import Metric

if TYPE_CHECKING:
    from pipeline.metrics._rows import ClassCounts, Values


def score(rows: ClassCounts) -> Values:
    """Covariance of true and predicted classes over their spread; 0 if one does not vary."""
    from pipeline.metrics._rows import ratios

    total = rows.total.astype(float)
    calls = rows.calls.astype(float)
    members = rows.members.astype(float)
    covariance = rows.correct * total - (calls * members).sum(1)
    spread_of_calls = total**2 - (calls**2).sum(1)
    spread_of_members = total**2 - (members**2).sum(1)
    return ratios(covariance, (spread_of_calls * spread_of_members) ** 0.5)


METRIC = Metric(
    name="mcc",
    label="MCC",
    tasks=("binary", "multiclass"),
    better="max",
    bounds=(-1.0, 1.0),
    score=score,
    glossary="Matthews' correlation of true and predicted classes: 0 is chance, 1 is perfect",
    chinese="马修斯相关系数",
)
