"""Balanced accuracy, the mean recall of the classes (Brodersen et al. 2010)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.metrics import Metric

if TYPE_CHECKING:
    from pipeline.metrics._rows import ClassCounts, Values


def score(rows: ClassCounts) -> Values:
    """Average TP / (TP + FN) over the classes that have rows, both of a binary task."""
    from pipeline.metrics._rows import class_mean, count_classes

    recalls = rows.ratio(rows.hits, rows.members)
    return class_mean(recalls, count_classes(rows.members, rows.precision))


METRIC = Metric(
    name="balanced_accuracy",
    label="balanced accuracy",
    tasks=("binary", "multiclass"),
    better="max",
    bounds=(0.0, 1.0),
    score=score,
    glossary="mean of the recalls of all classes; with two classes, too, it counts both",
    chinese="平衡准确率",
    is_share=True,
)
