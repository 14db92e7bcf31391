"""What keeps a step of a small network short: Lightning's hooks, without what they need not do."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.optim import Optimizer

Batch = tuple[Tensor, Tensor]


class ShortSteps(pl.LightningModule):
    """A LightningModule that spends little between the kernels of a step."""

    def __init__(self) -> None:
        super().__init__()
        self._steps_plainly = False
        self._before_step: list[pl.Callback] = []

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning sets this name around each of its hooks, forty times a step, and torch's own
        # method looks every time whether the value is a parameter or a module.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Leave a batch that lies on the device already as it is."""
        if batch[0].device == device:
            return batch
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Compute the gradients, clip them and step: by Lightning's way or a shorter one.

        The shorter one leaves out three layers that do nothing in plain precision on one device;
        it suits optimizers that evaluate the loss once.
        """
        if self._steps_plainly and optimizer_closure and isinstance(optimizer, LightningOptimizer):
            trainer, inner = self.trainer, optimizer.optimizer
            optimizer_closure()
            for callback in self._before_step:
                callback.on_before_optimizer_step(trainer, self, inner)
            self.configure_gradient_clipping(
                inner, trainer.gradient_clip_val, trainer.gradient_clip_algorithm
            )
            inner.step()
        else:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def on_fit_start(self) -> None:
        """Find out which way a step takes, and which callbacks want to see it."""
        trainer = self.trainer
        self._before_step = [
            one for one in _callbacks(trainer) if is_overridden("on_before_optimizer_step", one)
        ]
        self._steps_plainly = (
            type(trainer.precision_plugin) is Precision
            and type(trainer.strategy) is SingleDeviceStrategy
            and not any(isinstance(one, torch.optim.LBFGS) for one in trainer.optimizers)
        )

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Drop the gradients, as `optimizer.zero_grad` does with more ceremony."""
        del epoch, batch_idx
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


def _callbacks(trainer: pl.Trainer) -> list[pl.Callback]:
    return list(vars(trainer)["callbacks"])  # set by the Trainer's connector, so not declared
