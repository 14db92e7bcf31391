"""Averaged weights, for `callbacks=ema`."""

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class WarmedUpEMA(WeightAveraging):
    """Exponential moving average of the weights, whose decay is smaller during the first updates.

    After n updates the decay is min(decay, (1 + n) / (10 + n)). With a constant decay of 0.999, the
    average after 80 updates would still be 92 % the weights after the first step.

    Args:
        decay: Decay of the average per update, once it is warmed up.
        update_every_n_steps: Steps between updates.
        update_starting_at_step: First step that is averaged; None = the first.
        update_starting_at_epoch: First epoch after which the average is updated once more; None =
            after no epoch.

    Source: `num_updates` of TensorFlow's `tf.train.ExponentialMovingAverage`.
    """

    def __init__(
        self,
        decay: Annotated[float, Ge(0), Le(1)] = 0.999,
        update_every_n_steps: Annotated[int, Gt(0)] = 1,
        update_starting_at_step: Annotated[int, Ge(0)] | None = None,
        update_starting_at_epoch: Annotated[int, Ge(0)] | None = None,
    ) -> None:
        # Lightning's EMAWeightAveraging takes no other function than its own.
        super().__init__(avg_fn=_averaging(decay))
        self._every = update_every_n_steps
        self._first_step = update_starting_at_step or 0
        self._first_epoch = update_starting_at_epoch

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return whether the average is updated after a step or an epoch, counted from 0."""
        if step_idx is not None and step_idx >= self._first_step and step_idx % self._every == 0:
            return True
        starts_at = self._first_epoch
        return epoch_idx is not None and starts_at is not None and epoch_idx >= starts_at


def _averaging(decay: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the function that updates an average, given the new values and earlier updates."""

    @torch.no_grad()
    def averaged(average: Tensor, values: Tensor, updates: Tensor) -> Tensor:
        share = ((1 + updates) / (10 + updates)).clamp(max=decay)
        return share * average + (1 - share) * values

    return averaged
