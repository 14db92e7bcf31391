"""The process that fits baselines while a network trains.

`python -m pipeline.scoring.fitting_process` is that process. Importing scikit-learn takes most of a
second, so it begins with that, before the data are known. The rows come in a file without a name,
which does not outlive the processes.
"""

import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.base.processes.child import (
    Child,
    ChildEndedError,
    ChildGoneError,
    Message,
    python_module,
)
from pipeline.base.processes.parent import Parent
from pipeline.scoring.baselines import all_baselines

Array = NDArray[Any]

#: Longest wait for a fit, in seconds: ten times what the limits of a fit allow on a slow core.
PATIENCE = 200.0


class FitTimeoutError(Exception):
    """A fit has not ended in time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """The fit of a baseline.

    Args:
        name: Name of the baseline.
        inputs: Training rows, (rows, columns).
        targets: Their classes, int64 (rows,), or values, (rows, outputs).
        tests: Blocks of test rows, each (rows, columns).
        options: Further arguments of the baseline's `fit`, as plain values.
    """

    name: str
    inputs: Array
    targets: Array
    tests: Iterable[Array]
    options: Mapping[str, Any]

    def outputs(self) -> Array:
        """Fit, and return what is predicted for the test rows, float64 (rows, outputs).

        One thread computes, so that the result does not depend on the number of cores, and since
        the threads of a linear algebra library slow each other down where other processes work.
        """
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # brings none

        fit = all_baselines()[self.name].fit
        assert fit is not None
        with threadpool_limits(1):
            return fit(self.inputs, self.targets, self.tests, **self.options)


class FittingProcess:
    """A process that fits baselines. A context manager: the process does not outlive it.

    If it can't be started, or dies, `outputs` is `None`, and the caller fits.
    """

    def __init__(self) -> None:
        self._child = Child(python_module("pipeline.scoring.fitting_process"))
        self._names: list[str] = []
        self._outputs: dict[int, Array] = {}
        self._is_late = False

    def __enter__(self) -> Self:
        with suppress(OSError):  # no process can be started
            self._child.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close(0.0)

    def begin(self, fits: Sequence[Fit]) -> None:
        """Begin fits, one after the other, without waiting for them; a process takes them once."""
        if not self._child.is_open or self._names or not fits:
            return
        with suppress(OSError), tempfile.TemporaryFile(buffering=0) as file:  # there may be no room
            for fit in fits:
                arrays = [fit.inputs, fit.targets, *fit.tests]
                order = {"name": fit.name, "arrays": len(arrays), "options": dict(fit.options)}
                np.save(file, np.frombuffer(json.dumps(order).encode(), dtype=np.uint8))
                for array in arrays:
                    np.save(file, array)
            self._child.send_descriptor({"fits": len(fits)}, file.fileno())
            self._names = [fit.name for fit in fits]

    def outputs(self, name: str) -> Array | None:
        """Wait for a fit that was begun and return its outputs; `None` if there are none.

        Raises:
            FitTimeoutError: It, or one before it, has not ended in time. The process is closed.
        """
        if name not in self._names:
            return None
        number = 1 + self._names.index(name)
        if number not in self._outputs and self._child.is_open:
            try:
                self._keep(self._child.answer(number, PATIENCE, others=self._keep))
            except ChildEndedError:
                return None
            except ChildGoneError:
                self._is_late = True
        if number not in self._outputs and self._is_late:
            raise FitTimeoutError(f"no result within {PATIENCE:.0f} s")
        return self._outputs.get(number)

    def _keep(self, message: Message) -> None:
        self._outputs[message["id"]] = np.array(message["outputs"])


def main() -> None:
    """Fit the baselines that the parent asks for."""
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # the run decides when to stop
    parent = Parent.claim()
    import sklearn.linear_model  # noqa: F401 # takes most of a second, before the data are known

    message, descriptor = parent.first_descriptor()
    parent.listen()
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)  # the parent has written up to its end
        fits = [_read_fit(file) for _ in range(message["fits"])]
    # The parent reads the first outputs at the end of the training, and the pipe holds only a few.
    speakers = []
    for number, fit in enumerate(fits, start=1):
        answer = {"id": number, "outputs": fit.outputs().tolist()}
        speaker = threading.Thread(target=parent.say, args=(answer,), daemon=True)
        speaker.start()
        speakers.append(speaker)
    for speaker in speakers:
        speaker.join()
    os._exit(0)


def _read_fit(file: Any) -> Fit:
    order = json.loads(np.load(file).tobytes())
    inputs, targets, *tests = [np.load(file) for _ in range(order["arrays"])]
    return Fit(
        name=order["name"], inputs=inputs, targets=targets, tests=tests, options=order["options"]
    )


if __name__ == "__main__":
    main()
