"""Two networks asked about the same rows: which answers differ, and what chance could do."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.bootstrap import (
    AREA_OPERATIONS,
    DRAWS,
    Units,
    affordable,
    reaches_of,
    redrawn,
    weighted_scores,
)
from pipeline.findings.records import Array, TestRows
from pipeline.metrics import widest_difference

MOST_EXACT = 13
"""Groups whose signs are chosen in all ways: 8,192."""
SWAPS, SWAPS_AT_ONCE = 10_000, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """How often one of two is right where the other is wrong.

    Args:
        both: Rows that both get right.
        first: Rows that the first alone gets right.
        second: Rows that the second alone gets right.
        neither: Rows that both get wrong.
        p: Probability of so uneven a split of the rows that only one gets right, or a more uneven
            one, were both equally good: McNemar's test, exact, two-sided; 1 where there is none.
            Where rows come in groups, that of a test on whole groups.
    """

    both: int
    first: int
    second: int
    neither: int
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What the second of two comes to, less what the first does.

    Args:
        first: The first one's figure on all rows.
        second: The second one's.
        interval: 95 % interval of their difference; `None` = it is not known.
    """

    first: float
    second: float
    interval: tuple[float, float] | None

    @property
    def value(self) -> float:
        """The difference itself."""
        return self.second - self.first


def flips(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, groups: Array | None = None
) -> Flips:
    """Count in which rows (rows,) each of two is right.

    Args:
        first: Rows that the first gets right.
        second: Rows that the second gets right.
        groups: Number of each row's group; `None` = rows are independent.

    Source: McNemar 1947; the binomial form is exact for any number of rows.
    """
    alone = int((first & ~second).sum()), int((~first & second).sum())
    more = second.astype(np.int64) - first
    return Flips(
        both=int((first & second).sum()),
        first=alone[0],
        second=alone[1],
        neither=int((~first & ~second).sum()),
        p=_sign_test(*alone) if groups is None else _swap_test(more, groups),
    )


def _sign_test(first: int, second: int) -> float:
    from scipy.stats import binomtest  # type: ignore[import-untyped] # scipy brings no types

    total = first + second
    return float(binomtest(first, total, 0.5).pvalue) if total else 1.0


def _swap_test(more: NDArray[np.int64], groups: Array) -> float:
    """Return the p of a test that swaps the two networks in whole groups.

    Were both equally good, what the second gets right more than the first (rows,) could have the
    other sign in each group. All ways to choose the signs are tried, or many at random (Fisher's
    randomization test); groups of one row give McNemar's test.
    """
    in_group = np.bincount(np.unique(groups, return_inverse=True)[1], weights=more)
    in_group = in_group[in_group != 0]
    count = len(in_group)
    if count <= MOST_EXACT:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        return float((np.abs(signs @ in_group) >= abs(in_group.sum())).mean())
    generator, extreme = np.random.default_rng(0), 1  # what was found is one of the ways
    for _ in range(SWAPS // SWAPS_AT_ONCE):
        signs = generator.choice((-1.0, 1.0), size=(SWAPS_AT_ONCE, count))
        extreme += int((np.abs(signs @ in_group) >= abs(in_group.sum())).sum())
    return extreme / (SWAPS + 1)


def errors(test: TestRows) -> Array:
    """Return how far the values of each row are off, the mean over its outputs, (rows,)."""
    off = np.abs(test.outputs.astype(np.float64) - test.targets)
    mean: Array = off.reshape(len(off), -1).mean(1)
    return mean


def paired_differences(
    first: TestRows,
    second: TestRows,
    *,
    thresholds: tuple[float, float],
    units: Units,
    seed: int = 0,
) -> Mapping[str, Difference]:
    """Measure two networks on the same rows, drawn again for both alike.

    What a row does to both at once cancels out, so that the interval of the difference is narrower
    than two intervals beside each other would tell (Efron and Tibshirani 1993, chapter 8).

    Args:
        first: The first one's test rows.
        second: The second one's: the same rows in the same order.
        thresholds: Probability above which each calls a row positive.
        units: What counts as independent among the rows.
        seed: Of the draws.
    """
    draws = affordable(DRAWS, first.outputs.size)
    one, other = (
        weighted_scores(
            torch.from_numpy(part.outputs),
            torch.from_numpy(first.targets),
            threshold=threshold,
            has_area=draws * first.outputs.size <= AREA_OPERATIONS,
        )
        for part, threshold in zip((first, second), thresholds, strict=True)
    )
    once = np.ones((1, len(first.targets)))
    before, after = one(once), other(once)
    reaches: Mapping[str, float] = {}
    if units.are_enough:
        found = [
            {key: values - old[key] for key, values in other(counts).items()}
            for counts in redrawn(units, draws, seed=seed)
            for old in [one(counts)]
        ]
        reaches = reaches_of(found, units, first.targets)
    return {
        key: _difference(key, float(before[key][0]), float(after[key][0]), reaches.get(key))
        for key in before
    }


def _difference(key: str, first: float, second: float, reach: float | None) -> Difference:
    if reach is None:
        return Difference(first=first, second=second, interval=None)
    value, most = second - first, widest_difference(key)
    ends = max(-most, value - reach), min(most, value + reach)
    return Difference(first=first, second=second, interval=ends)
