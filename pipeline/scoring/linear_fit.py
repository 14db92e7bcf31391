"""The fit of the linear baseline, and the process that makes it while a network trains.

`python -m pipeline.scoring.linear_fit` is that process. Importing scikit-learn takes most of a
second, so it begins with that, before the data are known. The rows come in a file without a name,
which does not outlive the processes.
"""

import os
import signal
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.base.processes.child import Child, ChildGoneError, python_module
from pipeline.base.processes.parent import Parent

Array = NDArray[Any]
Method = Literal["logistic regression", "ridge regression", "least squares"]
Predict = Callable[[Array], Array]

ITERATIONS = 200  # of the logistic regression, at most
#: Longest wait for the fit, in seconds; after that, the caller fits.
PATIENCE = 300.0


def predictions(
    inputs: Array,
    targets: Array,
    tests: Iterable[Array],
    *,
    method: Method,
    classes: int,
    scales_all: bool,
) -> Array:
    """Fit a linear model and return what it predicts for the test rows, float64 (rows, outputs).

    One thread computes, so that the result does not depend on the number of cores, and since the
    threads of a linear algebra library slow each other down where other processes work.

    Args:
        inputs: Training rows, (rows, features).
        targets: Their classes, int64 (rows,), or values, (rows, outputs).
        tests: Blocks of test rows, each (rows, features).
        method: What is fitted.
        classes: Number of classes, which are the columns of the probabilities; 0 = values.
        scales_all: Whether all columns have one scale, like pixels, instead of one each.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it brings none

    with threadpool_limits(1, user_api="blas"):
        design = inputs.astype(np.float64)
        if method == "least squares":
            predict = _least_squares(design, targets)
        else:
            predict = _regression(design, targets, classes=classes, scales_all=scales_all)
        outputs = []
        for block in tests:
            outputs.append(predict(block.astype(np.float64)).reshape(len(block), -1))
    return np.concatenate(outputs)


def _least_squares(design: Array, targets: Array) -> Predict:
    design = np.column_stack([design, np.ones(len(design))])
    weights = np.linalg.lstsq(design, targets, rcond=None)[0]
    return lambda inputs: np.column_stack([inputs, np.ones(len(inputs))]) @ weights


def _regression(design: Array, targets: Array, *, classes: int, scales_all: bool) -> Predict:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    scaler: Any = StandardScaler(copy=False)
    if scales_all:  # a pixel that is blank in most images would get huge values in the others
        mean = float(design.mean())
        deviation = float(design.std()) or 1.0
        scaler = FunctionTransformer(lambda inputs: (inputs - mean) / deviation)
    model = make_pipeline(scaler, LogisticRegression(max_iter=ITERATIONS) if classes else Ridge())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(design, targets)

    def probabilities(inputs: Array) -> Array:
        values = np.zeros((len(inputs), classes))
        values[:, model.classes_] = model.predict_proba(inputs)
        return values

    return probabilities if classes else model.predict


class FittingProcess:
    """A process that fits one linear baseline. A context manager: the process does not outlive it.

    What fails here costs only time: `predictions` is then `None`, and the caller fits.
    """

    def __init__(self) -> None:
        self._child = Child(python_module("pipeline.scoring.linear_fit"))
        self._has_begun = False

    def __enter__(self) -> Self:
        with suppress(OSError):  # no process can be started
            self._child.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close(0.0)

    def begin(self, *arrays: Array, **options: str | int) -> None:
        """Begin the fit of `predictions` without waiting for it.

        Args:
            arrays: Its inputs and targets, then its blocks of test rows.
            options: Its other arguments.
        """
        if not self._child.is_open:
            return
        with suppress(OSError), tempfile.TemporaryFile(buffering=0) as file:  # there may be no room
            for array in arrays:
                np.save(file, array)
            self._child.send_descriptor({"arrays": len(arrays), **options}, file.fileno())
            self._has_begun = True

    def predictions(self) -> Array | None:
        """Wait for the fit that was begun and return its predictions; `None` if there are none."""
        with suppress(ChildGoneError):
            if self._has_begun:
                return np.array(self._child.answer(1, PATIENCE)["outputs"])
        return None


def main() -> None:
    """Fit one linear baseline."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the run decides when to stop
    parent = Parent.claim()
    import sklearn.linear_model  # noqa: F401 # takes most of a second, before the data are known

    order, descriptor = parent.first_descriptor()
    parent.listen()
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)  # the parent has written up to its end
        inputs, targets, *tests = (np.load(file) for _ in range(order.pop("arrays")))
    parent.say({"id": 1, "outputs": predictions(inputs, targets, tests, **order).tolist()})
    os._exit(0)


if __name__ == "__main__":
    main()
