"""F1 of the positive class, or its mean over the classes: 2 TP / (2 TP + FP + FN)."""

from pipeline.metrics import Metric

METRIC = Metric(
    name="f1",
    label="F1",
    tasks=("binary", "multiclass"),
    better="max",
    bounds=(0.0, 1.0),
    score=lambda rows: rows.mean(2 * rows.hits, rows.calls + rows.members),
    glossary="harmonic mean of precision and recall",
    chinese="F1",
    order=4,
    is_main=True,
    rank=1,
    is_share=True,
)
