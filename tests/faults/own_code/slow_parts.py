"""What a user may bring along, made to stop at one place until a test goes on."""

import logging
import os
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from pytorch_lightning import Callback

from pipeline.data.iris import Iris
from pipeline.data.source import Samples


def pause() -> None:
    """Tell the test that the place is reached, and stay there until it says to go on."""
    Path("paused").touch()
    while not Path("go on").exists():
        time.sleep(0.01)


class SlowIris(Iris):
    """The irises, from a source that never comes to its end."""

    def read(self) -> Samples:
        pause()
        return super().read()


class Pause(Callback):
    """Stays in one hook of Lightning's.

    Args:
        hook: Its name.
    """

    def __init__(self, hook: str) -> None:
        setattr(self, hook, lambda *_: pause())


class SlowEnd(Callback):
    """Takes its time when training is stopped."""

    def on_exception(self, *_: Any) -> None:
        """Stay here."""
        pause()


class SlowThread(Callback):
    """Stays where the thread that syncs checkpoints has just begun."""

    def on_train_start(self, *_: Any) -> None:
        """Replace the method that starts a thread."""
        start = threading.Thread.start

        def start_and_pause(thread: threading.Thread) -> None:
            start(thread)
            if thread.name.startswith("checkpoint"):
                pause()

        patch.object(threading.Thread, "start", start_and_pause).start()


class Swallow(Callback):
    """Waits in its first epoch for whatever comes, and thinks nothing of it."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        """Swallow even what ends the program."""
        if trainer.global_step == 1:
            try:
                pause()
            except BaseException:
                return


class ClockStep(Callback):
    """Lets the clock of this process step in the second epoch.

    Args:
        hours: How far; negative = back.
    """

    def __init__(self, hours: int) -> None:
        self._seconds = 3600 * hours

    def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
        """Step."""
        if trainer.current_epoch == 1:
            seconds, wall, wall_ns = self._seconds, time.time, time.time_ns
            time.time = lambda: wall() + seconds
            time.time_ns = lambda: wall_ns() + seconds * 10**9


class SteepFrom(Callback):
    """Makes the learning rate a million from an epoch on, counted from 1."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
        """Set it."""
        if trainer.current_epoch + 1 >= self._epoch:
            trainer.optimizers[0].param_groups[0]["lr"] = 1e6


class RuinLastStep(Callback):
    """Makes one weight infinite after the last step of an epoch, counted from 1."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Ruin it."""
        if trainer.current_epoch + 1 == self._epoch:
            with torch.no_grad():
                next(pl_module.parameters()).view(-1)[0] = float("inf")


class IrisWithHole(Iris):
    """The irises with one value missing."""

    def read(self) -> Samples:
        """Read the table and make the hole."""
        samples = super().read()
        assert isinstance(samples.inputs, np.ndarray)
        inputs = samples.inputs.astype("float64")
        inputs[17, 2] = float("nan")
        return replace(samples, inputs=inputs)


class Values(Callback):
    """Takes a long text and many numbers, and does nothing with them."""

    def __init__(self, text: str, many: dict[str, int]) -> None:
        self.taken = text, many


class Talkative(Callback):
    """Says a password of the environment, and raises an error that quotes it."""

    def on_train_start(self, *_: Any) -> None:
        """Say it."""
        words = f"the password is {os.environ['DB_PASSWORD']}"
        logging.getLogger("my.library").warning(words)
        warnings.warn(words, stacklevel=1)
        raise ValueError(words)
