"""The metrics of a task, each computed over all rows of a part, never as a mean of batch values.

Metrics of several classes are averaged over the classes; F1 is the mean of the classes' F1. A
class that is in neither targets nor predictions is left out, as in scikit-learn's default call,
and 0/0 is 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.data.schema import ROUNDING, as_float64
from pipeline.markup import MISSING
from pipeline.terminal import rounded

if TYPE_CHECKING:
    from torch import Tensor

#: Maps all outputs of a part and its targets to metrics: probabilities (rows,) or (rows, classes)
#: and classes (rows,), or predicted and true values (rows, outputs).
Scores: TypeAlias = "Callable[[Tensor, Tensor], dict[str, Tensor]]"

Values = NDArray[np.float64]
#: Maps the number of times each row was drawn (draws, rows) to the values of each metric (draws,).
WeightedScores = Callable[[Values], dict[str, Values]]

Direction = Literal["max", "min"]

CLASSIFICATION = ("accuracy", "precision", "recall", "f1", "auroc")
REGRESSION = ("rmse", "mae", "r2")
SMALLER_IS_BETTER = frozenset({"loss", "rmse", "mae", "time", "parameters"})
BOUNDS = {
    **dict.fromkeys(CLASSIFICATION, (0.0, 1.0)),
    **dict.fromkeys(("loss", "rmse", "mae"), (0.0, math.inf)),
    "r2": (-math.inf, 1.0),
}
#: Stages whose values are better when smaller, whatever the metric's name: `time/fit`.
COSTS = frozenset({"time"})
BEST_F1 = "best_f1"
_RECALL = re.compile(r"recall_at_(?P<least>0?\.\d+)")


def direction(key: str) -> Direction:
    """Return whether a larger or a smaller value of a metric such as `val/f1` is better."""
    stage, _, name = key.rpartition("/")
    return "min" if name in SMALLER_IS_BETTER or stage in COSTS else "max"


def bounds(key: str) -> tuple[float, float]:
    """Return the smallest and the largest value that a metric such as `val/f1` can have."""
    return BOUNDS.get(key.rpartition("/")[2], (-math.inf, math.inf))


def widest_difference(key: str) -> float:
    """Return the largest possible difference between two values of a metric."""
    low, high = bounds(key)
    return high - low


def binary(probabilities: Tensor, targets: Tensor, *, threshold: float) -> dict[str, Tensor]:
    """Return the metrics of the positive class; rows with a probability above `threshold` count."""
    called = (probabilities > threshold).long()
    accuracy, scores, _ = _class_shares(called, targets, classes=2)
    precision, recall, f1 = scores[:, 1].unbind()
    area = _auroc(probabilities[:, None], targets, first_class=1)
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1, "auroc": area}


def multiclass(probabilities: Tensor, targets: Tensor, *, classes: int) -> dict[str, Tensor]:
    """Return the metrics averaged over the classes; the accuracy is that of all rows."""
    called = probabilities.argmax(dim=1)
    accuracy, scores, is_counted = _class_shares(called, targets, classes=classes)
    precision, recall, f1 = (scores / is_counted.sum()).sum(1).unbind()
    area = _auroc(probabilities, targets)
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1, "auroc": area}


def _class_shares(
    called: Tensor, targets: Tensor, *, classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the metrics that count rows, from predicted and true classes (rows,).

    Returns:
        The accuracy; precision, recall and F1 of each class, float32 (3, classes), where 0/0 is 0;
        and whether each class is in targets or predictions, (classes,).
    """
    import torch

    # It imports Matplotlib and much of SciPy, which neither a study's driver nor a refusal needs.
    from torchmetrics.functional import stat_scores

    counts = stat_scores(
        *(called, targets),
        task="multiclass",
        num_classes=classes,
        average="none",
        validate_args=False,
    )
    hits, false_calls, _, misses, rows = counts.unbind(1)
    calls = hits + false_calls
    numerators = torch.stack([hits, hits, 2 * hits]).float()
    denominators = torch.stack([calls, rows, calls + rows]).float()
    scores = torch.where(denominators > 0, numerators / denominators, 0.0)
    return hits.sum() / len(targets), scores, hits + false_calls + misses > 0


def regression(values: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return RMSE, MAE and R² in the units of the values, computed in float64."""
    import torch

    true = as_float64(targets)
    errors = as_float64(values) - true
    # R² is 1 − Σ error² / Σ (target − mean)², NaN if an output's targets do not vary.
    varies = true.amax(0) - true.amin(0) > ROUNDING * true.abs().amax(0)
    spread = (true - true.mean(0)).square().sum(0)
    return {
        "rmse": errors.square().mean().sqrt(),
        "mae": errors.abs().mean(),
        "r2": torch.where(varies, 1 - errors.square().sum(0) / spread, torch.nan).mean(),
    }


def for_task(task: str, *, classes: int, threshold: float) -> Scores:
    """Choose the metrics of `binary`, `multiclass` or `regression`."""
    if task == "binary":
        return partial(binary, threshold=threshold)
    return partial(multiclass, classes=classes) if task == "multiclass" else regression


def _auroc(probabilities: Tensor, targets: Tensor, *, first_class: int = 0) -> Tensor:
    """Average the area under the ROC curve over the classes for which it is defined.

    A pair of a row of the class and another row counts 1 if the former has the higher score, and
    half if both have the same (Hanley and McNeil 1982).

    Args:
        probabilities: Probabilities of some classes, float32 (rows, classes), in [0, 1].
        targets: Classes (rows,).
        first_class: Class of the first column; rows of classes without a column belong to none.
    """
    import torch

    scores = _ordered_integers(probabilities)
    rows, classes = scores.shape
    # The scores of all classes lie behind each other, those of a class after 2**32 times its index,
    # so that one search finds the ranks of all rows in the scores of their classes.
    after = np.arange(classes) << 32
    ordered = (np.sort(scores.T, axis=1) + after[:, None]).ravel()
    columns = targets.cpu().numpy() - first_class
    has_column = columns >= 0
    columns = columns[has_column]
    searched = np.sort(scores[has_column, columns] + after[columns])
    ranks = np.searchsorted(ordered, searched, side="left")
    ranks += np.searchsorted(ordered, searched, side="right")
    columns = searched >> 32
    positives = np.bincount(columns, minlength=classes)
    sums = np.bincount(columns, weights=ranks - 2 * rows * columns, minlength=classes)
    pairs = positives * (rows - positives)
    is_defined = pairs > 0
    areas = (sums - positives**2)[is_defined] / (2 * pairs[is_defined])
    area = float(areas.mean()) if len(areas) else np.nan
    return torch.tensor(area, device=targets.device)


def _ordered_integers(probabilities: Tensor) -> NDArray[np.int32]:
    """Return integers >= 0 that are ordered as numbers >= 0 are; those of NaN are the largest.

    The bits of such a number are such an integer, except for the sign of NaN or zero.
    """
    bits: NDArray[np.int32] = probabilities.float().cpu().numpy().view(np.int32)
    return bits & np.int32(2**31 - 1)


def weighted_scores(
    outputs: NDArray[Any], targets: NDArray[Any], *, threshold: float, has_area: bool = True
) -> WeightedScores:
    """Return a function that scores weighted rows, so that it scores many bootstrap draws at once.

    Args:
        outputs: Probabilities (rows,) or (rows, classes), or values (rows, outputs).
        targets: Classes, int64 (rows,), or values (rows, outputs).
        threshold: Probability above which a row counts as positive.
        has_area: Also compute the area under the ROC curve, which takes longest.
    """
    values = outputs.astype(np.float64)
    if targets.dtype.kind == "f":
        return partial(_weighted_regression, values=values, true=targets.astype(np.float64))
    if outputs.ndim == 1:
        # Compared as the metrics compare them, in the precision of the outputs.
        called, values, counted = outputs > threshold, values[:, None], np.arange(1, 2)
    else:
        called, counted = values.argmax(1), np.arange(values.shape[1])
    # Columns are the classes (rows, classes); a binary task has only the positive one.
    members, chosen, right = (
        targets[:, None] == counted,
        called[:, None] == counted,
        called == targets,
    )

    def score(weights: Values) -> dict[str, Values]:
        hits, calls, belong = (_count(weights, by) for by in (members & chosen, chosen, members))
        # With several classes, one that is neither in the rows nor predicted is left out.
        there = (calls + belong > 0) | (members.shape[1] == 1)
        found = {
            "accuracy": _count(weights, right) / weights.sum(1),
            "precision": _mean(_ratios(hits, calls), there),
            "recall": _mean(_ratios(hits, belong), there),
            "f1": _mean(_ratios(2 * hits, calls + belong), there),
        }
        if has_area:
            columns = zip(values.T, members.T, strict=True)
            areas = np.stack([_weighted_area(weights, *column) for column in columns], axis=1)
            known = ~np.isnan(areas)
            found["auroc"] = _mean(np.where(known, areas, 0.0), known)
        return found

    return score


def _weighted_regression(weights: Values, *, values: Values, true: Values) -> dict[str, Values]:
    rows, errors = weights.sum(1), values - true
    squares = weights @ errors**2  # (draws, outputs)
    centred = true - true.mean(0)
    spread = weights @ centred**2 - (weights @ centred) ** 2 / rows[:, None]
    spread[spread <= rows[:, None] * (ROUNDING * np.abs(true).max(0)) ** 2] = 0.0
    return {
        "rmse": np.sqrt(squares.sum(1) / (rows * true.shape[1])),
        "mae": (weights @ np.abs(errors)).sum(1) / (rows * true.shape[1]),
        "r2": (1 - _ratios(squares, spread, empty=np.nan)).mean(1),
    }


def _count(weights: Values, flags: NDArray[np.bool_]) -> Values:
    """Count the drawn rows with a flag; flags are (rows,) or (rows, classes)."""
    counts: Values = weights @ flags.astype(np.float64)
    return counts


def _weighted_area(weights: Values, scores: Values, positive: NDArray[np.bool_]) -> Values:
    """Return the area under the ROC curve of each draw; NaN if a draw has rows of one kind only."""
    order = np.argsort(scores, kind="stable")
    ordered, levels = weights[:, order], np.unique(scores[order], return_inverse=True)[1]
    ups = ordered * positive[order]
    downs = ordered - ups
    starts = np.flatnonzero(np.diff(levels, prepend=-1))
    if len(starts) < len(levels):  # rows with one score are one level
        ups, downs = (np.add.reduceat(rows, starts, axis=1) for rows in (ups, downs))
    below = np.cumsum(downs, axis=1)
    pairs = ups.sum(1) * below[:, -1]
    below -= downs / 2
    return _ratios(np.einsum("dl,dl->d", ups, below), pairs, empty=np.nan)


def _mean(values: Values, counted: NDArray[np.bool_]) -> Values:
    return _ratios((values * counted).sum(1), counted.sum(1).astype(np.float64), empty=np.nan)


def _ratios(part: Values, whole: Values, *, empty: float = 0.0) -> Values:
    filled = np.full(np.broadcast(part, whole).shape, empty)
    ratios: Values = np.divide(part, whole, out=filled, where=whole > 0)
    return ratios


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
    hits, said, own = (
        np.bincount(classes, minlength=len(names))
        for classes in (targets[called == targets], called, targets)
    )
    kinds = np.stack([hits, said - hits, len(targets) - said - own + hits, own - hits], axis=1)
    lines = zip(names, kinds.tolist(), strict=True)
    return tuple(ClassScores(name, tuple(counts)) for name, counts in lines)


def mean_words(classes: Sequence[ClassScores]) -> str:
    """Return in words which classes a metric is averaged over."""
    total, there = len(classes), sum(one.support > 0 for one in classes)
    counted = sum(one.is_counted for one in classes)
    of = f"{total}" if counted == total else f"{counted} of {total}"
    return f"mean over {of} classes" + (f" ({there} in these rows)" if there < counted else "")


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
    scores, positive = probabilities.cpu().numpy(), targets.cpu().numpy() == 1
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
