"""Classification, into two classes or several."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.metrics import Scores
from pipeline.modules.task import Optimization, Task
from pipeline.networks.inspection import probabilities


class Classifier(Task):
    """A network that tells classes apart.

    Args:
        network: Maps inputs to one logit (two classes) or a logit a class.
        scores: Metrics of a whole part.
        optimization: Optimizer and schedule.
        class_weights: Weight of each class (classes,) in the loss; `None` = equal.
        label_smoothing: Share of the target that is spread over all classes, 0 to 1.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        *,
        scores: Scores,
        optimization: Optimization,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(network, scores=scores, optimization=optimization)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self._label_smoothing = label_smoothing

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of logits (rows, outputs) for classes (rows,)."""
        if outputs.shape[1] == 1:
            return self._binary_loss(outputs.squeeze(1), targets)
        return functional.cross_entropy(
            outputs, targets, weight=self._like(outputs), label_smoothing=self._label_smoothing
        )

    def _like(self, logits: Tensor) -> Tensor | None:
        """Return the weights of the classes where the logits are, and in their precision."""
        return None if self.class_weights is None else self.class_weights.to(logits)

    def weight(self, targets: Tensor) -> Tensor | float:
        """Return what rows weigh in the mean loss of a batch: the sum of their classes' weights."""
        if self.class_weights is None:
            return super().weight(targets)
        return self.class_weights.to(targets.device)[targets].sum()

    def _binary_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        smoothing = self._label_smoothing
        if self.class_weights is None:
            smoothed = targets.to(logits.dtype) * (1 - smoothing) + smoothing / 2
            return functional.binary_cross_entropy_with_logits(logits, smoothed)
        # One logit is the second of two whose first is 0; so weights mean what they do elsewhere.
        pair = torch.stack([torch.zeros_like(logits), logits], dim=1)
        return functional.cross_entropy(
            pair, targets, weight=self._like(logits), label_smoothing=smoothing
        )

    def to_scores(
        self,
        outputs: Tensor,
        targets: Tensor,
        stage: str,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Return probabilities (rows,) of the positive class or (rows, classes), and classes."""
        return probabilities(outputs), targets
