"""Wall and processor time of each epoch, whatever happens in it."""

from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from time import perf_counter, process_time
from typing import Any, ClassVar

from pytorch_lightning import Callback


@dataclass
class Laps:
    """Moments at the start of each epoch, and at the end of the last."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def mark(self) -> None:
        """Note this moment."""
        self.wall.append(perf_counter())
        self.cpu.append(process_time())

    def seconds(self) -> tuple[float, float]:
        """Median wall and processor seconds of an epoch, the first left out."""
        return _median_lap(self.wall), _median_lap(self.cpu)


def _median_lap(moments: list[float]) -> float:
    return median(after - before for before, after in pairwise(moments[1:]))


class EpochClock(Callback):
    """Marks the start of each epoch: validation, metrics and checkpoint all lie in between."""

    laps: ClassVar[Laps] = Laps()

    def on_train_start(self, *_: Any) -> None:
        """Begin anew."""
        EpochClock.laps = Laps()

    def on_train_epoch_start(self, *_: Any) -> None:
        """Mark the epoch's start."""
        EpochClock.laps.mark()

    def on_train_end(self, *_: Any) -> None:
        """Mark the end of the last."""
        EpochClock.laps.mark()
