"""Mean absolute error over all outputs."""

from math import inf

from pipeline.metrics import Metric

METRIC = Metric(
    name="mae",
    label="MAE",
    tasks=("regression",),
    better="min",
    bounds=(0.0, inf),
    score=lambda rows: rows.mean(abs(rows.errors)),
    row_terms=lambda rows: (abs(rows.errors).mean(1), None),
    glossary="mean absolute error, in the target's units",
    chinese="平均绝对误差",
    order=7,
    is_main=True,
)
