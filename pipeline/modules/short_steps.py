"""Short steps for small networks: what Lightning does in a step, without its unneeded work."""

import inspect
from collections.abc import Mapping
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

#: Hooks around the gradients of a step, which Lightning does not call in manual optimization.
AROUND_GRADIENTS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)


class ShortSteps:
    """The steps of a training by Lightning's manual optimization, without its unneeded work.

    On one device in float32 this saves a tenth of a small network's time. Numbers, counts,
    schedules, checkpoints and the order of hooks are those of automatic optimization.
    """

    def __init__(self, module: pl.LightningModule, trainer: pl.Trainer) -> None:
        self._module = module
        self._trainer = trainer
        self._callbacks: dict[str, list[pl.Callback]] = {}
        callbacks = _callbacks(trainer)
        for hook in AROUND_GRADIENTS:
            overriding = [callback for callback in callbacks if is_overridden(hook, callback)]
            self._callbacks[hook] = overriding

    def descend(self, loss: Tensor) -> Tensor:
        """Take an optimizer step, then step the schedules; return the loss without its graph."""
        module = self._module
        trainer = self._trainer
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
        module.configure_gradient_clipping(
            optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm
        )
        optimizer.step()
        loop.manual_optimization.optim_step_progress.increment_by(1)
        for config in trainer.lr_scheduler_configs:
            if config.interval == "step" or trainer.is_last_batch:
                module.lr_scheduler_step(config.scheduler, None)
                loop.scheduler_progress.increment_by(1)
        return loss.detach()

    def _call_hook(self, hook: str, *arguments: Any) -> None:
        for callback in self._callbacks[hook]:
            getattr(callback, hook)(self._trainer, self._module, *arguments)
        getattr(self._module, hook)(*arguments)


def set_step_counts(checkpoint: Mapping[str, Any]) -> None:
    """Set the step counts of both kinds of optimization, which Lightning counts separately."""
    if "loops" not in checkpoint:
        return  # only weights
    steps = checkpoint["global_step"]
    loops = checkpoint["loops"]["fit_loop"]
    automatic = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    manual = loops["epoch_loop.manual_optimization.optim_step_progress"]
    for counts in (automatic["total"], manual["total"]):
        counts.update(ready=steps, completed=steps)


class NoProfiler(PassThroughProfiler):
    """A profiler that does nothing: Lightning's default takes time in some thirty hooks a step."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override] # a context all the same
        """Return a context that does nothing."""
        del action_name
        return self._nothing


def can_be_short(trainer: pl.Trainer) -> bool:
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
