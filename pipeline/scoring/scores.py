"""Scores of a task, each computed over all rows of a part, never as a mean of batch values.

Metrics of several classes are averaged over the classes; F1 is the mean of the classes' F1. A
class that is in neither targets nor predictions is left out, as in scikit-learn's default call,
and 0/0 is 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.base.markup import MISSING
from pipeline.base.terminal import rounded
from pipeline.metrics import Metric, main_metrics
from pipeline.metrics._rows import ClassCounts, Drawn, ScoredValues, Values

if TYPE_CHECKING:
    from torch import Tensor

#: Maps all outputs of a part and its targets to metrics: probabilities (rows,) or (rows, classes)
#: and classes (rows,), or predicted and true values (rows, outputs).
Scores: TypeAlias = "Callable[[Tensor, Tensor], dict[str, Tensor]]"

BEST_F1 = "best_f1"
_RECALL = re.compile(r"recall_at_(?P<least>0?\.\d+)")


def for_task(task: str, *, classes: int, threshold: float, more: Iterable[Metric] = ()) -> Scores:
    """Return the function that computes the metrics of a task.

    Args:
        task: `binary`, `multiclass` or `regression`.
        classes: Number of classes.
        threshold: Probability above which a row of a binary task counts as positive.
        more: Metrics that are computed besides the main ones.
    """
    metrics = [*main_metrics(task), *more]
    if task == "regression":
        rows_of: Callable[[Tensor, Tensor], ClassCounts | ScoredValues] = value_rows
    else:
        rows_of = partial(class_rows, classes=classes, threshold=threshold)
    return partial(_scored, rows_of=rows_of, metrics=metrics)


def _scored(
    outputs: Tensor,
    targets: Tensor,
    *,
    rows_of: Callable[[Tensor, Tensor], ClassCounts | ScoredValues],
    metrics: Sequence[Metric],
) -> dict[str, Tensor]:
    import torch

    rows = rows_of(outputs, targets)
    scores = torch.from_numpy(np.array([metric.score(rows)[0] for metric in metrics]))
    values = scores.to(targets.device) if targets.device.type != "mps" else scores
    return dict(zip([metric.name for metric in metrics], values.unbind(), strict=True))


def class_rows(
    probabilities: Tensor, targets: Tensor, *, classes: int, threshold: float
) -> ClassCounts:
    """Count the rows of each class by torchmetrics; quotients are float32, as its own are.

    Args:
        probabilities: Probabilities, float32 (rows,) of the positive class or (rows, classes).
        targets: Classes, int64 (rows,).
        classes: Number of classes; 2 in a binary task.
        threshold: Probability above which a row of a binary task counts as positive.
    """
    # It imports Matplotlib and much of SciPy, which neither a study's driver nor a refusal needs.
    from torchmetrics.functional import stat_scores

    is_binary = probabilities.ndim == 1
    called = (probabilities > threshold).long() if is_binary else probabilities.argmax(dim=1)
    counts = stat_scores(
        *(called, targets),
        task="multiclass",
        num_classes=2 if is_binary else classes,
        average="none",
        validate_args=False,
    )
    hits, false_calls, _, _, members = counts.cpu().numpy().T[:, None]
    return ClassCounts(
        outputs=probabilities.float().cpu().numpy(),
        targets=targets.cpu().numpy(),
        hits=hits,
        calls=hits + false_calls,
        members=members,
        precision=np.float32,
        tensors=(probabilities, targets),
    )


def value_rows(values: Tensor, targets: Tensor) -> ScoredValues:
    """Return predicted and true values (rows, outputs) in float64."""
    return ScoredValues(
        values=values.cpu().numpy().astype(np.float64),
        targets=targets.cpu().numpy().astype(np.float64),
        tensors=(values, targets),
    )


def drawn_rows(outputs: NDArray[Any], targets: NDArray[Any], *, threshold: float) -> Drawn:
    """Return a function that counts weighted rows, so that many bootstrap draws are scored at once.

    Args:
        outputs: Probabilities (rows,) or (rows, classes), or values (rows, outputs).
        targets: Classes, int64 (rows,), or values (rows, outputs).
        threshold: Probability above which a row counts as positive.
    """
    values = outputs.astype(np.float64)
    if targets.dtype.kind == "f":
        true = targets.astype(np.float64)
        return lambda weights: ScoredValues(values=values, targets=true, weights=weights)
    if outputs.ndim == 1:
        # Compared as the metrics compare them, in the precision of the outputs.
        called = (outputs > threshold).astype(np.int64)
        classes = np.arange(2)
    else:
        called = values.argmax(1)
        classes = np.arange(values.shape[1])
    is_member = targets[:, None] == classes
    is_called = called[:, None] == classes
    flags = np.concatenate([is_member & is_called, is_called, is_member], axis=1)

    def count(weights: Values) -> ClassCounts:
        hits, calls, members = np.split(weights @ flags.astype(np.float64), 3, axis=1)
        return ClassCounts(
            outputs=values,
            targets=targets,
            hits=hits,
            calls=calls,
            members=members,
            weights=weights,
        )

    return count


def task_of(outputs: NDArray[Any], targets: NDArray[Any]) -> str:
    """Return the task that outputs and targets belong to, from their types and shapes."""
    if targets.dtype.kind == "f":
        return "regression"
    return "binary" if outputs.ndim == 1 else "multiclass"


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Counts and scores of one class against all others.

    Args:
        name: Name of the class.
        counts: Numbers of TP, FP, TN and FN.
    """

    name: str
    counts: tuple[int, int, int, int]

    @property
    def support(self) -> int:
        """Number of rows that belong to the class."""
        return self.counts[0] + self.counts[3]

    @property
    def precision(self) -> float:
        """TP / (TP + FP): the share of the rows called this class that belong to it."""
        return self.counts[0] / max(1, self.counts[0] + self.counts[1])

    @property
    def recall(self) -> float:
        """TP / (TP + FN), also called sensitivity or true positive rate."""
        return self.counts[0] / max(1, self.support)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall."""
        return 2 * self.counts[0] / max(1, self.counts[0] + self.counts[1] + self.support)

    @property
    def is_counted(self) -> bool:
        """Whether the class is in the targets or the predictions; means leave out the others."""
        return self.support + self.counts[1] > 0

    @property
    def score_texts(self) -> list[str]:
        """Precision, recall and F1 as texts; `–` if means leave out the class."""
        scores = (self.precision, self.recall, self.f1)
        return [rounded(score) if self.is_counted else MISSING for score in scores]


def class_scores(
    called: NDArray[Any], targets: NDArray[Any], names: Sequence[str]
) -> tuple[ClassScores, ...]:
    """Return the counts of each class, from predicted and true classes, int (rows,)."""
    hits = np.bincount(targets[called == targets], minlength=len(names))
    false_calls = np.bincount(called, minlength=len(names)) - hits
    misses = np.bincount(targets, minlength=len(names)) - hits
    true_negatives = len(targets) - hits - false_calls - misses
    counts = np.stack([hits, false_calls, true_negatives, misses], axis=1).tolist()
    return tuple(
        ClassScores(name, tuple(class_counts))
        for name, class_counts in zip(names, counts, strict=True)
    )


def measured_words(
    task: str, classes: Sequence[str], units: str, scores: Sequence[ClassScores]
) -> str:
    """Return in words what test metrics are of: values in units, a class, or a mean over classes.

    `scores` are those of the classes; empty = unknown.
    """
    if task == "regression":
        return f"in {units or 'the unit of the target'}"
    if task == "binary" and classes:
        return f"positive class {classes[-1]}"
    return mean_words(scores) if scores else f"mean over {len(classes)} classes"


def mean_words(classes: Sequence[ClassScores]) -> str:
    """Return in words which classes a metric is averaged over."""
    total = len(classes)
    present = sum(scores.support > 0 for scores in classes)
    counted = sum(scores.is_counted for scores in classes)
    words = f"mean over {total} classes"
    if counted < total:
        words = f"mean over {counted} of {total} classes"
    if present < counted:
        words += f" ({present} in these rows)"
    return words


# ── thresholds ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundThreshold:
    """A decision threshold that a rule has found.

    Args:
        threshold: Probability above which a row counts as positive.
        metric: Metric that the rule looks at: `f1` or `recall`.
        reached: Its value on the rows that were looked at.
        rows: Number of these rows.
    """

    threshold: float
    metric: str
    reached: float
    rows: int


def find_threshold(rule: str, probabilities: Tensor, targets: Tensor) -> FoundThreshold:
    """Find the decision threshold that a rule gives on rows with known classes.

    Candidates are the midpoints between neighbouring probabilities, in float32, so that comparing
    float32 values with the threshold gives the same result everywhere.

    Args:
        rule: `best_f1`: the threshold with the highest F1; of several, the nearest to 0.5.
            `recall_at_0.9`: the highest threshold at which the recall is at least 0.9.
        probabilities: Probabilities of the positive class, float32 (rows,).
        targets: Classes, 0 or 1, (rows,); at least one row is positive.
    """
    scores = probabilities.cpu().numpy()
    positive = targets.cpu().numpy() == 1
    order = np.argsort(-scores, kind="stable")
    upper = np.unique(scores)[::-1]
    lower = np.append(upper[1:], np.float32(0))  # half the lowest score calls all rows positive
    middle = (upper + lower) / np.float32(2)
    # Adjacent float32 values have no midpoint; the lower one has the same effect.
    thresholds = np.where(middle < upper, middle, lower)
    called = np.searchsorted(-scores[order], -thresholds)  # rows strictly above
    hits = np.append(0, np.cumsum(positive[order]))[called]
    if rule == BEST_F1:
        values = 2 * hits / (called + positive.sum())  # 2 TP / (2 TP + FP + FN)
        best = np.flatnonzero(values == values.max())
        index = int(best[np.argmin(np.abs(thresholds[best] - 0.5))])
    else:
        match = _RECALL.fullmatch(rule)
        assert match is not None, rule
        values = hits / positive.sum()
        enough = np.flatnonzero(values >= float(match["least"]))
        # No threshold is below a score of exactly 0; the lowest one comes nearest.
        index = int(enough[0]) if len(enough) else len(values) - 1
    return FoundThreshold(
        threshold=float(thresholds[index]),
        metric="f1" if rule == BEST_F1 else "recall",
        reached=float(values[index]),
        rows=len(targets),
    )
