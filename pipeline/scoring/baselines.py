"""Naive and linear baselines: predictions for the test rows to compare a network's with.

The baselines are fitted on the training part alone. Their outputs have the form of a network's
final ones: probabilities (rows,) of the positive class or (rows, classes), or values
(rows, outputs) in the target's units.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.base.processes.child import MAX_BYTES
from pipeline.data.parsing.times import season_of
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.prepare import Prepared
from pipeline.scoring.importance import evenly_spaced
from pipeline.scoring.linear_fit import ITERATIONS, FittingProcess, predictions

OPERATIONS_PER_SECOND = 10**9  # of one slow core; a bound in operations gives equal results
ROWS_AT_ONCE = 1_000
OUTPUT_BYTES = 32  # of a number in the answer of another process, at most
FEWEST_ROWS = 100  # a fit on fewer of the available rows is not informative


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Baseline:
    """Predictions for the test part, (rows,), (rows, classes) or (rows, outputs), by name."""

    name: str
    outputs: Tensor


@dataclass(frozen=True, slots=True)
class Limits:
    """What the fit of a linear baseline may cost.

    `rows` is the largest number of training rows; where there are more, evenly spaced ones are
    taken. `seconds` is the time, as operations of a slow core, so that it gives equal results.
    """

    rows: int
    seconds: float


def naive(prepared: Prepared) -> Baseline:
    """Predict without the inputs: the classes' shares, the mean, or a past value of a series."""
    schema = prepared.schema
    train = prepared.train
    test = prepared.test
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


def seasonal(prepared: Prepared) -> Baseline | None:
    """Predict the value one season before; `None` if the times of the data have no season."""
    values = prepared.test.seasonal
    season = season_of(prepared.schema.reading)
    if values is None or values.isnan().any():
        return None
    return Baseline(name=f"value {season} steps before", outputs=values)


def linear(
    prepared: Prepared, *, limits: Limits, process: FittingProcess | None = None
) -> Baseline | None:
    """Predict by logistic regression, ridge regression or, for a series, least squares on its lags.

    Args:
        prepared: The data in its parts.
        limits: How much the fit may cost.
        process: A process in which `begin_linear` may have begun the fit; `None` = none has.

    Returns:
        The baseline. Its name states the number of rows if it was fitted on only some of them.
        `None` = the limits leave too few rows, or the training rows hold a single class.
    """
    schema = prepared.schema
    available = len(prepared.train)
    chosen = _chosen(prepared, limits)
    if chosen is None:
        return None
    fitted = None if process is None else process.predictions()
    options = _fit_options(prepared)
    if fitted is None:
        blocks = (block.flatten(1).numpy() for block in prepared.test.blocks())
        fitted = predictions(*_training_rows(prepared.train, chosen), blocks, **options)
    name = options["method"]
    values = torch.from_numpy(fitted)
    if schema.window is not None and schema.task == "regression":
        name = f"{name} on {schema.window} steps"
    if len(chosen) < available:
        name = f"{name} on {len(chosen):,} of {available:,} rows"
    if schema.task == "regression":
        return Baseline(name=name, outputs=schema.to_units(values, prepared.test.offsets))
    outputs = values.float()
    if schema.task == "binary":
        outputs = outputs[:, 1]
    return Baseline(name=name, outputs=outputs)


def begin_linear(prepared: Prepared, *, limits: Limits, process: FittingProcess) -> None:
    """Begin to fit the linear baseline in another process, if the rows are few and in memory."""
    schema = prepared.schema
    train = prepared.train
    test = prepared.test
    is_in_memory = isinstance(train.inputs, Tensor) and isinstance(test.inputs, Tensor)
    if not is_in_memory or not len(test):
        return
    chosen = _chosen(prepared, limits)
    if chosen is None:
        return
    # The rows are copied, and the answer is one message.
    row = 4 * math.prod(schema.input_shape) + OUTPUT_BYTES * max(schema.outputs, 2)
    if (len(chosen) + len(test)) * row <= MAX_BYTES:
        tests = (block.flatten(1).numpy() for block in test.blocks())
        process.begin(*_training_rows(train, chosen), *tests, **_fit_options(prepared))


def _chosen(prepared: Prepared, limits: Limits) -> Tensor | None:
    """Return the training rows that are fitted; `None` if there are too few, or of one class."""
    schema = prepared.schema
    available = len(prepared.train)
    operations = int(limits.seconds * OPERATIONS_PER_SECOND)
    features = math.prod(schema.input_shape)
    cost = 4 * features * schema.outputs * ITERATIONS  # of a row
    if schema.task == "regression":
        operations -= features**3
        cost = features**2
    rows = min(available, limits.rows, max(0, operations // cost))
    if rows < min(available, FEWEST_ROWS) or not available:
        return None
    chosen = evenly_spaced(available, rows)
    targets = prepared.train.targets[chosen]
    if schema.task != "regression" and bool((targets == targets[0]).all()):
        return None
    return chosen


def _training_rows(train: Part, chosen: Tensor) -> tuple[Any, Any]:
    """Return inputs, float32 (rows, features), and targets of some training rows."""
    pieces = []
    for positions in torch.split(chosen, ROWS_AT_ONCE):
        pieces.append(train.take(positions).flatten(1).numpy())
    return np.concatenate(pieces), train.targets[chosen].numpy()


def _fit_options(prepared: Prepared) -> dict[str, Any]:
    schema = prepared.schema
    method = "ridge regression" if schema.window is None else "least squares"
    return {
        "method": method if schema.task == "regression" else "logistic regression",
        "classes": len(schema.classes),
        "scales_all": schema.kind == "images" or schema.reading.get("dtype") == "uint8",
    }
