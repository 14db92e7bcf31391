"""The fit of the linear baseline, and the process that makes it while a network trains.

`python -m pipeline.linear_fit` is that process. Importing scikit-learn takes most of a second, so
it begins with that, before the data are known. Arrays go both ways through a file that loses its
name as soon as it is read, so that it does not outlive the processes.
"""

import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.processes.child import Child, ChildGoneError, Parent, python_module

Array = NDArray[Any]
Method = Literal["logistic regression", "ridge regression", "least squares"]
Predict = Callable[[Array], Array]

ITERATIONS = 200  # of the logistic regression, at most
#: Longest wait for the fit, in seconds; after it, it is made here.
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
        found = [predict(block.astype(np.float64)) for block in tests]
    return np.concatenate([block.reshape(len(block), -1) for block in found])


def _least_squares(design: Array, targets: Array) -> Predict:
    def with_one(inputs: Array) -> Array:
        return np.column_stack([inputs, np.ones(len(inputs))])

    weights = np.linalg.lstsq(with_one(design), targets, rcond=None)[0]
    return lambda inputs: with_one(inputs) @ weights


def _regression(design: Array, targets: Array, *, classes: int, scales_all: bool) -> Predict:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    scaler: Any = StandardScaler(copy=False)
    if scales_all:  # a pixel that is blank in most images would get huge values in the others
        mean, deviation = float(design.mean()), float(design.std()) or 1.0
        scaler = FunctionTransformer(lambda inputs: (inputs - mean) / deviation)
    model = make_pipeline(scaler, LogisticRegression(max_iter=ITERATIONS) if classes else Ridge())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(design, targets)

    def probabilities(inputs: Array) -> Array:
        found = np.zeros((len(inputs), classes))
        found[:, model.classes_] = model.predict_proba(inputs)
        return found

    return probabilities if classes else model.predict


class FittingProcess:
    """A process that fits one linear baseline. A context manager: the process does not outlive it.

    What fails here costs only time: `predictions` is then `None`, and the caller fits.
    """

    def __init__(self) -> None:
        self._child = Child(python_module("pipeline.linear_fit"))
        self._path = ""
        self._file: BinaryIO | None = None
        self._has_begun = False

    def __enter__(self) -> Self:
        with suppress(OSError):  # no process can be started
            self._child.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close(0.0)
        if self._file is not None:
            self._file.close()
            Path(self._path).unlink(missing_ok=True)

    def begin(
        self, inputs: Array, targets: Array, tests: Sequence[Array], **how: str | int
    ) -> None:
        """Begin the fit of `predictions`, whose arguments these are, without waiting for it."""
        if not self._child.is_open:
            return
        with suppress(OSError):  # no room for the file
            number, self._path = tempfile.mkstemp(prefix="pipeline-")
            self._file = file = os.fdopen(number, "w+b")
            for array in (inputs, targets, np.concatenate(tests)):
                np.save(file, array)
            file.flush()
            self._child.send({"id": 1, "file": self._path, "block": len(tests[0]), **how})
            self._has_begun = True

    def predictions(self) -> Array | None:
        """Wait for the fit that was begun and return its predictions; `None` if there are none."""
        if self._file is None or not self._has_begun:
            return None
        with suppress(ChildGoneError, OSError, ValueError):
            self._child.answer(1, PATIENCE)
            self._file.seek(0)
            found: Array = np.load(self._file)
            return found
        return None


def main() -> None:
    """Fit one linear baseline."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the run decides when to stop
    parent = Parent.claim()
    import sklearn.linear_model  # noqa: F401 # takes most of a second, before the data are known

    order = parent.first_message()
    parent.listen()
    path = Path(order["file"])
    with path.open("r+b") as file:
        path.unlink()
        inputs, targets, tests = (np.load(file) for _ in range(3))
        found = predictions(inputs, targets, _blocks(tests, order), **_how(order))
        file.seek(0)
        np.save(file, found)
    parent.say({"id": 1})
    os._exit(0)


def _blocks(tests: Array, order: Mapping[str, Any]) -> Iterator[Array]:
    """Yield the blocks that the rows came in: the last bits of a row may depend on its block."""
    for start in range(0, len(tests), order["block"]):
        yield tests[start : start + order["block"]]


def _how(order: Mapping[str, Any]) -> dict[str, Any]:
    return {name: order[name] for name in ("method", "classes", "scales_all")}


if __name__ == "__main__":
    main()
