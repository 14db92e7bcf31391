"""Recall of the positive class, or its mean over the classes: TP / (TP + FN)."""

from pipeline.metrics import Metric

METRIC = Metric(
    name="recall",
    label="recall",
    tasks=("binary", "multiclass"),
    better="max",
    bounds=(0.0, 1.0),
    score=lambda rows: rows.mean(rows.hits, rows.members),
    glossary=(
        "of the rows of a class, the share that was predicted as it; of the positive class also "
        "sensitivity or true positive rate (TPR)"
    ),
    chinese="召回率，也叫灵敏度、真正例率（TPR）",
    order=3,
    is_main=True,
    is_share=True,
    proportion=lambda rows: rows.positive_share(rows.members),
)
