"""Keeps the weights that count in memory, and writes them once, where they are wanted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import CheckpointIO
from torch import Tensor

from pipeline.callbacks.checkpoint_file import write_problem
from pipeline.callbacks.keeper import Keeper
from pipeline.errors import EnvironmentFaultError
from pipeline.metrics import Direction
from pipeline.paths import replace_file
from pipeline.signals import stop

TAKEN = ("pytorch-lightning_version", "pipeline")


class KeptWeights(Keeper):
    """Holds the weights of the best epoch, or of the last one; nothing is written on the way.

    Args:
        monitor: Metric that decides; `None` = the last epoch is kept.
        facts: Plain values that travel with the weights.
        better: Whether a larger or a smaller value of the metric is better.
    """

    def __init__(self, *, monitor: str | None, facts: Mapping[str, Any], better: Direction) -> None:
        super().__init__(monitor=monitor, facts=facts, better=better)
        self._memory = MemoryIO()

    @property
    def writer(self) -> CheckpointIO:
        """What takes the weights as Lightning hands them out, a moving average say."""
        return self._memory

    def best_weights(self) -> Mapping[str, Any] | None:
        """Return the weights of the best epoch; `None` where the last ones count."""
        if self.best_epoch is None:
            return None
        weights: Mapping[str, Any] = self._memory.content["state_dict"]
        return weights

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the weights of an epoch that was never bettered.

        Raises:
            DivergedError: A weight is no number any more; what was kept stays as it is.
            Interrupted: A stop was asked for, and something on the way has swallowed it.
        """
        super().on_train_epoch_end(trainer, pl_module)
        if self.is_best(trainer):
            self._take(trainer)
        stop.check()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the last weights where they count."""
        del pl_module
        if self.best_epoch is None:
            self._take(trainer)

    def write(self, path: Path) -> None:
        """Write the kept weights to a file, whole or not at all.

        Raises:
            EnvironmentFaultError: The disk is full or the folder can't be written.
        """
        try:
            path.parent.mkdir(exist_ok=True)
            replace_file(path, lambda file: torch.save(self._memory.content, file))
        except (OSError, RuntimeError) as error:
            raise EnvironmentFaultError(write_problem(path, error)) from error

    def _take(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint("memory", weights_only=False)


class MemoryIO(CheckpointIO):
    """Holds a copy of the newest weights that it was given."""

    def __init__(self) -> None:
        self.content: dict[str, Any] = {}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Copy the weights; the states that going on would need are left out."""
        del path, storage_options
        self.content = {key: checkpoint[key] for key in TAKEN}
        self.content["state_dict"] = _copied(checkpoint["state_dict"])

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Return what is held."""
        del path, map_location, weights_only
        return self.content

    def remove_checkpoint(self, path: str | Path) -> None:
        """Forget what is held."""
        del path
        self.content = {}


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in weights.items()}
