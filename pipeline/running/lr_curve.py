"""What the losses of a range test say: from where the loss falls fastest to where it is lowest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDTH = 0.3
"""Standard deviation of the smoothing, in decades of the rate; never less than one step."""
FEWEST = 10
"""Steps below which no slope is worth a word."""
CERTAIN = 5.0
"""Standard errors by which the loss must have fallen, so that it is no matter of luck."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Losses over rising learning rates, up to the first that is no number.

    Args:
        rates: Learning rate of each step, (steps,).
        losses: Loss of each step's batch, before the step moves the weights, (steps,).
        smoothed: The same without the chance of single batches, (steps,); empty where the steps
            are too few.
        suggestion: Between the next two, in two digits; `None` = the loss does not fall.
        steepest: The rate at which `smoothed` falls fastest.
        lowest: The rate at which it is lowest.
        blown_up: The rate beyond that at which the loss is worse than at the start, or no number;
            `None` = there is none.
    """

    rates: Floats
    losses: Floats
    smoothed: Floats
    suggestion: float | None = None
    steepest: float | None = None
    lowest: float | None = None
    blown_up: float | None = None


def read_curve(rates: Sequence[float], losses: Sequence[float]) -> Curve:
    """Read a range test (Smith 2017).

    Where the loss falls fastest is early for a training with a schedule, and where it is lowest
    lies at the edge of what works; the suggestion is halfway, on the logarithmic axis. The slope
    is that against the logarithm of the rate, in which the steps are equal. Lightning's own
    suggestion takes it against the rate itself, by which the noise at the smallest rates outweighs
    all that follows (https://github.com/Lightning-AI/pytorch-lightning/issues/21141).

    Args:
        rates: Learning rate of each step, rising.
        losses: Loss of each step; from the first that is no number on, none is read.
    """
    finite = np.isfinite(losses)
    count = len(losses) if finite.all() else int(finite.argmin())
    known, seen = np.array(rates[:count]), np.array(losses[:count])
    broken = list(rates[count : count + 1])
    if count < FEWEST:
        end = broken or list(rates[-1:])
        return Curve(rates=known, losses=seen, smoothed=seen[:0], blown_up=end[0])
    decades = np.log10(known)
    weights = _weights(decades)
    early = max(3, count // 10)
    # One batch beyond the end of all learning may lose a million times as much as any before.
    capped = np.minimum(seen, 2 * seen[:early].mean())
    smoothed = weights @ capped
    lowest = int(smoothed.argmin())
    steepest = int(np.gradient(smoothed, decades)[: lowest + 1].argmin())
    noise = (capped - smoothed)[: max(lowest + 1, count // 2)].std()
    since = weights - weights[:early].mean(axis=0)  # gives how far each one is from the start
    change, chance = since @ capped, CERTAIN * noise * np.linalg.norm(since, axis=1)
    is_fall = -change[lowest] > chance[lowest]
    worse = known[lowest:][(change > chance)[lowest:]]
    return Curve(
        rates=known,
        losses=seen,
        smoothed=smoothed,
        suggestion=float(f"{np.sqrt(known[steepest] * known[lowest]):.2g}") if is_fall else None,
        steepest=float(known[steepest]),
        lowest=float(known[lowest]),
        blown_up=next(iter([*worse.tolist(), *broken]), None),
    )


def _weights(decades: Floats) -> Floats:
    """Return what each step counts in the mean around each other, Gaussian, (steps, steps)."""
    width = max(WIDTH, float(np.diff(decades).max()))
    weights: Floats = np.exp(-0.5 * ((decades[:, None] - decades) / width) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
