"""Time of a fit with the doctor's watch over the weights, beside the same fit without it.

    python -m benchmarks.diagnosis_cost [--rounds 5] [--epochs 60]

The watch is on in every other epoch of a run, so that whatever else the machine does meets both
sides alike. An epoch's time is all that happens in it, by the wall clock and by the processor's,
which other programs disturb less. Nobody can ask for a fit without the watch: here it is cut out
of the clipping, whose norms it keeps.
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from pytorch_lightning import Callback

from benchmarks.clock import EpochClock
from benchmarks.step_time import COMMON, WINDOWS
from pipeline.callbacks.vital_signs import VitalSigns
from pipeline.config.compose import compose
from pipeline.modules.epoch import WeightWatch
from pipeline.run import run

BOUND = 1.05
WARM_UP = 4  # epochs that are not counted
CASES: dict[str, Sequence[str]] = {
    "MLP 64-128-64 on MNIST-1D": ("model=mlp", "data.batch_size=100"),
    "LSTM(50) on windows": WINDOWS,
}
ALTERNATING = "+callbacks.alternating._target_=benchmarks.diagnosis_cost.EveryOtherEpoch"


class EveryOtherEpoch(Callback):
    """Leaves out what the diagnosis adds to a fit, in every epoch with an odd index."""

    def __init__(self) -> None:
        self._without = contextlib.ExitStack()

    def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
        """Take the watch away, or give it back."""
        self._without.close()
        if trainer.current_epoch % 2:
            enter = self._without.enter_context
            enter(patch.object(WeightWatch, "see", lambda *_: None))
            enter(patch.object(WeightWatch, "take", lambda *_: None))
            enter(patch.object(VitalSigns, "on_train_epoch_end", lambda *_: None))

    def on_train_end(self, *_: Any) -> None:
        """Give it back."""
        self._without.close()


def laps(words: Sequence[str], epochs: int) -> list[list[float]]:
    """Train, and return the seconds of each epoch by the wall and by the processor's clock."""
    run(compose([*words, *COMMON, ALTERNATING, "tracking=none", f"trainer.max_epochs={epochs}"]))
    clocks = (EpochClock.laps.wall, EpochClock.laps.cpu)
    return [[after - before for before, after in pairwise(moments)] for moments in clocks]


def main() -> None:
    """Print a line a case and clock."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    for name, words in CASES.items():
        rounds = [laps(words, arguments.epochs) for _ in range(arguments.rounds)]
        for index, clock in enumerate(("wall", "cpu")):
            sides = [
                [lap for one in rounds for lap in one[index][WARM_UP + odd :: 2]] for odd in (0, 1)
            ]
            on, off = map(median, sides)
            print(
                f"{name} {clock:4}: {1000 * on:.2f} ms an epoch with the watch, "
                f"{1000 * off:.2f} without, ratio {on / off:.3f}; bound {BOUND}",
                flush=True,
            )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PIPELINE_PICTURES"] = "0"
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(Path(folder)):
        main()
