"""Keeps the weights of the best and of the last epoch, with all that going on needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from pipeline.callbacks.checkpoint_file import read_checkpoint
from pipeline.callbacks.checkpoint_io import AS_WELL, AtomicCheckpointIO, let_be_the_same
from pipeline.callbacks.generators import generator_states, restore_generators
from pipeline.callbacks.keeper import Keeper
from pipeline.metrics import Direction
from pipeline.signals import stop

SHORT_SECONDS = 1.0
"""An epoch that took longer is on the disk before the next begins."""


class Checkpoints(Keeper):
    """Writes `last.ckpt` after each epoch and `best.ckpt` whenever `monitor` was never better.

    That of a short epoch reaches the disk while the next one runs.

    Args:
        folder: Where the two files lie.
        monitor: Metric that decides; `None` = only the last epoch is kept.
        facts: Plain values that travel in the checkpoint: the config, the data's schema.
        better: Whether a larger or a smaller value of the metric is better.
        adopts: Whether the checkpoint to begin with is another run's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        monitor: str | None,
        facts: Mapping[str, Any],
        better: Direction,
        adopts: bool = False,
    ) -> None:
        super().__init__(monitor=monitor, facts=facts, better=better)
        self._folder = folder
        self._writer = AtomicCheckpointIO(adopts=adopts)
        self._states: dict[str, Any] | None = None

    @property
    def writer(self) -> AtomicCheckpointIO:
        """What writes the files."""
        return self._writer

    @property
    def last_path(self) -> Path:
        """Checkpoint of the newest finished epoch."""
        return self._folder / "last.ckpt"

    @property
    def best_path(self) -> Path:
        """Checkpoint of the best epoch."""
        return self._folder / "best.ckpt"

    def best_weights(self) -> Mapping[str, Any] | None:
        """Read the weights of the best epoch; `None` where the last ones count."""
        if self._monitor is None or not self.best_path.exists():
            return None
        weights: Mapping[str, Any] = read_checkpoint(self.best_path)["state_dict"]
        return weights

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the folder."""
        del pl_module
        if stage == "fit" and trainer.is_global_zero:
            self._folder.mkdir(parents=True, exist_ok=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the generators back where the interrupted run left them.

        Building the network and restoring its weights has drawn numbers since.
        """
        del pl_module
        if self._states is not None:
            restore_generators(self._states)
            self._states = None
            self._mend_best(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's checkpoint, after validation and all that was logged.

        Raises:
            DivergedError: A weight is no number any more; the epochs before stay as they are.
            Interrupted: A stop was asked for, and something on the way has swallowed it.
        """
        super().on_train_epoch_end(trainer, pl_module)
        as_well = {AS_WELL: self.best_path} if self.is_best(trainer) else None
        trainer.save_checkpoint(self.last_path, weights_only=False, storage_options=as_well)
        if float(trainer.callback_metrics["time/epoch"]) > SHORT_SECONDS:
            self._writer.finish()
        stop.check()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the last checkpoint to be on the disk."""
        del trainer, pl_module
        self._writer.finish()

    def _mend_best(self, trainer: pl.Trainer) -> None:
        """Let the best checkpoint be the newest where a kill came between writing the two."""
        goes_on_from_last = str(trainer.ckpt_path) == str(self.last_path)
        if (
            trainer.is_global_zero
            and goes_on_from_last
            and self.best_epoch == trainer.current_epoch
        ):
            let_be_the_same(self.last_path, self.best_path)

    def state_dict(self) -> dict[str, Any]:
        """Return what going on needs beside Lightning's own state."""
        return {
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "generators": generator_states(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up that state; the generators wait until training starts."""
        self.best_value = state_dict["best_value"]
        self.best_epoch = state_dict["best_epoch"]
        self._states = state_dict["generators"]
