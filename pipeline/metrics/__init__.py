"""The metrics of the program: a record in a file for each, found by listing this package.

All that knows metrics by name is derived from the records: what `monitor` may name, tables,
intervals, columns of lists, the glossary. Reading them needs neither torch nor NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pipeline.base.kinds import load_records

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Direction = Literal["max", "min"]

TASKS = ("binary", "multiclass", "regression")
#: Values that are no metrics of predictions, and are better when smaller.
COSTS = frozenset({"loss", "time", "parameters"})
#: Keeps the end of an interval finite.
MOST_EXPONENT = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What the program knows about a metric.

    Args:
        name: Name in keys, such as `f1` in `val/f1`.
        label: Name in sentences.
        tasks: Tasks that have the metric: `binary`, `multiclass` and `regression`.
        better: `max` if larger values are better, else `min`.
        bounds: Smallest and largest possible value; infinite = there is none.
        score: Maps rows to the metric's value for each draw, (draws,); NaN = undefined. The rows
            are `ClassCounts`, or `ScoredValues` for a regression, of `pipeline.metrics._rows`.
        glossary: What the value means, in half a sentence.
        chinese: The same in Chinese, with the metric's Chinese name.
        order: Place in tables; equal ones are in the order of their names.
        is_main: Whether every run has the metric. Others are scored by runs that follow them.
        rank: Place among the metrics that represent a run in lists; `None` = it represents none.
            The first one of a task is monitored by default.
        may_monitor: Whether the metric may choose the kept epoch.
        is_share: Whether the value is a share of rows, or is built from shares: its bootstrap
            interval is Wilson's.
        proportion: Maps `ClassCounts` to the hits and the rows, (draws,) each, that the value is
            the share of; `None` = it is a mean of several shares. A share of independent rows has
            an exact interval. Without this function the metric never has one.
        row_terms: Maps `ScoredValues` to values of the rows, (rows,), whose mean the metric is made
            of, and to others by whose mean that is divided; `None` = by 1. The interval of
            independent rows then allows for a few large errors.
        from_mean: Maps that mean or quotient to the metric.
        ranks_rows: Whether the score sorts the rows and compares pairs of them. Then the interval
            rests on the rows of the rarest class, and large tests have none.
        has_interval_in_time: Whether forecasts have an interval; a few stretches of time don't
            show how much the targets vary.
        scores_draws: Whether `score` takes many weighted draws at once. A user's own metric takes
            `ScoredRows`, draw by draw.
    """

    name: str
    label: str
    tasks: tuple[str, ...]
    better: Direction
    bounds: tuple[float, float]
    score: Callable[[Any], NDArray[np.float64]]
    glossary: str
    chinese: str
    order: int = 100
    is_main: bool = False
    rank: int | None = None
    may_monitor: bool = True
    is_share: bool = False
    proportion: Callable[[Any], tuple[Any, Any] | None] | None = None
    row_terms: Callable[[Any], tuple[Any, Any | None] | None] | None = None
    from_mean: Callable[[float], float] = float
    ranks_rows: bool = False
    has_interval_in_time: bool = True
    scores_draws: bool = True

    def __post_init__(self) -> None:
        """Refuse fields that contradict each other, which no type forbids."""
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"Metric {self.name!r}: `bounds` must be a lower and an upper one")
        if not self.tasks or not {*self.tasks} <= {*TASKS}:
            raise ValueError(f"Metric {self.name!r}: `tasks` must be some of {', '.join(TASKS)}")
        if self.better not in ("max", "min"):
            raise ValueError(f"Metric {self.name!r}: `better` must be max or min")

    def interval(self, value: float, reach: float) -> tuple[float, float]:
        """Return both ends of the metric's interval, inside its bounds.

        Args:
            value: The metric on all rows.
            reach: Half the width that the interval would have if the metric were normal.

        Source: Wilson 1927 for shares. The others are taken as normal on an unbounded scale: the
        logarithm of the distance from a single bound, and the logit between two.
        """
        low, high = self.bounds
        if math.isinf(low) and math.isinf(high):
            return value - reach, value + reach
        if math.isinf(high):
            factor = _exponential(reach, value - low)
            return low + (value - low) / factor, low + (value - low) * factor
        if math.isinf(low):
            factor = _exponential(reach, high - value)
            return high - (high - value) * factor, high - (high - value) / factor
        width = high - low
        scale = _wilson if self.is_share else _logit
        begin, end = scale((value - low) / width, reach / width)
        return low + begin * width, low + end * width


def _exponential(reach: float, distance: float) -> float:
    return math.exp(min(reach / distance, MOST_EXPONENT)) if distance > 0 else 1.0


def _logit(share: float, reach: float) -> tuple[float, float]:
    variance = share * (1 - share)
    if variance <= 0:
        return share, share
    odds = share / (1 - share)
    factor = _exponential(reach, variance)
    return odds / (odds + factor), odds * factor / (1 + odds * factor)


def _wilson(share: float, reach: float) -> tuple[float, float]:
    variance = share * (1 - share)
    if variance <= 0:
        return share, share
    scale = reach**2 / variance
    centre = (share + scale / 2) / (1 + scale)
    half = math.sqrt(reach**2 + scale**2 / 4) / (1 + scale)
    return max(0.0, centre - half), min(1.0, centre + half)


@cache
def all_metrics() -> dict[str, Metric]:
    """Return the records of the metrics by name, in the order of tables.

    Raises:
        ConfigError: A record is incomplete, or two have one name.
    """
    records = load_records(__name__, Metric)
    metrics = sorted(records.values(), key=lambda metric: (metric.order, metric.name))
    return {metric.name: metric for metric in metrics}


def of_task(task: str) -> dict[str, Metric]:
    """Return the metrics that a task can have, by name."""
    return {name: metric for name, metric in all_metrics().items() if task in metric.tasks}


def main_metrics(task: str) -> list[Metric]:
    """Return the metrics that every run of a task has."""
    return [metric for metric in of_task(task).values() if metric.is_main]


def main_names(task: str) -> tuple[str, ...]:
    """Return the names of the metrics that every run of a task has."""
    return tuple(metric.name for metric in main_metrics(task))


def monitored() -> dict[str, Direction]:
    """Return the keys that a run can monitor, with their directions."""
    metrics = [metric for metric in all_metrics().values() if metric.may_monitor]
    directions = {f"val/{metric.name}": metric.better for metric in metrics}
    return {**directions, "val/loss": "min", "train/loss": "min"}


def ranked() -> dict[str, Metric]:
    """Return the metrics that represent runs, by name, the first ones first."""
    metrics = [metric for metric in all_metrics().values() if metric.rank is not None]
    metrics.sort(key=lambda metric: (metric.rank, metric.order))
    return {metric.name: metric for metric in metrics}


def default_name(task: str) -> str:
    """Return the name of the metric that a run of a task monitors by default."""
    return next(name for name, metric in ranked().items() if task in metric.tasks)


def default_names() -> tuple[str, ...]:
    """Return the names of the metrics that runs of any task monitor by default."""
    return tuple(dict.fromkeys(map(default_name, TASKS)))


def metric_label(name: str) -> str:
    """Return the name of a metric as a sentence has it, such as `F1` for `f1`."""
    metric = all_metrics().get(name)
    return name if metric is None else metric.label


def direction(key: str) -> Direction:
    """Return whether a larger or a smaller value of a metric such as `val/f1` is better.

    All values of the stage `time` are better when smaller, as in `time/fit`.
    """
    stage, _, name = key.rpartition("/")
    metric = all_metrics().get(name)
    if metric is not None and stage != "time":
        return metric.better
    return "min" if name in COSTS or stage == "time" else "max"


def bounds(key: str) -> tuple[float, float]:
    """Return the smallest and the largest value that a metric such as `val/f1` can have."""
    name = key.rpartition("/")[2]
    if name == "loss":
        return 0.0, math.inf
    metric = all_metrics().get(name)
    return (-math.inf, math.inf) if metric is None else metric.bounds


def widest_difference(key: str) -> float:
    """Return the largest possible difference between two values of a metric."""
    low, high = bounds(key)
    return high - low
