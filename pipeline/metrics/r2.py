"""R², the explained share of the targets' variance, averaged over the outputs."""

from __future__ import annotations

from math import inf, nan
from typing import TYPE_CHECKING

from pipeline.metrics import Metric

if TYPE_CHECKING:
    from pipeline.metrics._rows import ScoredValues, Values


def score(rows: ScoredValues) -> Values:
    """1 − Σ error² / Σ (target − mean)²; NaN if the targets of an output do not vary."""
    from pipeline.metrics._rows import ratios

    unexplained = ratios(rows.total(rows.errors**2), rows.spread, empty=nan)
    means: Values = (1 - unexplained).mean(1)
    return means


def row_terms(rows: ScoredValues) -> tuple[Values, Values] | None:
    """Squared errors and squared distances of the targets from their mean, both (rows,).

    Each output counts as much as in the score, so that the quotient of the means is 1 − R². There
    are none if the targets of an output do not vary, or if no row has an error.
    """
    errors = rows.errors**2
    if not rows.spread.all() or not errors.any():
        return None
    variances = rows.spread / len(rows.targets)
    unexplained = errors.mean(0) / variances
    distances = (rows.targets - rows.targets.mean(0)) ** 2 / variances
    parts: Values = (errors / variances).mean(1)
    return parts, (distances * unexplained).mean(1) / unexplained.mean()


METRIC = Metric(
    name="r2",
    label="R²",
    tasks=("regression",),
    better="max",
    bounds=(-inf, 1.0),
    score=score,
    row_terms=row_terms,
    from_mean=lambda unexplained: 1 - unexplained,
    glossary="share of the target's variance that is explained; 0 is predicting the mean",
    chinese="决定系数",
    order=8,
    is_main=True,
    has_interval_in_time=False,
)
