"""Rows that metrics are scored on: all rows once, or many weighted draws of them at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Values = NDArray[np.float64]

#: Targets that vary less, relative to their size, differ by errors of rounding only.
ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredRows:
    """All rows of a part, once each, as a user's own metric gets them.

    Args:
        tensors: Outputs and targets; `None` = the rows are weighted draws.
    """

    tensors: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassCounts(ScoredRows):
    """Rows of a classification, counted in each draw.

    Args:
        outputs: Probabilities of the positive class, (rows,), or of each class, (rows, classes).
        targets: Classes, int64 (rows,).
        hits: Rows of each class that are predicted as it, (draws, classes).
        calls: Rows that are predicted as each class, (draws, classes).
        members: Rows of each class, (draws, classes).
        weights: How often each row was drawn, (draws, rows); `None` = a single draw of all rows.
        precision: Type of quotients, float32 or float64.
    """

    outputs: NDArray[Any]
    targets: NDArray[np.int64]
    hits: NDArray[Any]
    calls: NDArray[Any]
    members: NDArray[Any]
    weights: Values | None = None
    precision: type[np.floating[Any]] = np.float64

    @property
    def is_binary(self) -> bool:
        """Whether scores are those of the positive class, not means over classes."""
        return self.outputs.ndim == 1

    @cached_property
    def correct(self) -> NDArray[Any]:
        """Rows whose predicted class is right, (draws,)."""
        correct: NDArray[Any] = self.hits.sum(1)
        return correct

    @cached_property
    def total(self) -> NDArray[Any]:
        """Number of rows, (draws,)."""
        total: NDArray[Any] = self.members.sum(1)
        return total

    @cached_property
    def counted_classes(self) -> Values:
        """Number of classes in the targets or the predictions, (draws, 1)."""
        return count_classes(self.calls + self.members, self.precision)

    def ratio(self, part: NDArray[Any], total: NDArray[Any]) -> Values:
        """Divide numbers of rows; 0/0 is 0."""
        return ratios(part, total, precision=self.precision)

    def mean(self, part: NDArray[Any], total: NDArray[Any]) -> Values:
        """Average ratios over the classes that are in targets or predictions, (draws,).

        Args:
            part: Numerators, (draws, classes).
            total: Denominators, (draws, classes); 0/0 is 0.

        In a binary task the result is the ratio of the positive class.
        """
        shares = self.ratio(part, total)
        if self.is_binary:
            positive: Values = shares[:, 1]
            return positive
        return class_mean(shares, self.counted_classes)

    def positive_share(self, total: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Return hits and rows of the positive class, (draws,) each; `None` with more classes.

        `total` has the denominators of all classes, (draws, classes).
        """
        return (self.hits[:, 1], total[:, 1]) if self.is_binary else None

    def row_mean(self, values: Values) -> Values:
        """Average values of rows (rows,) over the drawn rows, (draws,)."""
        if self.weights is None:
            averages: Values = values.mean(keepdims=True)
        else:
            averages = self.weights @ values / self.total
        return averages


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredValues(ScoredRows):
    """Rows of a regression.

    Args:
        values: Predicted values, float64 (rows, outputs).
        targets: True values, float64 (rows, outputs).
        weights: How often each row was drawn, (draws, rows); `None` = a single draw of all rows.
    """

    values: Values
    targets: Values
    weights: Values | None = None

    @cached_property
    def errors(self) -> Values:
        """Predicted minus true values, (rows, outputs)."""
        return self.values - self.targets

    def total(self, values: Values) -> Values:
        """Sum values (rows, outputs) over the drawn rows, (draws, outputs)."""
        if self.weights is None:
            totals: Values = values.sum(0, keepdims=True)
        else:
            totals = self.weights @ values
        return totals

    def mean(self, values: Values) -> Values:
        """Average values (rows, outputs) over the drawn rows and all outputs, (draws,)."""
        rows = len(values) if self.weights is None else self.weights.sum(1)
        means: Values = self.total(values).sum(1) / (rows * values.shape[1])
        return means

    @cached_property
    def spread(self) -> Values:
        """Sum of the targets' squared distances from their mean, (draws, outputs).

        It is 0 where the targets differ by errors of rounding only.
        """
        size = np.abs(self.targets).max(0)
        centred = self.targets - self.targets.mean(0)
        spread: Values = self.total(centred**2)
        if self.weights is None:
            varies = np.ptp(self.targets, axis=0) > ROUNDING * size
            spread[:, ~varies] = 0.0
            return spread
        rows = self.weights.sum(1)[:, None]
        spread -= self.total(centred) ** 2 / rows
        spread[spread <= rows * (ROUNDING * size) ** 2] = 0.0
        return spread


#: Maps the number of times each row was drawn (draws, rows) to the rows that metrics score.
Drawn = Callable[[Values], ClassCounts | ScoredValues]


def count_classes(rows: NDArray[Any], precision: type[np.floating[Any]]) -> Values:
    """Count the classes that have rows, (draws, classes), in each draw; NaN if none has."""
    count: Values = (rows > 0).sum(1, keepdims=True, dtype=precision)
    count[count == 0] = np.nan
    return count


def class_mean(shares: Values, count: Values) -> Values:
    """Average shares of classes (draws, classes); those that are not counted (draws, 1) are 0."""
    parts: Values = shares / count
    if shares.dtype == np.float64:
        totals: Values = parts.sum(1)
        return totals
    from torch import from_numpy

    # It adds float32 in the order of torchmetrics, whose values these equal to the last bit.
    means: Values = from_numpy(parts).sum(1).numpy()
    return means


def ratios(
    part: NDArray[Any],
    total: NDArray[Any],
    *,
    empty: float = 0.0,
    precision: type[np.floating[Any]] = np.float64,
) -> Values:
    """Divide arrays of one shape; `empty` is the value where the denominator is 0."""
    quotients: Values = np.zeros(part.shape, precision)
    if empty:
        quotients.fill(empty)
    np.divide(part, total, out=quotients, where=total != 0, dtype=precision)
    return quotients
