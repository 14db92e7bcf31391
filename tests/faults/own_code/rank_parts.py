"""Callbacks that tests hand to runs on several devices."""

import os
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class SeenRows(Callback):
    """Writes down which rows each rank trains on, by their first value."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Append a line for the step."""
        del pl_module, outputs, batch_idx
        values = batch[0].flatten(1)[:, 0].tolist()
        with Path(f"seen-{trainer.current_epoch}-{trainer.global_rank}").open("a") as file:
            file.write(" ".join(f"{value:.6f}" for value in values) + "\n")


class Raises(Callback):
    """Fails on one rank."""

    def __init__(self, rank: int = 1, epoch: int = 1) -> None:
        self._rank, self._epoch = rank, epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fail in the epoch that was chosen, counted from 1."""
        del pl_module
        if trainer.global_rank == self._rank and trainer.current_epoch + 1 == self._epoch:
            raise MemoryError("no room here")


class Processes(Callback):
    """Writes down the process of each rank in each training."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Append the process id."""
        del pl_module
        with Path(f"processes-{trainer.global_rank}").open("a") as file:
            file.write(f"{os.getpid()}\n")
