"""95 % intervals of test figures and of the difference between two networks.

A share of independent rows has the exact interval of Clopper and Pearson (1934), and a mean of
their errors one of `mean_intervals.py`. For all others, independent units are drawn with
replacement: rows, whole groups, or blocks of neighbouring forecasts. Metrics are computed for all
draws at once from how often each row was drawn (Efron and Tibshirani 1993). Their standard
deviation gives an interval by Student's t, on a scale that keeps it inside the metric's range.
`benchmarks/interval_coverage.py` measures how often an interval
contains the true value.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter, thread_time
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.base.findings import Array, Findings, TestRows
from pipeline.metrics import Metric, main_metrics, widest_difference
from pipeline.metrics._rows import ScoredRows, Values
from pipeline.scoring.mean_intervals import mean_interval, quotient_interval
from pipeline.scoring.scores import drawn_rows, task_of

LEVEL = 0.95
#: Fewer groups or blocks have no interval: their variance is not known well enough.
FEWEST_UNITS = 20
#: If a class has fewer rows, the area under the ROC curve has no interval: it would be too wide.
FEWEST_ROWS = 30
#: More and shorter blocks would miss long correlations of forecast errors (Schmeiser 1982).
MOST_BLOCKS = 30
DRAWS = 1000
FEWEST_DRAWS = 100
#: Limit of draws × rows × classes, about half a second; large tests get fewer than 1,000 draws.
OPERATIONS = 10_000_000
#: Seconds of processor time in which all metrics that are scored draw by draw have to be drawn, and
#: their numbers of draws: steps, since equal runs take different times.
SINGLE_SECONDS = 0.3
SINGLE_DRAWS = (1000, 300, 100, 30)
#: Real time may be this many times longer: other processes may use the processor.
REAL_TIME_FACTOR = 10
#: Shares of the rows on which such a metric is tried first: it may take long.
TRIED = (64, 16, 4, 1)
#: Limit above which the area under the ROC curve has no interval: its sort takes too long.
AREA_OPERATIONS = 2 * OPERATIONS
#: More rows have no interval: it would be too narrow to matter.
MOST_ROWS = 1_000_000
#: Draws × rows that are counted at once: they fit into the cache of a core.
BLOCK_CELLS = 200_000

#: Maps the number of times each row was drawn (draws, rows) to the values of each metric (draws,).
WeightedScores = Callable[[Values], dict[str, Values]]


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
        """Whether an interval can be computed from them."""
        if self.kind == "row":
            return 1 < self.count <= MOST_ROWS
        return len(self.of_row) <= MOST_ROWS and self.effective >= FEWEST_UNITS

    @property
    def effective(self) -> float:
        """Number of equally sized units with as much information; the count if sizes are equal."""
        sizes = np.bincount(self.of_row, minlength=1).astype(np.float64)
        return float(sizes.sum() ** 2 / max(1.0, (sizes**2).sum()))

    @property
    def words(self) -> str:
        """The units in words: `741 rows`, `12 groups of rows`, `24 blocks of neighbouring rows`."""
        content = {"row": "", "group": " of rows", "block": " of neighbouring rows"}[self.kind]
        plural = "" if self.count == 1 else "s"
        return f"{self.count:,} {self.kind}{plural}{content}"

    def errors(self, *, count: float | None = None, level: float = LEVEL) -> float:
        """Return the half width of an interval, in standard deviations of the draws.

        Args:
            count: Number of units that the figure rests on; `None` = all.
            level: Probability with which the interval contains the true value.
        """
        from scipy.special import stdtrit  # type: ignore[import-untyped] # scipy brings no types

        degrees = max(1.0, (self.effective if count is None else count) - 1)
        unbiased = math.sqrt((degrees + 1) / degrees)
        return float(stdtrit(degrees, (1 + level) / 2)) * unbiased * self.widening

    def of_an_area(self, targets: NDArray[np.int64]) -> float:
        """Return the effective number of units behind an area under the ROC curve.

        It is half the number of units on the smallest side, a class or its complement: a mean over
        pairs varies less from draw to draw than from test to test.
        """
        labels = np.unique(targets)
        sides = [targets == label for label in labels] + [targets != label for label in labels]
        counts = [len(np.unique(self.of_row[side])) for side in sides if side.any()]
        return float(min([self.effective, *counts])) / 2


def units_of(
    rows: int,
    *,
    groups: NDArray[np.int64] | None = None,
    horizon: int | None = None,
    stride: int = 1,
) -> Units:
    """Return what counts as independent among rows.

    A block has at least twice the steps of a forecast. Forecasts of `horizon` steps share errors
    with the next `horizon` - 1, so that the means of neighbouring blocks are correlated. The
    correlation hides the share `horizon` / (3 · block) of the variance.

    Args:
        rows: Number of rows.
        groups: Group of each row, (rows,); `None` = no groups.
        horizon: Steps of each forecast; `None` = the rows are not forecasts.
        stride: Steps from one forecast to the next; those of a stride of `horizon` share none.
    """
    if groups is not None:
        names, of_row = np.unique(groups, return_inverse=True)
        return Units(kind="group", of_row=of_row, count=len(names))
    if horizon is None:
        return Units(kind="row", of_row=np.arange(rows), count=rows)
    shared = -(-horizon // stride)  # rows that share steps with one of them
    block = max(2 * shared, -(-rows // MOST_BLOCKS))
    count = max(1, rows // block)
    return Units(
        kind="block",
        of_row=np.arange(rows) * count // max(1, rows),
        count=count,
        widening=1 / math.sqrt(1 - shared / (3 * block)),
    )


def units_of_test(findings: Findings) -> Units:
    """Return what counts as independent among the test rows in a run's findings."""
    test = findings.test
    return units_of(
        0 if test is None else len(test.targets),
        groups=None if test is None else test.groups,
        horizon=findings.horizon if findings.targets else None,
        stride=findings.stride,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """The intervals of a test.

    Args:
        draws: Number of bootstrap draws; 0 = the units are too few or too many.
        units: What was drawn, in words: `741 rows`.
        ends: Lower and upper end by metric. Metrics that are undefined in most draws or equal in
            all of them are left out. So is R² of forecasts: a few stretches of time don't show how
            much the target varies.
        fewer: Number of draws of the metrics that were scored draw by draw, if there were fewer.
    """

    draws: int
    units: str
    ends: Mapping[str, tuple[float, float]]
    fewer: Mapping[str, int] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """The metrics whose intervals rest on fewer draws than the others, in words."""
        counts = [f"{name} {count}" for name, count in self.fewer.items()]
        return f"fewer bootstrap draws, to save time: {', '.join(counts)}" if counts else ""


def no_intervals_words(units: str) -> str:
    """Return why a test has no intervals; `units` are the test's units in words."""
    return (
        f"no confidence intervals: {units}; expected {FEWEST_UNITS} or more groups or blocks, and "
        f"at most {MOST_ROWS:,} rows"
    )


def intervals(
    outputs: Array,
    targets: Array,
    *,
    units: Units,
    threshold: float,
    seed: int,
    draws: int = DRAWS,
    more: Iterable[Metric] = (),
) -> Intervals:
    """Return the 95 % interval of each metric of the task; equal arguments give equal results.

    Args:
        outputs: Probabilities (rows,) or (rows, classes), or values (rows, outputs).
        targets: Classes, int64 (rows,), or values (rows, outputs).
        units: What counts as independent among the rows.
        threshold: Probability above which a row counts as positive.
        seed: Seed of the draws.
        draws: Largest number of draws; many rows get fewer.
        more: Metrics besides the main ones of the task.
    """
    if not units.are_enough:
        return Intervals(draws=0, units=units.words, ends={})
    draws = _affordable(draws, outputs.size)
    metrics = _sampled([*main_metrics(task_of(outputs, targets)), *more], draws * outputs.size)
    ends = {}
    if units.kind == "row":
        ends = _computed_intervals(metrics, outputs, targets, threshold=threshold)
        metrics = [metric for metric in metrics if metric.row_terms is None]
    sampled = [metric for metric in metrics if metric.name not in ends]
    scores = weighted_scores(sampled, outputs, targets, threshold=threshold)
    values = scores(np.ones((1, len(targets))))
    halves = _half_widths(scores, sampled, units, targets, draws=draws, seed=seed)
    for metric in sampled:
        value = float(values[metric.name][0])
        half = halves.get(metric.name, 0.0)
        is_possible = units.kind != "block" or metric.has_interval_in_time
        if half > 0 and math.isfinite(value) and is_possible:
            ends[metric.name] = metric.interval(value, half)
    fewer = {}
    singles = [metric for metric in more if not metric.scores_draws]
    for metric in singles:
        seconds = SINGLE_SECONDS / len(singles)
        value, sample = _single_draws(
            metric, (outputs, targets), units, draws=draws, seed=seed, seconds=seconds
        )
        half = _half_width(sample, units) or 0.0
        if half > 0 and math.isfinite(value):
            ends[metric.name] = metric.interval(value, half)
            if len(sample) < draws:
                fewer[metric.name] = len(sample)
    return Intervals(draws=draws, units=units.words, ends=ends, fewer=fewer)


def _computed_intervals(
    metrics: Iterable[Metric], outputs: Array, targets: Array, *, threshold: float
) -> dict[str, tuple[float, float]]:
    """Return the intervals that need no draws, by name: of shares and means of independent rows."""
    weighted_rows = drawn_rows(outputs, targets, threshold=threshold)
    rows = weighted_rows(np.ones((1, len(targets))))
    ends = {}
    for metric in metrics:
        if metric.proportion is not None:
            share = metric.proportion(rows)
            if share is not None and share[1][0] > 0:
                ends[metric.name] = proportion_interval(float(share[0][0]), float(share[1][0]))
        elif metric.row_terms is not None:
            terms = metric.row_terms(rows)
            mean_ends = None if terms is None else _mean_ends(*terms)
            if mean_ends is not None:
                low, high = sorted(metric.from_mean(end) for end in mean_ends)
                ends[metric.name] = low, high
    return ends


def _mean_ends(parts: Values, wholes: Values | None) -> tuple[float, float] | None:
    """Return both ends of a mean's interval, or of a quotient's of two means."""
    if wholes is None:
        return mean_interval(parts, level=LEVEL)
    return quotient_interval(parts, wholes, level=LEVEL)


def proportion_interval(hits: float, rows: float, *, level: float = LEVEL) -> tuple[float, float]:
    """Return both ends of the interval of a share of independent rows (Clopper and Pearson 1934).

    It contains the true share with a probability of at least `level`, however few rows there are.
    """
    from scipy.special import betaincinv

    outside = (1 - level) / 2
    low = betaincinv(hits, rows - hits + 1, outside) if hits > 0 else 0.0
    high = betaincinv(hits + 1, rows - hits, 1 - outside) if hits < rows else 1.0
    return float(low), float(high)


class _TimeLimit:
    """Tells whether this thread has computed for more than `seconds`, however busy the machine is.

    A thread that waits does not compute, so real time is limited, too.
    """

    def __init__(self, seconds: float) -> None:
        self._computed_until = thread_time() + seconds
        self._real_until = perf_counter() + REAL_TIME_FACTOR * seconds

    @property
    def is_over(self) -> bool:
        """Whether the time is used up."""
        return thread_time() > self._computed_until or perf_counter() > self._real_until


def _single_draws(
    metric: Metric,
    rows: tuple[Array, Array],
    units: Units,
    *,
    draws: int,
    seed: int,
    seconds: float,
) -> tuple[float, Values]:
    """Return a metric on all rows and on single draws, as many as the seconds allow.

    There is no draw if a few would take too long; the value may then be that of a share of the
    rows. The first score may take all the seconds, since the metric may have to import something.
    """
    count = len(rows[1])
    import_limit = _TimeLimit(seconds)
    value = _single_score(metric, rows, np.arange(0, count, TRIED[0]))
    if import_limit.is_over:
        return value, np.empty(0)
    draw_limit = _TimeLimit(seconds)
    for share in TRIED:
        score_limit = _TimeLimit(seconds / SINGLE_DRAWS[-1])
        value = _single_score(metric, rows, np.arange(0, count, share))
        if score_limit.is_over:
            return value, np.empty(0)
    generator = np.random.default_rng(seed)
    sample: list[float] = []
    while len(sample) < draws and not draw_limit.is_over:
        times = drawn(units, 1, generator=generator)[0].astype(np.int64)
        sample.append(_single_score(metric, rows, np.repeat(np.arange(count), times)))
    reached_steps = [step for step in (draws, *SINGLE_DRAWS) if step <= len(sample)]
    return value, np.array(sample[: max(reached_steps, default=0)])


def _single_score(metric: Metric, rows: tuple[Array, Array], chosen: NDArray[np.int64]) -> float:
    """Return a metric on some rows; NaN if it raises an error."""
    from torch import from_numpy

    outputs, targets = rows
    tensors = from_numpy(outputs[chosen]), from_numpy(targets[chosen])
    try:
        return float(metric.score(ScoredRows(tensors=tensors))[0])
    except Exception:  # a user's own class may refuse rows, such as those of a single class
        return math.nan


def weighted_scores(
    metrics: Sequence[Metric], outputs: Array, targets: Array, *, threshold: float
) -> WeightedScores:
    """Return a function that scores weighted rows, so that it scores many draws at once.

    Args:
        metrics: Metrics of the task.
        outputs: Probabilities (rows,) or (rows, classes), or values (rows, outputs).
        targets: Classes, int64 (rows,), or values (rows, outputs).
        threshold: Probability above which a row counts as positive.
    """
    rows_of = drawn_rows(outputs, targets, threshold=threshold)

    def score(weights: Values) -> dict[str, Values]:
        rows = rows_of(weights)
        return {metric.name: metric.score(rows) for metric in metrics}

    return score


def _affordable(draws: int, numbers: int) -> int:
    """Return how many draws of so many outputs take half a second."""
    return max(min(draws, FEWEST_DRAWS), min(draws, OPERATIONS // max(1, numbers)))


def _sampled(metrics: Iterable[Metric], operations: int) -> list[Metric]:
    """Return the metrics that score many draws, without those that sort rows if there are many."""
    is_small = operations <= AREA_OPERATIONS
    possible = [metric for metric in metrics if metric.scores_draws]
    return [metric for metric in possible if is_small or not metric.ranks_rows]


def _half_widths(
    scores: WeightedScores,
    metrics: Sequence[Metric],
    units: Units,
    targets: Array,
    *,
    draws: int,
    seed: int,
) -> dict[str, float]:
    """Return half the width that each metric's interval would have if the metric were normal.

    A metric that is undefined in at least half of the draws is left out; a constant one has 0.
    """
    if not metrics:
        return {}
    generator = np.random.default_rng(seed)
    portion = max(1, BLOCK_CELLS // len(units.of_row))
    parts = []
    for begin in range(0, draws, portion):
        size = min(portion, draws - begin)
        parts.append(scores(drawn(units, size, generator=generator)))
    halves = {}
    for metric in metrics:
        count = None
        if metric.ranks_rows:
            count = units.of_an_area(targets.astype(np.int64))
            if count < (FEWEST_ROWS / 2 if units.kind == "row" else FEWEST_UNITS):
                continue
        values = np.concatenate([part[metric.name] for part in parts])
        half = _half_width(values, units, count=count)
        if half is not None:
            halves[metric.name] = half
    return halves


def _half_width(values: Values, units: Units, *, count: float | None = None) -> float | None:
    finite = values[np.isfinite(values)]
    if len(finite) <= len(values) / 2:
        return None
    error = float(finite.std())
    rounding = 1e-12 * float(np.abs(finite).max())
    return units.errors(count=count) * error if error > rounding else 0.0


def drawn(units: Units, draws: int, *, generator: np.random.Generator) -> Values:
    """Draw units with replacement and count how often each row was drawn, (draws, rows)."""
    chosen = generator.integers(0, units.count, size=(draws, units.count))
    bins = chosen + units.count * np.arange(draws)[:, None]  # the units of each draw have their own
    counts = np.bincount(bins.ravel(), minlength=draws * units.count)
    unit_counts = counts.reshape(draws, units.count).astype(np.float64)
    return unit_counts if units.kind == "row" else unit_counts[:, units.of_row]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """A metric of two networks on all rows, and the 95 % interval of their difference, if known."""

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
    more: Iterable[Metric] = (),
    names: Collection[str] | None = None,
) -> Mapping[str, PairedDifference]:
    """Return each metric of two networks on the same rows, with the interval of the difference.

    Both networks are scored on the same draws. Variation that they share cancels out, so that the
    interval is narrower than two separate intervals suggest (Efron and Tibshirani 1993, chapter 8).

    Args:
        first: Test rows of the first network.
        second: The same test rows, in the same order, with the outputs of the second network.
        thresholds: Probability above which each network calls a row positive.
        units: What counts as independent among the rows.
        seed: Seed of the draws.
        more: Metrics besides the main ones of the task.
        names: Names of the metrics; `None` = all of these.
    """
    draws = _affordable(DRAWS, first.outputs.size)
    task = task_of(first.outputs, first.targets)
    metrics = []
    for metric in _sampled([*main_metrics(task), *more], draws * first.outputs.size):
        if names is None or metric.name in names:
            metrics.append(metric)
    targets = first.targets
    first_scores = weighted_scores(metrics, first.outputs, targets, threshold=thresholds[0])
    second_scores = weighted_scores(metrics, second.outputs, targets, threshold=thresholds[1])

    def difference(weights: Values) -> dict[str, Values]:
        first_values = first_scores(weights)
        second_values = second_scores(weights)
        return {key: values - first_values[key] for key, values in second_values.items()}

    halves: Mapping[str, float] = {}
    if units.are_enough:
        halves = _half_widths(difference, metrics, units, targets, draws=draws, seed=seed)
    once = np.ones((1, len(targets)))
    first_values = first_scores(once)
    second_values = second_scores(once)
    differences = {}
    for key in first_values:
        first_value = float(first_values[key][0])
        second_value = float(second_values[key][0])
        ends = None
        half = halves.get(key)
        if half is not None:
            most = widest_difference(key)
            value = second_value - first_value
            ends = (max(-most, value - half), min(most, value + half))
        differences[key] = PairedDifference(first=first_value, second=second_value, interval=ends)
    return differences
