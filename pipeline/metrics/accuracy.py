"""Accuracy: the share of rows whose predicted class is right."""

from pipeline.metrics import Metric

METRIC = Metric(
    name="accuracy",
    label="accuracy",
    tasks=("binary", "multiclass"),
    better="max",
    bounds=(0.0, 1.0),
    score=lambda rows: rows.ratio(rows.correct, rows.total),
    glossary="share of rows whose predicted class is right",
    chinese="准确率",
    order=1,
    is_main=True,
    rank=2,
    is_share=True,
    proportion=lambda rows: (rows.correct, rows.total),
)
