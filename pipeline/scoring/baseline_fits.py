"""What the baselines predict for the test rows; fits run in another process where they can."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.base.errors import named
from pipeline.base.processes.child import MAX_BYTES
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.prepare import Prepared
from pipeline.scoring.baselines import FitPlan, Limits, Prediction, all_baselines
from pipeline.scoring.fitting_process import Fit, FitTimeoutError, FittingProcess

ROWS_AT_ONCE = 1_000
OUTPUT_BYTES = 32  # of a number in the answer of another process, at most


def predictions(
    prepared: Prepared,
    *,
    names: Sequence[str] | None,
    class_weights: Sequence[float] | None,
    limits: Limits,
    process: FittingProcess | None = None,
) -> Mapping[str, Prediction]:
    """Return what each baseline that the data have predicts, by name, in the order of tables.

    Args:
        prepared: The data in its parts.
        names: Names of the baselines; `None` = all.
        class_weights: Weight of the rows of each class in a fit; `None` = equal weights.
        limits: How much a fit may cost.
        process: A process in which `begin_fits` may have begun the fits; `None` = none has.
    """
    results = {}
    for name, kind in all_baselines().items():
        if names is not None and name not in names:
            continue
        prediction = None
        if kind.predict is not None:
            prediction = kind.predict(prepared)
        elif kind.plan is not None:
            plan = kind.plan(prepared, class_weights, limits)
            if isinstance(plan, str):
                prediction = Prediction(words=f"not fitted: {plan}")
            elif plan is not None:
                prediction = _fitted(prepared, name, plan, process)
        if prediction is not None:
            results[name] = prediction
    return results


def begin_fits(
    prepared: Prepared,
    *,
    names: Sequence[str] | None,
    class_weights: Sequence[float] | None,
    limits: Limits,
    process: FittingProcess,
) -> None:
    """Begin the fits of `predictions` in another process, if their rows are few and in memory."""
    schema = prepared.schema
    train = prepared.train
    test = prepared.test
    is_in_memory = isinstance(train.inputs, Tensor) and isinstance(test.inputs, Tensor)
    if not is_in_memory or not len(test):
        return
    fits = []
    for name, kind in all_baselines().items():
        if kind.plan is None or (names is not None and name not in names):
            continue
        plan = kind.plan(prepared, class_weights, limits)
        if not isinstance(plan, FitPlan):
            continue
        # The rows are copied, and the answer is one message.
        row = 4 * math.prod(schema.input_shape) + OUTPUT_BYTES * max(schema.outputs, 2)
        if (len(plan.rows) + len(test)) * row <= MAX_BYTES:
            fits.append(_fit(prepared, name, plan))
    process.begin(fits)


def _fitted(
    prepared: Prepared, name: str, plan: FitPlan, process: FittingProcess | None
) -> Prediction:
    """Return what a fit predicts. What goes wrong in it is no reason to lose the run's result."""
    schema = prepared.schema
    try:
        outputs = None if process is None else process.outputs(name)
        if outputs is None:
            outputs = _fit(prepared, name, plan).outputs()
    except (FitTimeoutError, ValueError, MemoryError) as error:
        reason = str(error) if isinstance(error, FitTimeoutError) else named(error)
        return Prediction(words=f"not fitted: {reason}")
    words = plan.words
    if len(plan.rows) < len(prepared.train):
        words = f"{words} on {len(plan.rows):,} of {len(prepared.train):,} rows"
    values = torch.from_numpy(outputs)
    if schema.task == "regression":
        return Prediction(words=words, outputs=schema.to_units(values, prepared.test.offsets))
    values = values.float()
    return Prediction(words=words, outputs=values[:, 1] if schema.task == "binary" else values)


def _fit(prepared: Prepared, name: str, plan: FitPlan) -> Fit:
    train = prepared.train
    inputs = []
    for positions in torch.split(plan.rows, ROWS_AT_ONCE):
        inputs.append(_inputs(train, positions, of_cells=plan.of_cells))
    return Fit(
        name=name,
        inputs=np.concatenate(inputs),
        targets=train.targets[plan.rows].numpy(),
        tests=_test_blocks(prepared.test, of_cells=plan.of_cells),
        options=plan.options,
    )


def _inputs(part: Part, positions: Tensor, *, of_cells: bool) -> np.ndarray[Any, Any]:
    """Return some rows as (rows, columns): raw cells, or what the network gets."""
    if of_cells and part.cells is not None:
        return part.cells.take_raw(positions)
    return part.take(positions).flatten(1).numpy()


def _test_blocks(part: Part, *, of_cells: bool) -> Iterator[np.ndarray[Any, Any]]:
    if not of_cells:
        for block in part.blocks():
            yield block.flatten(1).numpy()
        return
    for positions in torch.split(torch.arange(len(part)), ROWS_AT_ONCE):
        yield _inputs(part, positions, of_cells=True)
