"""A run that goes on from another run's weights, with an optimizer and a schedule of its own."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback
from torch.optim.lr_scheduler import ReduceLROnPlateau

TAKEN = ("state_dict", "loops", "epoch", "global_step", "pytorch-lightning_version", "pipeline")


def adopted(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run with another config takes from a checkpoint: weights and epochs trained.

    The optimizer's state, the schedule and the callbacks would bring the old config's learning
    rate, patience and so on with them, whatever the new one says.
    """
    taken = {key: value for key, value in checkpoint.items() if key in TAKEN}
    return {**taken, "optimizer_states": [], "lr_schedulers": [], "callbacks": {}}


class ScheduleCatchesUp(Callback):
    """Moves a fresh schedule to where it would be after the epochs that were trained before."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move the schedule."""
        del pl_module
        for config in trainer.lr_scheduler_configs:
            moves = trainer.current_epoch
            if config.interval == "step":
                share = trainer.current_epoch / max(trainer.max_epochs or 1, 1)
                moves = round(float(trainer.estimated_stepping_batches) * share)
            if not isinstance(config.scheduler, ReduceLROnPlateau):  # that one moves by a metric
                for _ in range(moves):
                    config.scheduler.step()
