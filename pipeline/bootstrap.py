"""How far a figure of the test could be elsewhere, had chance sent other rows: its 95 % interval.

Rows are drawn again with replacement, and every metric is computed for all draws at once from how
often each row was drawn (Efron and Tibshirani 1993, the percentile interval). Neighbouring rows of
a series resemble each other, so they are drawn in blocks (Künsch 1989).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Values = NDArray[np.float64]
Weighted = Callable[[Values], dict[str, Values]]
"""Scores of all draws (draws,) by metric, from how often each row was drawn (draws, rows)."""

ENDS = (0.025, 0.975)
DRAWS = 1000
FEWEST_DRAWS = 100
OPERATIONS = 10_000_000
"""Draws × rows × classes; where 1,000 draws are more, there are fewer. Half a second."""
AREA_OPERATIONS = 2 * OPERATIONS
"""From where on the area under the ROC curve, which sorts, has no interval: it takes too long."""
MOST_ROWS = 1_000_000
"""More rows have no interval: it would be narrower than anything a reader compares."""
BLOCK_CELLS = 200_000
"""Draws × rows that are counted at once: as many as a core's own memory holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """The intervals of a test.

    Args:
        draws: How often the rows were drawn again.
        block: Neighbouring rows that were drawn together.
        ends: Lower and upper end by metric; one that most draws leave without a value is not there.
    """

    draws: int
    block: int
    ends: Mapping[str, tuple[float, float]]


def intervals(
    outputs: Tensor,
    targets: Tensor,
    *,
    threshold: float,
    seed: int,
    draws: int = DRAWS,
    block: int = 1,
) -> Intervals:
    """Return the 95 % interval of each metric of the task, equal for equal arguments.

    Args:
        outputs: Probabilities (rows,) or (rows, classes), or values (rows, outputs).
        targets: Classes, int64 (rows,), or values (rows, outputs).
        threshold: Probability above which a row counts as positive.
        seed: Of the draws.
        draws: How many at most; for many rows there are fewer.
        block: Neighbouring rows that are drawn together, 1 for independent ones.
    """
    rows, width = len(targets), outputs.numel()
    block = max(1, min(block, rows))
    if not 0 < rows <= MOST_ROWS:
        return Intervals(draws=0, block=block, ends={})
    draws = max(min(draws, FEWEST_DRAWS), min(draws, OPERATIONS // width))
    has_area = draws * width <= AREA_OPERATIONS
    weighted = weighted_scores(outputs, targets, threshold=threshold, has_area=has_area)
    generator = np.random.default_rng(seed)
    parts = [
        weighted(drawn(rows, size, block=block, generator=generator))
        for size in _portions(draws, max(1, BLOCK_CELLS // rows))
    ]
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Intervals(draws=draws, block=block, ends=dict(_ends(found)))


def block_of_series(rows: int, horizon: int) -> int:
    """Return how many neighbouring rows of a series are drawn together.

    The cube root of the rows (Hall, Horowitz and Jing 1995), and no less than the steps of a
    forecast: those of neighbouring rows overlap.
    """
    return max(horizon, int(np.cbrt(rows).round()), 1)


def drawn(rows: int, draws: int, *, block: int, generator: np.random.Generator) -> Values:
    """Draw rows with replacement and count how often each was drawn, (draws, rows)."""
    pieces = -(-rows // block)
    starts = generator.integers(0, rows - block + 1, size=(draws, pieces))
    chosen = (starts[..., None] + np.arange(block)).reshape(draws, -1)[:, :rows]
    places = chosen + rows * np.arange(draws)[:, None]
    counts = np.bincount(places.ravel(), minlength=draws * rows)
    return counts.reshape(draws, rows).astype(np.float64)


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


def _portions(draws: int, most: int) -> Iterator[int]:
    while draws > 0:
        yield min(draws, most)
        draws -= most


def _ends(found: Mapping[str, Values]) -> Iterator[tuple[str, tuple[float, float]]]:
    for key, values in found.items():
        known = values[np.isfinite(values)]
        if len(known) > len(values) / 2:
            low, high = np.quantile(known, ENDS)
            yield key, (float(low), float(high))


def _regression(weights: Values, *, values: Values, true: Values) -> dict[str, Values]:
    rows, errors = weights.sum(1), values - true
    squares = weights @ errors**2  # (draws, outputs)
    centred = true - true.mean(0)
    spread = weights @ centred**2 - (weights @ centred) ** 2 / rows[:, None]
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
