"""The numbers of a task, each over all rows of a part: never a mean of batch values.

Several classes are averaged over the classes; F1 is the mean of the classes' F1. A class that is
in neither targets nor predictions is left out, as in scikit-learn's default call, and 0/0 is 0.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryF1Score,
    BinaryPrecision,
    BinaryRecall,
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

Direction = Literal["max", "min"]

SMALLER_IS_BETTER = frozenset({"loss", "rmse", "mae", "time", "parameters"})
COSTS = frozenset({"time"})
"""Stages of whose values less is better, whatever they are called: `time/fit`."""


def direction(key: str) -> Direction:
    """Say whether a larger or a smaller value of a metric such as `val/f1` is better."""
    stage, _, name = key.rpartition("/")
    return "min" if name in SMALLER_IS_BETTER or stage in COSTS else "max"


def binary(*, threshold: float) -> MetricCollection:
    """Metrics of the positive class.

    Args:
        threshold: Probability above which a row counts as positive.

    The collection takes probabilities (rows,) and classes 0 or 1 (rows,).
    """
    return MetricCollection(
        {
            "accuracy": BinaryAccuracy(threshold, validate_args=False),
            "precision": BinaryPrecision(threshold, validate_args=False),
            "recall": BinaryRecall(threshold, validate_args=False),
            "f1": BinaryF1Score(threshold, validate_args=False),
            "auroc": BinaryAUROC(validate_args=False),
        },
        # What shares a state is known, so it need not be found out at the first update.
        compute_groups=[["accuracy", "precision", "recall", "f1"], ["auroc"]],
    )


def multiclass(*, classes: int) -> MetricCollection:
    """Metrics averaged over the classes; accuracy over the rows.

    The collection takes probabilities (rows, classes) and classes (rows,).
    """
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(classes, average="micro", validate_args=False),
            "precision": MulticlassPrecision(classes, average="macro", validate_args=False),
            "recall": MulticlassRecall(classes, average="macro", validate_args=False),
            "f1": MulticlassF1Score(classes, average="macro", validate_args=False),
            "auroc": MulticlassAUROC(classes, average=None, validate_args=False),
        },
        compute_groups=[["accuracy"], ["precision", "recall", "f1"], ["auroc"]],
    )


def regression() -> MetricCollection:
    """RMSE, MAE and R² of values (rows, outputs), in the units they come in."""
    return MetricCollection(
        {
            "rmse": MeanSquaredError(squared=False),
            "mae": MeanAbsoluteError(),
            "r2": R2Score(),
        },
        compute_groups=False,
    )


def for_task(task: str, *, classes: int, threshold: float) -> MetricCollection:
    """Choose the metrics of `binary`, `multiclass` or `regression`."""
    if task == "binary":
        return binary(threshold=threshold)
    return multiclass(classes=classes) if task == "multiclass" else regression()


def compute(metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Compute a collection over all rows at once and leave it empty for the next epoch.

    Args:
        metrics: From `for_task`.
        outputs: Probabilities (rows,) or (rows, classes), or values (rows, outputs).
        targets: Classes (rows,) or values (rows, outputs).
    """
    if not metrics.keys():
        return {}
    if "r2" in metrics and len(targets) < 2:
        # R² compares with the spread of the targets, which one row does not have.
        return {
            "rmse": (outputs - targets).square().mean().sqrt(),
            "mae": (outputs - targets).abs().mean(),
            "r2": torch.tensor(0.0),
        }
    metrics.update(outputs, targets)
    values: dict[str, Tensor] = metrics.compute()
    metrics.reset()
    if "auroc" in values:
        values["auroc"] = _mean_auroc(values["auroc"], targets)
    return values


def _mean_auroc(by_class: Tensor, targets: Tensor) -> Tensor:
    """Average over the classes that have rows; of the others torchmetrics says 0, not nothing."""
    classes = max(by_class.numel(), 2)
    rows = torch.bincount(targets, minlength=classes)
    defined = (rows > 0) & (rows < len(targets))
    if by_class.ndim == 0:
        return by_class if bool(defined.all()) else torch.tensor(float("nan"))
    return by_class[defined].mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """What a confusion matrix says about one class against all others."""

    name: str
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """TP, FP, TN, FN."""
        return (
            self.true_positives,
            self.false_positives,
            self.true_negatives,
            self.false_negatives,
        )

    @property
    def support(self) -> int:
        """Rows that belong to the class."""
        return self.true_positives + self.false_negatives

    @property
    def precision(self) -> float:
        """TP / (TP + FP): the share of the rows called this class that belong to it."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """TP / (TP + FN), also sensitivity or true positive rate."""
        return _ratio(self.true_positives, self.support)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall."""
        wrong = self.false_positives + self.false_negatives
        return _ratio(2 * self.true_positives, 2 * self.true_positives + wrong)


def confusion(predicted: Tensor, targets: Tensor, *, classes: int) -> Tensor:
    """Count rows (targets, predictions) of each pair of classes."""
    matrix: Tensor = multiclass_confusion_matrix(predicted, targets, classes)
    return matrix


def class_scores(matrix: Tensor, names: tuple[str, ...]) -> list[ClassScores]:
    """Read each class's counts from a confusion matrix (classes, classes)."""
    counts = matrix.tolist()
    total = sum(map(sum, counts))
    scores = []
    for index, name in enumerate(names):
        hit = counts[index][index]
        called = sum(row[index] for row in counts)
        belonging = sum(counts[index])
        scores.append(
            ClassScores(
                name=name,
                true_positives=hit,
                false_positives=called - hit,
                true_negatives=total - called - belonging + hit,
                false_negatives=belonging - hit,
            )
        )
    return scores


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
