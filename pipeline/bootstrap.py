"""How far a figure of the test could be elsewhere, had chance sent other rows: its 95 % interval.

Independent units are drawn again with replacement: rows, whole groups of rows, or blocks of
neighbouring forecasts, which resemble each other. Every metric is computed for all draws at once
from how often each row was drawn (Efron and Tibshirani 1993). The standard deviation of the draws
gives an interval by Student's t, on a scale that keeps it inside the range of the metric.
`benchmarks/interval_coverage.py` measures how often such an interval holds the true value.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.scale import ROUNDING
from pipeline.findings.records import Findings

Values = NDArray[np.float64]
Weighted = Callable[[Values], dict[str, Values]]
"""Scores of all draws (draws,) by metric, from how often each row was drawn (draws, rows)."""

LEVEL = 0.95
FEWEST_UNITS = 20
"""Fewer groups or blocks have no interval: what they differ by is not known well enough."""
MOST_BLOCKS = 30
"""More and shorter blocks miss what lasts in the errors of forecasts (Schmeiser 1982)."""
DRAWS = 1000
FEWEST_DRAWS = 100
OPERATIONS = 10_000_000
"""Draws × rows × classes; where 1,000 draws are more, there are fewer. Half a second."""
AREA_OPERATIONS = 2 * OPERATIONS
"""From where on the area under the ROC curve, which sorts, has no interval: it takes too long."""
MOST_ROWS = 1_000_000
"""More rows have no interval: it would be narrower than anything a reader compares."""
MOST_EXPONENT = 50.0
"""Keeps the end of an interval finite."""
BLOCK_CELLS = 200_000
"""Draws × rows that are counted at once: as many as a core's own memory holds."""


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

        Args:
            count: Units that a figure rests on; `None` = all of them.
            level: How often the interval shall hold the true value.
        """
        from scipy.special import stdtrit  # type: ignore[import-untyped] # scipy brings no types

        degrees = max(1.0, (self.effective if count is None else count) - 1)
        unbiased = math.sqrt((degrees + 1) / degrees)
        return float(stdtrit(degrees, (1 + level) / 2)) * unbiased * self.widening

    def of_an_area(self, targets: NDArray[np.int64]) -> float:
        """Return the units that an area under the ROC curve rests on.

        They are no more than those that the rarest class is in, or is not in where these are
        fewer. Of groups and blocks half count: an area is a mean over pairs, which vary less from
        draw to draw than from test to test.
        """
        there = np.unique(targets)
        sides = [targets == one for one in there] + [targets != one for one in there]
        counts = [len(np.unique(self.of_row[side])) for side in sides if side.any()]
        return float(min([self.effective, *counts])) / (1 if self.kind == "row" else 2)


def units_of(
    rows: int, *, groups: NDArray[np.int64] | None = None, horizon: int | None = None
) -> Units:
    """Return what counts as independent among rows.

    A block has at least twice the steps of a forecast. Forecasts of `horizon` steps share errors
    with the next `horizon` - 1, so that the means of neighbouring blocks are correlated; where the
    correlation falls linearly, as it does for shared steps, that hides the share
    `horizon` / (3 · block) of the variance.

    Args:
        rows: How many.
        groups: Group of each row, (rows,); `None` = there are none.
        horizon: Steps that a forecast has, of rows that are forecasts in time; else `None`.
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
        ends: Lower and upper end by metric; one that most draws leave without a value, or that
            they all leave as it is, is not there, nor is R² of forecasts: it depends on how much
            the target varies in a stretch of time, which few stretches don't tell.
    """

    draws: int
    units: str
    ends: Mapping[str, tuple[float, float]]


def intervals(
    outputs: Tensor,
    targets: Tensor,
    *,
    units: Units,
    threshold: float,
    seed: int,
    draws: int = DRAWS,
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
    draws = affordable(draws, outputs.numel())
    has_area = draws * outputs.numel() <= AREA_OPERATIONS
    weighted = weighted_scores(outputs, targets, threshold=threshold, has_area=has_area)
    parts = [weighted(counts) for counts in redrawn(units, draws, seed=seed)]
    values = weighted(np.ones((1, len(targets))))
    reaches = reaches_of(parts, units, targets.numpy())
    ends = {
        key: interval(key, float(values[key][0]), reach)
        for key, reach in reaches.items()
        if reach > 0 and math.isfinite(values[key][0]) and (key, units.kind) != ("r2", "block")
    }
    return Intervals(draws=draws, units=units.words, ends=ends)


def affordable(draws: int, numbers: int) -> int:
    """Return how many draws of so many outputs can be scored in about half a second."""
    return max(min(draws, FEWEST_DRAWS), min(draws, OPERATIONS // max(1, numbers)))


def redrawn(units: Units, draws: int, *, seed: int) -> Iterator[Values]:
    """Yield how often each row was drawn, (draws, rows), some draws at a time."""
    generator = np.random.default_rng(seed)
    portion = max(1, BLOCK_CELLS // len(units.of_row))
    for begin in range(0, draws, portion):
        yield drawn(units, min(portion, draws - begin), generator=generator)


def drawn(units: Units, draws: int, *, generator: np.random.Generator) -> Values:
    """Draw units with replacement and count how often each row was drawn, (draws, rows)."""
    chosen = generator.integers(0, units.count, size=(draws, units.count))
    places = chosen + units.count * np.arange(draws)[:, None]
    counts = np.bincount(places.ravel(), minlength=draws * units.count)
    of_unit = counts.reshape(draws, units.count).astype(np.float64)
    return of_unit if units.kind == "row" else of_unit[:, units.of_row]


def reaches_of(
    draws: Sequence[Mapping[str, Values]], units: Units, targets: NDArray[np.generic]
) -> dict[str, float]:
    """Return half the width of each figure's interval, were the figure normally distributed.

    A figure that most draws leave without a value is not there; one that is the same in all draws
    has no width.

    Args:
        draws: Figures of some draws (draws,) by metric, in portions.
        units: What was drawn.
        targets: Classes (rows,) or values (rows, outputs).
    """
    found = {}
    for key in draws[0]:
        values = np.concatenate([portion[key] for portion in draws])
        known = values[np.isfinite(values)]
        if len(known) <= len(values) / 2:
            continue
        count = units.of_an_area(targets.astype(np.int64)) if key == "auroc" else None
        if count is not None and count < FEWEST_UNITS:
            continue
        error = float(known.std())
        rounding = 1e-12 * float(np.abs(known).max())
        found[key] = units.errors(count=count) * error if error > rounding else 0.0
    return found


def interval(key: str, value: float, reach: float) -> tuple[float, float]:
    """Return both ends of a metric's interval, inside the metric's range.

    Args:
        key: Name of the metric: `f1`, `rmse`, …
        value: The figure on all rows.
        reach: Half the width, were the figure normally distributed.

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


def weighted_scores(
    outputs: Tensor, targets: Tensor, *, threshold: float, has_area: bool = True
) -> Weighted:
    """Return what scores draws of these rows as `pipeline.metrics` scores rows.

    Args:
        outputs: As in `intervals`.
        targets: As in `intervals`.
        threshold: As in `intervals`.
        has_area: Compute the area under the ROC curve, too.
    """
    values, true = outputs.double().numpy(), targets.numpy()
    if targets.is_floating_point():
        return partial(_regression, values=values, true=true.astype(np.float64))
    if outputs.ndim == 1:
        # Compared as the metrics compare them, in the precision of the outputs.
        called = (outputs > threshold).numpy()
        probabilities = values if has_area else None
        return partial(_binary, positive=true == 1, called=called, probabilities=probabilities)
    called = values.argmax(1)
    return partial(
        _multiclass,
        true=true,
        called=called,
        classes=values.shape[1],
        probabilities=values if has_area else None,
    )


def _regression(weights: Values, *, values: Values, true: Values) -> dict[str, Values]:
    rows, errors = weights.sum(1), values - true
    squares = weights @ errors**2  # (draws, outputs)
    centred = true - true.mean(0)
    spread = weights @ centred**2 - (weights @ centred) ** 2 / rows[:, None]
    spread[spread <= rows[:, None] * (ROUNDING * np.abs(true).max(0)) ** 2] = 0.0
    return {
        "rmse": np.sqrt(squares.sum(1) / (rows * true.shape[1])),
        "mae": (weights @ np.abs(errors)).sum(1) / (rows * true.shape[1]),
        "r2": (1 - _ratio(squares, spread, empty=np.nan)).mean(1),
    }


def _binary(
    weights: Values,
    *,
    positive: NDArray[np.bool_],
    called: NDArray[np.bool_],
    probabilities: Values | None,
) -> dict[str, Values]:
    hits, calls, members = (_count(weights, by) for by in (positive & called, called, positive))
    found = {
        "accuracy": _count(weights, positive == called) / weights.sum(1),
        "precision": _ratio(hits, calls),
        "recall": _ratio(hits, members),
        "f1": _ratio(2 * hits, calls + members),
    }
    if probabilities is not None:
        found["auroc"] = _area(weights, probabilities, positive)
    return found


def _multiclass(
    weights: Values,
    *,
    true: NDArray[np.int64],
    called: NDArray[np.int64],
    classes: int,
    probabilities: Values | None,
) -> dict[str, Values]:
    members = true[:, None] == np.arange(classes)  # (rows, classes)
    chosen = called[:, None] == np.arange(classes)
    hits, calls, belong = (_count(weights, by) for by in (members & chosen, chosen, members))
    there = calls + belong > 0  # a class in neither is left out of the mean
    found = {
        "accuracy": hits.sum(1) / weights.sum(1),
        "precision": _mean(_ratio(hits, calls), there),
        "recall": _mean(_ratio(hits, belong), there),
        "f1": _mean(_ratio(2 * hits, calls + belong), there),
    }
    if probabilities is not None:
        columns = zip(probabilities.T, members.T, strict=True)
        areas = np.stack([_area(weights, scores, own) for scores, own in columns], axis=1)
        known = ~np.isnan(areas)
        found["auroc"] = _mean(np.where(known, areas, 0.0), known)
    return found


def _count(weights: Values, flags: NDArray[np.bool_]) -> Values:
    """Count the drawn rows with a flag, for flags (rows,) or (rows, classes)."""
    counts: Values = weights @ flags.astype(np.float64)
    return counts


def _area(weights: Values, scores: Values, positive: NDArray[np.bool_]) -> Values:
    """Return the area under the ROC curve of each draw, NaN where it has one kind of rows only.

    The share of pairs whose positive row has the higher score; of a tie, half counts.
    """
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
    return _ratio(np.einsum("dl,dl->d", ups, below), pairs, empty=np.nan)


def _mean(values: Values, counted: NDArray[np.bool_]) -> Values:
    return _ratio((values * counted).sum(1), counted.sum(1).astype(np.float64), empty=np.nan)


def _ratio(part: Values, whole: Values, *, empty: float = 0.0) -> Values:
    filled = np.full(np.broadcast(part, whole).shape, empty)
    ratios: Values = np.divide(part, whole, out=filled, where=whole > 0)
    return ratios
