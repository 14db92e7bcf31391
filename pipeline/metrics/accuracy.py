"""Share of rows whose predicted class is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.metrics import Metric

if TYPE_CHECKING:
    from pipeline.metrics._rows import ClassRows, Values


def score(rows: ClassRows) -> Values:
    """Divide the right rows by all rows."""
    return rows.ratio(rows.right, rows.total)


METRIC = Metric(
    name="accuracy",
    label="accuracy",
    tasks=("binary", "multiclass"),
    better="max",
    bounds=(0.0, 1.0),
    score=score,
    glossary="share of rows whose predicted class is right",
    chinese="准确率",
    order=1,
    is_main=True,
    rank=2,
    is_share=True,
)
