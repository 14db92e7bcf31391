"""McNemar's test: how often one of two networks is right where the other is wrong."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.base.findings import Array

#: Largest number of groups for which all choices of signs are tried: 8,192 of them.
MOST_EXACT = 13
SWAPS = 10_000
SWAPS_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """How often one of two networks is right where the other is wrong.

    Args:
        both: Rows that both networks get right.
        first: Rows that only the first network gets right.
        second: Rows that only the second network gets right.
        neither: Rows that both networks get wrong.
        p: Probability of a split between `first` and `second` that is at least as uneven, if both
            networks were equally good: McNemar's test, exact and two-sided. It is 1 if no row is
            right for one network only. Rows in groups are tested by whole groups.
    """

    both: int
    first: int
    second: int
    neither: int
    p: float


def flips(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, groups: Array | None = None
) -> Flips:
    """Count the rows that both, one or neither of two networks get right (McNemar 1947).

    Args:
        first: Whether the first network gets each row right, (rows,).
        second: Whether the second network gets each row right, (rows,).
        groups: Group of each row, (rows,); `None` = the rows are independent.
    """
    from scipy.stats import binomtest  # type: ignore[import-untyped] # scipy brings no types

    first_only = int((first & ~second).sum())
    second_only = int((~first & second).sum())
    p = 1.0
    if groups is not None:
        p = _swap_test(second.astype(np.int64) - first, groups)
    elif first_only or second_only:
        p = float(binomtest(first_only, first_only + second_only, 0.5).pvalue)
    return Flips(
        both=int((first & second).sum()),
        first=first_only,
        second=second_only,
        neither=int((~first & ~second).sum()),
        p=p,
    )


def _swap_test(gains: NDArray[np.int64], groups: Array) -> float:
    """Return the p-value of a test that swaps the two networks in whole groups.

    `gains` is +1 where only the second network is right and -1 where only the first is, (rows,). If
    both were equally good, the sum of each group could have either sign. All choices of signs are
    tried, or many random ones (Fisher's randomization test).
    """
    in_group = np.bincount(np.unique(groups, return_inverse=True)[1], weights=gains)
    in_group = in_group[in_group != 0]
    count = len(in_group)
    if count <= MOST_EXACT:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        return float((np.abs(signs @ in_group) >= abs(in_group.sum())).mean())
    generator = np.random.default_rng(0)
    extreme = 1  # the observed signs are one choice
    for _ in range(SWAPS // SWAPS_AT_ONCE):
        signs = generator.choice((-1.0, 1.0), size=(SWAPS_AT_ONCE, count))
        extreme += int((np.abs(signs @ in_group) >= abs(in_group.sum())).sum())
    return extreme / (SWAPS + 1)
