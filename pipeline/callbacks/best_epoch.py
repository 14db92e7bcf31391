"""The best epoch of a training so far."""

import math
from collections.abc import Mapping
from typing import Any

from pipeline.metrics import Direction


class BestEpoch:
    """The epoch with the best value of a metric; of equal values, the lowest `val/loss` decides.

    Args:
        monitor: The metric; `None` = no epoch is better than the last.
        better: Whether a larger or a smaller value is better.
    """

    def __init__(self, monitor: str | None, better: Direction) -> None:
        self.monitor = monitor
        self._is_higher_better = better == "max"
        #: Number of the epoch, counted from 1; `None` = there is none.
        self.epoch: int | None = None
        self.value: float | None = None
        self.loss = 0.0

    def update(self, epoch: int, metrics: Mapping[str, Any]) -> bool:
        """Return whether an epoch with these values is better than all before; note it if so."""
        if self.monitor is None or self.monitor not in metrics:
            return False
        value = float(metrics[self.monitor])
        if math.isnan(value):  # the metric is undefined on these rows
            return False
        loss = float(metrics.get("val/loss", 0.0))
        if not self._is_better(value, loss):
            return False
        self.epoch = epoch
        self.value = value
        self.loss = loss
        return True

    def _is_better(self, value: float, loss: float) -> bool:
        if self.value is None:
            return True
        if value == self.value:
            # On few validation rows many epochs have the same score, and the first is early.
            return loss < self.loss
        return value > self.value if self._is_higher_better else value < self.value
