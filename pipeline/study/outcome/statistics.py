"""What a few repeats say: their mean, their spread, and how far the mean can be trusted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.terminal import number

CONFIDENCE = 0.95

Bounds = tuple[float, float]
EVERYWHERE: Bounds = (-math.inf, math.inf)

Repeat = TypeVar("Repeat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Repeated measurements, summed up.

    Args:
        n: Measurements.
        mean: Their mean.
        sd: Their standard deviation, divided by n - 1; `None` for a single one.
        interval: 95 % interval of the mean by Student's t, inside the range of what is measured;
            `None` for a single one.
    """

    n: int
    mean: float
    sd: float | None
    interval: tuple[float, float] | None

    def words(self) -> str:
        """Write `0.8123 ± 0.0045`, both with the decimals of the mean."""
        if self.sd is None:
            return number(self.mean)
        return f"{number(self.mean)} ± {_alike(self.sd, self.mean)}"

    def interval_words(self) -> str:
        """Write `[0.8001, 0.8245]`, or `–` where one measurement says nothing about it."""
        if self.interval is None:
            return "–"
        low, high = (_alike(bound, self.mean) for bound in self.interval)
        return f"[{low}, {high}]"


def spread(values: Sequence[float], *, bounds: Bounds = EVERYWHERE) -> Spread | None:
    """Sum up the measurements that are finite; `None` where there are none.

    Args:
        values: The measurements.
        bounds: The smallest and the largest value that can be measured, and so the mean.
    """
    values = [value for value in values if math.isfinite(value)]
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Spread(n=1, mean=mean, sd=None, interval=None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    reach = _t_quantile(n - 1) * sd / math.sqrt(n)
    interval = max(bounds[0], mean - reach), min(bounds[1], mean + reach)
    return Spread(n=n, mean=mean, sd=sd, interval=interval)


def paired(
    one: Mapping[Repeat, float], other: Mapping[Repeat, float], *, widest: float = math.inf
) -> Spread | None:
    """Sum up `one - other` over the repeats that both have; `None` where they share none.

    What a repeat (a seed, a fold) does to both at once cancels out, so that far fewer of them
    show a difference than by two means beside each other.

    Args:
        one: Measurements by repeat.
        other: Others.
        widest: The largest difference that there can be.
    """
    shared = [one[repeat] - other[repeat] for repeat in one if repeat in other]
    return spread(shared, bounds=(-widest, widest))


def _t_quantile(degrees: int) -> float:
    from scipy.special import stdtrit  # type: ignore[import-untyped] # scipy brings no types

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def _alike(value: float, like: float) -> str:
    """Write a value with as many decimals as `number` gives to another."""
    text = number(like)
    if "e" in text:
        return number(value)
    return f"{value:,.{len(text.partition('.')[2])}f}"
