"""Two networks asked about the same rows: which answers differ, and what chance could do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.bootstrap import (
    AREA_OPERATIONS,
    BLOCK_CELLS,
    DRAWS,
    ENDS,
    FEWEST_DRAWS,
    MOST_ROWS,
    OPERATIONS,
    Values,
    drawn,
    weighted_scores,
)
from pipeline.findings.records import Array, TestRows


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


def flips(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Flips:
    """Count in which rows (rows,) each of two is right.

    Source: McNemar 1947; the binomial form is exact for any number of rows.
    """
    alone = int((first & ~second).sum()), int((~first & second).sum())
    return Flips(
        both=int((first & second).sum()),
        first=alone[0],
        second=alone[1],
        neither=int((~first & ~second).sum()),
        p=_sign_test(*alone),
    )


def _sign_test(first: int, second: int) -> float:
    from scipy.stats import binomtest  # type: ignore[import-untyped] # scipy brings no types

    total = first + second
    return float(binomtest(first, total, 0.5).pvalue) if total else 1.0


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
    block: int = 1,
    seed: int = 0,
) -> Mapping[str, Difference]:
    """Measure two networks on the same rows, drawn again for both alike.

    What a row does to both at once cancels out, so that the interval of the difference is narrower
    than two intervals beside each other would tell (Efron and Tibshirani 1993, chapter 8).

    Args:
        first: The first one's test rows.
        second: The second one's: the same rows in the same order.
        thresholds: Probability above which each calls a row positive.
        block: Neighbouring rows that are drawn together, 1 for independent ones.
        seed: Of the draws.
    """
    draws = max(FEWEST_DRAWS, min(DRAWS, OPERATIONS // max(1, first.outputs.size)))
    one, other = (
        weighted_scores(
            torch.from_numpy(part.outputs),
            torch.from_numpy(first.targets),
            threshold=threshold,
            has_area=draws * first.outputs.size <= AREA_OPERATIONS,
        )
        for part, threshold in zip((first, second), thresholds, strict=True)
    )
    rows = len(first.targets)
    once = np.ones((1, rows))
    found: dict[str, list[Values]] = {}
    for counts in _redrawn(rows, draws, block=block, seed=seed):
        before, after = one(counts), other(counts)
        for key, values in before.items():
            found.setdefault(key, []).append(after[key] - values)
    before, after = one(once), other(once)
    return {
        key: Difference(
            first=float(before[key][0]),
            second=float(after[key][0]),
            interval=_interval(found.get(key, [])),
        )
        for key in before
    }


def _redrawn(rows: int, draws: int, *, block: int, seed: int) -> Iterator[Values]:
    """Yield how often each row was drawn (draws, rows), some draws at a time; none for one row."""
    if not 1 < rows <= MOST_ROWS:
        return
    generator, portion = np.random.default_rng(seed), max(1, BLOCK_CELLS // rows)
    for begin in range(0, draws, portion):
        size = min(portion, draws - begin)
        yield drawn(rows, size, block=max(1, min(block, rows)), generator=generator)


def _interval(parts: list[Values]) -> tuple[float, float] | None:
    """Return where 95 % of the draws lie; `None` where most of them have no value."""
    values = np.concatenate(parts) if parts else np.empty(0)
    known = values[np.isfinite(values)]
    if len(known) <= len(values) / 2:
        return None
    low, high = np.quantile(known, ENDS)
    return float(low), float(high)
