"""Regression: values in the target's own units."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.nn import functional

from pipeline.metrics import Scores
from pipeline.modules.task import Optimization, Task


class Regressor(Task):
    """A network that predicts values.

    Args:
        network: Maps inputs to scaled values (batch, outputs).
        scores: Metrics of a whole part.
        optimization: Optimizer and schedule.
        to_units: Undoes the targets' scaling: scaled values and offsets (rows, outputs), or
            `None`, give values in the target's units.
        offsets: What is added to each row of a part, `val` or `test`, after that; rows in order.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        scores: Scores,
        optimization: Optimization,
        to_units: Callable[[Tensor, Tensor | None], Tensor],
        offsets: Mapping[str, Tensor | None],
    ) -> None:
        super().__init__(network, scores=scores, optimization=optimization)
        self._to_units = to_units
        self._offsets = dict(offsets)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error of scaled values (rows, outputs).

        Raises:
            ValueError: The shapes differ; broadcasting would give a wrong number in silence.
        """
        if outputs.shape != targets.shape:
            raise ValueError(
                f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} differ in shape"
            )
        return functional.mse_loss(outputs, targets)

    def to_scores(self, outputs: Tensor, targets: Tensor, stage: str) -> tuple[Tensor, Tensor]:
        """Return predicted and true values (rows, outputs) in the target's units, float64."""
        offsets = self._offsets.get(stage)
        if offsets is not None:
            offsets = offsets[: len(targets)]
        return self._to_units(outputs, offsets), self._to_units(targets, offsets)
