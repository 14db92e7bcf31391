"""What a user may bring along to a sweep: trials that behave in every way a trial may."""

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback

from pipeline.data.iris import Iris
from pipeline.data.source import Samples


def wait(name: str) -> None:
    """Tell the test that a place is reached, and stay there until it says to go on."""
    Path(f"{name}-{os.getpid()}").touch()
    while not Path("go on").exists():
        time.sleep(0.01)


def stay(name: str) -> None:
    """Wait, and mind no signal, unless there is a file `hear`."""
    while not (Path("go on").exists() or Path("hear").exists()):
        try:
            wait(name)
        except BaseException:
            Path("deaf").touch()


class Behave(Callback):
    """Lets trials behave in one way each in their second epoch.

    Args:
        how: `train`, `wait`, `poison`, `infinite`, `oom`, `memory`, `allocate`, `error`, `die` or
            `deaf`.
        rates: The learning rates of the trials that behave so, where not all do.
        delay: Seconds that each epoch takes longer.
    """

    def __init__(self, how: list[str], rates: list[float] | None = None, delay: float = 0) -> None:
        self._how = how
        self._rates = rates
        self._delay = delay

    def on_train_epoch_start(self, trainer: Any, _: Any) -> None:
        time.sleep(self._delay)
        if trainer.current_epoch == 1:
            _behave(self._way(trainer))

    def on_train_batch_start(self, trainer: Any, _: Any, batch: Any, *__: Any) -> None:
        if self._way(trainer) == "poison" and trainer.current_epoch == 1:
            batch[0][0, 0] = float("nan")

    def on_train_epoch_end(self, trainer: Any, _: Any) -> None:
        if self._way(trainer) == "infinite":
            trainer.callback_metrics["val/f1"] = torch.tensor(float("inf"))

    def _way(self, trainer: Any) -> str:
        if self._rates is None:
            return self._how[0]
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        return dict(zip(self._rates, self._how, strict=True)).get(rate, "train")


def _behave(how: str) -> None:
    match how:
        case "wait":
            wait("waiting")
        case "oom":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        case "memory":
            raise MemoryError
        case "allocate":
            _allocate_beyond_the_limit()
        case "error":
            raise RuntimeError("the reader\nhas lost its place")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "deaf":
            stay("waiting")


def _allocate_beyond_the_limit() -> None:
    size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size * resource.getpagesize() + 2**29, hard))
    torch.empty(2**32)


class SlowIris(Iris):
    """The irises, which the workers alone wait for; the driver reads them at once."""

    def read(self) -> Samples:
        if Path("armed").exists():
            wait("reading")
        return super().read()
