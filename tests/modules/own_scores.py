"""Metrics as a user would write them, and some that a user would get wrong."""

import torch
from torch import Tensor
from torchmetrics import Metric


class Collected(Metric):
    """Keeps all rows it is given."""

    outputs: list[Tensor]
    targets: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("outputs", default=[], dist_reduce_fx="cat")
        self.add_state("targets", default=[], dist_reduce_fx="cat")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.outputs.append(outputs)
        self.targets.append(targets)

    def rows(self) -> tuple[Tensor, Tensor]:
        return torch.cat(self.outputs), torch.cat(self.targets)


class Brier(Collected):
    """Mean squared distance of a probability from the truth, to a power."""

    higher_is_better: bool | None = False

    def __init__(self, *, power: int) -> None:
        super().__init__()
        self.power = power

    def compute(self) -> Tensor:
        outputs, targets = self.rows()
        return ((outputs - targets).abs() ** self.power).mean()


class Undecided(Brier):
    higher_is_better = None


class Several(Collected):
    def compute(self) -> Tensor:
        return self.rows()[0][:3]


class Fussy(Collected):
    def compute(self) -> Tensor:
        raise ValueError("I don't\nlike these rows")


class NoMetric:
    """Is none."""
