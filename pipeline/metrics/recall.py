"""Recall of the positive class, or its mean over the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.metrics import Metric

if TYPE_CHECKING:
    from pipeline.metrics._rows import ClassRows, Values


def score(rows: ClassRows) -> Values:
    """TP / (TP + FN)."""
    return rows.mean(rows.hits, rows.members)


METRIC = Metric(
    name="recall",
    label="recall",
    tasks=("binary", "multiclass"),
    better="max",
    bounds=(0.0, 1.0),
    score=score,
    glossary=(
        "of the rows of a class, the share that was predicted as it; of the positive class also "
        "sensitivity or true positive rate (TPR)"
    ),
    chinese="召回率，也叫灵敏度、真正例率（TPR）",
    order=3,
    is_main=True,
    is_share=True,
)
