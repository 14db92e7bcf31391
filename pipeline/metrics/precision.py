"""Precision of the positive class, or its mean over the classes: TP / (TP + FP)."""

from pipeline.metrics import Metric

METRIC = Metric(
    name="precision",
    label="precision",
    tasks=("binary", "multiclass"),
    better="max",
    bounds=(0.0, 1.0),
    score=lambda rows: rows.mean(rows.hits, rows.calls),
    glossary="of the rows predicted as a class, the share that belongs to it",
    chinese="精确率",
    order=2,
    is_main=True,
    is_share=True,
    proportion=lambda rows: rows.positive_share(rows.calls),
)
