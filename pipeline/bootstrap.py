"""95 % intervals of test figures and of the difference between two networks, and McNemar's test.

Independent units are drawn again with replacement: rows, whole groups, or blocks of neighbouring
forecasts. Metrics are computed for all draws at once from how often each row was drawn (Efron and
Tibshirani 1993); their deviation gives an interval by Student's t, on a scale that keeps it inside
the metric's range. `benchmarks/interval_coverage.py` measures how often it holds the true value.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.findings import Array, Findings, TestRows
from pipeline.metrics import Values, WeightedScores, weighted_scores, widest_difference

LEVEL = 0.95
#: Fewer groups or blocks have no interval: what they differ by is not known well enough.
FEWEST_UNITS = 20
#: An area under the ROC curve of fewer rows of a class has no interval; it would be too wide.
FEWEST_ROWS = 30
#: More and shorter blocks miss what lasts in the errors of forecasts (Schmeiser 1982).
MOST_BLOCKS = 30
DRAWS = 1000
FEWEST_DRAWS = 100
#: Draws × rows × classes; where 1,000 draws are more, there are fewer. Half a second.
OPERATIONS = 10_000_000
#: From where on the area under the ROC curve, which sorts, has no interval: it takes too long.
AREA_OPERATIONS = 2 * OPERATIONS
#: More rows have no interval: it would be narrower than anything a reader compares.
MOST_ROWS = 1_000_000
#: Keeps the end of an interval finite.
MOST_EXPONENT = 50.0
#: Draws × rows that are counted at once: as many as a core's own memory holds.
BLOCK_CELLS = 200_000
#: Groups whose signs are chosen in all ways: 8,192.
MOST_EXACT = 13
SWAPS, SWAPS_AT_ONCE = 10_000, 500


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Units:
    """What counts as independent among the rows of a test.

    Args:
        kind: Rows that are independent themselves, groups of rows, or blocks of neighbours.
        of_row: Number of the unit that each row belongs to, (rows,).
        count: Units.
        widening: Factor of a standard error, since neighbouring blocks resemble each other.
    """

    kind: Literal["row", "group", "block"]
    of_row: NDArray[np.int64]
    count: int
    widening: float = 1.0

    @property
    def are_enough(self) -> bool:
        """Whether an interval can be told from them."""
        if self.kind == "row":
            return 1 < self.count <= MOST_ROWS
        return len(self.of_row) <= MOST_ROWS and self.effective >= FEWEST_UNITS

    @property
    def effective(self) -> float:
        """How many units of equal size tell as much: their number, where all have equal size."""
        sizes = np.bincount(self.of_row, minlength=1).astype(np.float64)
        return float(sizes.sum() ** 2 / max(1.0, (sizes**2).sum()))

    @property
    def words(self) -> str:
        """Say what they are: `741 rows`, `12 groups of rows`, `24 blocks of neighbouring rows`."""
        of = {"row": "", "group": " of rows", "block": " of neighbouring rows"}[self.kind]
        return f"{self.count:,} {self.kind}{'s' * (self.count != 1)}{of}"

    def errors(self, *, count: float | None = None, level: float = LEVEL) -> float:
        """Return the half width of an interval, in standard deviations of the draws.

        `count` units are what a figure rests on (`None` = all); `level` is how often it holds.
        """
        from scipy.special import stdtrit  # type: ignore[import-untyped] # scipy brings no types

        degrees = max(1.0, (self.effective if count is None else count) - 1)
        unbiased = math.sqrt((degrees + 1) / degrees)
        return float(stdtrit(degrees, (1 + level) / 2)) * unbiased * self.widening

    def of_an_area(self, targets: NDArray[np.int64]) -> float:
        """Return the units that an area under the ROC curve rests on: half of the rarest side's.

        A mean over pairs varies less from draw to draw than from test to test.
        """
        there = np.unique(targets)
        sides = [targets == one for one in there] + [targets != one for one in there]
        counts = [len(np.unique(self.of_row[side])) for side in sides if side.any()]
        return float(min([self.effective, *counts])) / 2


def units_of(
    rows: int, *, groups: NDArray[np.int64] | None = None, horizon: int | None = None
) -> Units:
    """Return what counts as independent among rows: groups (rows,), blocks of forecasts, or rows.

    A block has at least twice the steps of a forecast. Forecasts of `horizon` steps (`None` = they
    are none) share errors with the next `horizon` - 1, so that the means of neighbouring blocks are
    correlated; that hides the share `horizon` / (3 · block) of the variance.
    """
    if groups is not None:
        names, of_row = np.unique(groups, return_inverse=True)
        return Units(kind="group", of_row=of_row, count=len(names))
    if horizon is None:
        return Units(kind="row", of_row=np.arange(rows), count=rows)
    block = max(2 * horizon, -(-rows // MOST_BLOCKS))
    count = max(1, rows // block)
    return Units(
        kind="block",
        of_row=np.arange(rows) * count // max(1, rows),
        count=count,
        widening=1 / math.sqrt(1 - horizon / (3 * block)),
    )


def units_of_test(findings: Findings) -> Units:
    """Return what counts as independent among the test rows that a run has left."""
    test = findings.test
    return units_of(
        0 if test is None else len(test.targets),
        groups=None if test is None else test.groups,
        horizon=findings.horizon if findings.targets else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """The intervals of a test.

    Args:
        draws: How often the units were drawn again; 0 = they are too few, or too many.
        units: What was drawn, in words: `741 rows`.
        ends: Lower and upper end by metric, without those that most draws leave without a value or
            all as they are, and R² of forecasts: few stretches of time don't tell how much varies.
    """

    draws: int
    units: str
    ends: Mapping[str, tuple[float, float]]


def intervals(
    outputs: Array, targets: Array, *, units: Units, threshold: float, seed: int, draws: int = DRAWS
) -> Intervals:
    """Return the 95 % interval of each metric of the task, equal for equal arguments.

    Args:
        outputs: Probabilities (rows,) or (rows, classes), or values (rows, outputs).
        targets: Classes, int64 (rows,), or values (rows, outputs).
        units: What counts as independent among the rows.
        threshold: Probability above which a row counts as positive.
        seed: Of the draws.
        draws: How many at most; for many rows there are fewer.
    """
    if not units.are_enough:
        return Intervals(draws=0, units=units.words, ends={})
    draws, has_area = _affordable(draws, outputs.size)
    scores = weighted_scores(outputs, targets, threshold=threshold, has_area=has_area)
    values = scores(np.ones((1, len(targets))))
    ends = {
        key: interval(key, float(values[key][0]), half)
        for key, half in _half_widths(scores, units, targets, draws, seed).items()
        if half > 0 and math.isfinite(values[key][0]) and (key, units.kind) != ("r2", "block")
    }
    return Intervals(draws=draws, units=units.words, ends=ends)


def _affordable(draws: int, numbers: int) -> tuple[int, bool]:
    """Return how many draws of so many outputs take half a second, and whether AUROC is scored."""
    draws = max(min(draws, FEWEST_DRAWS), min(draws, OPERATIONS // max(1, numbers)))
    return draws, draws * numbers <= AREA_OPERATIONS


def _half_widths(
    scores: WeightedScores, units: Units, targets: Array, draws: int, seed: int
) -> dict[str, float]:
    """Return half the width of each figure's interval, were the figure normal.

    A figure that most draws leave without a value is not there; one that never varies has 0.
    """
    generator = np.random.default_rng(seed)
    portion = max(1, BLOCK_CELLS // len(units.of_row))
    parts = [
        scores(drawn(units, min(portion, draws - begin), generator=generator))
        for begin in range(0, draws, portion)
    ]
    found = {}
    for key in parts[0]:
        values = np.concatenate([part[key] for part in parts])
        known = values[np.isfinite(values)]
        if len(known) <= len(values) / 2:
            continue
        count = None
        if key == "auroc":
            count = units.of_an_area(targets.astype(np.int64))
            if count < (FEWEST_ROWS / 2 if units.kind == "row" else FEWEST_UNITS):
                continue
        error, rounding = float(known.std()), 1e-12 * float(np.abs(known).max())
        found[key] = units.errors(count=count) * error if error > rounding else 0.0
    return found


def drawn(units: Units, draws: int, *, generator: np.random.Generator) -> Values:
    """Draw units with replacement and count how often each row was drawn, (draws, rows)."""
    chosen = generator.integers(0, units.count, size=(draws, units.count))
    places = chosen + units.count * np.arange(draws)[:, None]
    counts = np.bincount(places.ravel(), minlength=draws * units.count)
    of_unit = counts.reshape(draws, units.count).astype(np.float64)
    return of_unit if units.kind == "row" else of_unit[:, units.of_row]


def interval(key: str, value: float, reach: float) -> tuple[float, float]:
    """Return both ends of a metric's interval, inside the metric's range.

    `value` is the figure on all rows, `reach` half the width, were it normally distributed.

    Source: Wilson 1927 for shares. The others are taken as normal on a scale without an end: the
    logarithm of an error, or of 1 - R², and the logit of an area under the ROC curve.
    """
    if key in ("rmse", "mae"):
        factor = math.exp(min(reach / value, MOST_EXPONENT))
        return value / factor, value * factor
    if key == "r2":
        factor = math.exp(min(reach / (1 - value), MOST_EXPONENT))
        return 1 - (1 - value) * factor, 1 - (1 - value) / factor
    variance = value * (1 - value)
    if variance <= 0:
        return value, value
    if key == "auroc":
        odds, factor = value / (1 - value), math.exp(min(reach / variance, MOST_EXPONENT))
        return odds / (odds + factor), odds * factor / (1 + odds * factor)
    scale = reach**2 / variance
    centre = (value + scale / 2) / (1 + scale)
    half = math.sqrt(reach**2 + scale**2 / 4) / (1 + scale)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Figures of two networks on all rows, and the 95 % interval of their difference, if known."""

    first: float
    second: float
    interval: tuple[float, float] | None

    @property
    def value(self) -> float:
        """The difference itself."""
        return self.second - self.first


def paired_differences(
    first: TestRows,
    second: TestRows,
    *,
    thresholds: tuple[float, float],
    units: Units,
    seed: int = 0,
) -> Mapping[str, PairedDifference]:
    """Measure two networks on the same rows, in the same order, drawn again for both alike.

    What a row does to both cancels out, so that the interval of the difference is narrower than two
    intervals beside each other would tell (Efron and Tibshirani 1993, chapter 8). `thresholds` are
    the probabilities above which each calls a row positive; `seed` is that of the draws.
    """
    draws, has_area = _affordable(DRAWS, first.outputs.size)
    one, other = (
        weighted_scores(part.outputs, first.targets, threshold=threshold, has_area=has_area)
        for part, threshold in zip((first, second), thresholds, strict=True)
    )

    def difference(weights: Values) -> dict[str, Values]:
        before = one(weights)
        return {key: values - before[key] for key, values in other(weights).items()}

    halves: Mapping[str, float] = {}
    if units.are_enough:
        halves = _half_widths(difference, units, first.targets, draws, seed)
    once = np.ones((1, len(first.targets)))
    before, after = one(once), other(once)
    found = {}
    for key in before:
        was, now, most = float(before[key][0]), float(after[key][0]), widest_difference(key)
        ends = None
        if (half := halves.get(key)) is not None:
            ends = max(-most, now - was - half), min(most, now - was + half)
        found[key] = PairedDifference(first=was, second=now, interval=ends)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """How often one of two is right where the other is wrong: rows of each kind, and McNemar's p.

    `p` is the probability of so uneven a split of the rows that only one gets right, or a more
    uneven one, were both equally good; exact, two-sided, 1 where there is none. Where rows come in
    groups, that of a test on whole groups.
    """

    both: int
    first: int
    second: int
    neither: int
    p: float


def flips(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, groups: Array | None = None
) -> Flips:
    """Count in which rows (rows,), perhaps of groups, each of two is right (McNemar 1947)."""
    from scipy.stats import binomtest  # type: ignore[import-untyped] # scipy brings no types

    alone = int((first & ~second).sum()), int((~first & second).sum())
    if groups is not None:
        p = _swap_test(second.astype(np.int64) - first, groups)
    else:
        p = float(binomtest(alone[0], sum(alone), 0.5).pvalue) if any(alone) else 1.0
    return Flips(
        both=int((first & second).sum()),
        first=alone[0],
        second=alone[1],
        neither=int((~first & ~second).sum()),
        p=p,
    )


def _swap_test(more: NDArray[np.int64], groups: Array) -> float:
    """Return the p of a test that swaps the two networks in whole groups.

    Were both equally good, the sign of what the second gets right more (rows,) could be another in
    each group: all ways to choose the signs are tried, or many (Fisher's randomization test).
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
