"""95 % intervals of means over independent rows whose values may be very uneven.

A mean of squared errors often rests on a few rows, and a test that happens to miss such rows has
both a small mean and a small standard error, so that intervals by a normal or by Student's
distribution are too narrow. Those below remove the skewness (Hall 1992), count as many rows as the
mean effectively rests on, and end where they would if one more row were as far off as the worst.
`benchmarks/interval_coverage.py` measures how often they contain the true value.
"""

import math

import numpy as np

from pipeline.metrics._rows import ROUNDING, Values

#: Share of its value below which the lower end of a mean is so close to 0 that a quotient by the
#: mean has no interval, as with three rows.
NEARLY_ZERO = 1e-3


def mean_interval(values: Values, *, level: float) -> tuple[float, float] | None:
    """Return both ends of the interval of a mean; `None` if all values are equal.

    Args:
        values: Values of independent rows, (rows,), none negative.
        level: Probability with which the interval contains the true mean.

    Source: P. Hall, "On the removal of skewness by transformation", J. R. Stat. Soc. B 54 (1992).
    """
    if not values.std() > ROUNDING * abs(values).max():
        return None
    low = _end(values, values, probability=(1 + level) / 2)
    high = _end(values, values, probability=(1 - level) / 2)
    with_another_worst = np.append(values, values.max())
    other_high = _end(with_another_worst, values, probability=(1 - level) / 2)
    return max(0.0, low), max(high, other_high)


def quotient_interval(parts: Values, wholes: Values, *, level: float) -> tuple[float, float] | None:
    """Return both ends of the interval of mean(parts) / mean(wholes), from those of both means.

    It is `None` if all parts are equal, or if the mean of the wholes may be about 0.

    Args:
        parts: Values of independent rows, (rows,), none negative.
        wholes: Other values of the same rows, (rows,), none negative.
        level: Probability with which the interval contains the true quotient.

    Source: G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures: a
    general approach", Statistics in Medicine 27 (2008), for the difference of the logarithms.
    """
    part_ends = mean_interval(parts, level=level)
    whole_ends = mean_interval(wholes, level=level)
    part, whole = float(parts.mean()), float(wholes.mean())
    if part_ends is None:
        return None
    if whole_ends is None:  # all wholes are equal
        return part_ends[0] / whole, part_ends[1] / whole
    if whole_ends[0] <= NEARLY_ZERO * whole:
        return None
    correlation = float(np.corrcoef(parts, wholes)[0, 1])
    above = _combined(
        math.log(part_ends[1] / part), math.log(whole / whole_ends[0]), correlation=correlation
    )
    high = part / whole * math.exp(above)
    if part_ends[0] <= 0:
        return 0.0, high
    below = _combined(
        math.log(part / part_ends[0]), math.log(whole_ends[1] / whole), correlation=correlation
    )
    return part / whole * math.exp(-below), high


def _end(values: Values, counted: Values, *, probability: float) -> float:
    """Return the end of a mean's interval at which Student's t has this probability below it.

    The number of equally large values with as much information as `counted` gives the degrees of
    freedom.
    """
    from scipy.special import stdtrit  # type: ignore[import-untyped] # scipy brings no types

    rows = len(values)
    deviations = values - values.mean()
    spread = float(values.std())
    effective = float(counted.sum() ** 2 / (counted**2).sum())
    student = float(stdtrit(max(1.0, effective - 1), probability))
    bend = float((deviations**3).mean()) / spread**3 / 3 / math.sqrt(rows)
    if abs(bend) > ROUNDING:
        student = (math.cbrt(1 + 3 * bend * (student - bend / 2)) - 1) / bend
    return float(values.mean()) - student * spread / math.sqrt(rows - 1)


def _combined(part: float, whole: float, *, correlation: float) -> float:
    """Return the distance of an end from the difference of two logarithms, from both distances."""
    return math.sqrt(max(0.0, part**2 + whole**2 - 2 * correlation * part * whole))
