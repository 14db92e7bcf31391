"""Root mean squared error over all outputs."""

from math import inf, sqrt

from pipeline.metrics import Metric

METRIC = Metric(
    name="rmse",
    label="RMSE",
    tasks=("regression",),
    better="min",
    bounds=(0.0, inf),
    score=lambda rows: rows.mean(rows.errors**2) ** 0.5,
    row_terms=lambda rows: ((rows.errors**2).mean(1), None),
    from_mean=sqrt,
    glossary="root mean squared error, in the target's units",
    chinese="均方根误差",
    order=6,
    is_main=True,
    rank=1,
)
