"""Lightning's finder, which lets the learning rate climb, around a task of ours."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from math import isfinite
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning.tuner.tuning import Tuner
from torch import Tensor
from torch.optim import Optimizer

from pipeline.modules.task import Batch, Task
from pipeline.running.assembly import build_task, build_trainer
from pipeline.running.batches import training_batches
from pipeline.running.plan import Plan
from pipeline.terminal import shown_verbosity

UNLIMITED = {
    "max_epochs": -1,
    "min_epochs": None,
    "max_steps": -1,
    "min_steps": None,
    "max_time": None,
    "num_sanity_val_steps": 0,
    "val_check_interval": None,
    "check_val_every_n_epoch": 1,
}
"""Of the Trainer's options, those that would end the test early, or validate in between."""


def climb(plan: Plan) -> tuple[list[float], list[float]]:
    """Take a step at each learning rate of the ladder, and put everything back as it was.

    Weights, generators and the order of the rows are afterwards what they were before. The
    schedule and the callbacks of the run have no part in it; clipping, precision, accumulation
    and the batches are those of its training.

    Args:
        plan: The run; on one device.

    Returns:
        The rate that each step was taken with, and the loss of its batch before the step. They
        end with the first loss that is no number.
    """
    options = plan.options
    trainer_options = options.trainer.model_copy(update=UNLIMITED)
    options = options.model_copy(update={"scheduler": None, "trainer": trainer_options})
    module = _Climb(
        build_task(options, plan.network, plan.prepared),
        shows_bar=shown_verbosity(options.verbose) == 1,
    )
    trainer = build_trainer(
        options, plan.devices, callbacks=[], logger=False, writer=_InMemory(), rank=plan.rank
    )
    Tuner(trainer).lr_find(
        module,
        training_batches(plan),
        min_lr=options.lr_range.lowest,
        max_lr=options.lr_range.highest,
        num_training=options.lr_range.steps,
        early_stop_threshold=None,  # it is the curve that says where the loss blows up
        update_attr=False,
    )
    return module.rates, module.losses


class _Climb(pl.LightningModule):
    """The steps of a task alone, each with its rate and its loss.

    A task by itself would be evaluated at the end of an epoch, and refuse a loss that is no
    number, which is what this test is looking for.

    Args:
        task: Its network, its loss, its optimizer.
        shows_bar: Let the finder draw its bar.
    """

    def __init__(self, task: Task, *, shows_bar: bool) -> None:
        super().__init__()
        self.task = task
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._shows_bar = shows_bar
        self._rate = 0.0
        self._parts: list[float] = []

    def configure_optimizers(self) -> Any:
        """Make the optimizer, whose rates the finder will set."""
        return self.task.configure_optimizers()

    def on_train_start(self) -> None:
        """Keep the finder from drawing its bar where nobody watches one."""
        if not self._shows_bar:
            for callback in vars(self.trainer)["callbacks"]:  # the finder's own, alone
                callback.progress_bar_refresh_rate = 0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Note the rate: when the batch has ended it is the next one's."""
        del batch, batch_idx
        self._rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def training_step(self, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        return self.task.training_step(batch)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the task does."""
        self.task.configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_batch_end(
        self, outputs: Tensor | Mapping[str, Any] | None, batch: Batch, batch_idx: int
    ) -> None:
        """Note the loss; of several batches that make one step, their mean."""
        del batch, batch_idx
        assert isinstance(outputs, Mapping)
        self._parts.append(float(outputs["loss"]))
        if self.trainer.global_step > len(self.rates):
            loss = sum(self._parts) / len(self._parts)
            self._parts.clear()
            self.rates.append(self._rate)
            self.losses.append(loss)
            self.trainer.should_stop = not isfinite(loss)


class _InMemory(CheckpointIO):
    """Keeps the checkpoint that the finder goes back to: no file, so that a kill leaves none."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Any]] = {}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Keep a copy, since the weights are about to move."""
        del storage_options
        self._kept[str(path)] = deepcopy(checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return what was kept under this path."""
        del map_location, weights_only
        return self._kept[str(path)]

    def remove_checkpoint(self, path: str | Path) -> None:
        """Forget it."""
        del self._kept[str(path)]
