"""Callbacks and an optimizer as a user may bring them, to see what a step does."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from torch.optim import Optimizer

LOG = "hooks.txt"
GRADIENTS = ("zero_grad", "backward", "optimizer_step")
HOOKS = ("on_train_batch_start", *(f"on_before_{one}" for one in GRADIENTS), "on_after_backward")


class HookWatcher(Callback):
    """Writes a line for each hook around a step: its count, rate, gradients, loss and optimizer."""


def _writer(hook: str) -> Any:
    def write(_: Callback, trainer: Trainer, module: LightningModule, *given: Any) -> None:
        (group,) = trainer.optimizers[0].param_groups
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        largest = max((float(gradient.abs().max()) for gradient in gradients), default=None)
        seen = [type(one).__name__ for one in given if isinstance(one, Optimizer)]
        losses = [one["loss"] if isinstance(one, dict) else one for one in given]
        shown = [(float(x), x.requires_grad) for x in losses if isinstance(x, torch.Tensor)]
        with Path(LOG).open("a", encoding="utf-8") as file:
            file.write(f"{hook} {trainer.global_step} {group['lr']} {largest} {seen} {shown}\n")

    return write


for _hook in (*HOOKS, "on_train_batch_end"):
    setattr(HookWatcher, _hook, _writer(_hook))


class Ascent(torch.optim.SGD):
    """An optimizer that is not torch's and asks for the loss at two points a step."""

    def step(self, closure: Any = None) -> Any:
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
