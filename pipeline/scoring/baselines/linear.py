"""The linear baseline: logistic regression, ridge regression, or least squares on the lags."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pipeline.scoring.baselines import BaselineKind, FitPlan, Limits
from pipeline.scoring.baselines._rows import chosen_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.data.preparation.prepare import Prepared

    Array = NDArray[Any]
    Predict = Callable[[Array], Array]

Method = Literal["logistic regression", "ridge regression", "least squares"]

ITERATIONS = 200  # of the logistic regression, at most


def plan(
    prepared: Prepared, class_weights: Sequence[float] | None, limits: Limits
) -> FitPlan | str | None:
    """Plan the fit; its words state the number of rows if it is fitted on only some of them."""
    schema = prepared.schema
    features = math.prod(schema.input_shape)
    if schema.task == "regression":
        method = "ridge regression" if schema.window is None else "least squares"
        rows = chosen_rows(prepared, limits, fixed=features**3, of_a_row=features**2)
    else:
        method = "logistic regression"
        cost = 4 * features * schema.outputs * ITERATIONS
        rows = chosen_rows(prepared, limits, fixed=0, of_a_row=cost)
    if isinstance(rows, str):
        return rows
    return FitPlan(
        words=f"{method} on {schema.window} steps" if method == "least squares" else method,
        rows=rows,
        options={
            "method": method,
            "classes": len(schema.classes),
            "class_weights": class_weights,
            "scales_all": schema.kind == "images" or schema.reading.get("dtype") == "uint8",
        },
    )


def fit(
    inputs: Array,
    targets: Array,
    tests: Iterable[Array],
    *,
    method: Method,
    classes: int,
    class_weights: Sequence[float] | None,
    scales_all: bool,
) -> Array:
    """Fit a linear model and return what it predicts for the test rows, float64 (rows, outputs).

    Args:
        inputs: Training rows, (rows, features).
        targets: Their classes, int64 (rows,), or values, (rows, outputs).
        tests: Blocks of test rows, each (rows, features).
        method: What is fitted.
        classes: Number of classes, which are the columns of the probabilities; 0 = values.
        class_weights: Weight of the rows of each class; `None` = equal weights.
        scales_all: Whether all columns have one scale, like pixels, instead of one each.
    """
    import numpy as np

    design = inputs.astype(np.float64)
    if method == "least squares":
        predict = _least_squares(design, targets)
    else:
        predict = _regression(
            design, targets, classes=classes, class_weights=class_weights, scales_all=scales_all
        )
    outputs = []
    for block in tests:
        outputs.append(predict(block.astype(np.float64)).reshape(len(block), -1))
    return np.concatenate(outputs)


def _least_squares(design: Array, targets: Array) -> Predict:
    import numpy as np

    design = np.column_stack([design, np.ones(len(design))])
    weights = np.linalg.lstsq(design, targets, rcond=None)[0]
    return lambda inputs: np.column_stack([inputs, np.ones(len(inputs))]) @ weights


def _regression(
    design: Array,
    targets: Array,
    *,
    classes: int,
    class_weights: Sequence[float] | None,
    scales_all: bool,
) -> Predict:
    import warnings

    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    scaler: Any = StandardScaler(copy=False)
    if scales_all:  # a pixel that is blank in most images would get huge values in the others
        mean = float(design.mean())
        deviation = float(design.std()) or 1.0
        scaler = FunctionTransformer(lambda inputs: (inputs - mean) / deviation)
    weights = None if class_weights is None else dict(enumerate(class_weights))
    logistic = LogisticRegression(max_iter=ITERATIONS, class_weight=weights)
    model = make_pipeline(scaler, logistic if classes else Ridge())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(design, targets)

    def probabilities(inputs: Array) -> Array:
        values = np.zeros((len(inputs), classes))
        values[:, model.classes_] = model.predict_proba(inputs)
        return values

    return probabilities if classes else model.predict


BASELINE = BaselineKind(
    name="linear",
    label="the linear model",
    order=2,
    line="--",
    plan=plan,
    fit=fit,
    glossary="a linear baseline: logistic or ridge regression on the same rows",
    chinese="线性基线：逻辑回归或岭回归",
)
