"""The naive baseline: a prediction without the inputs, or the last value of a series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.scoring.baselines import BaselineKind, Prediction

if TYPE_CHECKING:
    from pipeline.data.preparation.prepare import Prepared


def predict(prepared: Prepared) -> Prediction:
    """Predict the classes' shares, the mean, or a past value of a series."""
    import torch

    schema = prepared.schema
    train = prepared.train
    test = prepared.test
    if schema.task != "regression":
        counts = torch.bincount(train.targets, minlength=len(schema.classes))
        shares = counts / counts.sum()
        is_binary = schema.task == "binary"
        outputs = shares[1].expand(len(test)) if is_binary else shares.expand(len(test), -1)
        return Prediction(words="majority class", outputs=outputs)
    if test.offsets is not None:
        return Prediction(words=f"value {schema.difference} steps before", outputs=test.offsets)
    if schema.window is not None:
        columns = [schema.features.index(name) for name in schema.targets]
        last = torch.cat([block[:, -1, columns] for block in test.blocks()])  # (rows, targets)
        repeated = schema.to_units(last.repeat(1, schema.horizon), None)
        return Prediction(words="last value", outputs=repeated)
    mean = train.targets.mean(0, keepdim=True, dtype=torch.float64)
    outputs = schema.to_units(mean, None).expand(len(test), -1)
    return Prediction(words="training mean", outputs=outputs)


BASELINE = BaselineKind(
    name="naive",
    label="the naive prediction",
    order=1,
    line=":",
    predict=predict,
    glossary="a baseline that ignores the inputs: the majority class, the mean, or the last value "
    "of a series",
    chinese="朴素基线：总是预测样本最多的那一类、平均值或上一个值",
)
