"""Values of a whole epoch, gathered step by step without ever waiting for the device."""

import torch
from torch import Tensor

from pipeline.data.scale import as_float64
from pipeline.modules.together import gathered, summed

FOLD = 1024  # steps after which the kept values become one, so that memory stays bounded


def at_least_single(values: Tensor) -> Tensor:
    """Return values of half precision as float32, others as they are.

    A sum over the rows of a part would lose all but three digits in bfloat16.
    """
    half = values.is_floating_point() and values.element_size() < 4
    return values.float() if half else values


class EpochMean:
    """Mean of a value over the rows of an epoch, each step weighted by its rows, in float64.

    Where several ranks train together, each adds its part of a step's value.
    """

    def __init__(self) -> None:
        self._values: list[Tensor] = []
        self._weights: list[int] = []
        self._total: Tensor | None = None
        self._weight = 0

    def add(self, value: Tensor, weight: int) -> None:
        """Keep the scalar `value` of a step with `weight` rows."""
        self._values.append(value)
        self._weights.append(weight)
        if len(self._values) == FOLD:
            self._fold()

    @property
    def last(self) -> Tensor | None:
        """The newest value, or `None` before the first step."""
        return self._values[-1] if self._values else None

    def compute(self, *, ranks: int = 1) -> Tensor:
        """Return the mean so far over all ranks, and begin anew."""
        self._fold()
        if self._total is None:
            return torch.tensor(float("nan"))
        mean = (self._total if ranks == 1 else summed(self._total)) / self._weight
        self._total, self._weight = None, 0
        return mean

    def _fold(self) -> None:
        if not self._values:
            return
        values = as_float64(torch.stack(self._values))
        weights = torch.tensor(self._weights, dtype=values.dtype).to(values.device)
        total = values @ weights
        self._total = total if self._total is None else self._total + total
        self._weight += sum(self._weights)
        self._values, self._weights = [], []


class EpochOutputs:
    """Outputs and targets of all batches of an evaluation, in order."""

    def __init__(self) -> None:
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Keep a batch's outputs (batch, …) and targets (batch, …).

        Where several ranks evaluate, the outputs are those of this rank's share of the batch.
        """
        self._outputs.append(outputs)
        self._targets.append(targets)

    def take(self, *, ranks: int = 1) -> tuple[Tensor, Tensor]:
        """Return the outputs of all ranks and all targets, and begin anew."""
        outputs, targets = torch.cat(self._outputs), torch.cat(self._targets)
        batches = [len(batch) for batch in self._targets]
        self._outputs, self._targets = [], []
        return (outputs if ranks == 1 else gathered(outputs, batches, ranks)), targets
