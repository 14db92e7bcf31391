"""The end of an epoch: its values are recorded, its weights kept, and a trial may be pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger

from pipeline.base.signals import stop
from pipeline.callbacks.checkpoints import Keeper
from pipeline.callbacks.once_an_epoch import OnceAnEpoch
from pipeline.callbacks.progress import EpochLines
from pipeline.data.preparation.schema import as_float64


class PrunedError(Exception):
    """The trial was pruned."""


class EpochEnd(OnceAnEpoch, Checkpoint):
    """Everything that the program does with a finished epoch, in one function.

    It is a Checkpoint only so that Lightning calls it last.

    Args:
        keeper: Keeps the weights.
        record: Takes the values of the epoch; `None` = another process does.
        prunes: Takes the number of the epoch, counted from 1, and returns whether the training
            ends there; `None` = never.
        progress: Shows the epoch; `None` = nothing is shown.
        begins: Called when the training starts, after a restored state was checked; `None` = no
            call.
    """

    def __init__(
        self,
        keeper: Keeper,
        *,
        record: EpochRecord | None = None,
        prunes: Callable[[int], bool] | None = None,
        progress: EpochLines | None = None,
        begins: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.keeper = keeper
        self.progress = progress
        self._record = record
        self._prunes = prunes
        self._begins = begins

    def on_train_start(self, *_: Any) -> None:
        """Put the beginning of a resumed run on record, unless that was done."""
        if self._begins is not None:
            self._begins()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record and keep a finished epoch, end the training if it is pruned, and show the epoch.

        In each epoch, Lightning has called before, in this order:

        1. `Task.training_step` for each batch;
        2. `Task.validation_step` for each batch, then `Task.on_validation_epoch_end`, which
           computes the validation loss and the metrics;
        3. the callbacks of the user, and `VitalSigns`, which takes the gradient norms and updates;
        4. `Task.on_train_epoch_end`, which computes the training loss and moves a plateau schedule;
        5. early stopping, which may make this epoch the last.

        Afterwards it moves a schedule whose interval is the epoch.

        Raises:
            DivergedError: A weight is not finite; the values of the epoch are on record.
            Interrupted: A stop was requested, and a library has swallowed it.
            PrunedError: The training is pruned. `trainer.should_stop` would wait for `min_epochs`.
        """
        epoch = trainer.current_epoch + 1
        if self._record is not None:
            self._record.write(epoch, epoch_values(trainer, pl_module.device), trainer)
        self.keeper.keep_epoch(epoch, trainer, pl_module)
        stop.check()
        if self._prunes is not None and _is_pruned(epoch, self._prunes, trainer):
            raise PrunedError
        if self.progress is not None:
            self.progress.print_epoch(trainer)


def epoch_values(trainer: pl.Trainer, device: torch.device) -> dict[str, float]:
    """Return all values of the finished epoch by name, with one copy to the host."""
    metrics = trainer.callback_metrics
    tensors = [as_float64(value.to(device)) for value in metrics.values()]
    return dict(zip(metrics, torch.stack(tensors).tolist(), strict=True))


def _is_pruned(epoch: int, prunes: Callable[[int], bool], trainer: pl.Trainer) -> bool:
    """Return the decision of the first rank, in all ranks."""
    try:
        answer = prunes(epoch)
    except Exception:
        trainer.strategy.broadcast(True)  # so that the other ranks end here too
        raise
    return trainer.strategy.broadcast(answer)


class EpochRecord:
    """Passes all values of a finished epoch to the run's logger and to those of the Trainer.

    Args:
        logger: The logger of the run; with `fast_dev_run` the Trainer does not have it.
        reached: Called with the number of the epoch, counted from 1, and its values, after the
            loggers; `None` = no call.
    """

    def __init__(
        self, logger: Logger, reached: Callable[[int, Mapping[str, float]], None] | None
    ) -> None:
        self._logger = logger
        self._reached = reached
        self.history: dict[int, dict[str, float]] = {}

    def write(self, epoch: int, values: dict[str, float], trainer: pl.Trainer) -> None:
        """Write the values of the epoch, whose number is counted from 1."""
        self.history[epoch] = values
        for logger in dict.fromkeys([self._logger, *trainer.loggers]):
            logger.log_metrics({**values, "epoch": epoch - 1}, trainer.global_step)
            logger.save()  # as Lightning does
        if self._reached is not None:
            self._reached(epoch, values)
