"""Callbacks and an optimizer as a user may bring them, to see what a step does."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from torch.optim import Optimizer

LOG = "hooks.txt"


class HookWatcher(Callback):
    """Writes a line for each hook around a step; what it sees of the gradients is in it."""

    def _write(self, hook: str, trainer: Trainer, seen: object = "") -> None:
        with Path(LOG).open("a", encoding="utf-8") as file:
            file.write(f"{hook} {trainer.global_step} {seen}\n")

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        (group,) = trainer.optimizers[0].param_groups
        self._write("on_train_batch_start", trainer, group["lr"])

    def on_before_zero_grad(
        self, trainer: Trainer, _: LightningModule, optimizer: Optimizer
    ) -> None:
        self._write("on_before_zero_grad", trainer, type(optimizer).__name__)

    def on_before_backward(self, trainer: Trainer, _: LightningModule, loss: torch.Tensor) -> None:
        self._write("on_before_backward", trainer, (float(loss), loss.requires_grad))

    def on_after_backward(self, trainer: Trainer, module: LightningModule) -> None:
        self._write("on_after_backward", trainer, _largest(module))

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: Optimizer
    ) -> None:
        seen = (type(optimizer).__name__, _largest(module))
        self._write("on_before_optimizer_step", trainer, seen)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        seen = (float(outputs["loss"]), outputs["loss"].requires_grad, _largest(module))
        self._write("on_train_batch_end", trainer, seen)


def _largest(module: LightningModule) -> float:
    return max(float(p.grad.abs().max()) for p in module.parameters() if p.grad is not None)


class Ascent(torch.optim.SGD):
    """An optimizer that is not torch's and asks for the loss at two points a step."""

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            closure()
        weights = [p for group in self.param_groups for p in group["params"]]
        before = [p.detach().clone() for p in weights]
        with torch.no_grad():
            for weight in weights:
                weight.add_(weight.grad, alpha=0.01)
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)
        return super().step()


class MoreLater(GradientAccumulationScheduler):
    """Steps after each batch for two epochs, and then after three."""

    def __init__(self) -> None:
        super().__init__({0: 1, 2: 3})
