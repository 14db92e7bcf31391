"""Precision of the positive class, or its mean over the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.metrics import Metric

if TYPE_CHECKING:
    from pipeline.metrics._rows import ClassRows, Values


def score(rows: ClassRows) -> Values:
    """TP / (TP + FP)."""
    return rows.mean(rows.hits, rows.calls)


METRIC = Metric(
    name="precision",
    label="precision",
    tasks=("binary", "multiclass"),
    better="max",
    bounds=(0.0, 1.0),
    score=score,
    glossary="of the rows predicted as a class, the share that belongs to it",
    chinese="精确率",
    order=2,
    is_main=True,
    is_share=True,
)
