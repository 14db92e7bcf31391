"""Root mean squared error over all outputs."""

from math import inf

from pipeline.metrics import Metric

METRIC = Metric(
    name="rmse",
    label="RMSE",
    tasks=("regression",),
    better="min",
    bounds=(0.0, inf),
    score=lambda rows: rows.mean(rows.errors**2) ** 0.5,
    glossary="root mean squared error, in the target's units",
    chinese="均方根误差",
    order=6,
    is_main=True,
    rank=1,
)
