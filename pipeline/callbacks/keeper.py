"""Which weights of a training are kept: those of the best epoch, or of the last one."""

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from pipeline import __version__
from pipeline.callbacks.checkpoint_file import FORMAT
from pipeline.errors import DivergedError
from pipeline.metrics import Direction


class Keeper(Checkpoint):
    """Knows the best epoch so far and what a checkpoint says about itself.

    Args:
        monitor: Metric that decides; `None` = the last epoch is kept.
        facts: Plain values that travel with the weights: the config, the data's schema.
        better: Whether a larger or a smaller value of it is better.
    """

    def __init__(self, *, monitor: str | None, facts: Mapping[str, Any], better: Direction) -> None:
        super().__init__()
        self._monitor = monitor
        self._rises = better == "max"
        self._facts = dict(facts)
        self._epoch = 0
        self.best_value: float | None = None
        self.best_epoch: int | None = None

    @property
    def writer(self) -> CheckpointIO:
        """What takes the checkpoints that Lightning makes."""
        raise NotImplementedError

    def best_weights(self) -> Mapping[str, Any] | None:
        """Return the weights of the best epoch; `None` where the last ones count."""
        raise NotImplementedError

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse weights that are no numbers; the epochs before stay as they are.

        Raises:
            DivergedError: A weight is no number any more.
        """
        self._epoch = trainer.current_epoch + 1
        _require_finite(pl_module, epoch=self._epoch)

    def is_best(self, trainer: pl.Trainer) -> bool:
        """Tell whether the monitored metric was never better, and remember it then."""
        if self._monitor is None or self._monitor not in trainer.callback_metrics:
            return False
        value = float(trainer.callback_metrics[self._monitor])
        if math.isnan(value):  # a metric that has no value for these rows yet
            return False
        better = self.best_value is None or (
            value > self.best_value if self._rises else value < self.best_value
        )
        if better:
            self.best_value, self.best_epoch = value, self._epoch
        return better

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say what the checkpoint is and what it was trained from."""
        del trainer, pl_module
        checkpoint["pipeline"] = {
            "format": FORMAT,
            "version": __version__,
            "epoch": self._epoch,
            **self._facts,
        }


def _require_finite(module: pl.LightningModule, *, epoch: int) -> None:
    # The last steps of an epoch can ruin weights whose loss nobody has computed yet.
    values = [v for v in module.state_dict().values() if v.is_floating_point() and v.numel()]
    largest = [value.float() for value in torch._foreach_norm(values, float("inf"))]
    if not bool(torch.isfinite(torch.stack(largest)).all()):
        raise DivergedError(
            f"a weight is no number after epoch {epoch}: training diverged; try a smaller "
            "optimizer.lr, or trainer.gradient_clip_val=1.0"
        )
