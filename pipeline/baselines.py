"""Naive and linear baselines: predictions for the test rows to compare a network's with.

The baselines are fitted on the training part alone. Their outputs have the form of a network's
final ones: probabilities (rows,) of the positive class or (rows, classes), or values
(rows, outputs) in the target's units.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.data.content import Part
from pipeline.data.prepare import Prepared
from pipeline.data.schema import Schema
from pipeline.data.source import Array
from pipeline.importance import evenly_spaced

OPERATIONS_PER_SECOND = 10**9  # of one slow core; a bound in operations gives equal results
ITERATIONS = 200  # of the logistic regression, at most
ROWS_AT_ONCE = 1_000
FEWEST_ROWS = 100  # a fit on fewer of the available rows is not informative


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Baseline:
    """Predictions for the test part, (rows,), (rows, classes) or (rows, outputs), by name."""

    name: str
    outputs: Tensor


def naive(prepared: Prepared) -> Baseline:
    """Predict without the inputs: the classes' shares, the mean, or a past value of a series."""
    schema, train, test = prepared.schema, prepared.train, prepared.test
    if schema.task != "regression":
        counts = torch.bincount(train.targets, minlength=len(schema.classes))
        shares = counts / counts.sum()
        is_binary = schema.task == "binary"
        outputs = shares[1].expand(len(test)) if is_binary else shares.expand(len(test), -1)
        return Baseline(name="majority class", outputs=outputs)
    if test.offsets is not None:
        return Baseline(name=f"value {schema.difference} steps before", outputs=test.offsets)
    if schema.window is not None:
        columns = [schema.features.index(name) for name in schema.targets]
        last = torch.cat([block[:, -1, columns] for block in test.blocks()])  # (rows, targets)
        repeated = schema.to_units(last.repeat(1, schema.horizon), None)
        return Baseline(name="last value", outputs=repeated)
    mean = train.targets.mean(0, keepdim=True, dtype=torch.float64)
    return Baseline(name="training mean", outputs=schema.to_units(mean, None).expand(len(test), -1))


def linear(prepared: Prepared, *, max_rows: int, max_seconds: float) -> Baseline | None:
    """Predict by logistic regression, ridge regression or, for a series, least squares on its lags.

    Args:
        prepared: The data in its parts.
        max_rows: Training rows to fit on; where there are more, evenly spaced ones are taken.
        max_seconds: Time for the fit, as operations of a slow core, so that it gives equal results.

    Returns:
        The baseline. Its name states the number of rows if it was fitted on only some of them.
        `None` = the limits leave too few rows, or the training rows hold a single class.
    """
    schema, available = prepared.schema, len(prepared.train)
    operations, features = int(max_seconds * OPERATIONS_PER_SECOND), math.prod(schema.input_shape)
    cost = 4 * features * schema.outputs * ITERATIONS  # of a row
    if schema.task == "regression":
        operations, cost = operations - features**3, features**2
    rows = min(available, max_rows, max(0, operations // cost))
    if rows < min(available, FEWEST_ROWS):
        return None
    chosen = evenly_spaced(available, rows)
    inputs = np.empty((rows, features))
    for start in range(0, rows, ROWS_AT_ONCE):  # a few at a time to save memory
        some = chosen[start : start + ROWS_AT_ONCE]
        inputs[start : start + len(some)] = _design(prepared.train.take(some))
    fit = _regression if schema.task == "regression" else _logistic
    baseline = fit(inputs, prepared.train.targets[chosen].numpy(), prepared)
    if baseline is None or rows == available:
        return baseline
    return replace(baseline, name=f"{baseline.name} on {rows:,} of {available:,} rows")


def _logistic(inputs: Array, targets: Array, prepared: Prepared) -> Baseline | None:
    if len(np.unique(targets)) < 2:
        return None
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    scaler = _scaler(inputs, prepared.schema)
    model = make_pipeline(scaler, LogisticRegression(max_iter=ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs, targets)
    probabilities = torch.zeros(len(prepared.test), len(prepared.schema.classes))
    probabilities[:, model.classes_] = _predicted(model.predict_proba, prepared.test).float()
    return Baseline(
        name="logistic regression",
        outputs=probabilities[:, 1] if prepared.schema.task == "binary" else probabilities,
    )


def _regression(inputs: Array, targets: Array, prepared: Prepared) -> Baseline:
    schema, test = prepared.schema, prepared.test
    if schema.window is not None:
        name = f"least squares on {schema.window} steps"
        weights = np.linalg.lstsq(_with_one(inputs), targets, rcond=None)[0]
        values = _predicted(lambda block: _with_one(block) @ weights, test)
    else:
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline

        name = "ridge regression"
        model = make_pipeline(_scaler(inputs, schema), Ridge()).fit(inputs, targets)
        values = _predicted(model.predict, test).reshape(len(test), -1)
    return Baseline(name=name, outputs=schema.to_units(values, test.offsets))


def _scaler(inputs: Array, schema: Schema) -> Any:
    """Return a transformer that scales each column by itself, or all pixels of images together."""
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    if schema.kind != "images":
        return StandardScaler(copy=False)
    # A pixel that is blank in most images would get huge values in the others.
    mean, deviation = float(inputs.mean()), float(inputs.std()) or 1.0
    return FunctionTransformer(lambda design: (design - mean) / deviation)


def _design(inputs: Tensor) -> Array:
    design: Array = inputs.flatten(1).double().numpy()  # (rows, features)
    return design


def _with_one(design: Array) -> Array:
    return np.column_stack([design, np.ones(len(design))])


def _predicted(predict: Callable[[Array], Array], part: Part) -> Tensor:
    return torch.cat([torch.from_numpy(predict(_design(block))) for block in part.blocks()])
