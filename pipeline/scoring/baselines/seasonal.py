"""The seasonal baseline: the value one season before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.scoring.baselines import BaselineKind, Prediction

if TYPE_CHECKING:
    from pipeline.data.preparation.prepare import Prepared


def predict(prepared: Prepared) -> Prediction | None:
    """Predict the value one season before; `None` if the times of the data have no season."""
    from pipeline.data.parsing.times import season_of

    values = prepared.test.seasonal
    season = season_of(prepared.schema.reading)
    if values is None or values.isnan().any():
        return None
    return Prediction(words=f"value {season} steps before", outputs=values)


BASELINE = BaselineKind(
    name="seasonal",
    label="the value one season before",
    order=4,
    line="-.",
    predict=predict,
    glossary="a baseline for a series with dates that has no `data.difference` of a season: the "
    "value one season before",
    chinese="季节朴素基线：上一季同期的值",
)
