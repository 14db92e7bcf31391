"""The mean of a series over its training part, which few forecasts should lose to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.scoring.baselines import BaselineKind, Prediction

if TYPE_CHECKING:
    from pipeline.data.preparation.prepare import Prepared


def predict(prepared: Prepared) -> Prediction | None:
    """Predict the mean of the training targets; after a difference, the mean change is added."""
    import torch

    schema = prepared.schema
    if schema.window is None or schema.task != "regression":
        return None
    test = prepared.test
    mean = prepared.train.targets.mean(0, keepdim=True, dtype=torch.float64)
    outputs = schema.to_units(mean.expand(len(test), -1), test.offsets)
    words = "training mean"
    if schema.difference is not None:
        words = f"value {schema.difference} steps before plus the mean change"
    return Prediction(words=words, outputs=outputs)


BASELINE = BaselineKind(
    name="mean",
    label="the mean of the training part",
    order=5,
    line=(0, (1, 4)),
    predict=predict,
    glossary="a baseline for a series: the mean of its training part; with `data.difference`, the "
    "past value plus the mean change",
    chinese="均值基线：训练部分的平均值",
)
