"""Puts each epoch's values on record before its checkpoint is written."""

from collections.abc import Callable, Mapping

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from pipeline.data.scale import as_float64


class EpochRecord(Checkpoint):
    """Hands all values of a finished epoch to `write(epoch, values)`, epochs counted from 1.

    A Checkpoint by its base class alone: Lightning calls those last, after whatever was logged.
    `history` holds what it has handed on.

    Args:
        write: Takes an epoch and its values.
    """

    def __init__(self, write: Callable[[int, Mapping[str, float]], None]) -> None:
        super().__init__()
        self._write = write
        self.history: dict[int, dict[str, float]] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch down."""
        if trainer.is_global_zero:
            known, device = trainer.callback_metrics, pl_module.device
            # One copy to the host for all of them.
            numbers = torch.stack([as_float64(v.to(device)) for v in known.values()]).tolist()
            values = dict(zip(known, numbers, strict=True))
            self.history[trainer.current_epoch + 1] = values
            self._write(trainer.current_epoch + 1, values)
