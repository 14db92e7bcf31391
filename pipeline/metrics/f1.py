"""F1 of the positive class, or the mean of the classes' F1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.metrics import Metric

if TYPE_CHECKING:
    from pipeline.metrics._rows import ClassRows, Values


def score(rows: ClassRows) -> Values:
    """2 TP / (2 TP + FP + FN)."""
    return rows.mean(2 * rows.hits, rows.calls + rows.members)


METRIC = Metric(
    name="f1",
    label="F1",
    tasks=("binary", "multiclass"),
    better="max",
    bounds=(0.0, 1.0),
    score=score,
    glossary="harmonic mean of precision and recall",
    chinese="F1",
    order=4,
    is_main=True,
    rank=1,
    is_share=True,
)
