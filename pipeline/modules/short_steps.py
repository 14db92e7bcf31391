"""Shortens the steps of small networks: Lightning's hooks without their unneeded work."""

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.optim import Optimizer

from pipeline.data.preparation.loader import Shared

#: Inputs (batch, *input_shape) and targets (batch, …), or a rank's share of them.
Batch = tuple[Tensor, Tensor] | Shared

#: Hooks around the gradients of a step, which Lightning does not call in manual optimization.
AROUND_GRADIENTS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)

#: Attributes that are set in each step and are neither parameters nor modules. Lightning sets the
#: first around each of its hooks, twenty times a step.
PLAIN = frozenset(("_current_fx_name", "_lr"))


class ShortSteps(pl.LightningModule):
    """A LightningModule with little overhead between the kernels of a step.

    On one device in float32 it uses Lightning's manual optimization, which saves a tenth of a small
    network's time. Numbers, counts, schedules, checkpoints and the order of hooks are the same.
    """

    # Lightning calls these hooks only where they are callable; calling empty ones takes time.
    on_train_batch_start: Any = None
    on_train_batch_end: Any = None

    def __init__(self) -> None:
        super().__init__()
        self._listeners: dict[str, list[pl.Callback]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        # torch's own method checks every time whether the value is a parameter or a module.
        if name in PLAIN:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the callbacks out of copies, as Lightning does with the trainer."""
        return {**super().__getstate__(), "_listeners": {}}

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Return a batch that is already on the device unchanged."""
        if batch[0].device == device:
            return batch
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved

    def on_fit_start(self) -> None:
        """Choose manual or automatic optimization, after Lightning's checks."""
        callbacks = _callbacks(self.trainer)
        for hook in AROUND_GRADIENTS:
            listeners = [callback for callback in callbacks if is_overridden(hook, callback)]
            self._listeners[hook] = listeners
        self.automatic_optimization = not _is_plain(self.trainer)

    def on_fit_end(self) -> None:
        """Return to automatic optimization, so that Lightning's checks apply to the next fit."""
        self.automatic_optimization = True

    def descend(self, loss: Tensor) -> Tensor:
        """Take an optimizer step, then step the schedules; return the loss without its graph."""
        trainer = self.trainer
        optimizer = trainer.optimizers[0]
        loop = trainer.fit_loop.epoch_loop
        self._call_hook("on_before_zero_grad", optimizer)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        self._call_hook("on_before_backward", loss)
        torch.autograd.backward(loss)
        self._call_hook("on_after_backward")
        self._call_hook("on_before_optimizer_step", optimizer)
        self.configure_gradient_clipping(
            optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm
        )
        optimizer.step()
        loop.manual_optimization.optim_step_progress.increment_by(1)
        for config in trainer.lr_scheduler_configs:
            if config.interval == "step" or trainer.is_last_batch:
                self.lr_scheduler_step(config.scheduler, None)
                loop.scheduler_progress.increment_by(1)
        return loss.detach()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Set the step counts of both kinds of optimization, which Lightning counts separately."""
        if "loops" not in checkpoint:
            return  # only weights
        steps = checkpoint["global_step"]
        loops = checkpoint["loops"]["fit_loop"]
        automatic = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
        manual = loops["epoch_loop.manual_optimization.optim_step_progress"]
        for counts in (automatic["total"], manual["total"]):
            counts.update(ready=steps, completed=steps)

    def _call_hook(self, hook: str, *arguments: Any) -> None:
        for callback in self._listeners[hook]:
            getattr(callback, hook)(self.trainer, self, *arguments)
        getattr(self, hook)(*arguments)


class NoProfiler(PassThroughProfiler):
    """A profiler that does nothing: Lightning's default takes time in some thirty hooks a step."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override] # a context all the same
        """Return a context that does nothing."""
        del action_name
        return self._nothing


def _is_plain(trainer: pl.Trainer) -> bool:
    """Return whether steps only run forward, backward, clipping and the optimizer on one device."""
    for callback in _callbacks(trainer):
        if isinstance(callback, GradientAccumulationScheduler):
            return False
    return (
        type(trainer.precision_plugin) is Precision
        and type(trainer.strategy) is SingleDeviceStrategy
        and trainer.accumulate_grad_batches == 1
        # A profiler's table has the names of Lightning's automatic optimization.
        and isinstance(vars(trainer)["profiler"], PassThroughProfiler)
        and all(_evaluates_once(optimizer) for optimizer in trainer.optimizers)
    )


def _evaluates_once(optimizer: Optimizer) -> bool:
    """Return whether an optimizer needs no closure; one that is not torch's own may need it."""
    kind = type(optimizer)
    if not kind.__module__.startswith("torch.optim."):
        return False
    return inspect.signature(kind.step).parameters["closure"].default is None


def _callbacks(trainer: pl.Trainer) -> list[pl.Callback]:
    return list(vars(trainer)["callbacks"])  # not declared: a connector sets it
