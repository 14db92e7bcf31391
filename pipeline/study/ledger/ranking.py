"""Which trials are best."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.study.ledger.rows import Row

if TYPE_CHECKING:
    from pipeline.metrics import Direction


def best(rows: Sequence[Row], directions: Sequence["Direction"], k: int = 1) -> list[Row]:
    """Return the k best complete trials with finite values, the best first, ties by number.

    Under two objectives those on the Pareto front come first, in the order of the first
    objective, then those on the front of what is left, and so on.
    """
    left = _complete(rows)
    if len(directions) == 1:
        return sorted(left, key=lambda row: (_loss(row, directions), row.number))[:k]
    ordered: list[Row] = []
    while left and len(ordered) < k:
        front = pareto(left, directions)
        ordered += front
        numbers = {row.number for row in front}
        left = [row for row in left if row.number not in numbers]
    return ordered[:k]


def pareto(rows: Sequence[Row], directions: Sequence["Direction"]) -> list[Row]:
    """Return the trials that no other beats, in the order of the first objective.

    One trial beats another if it is no worse in both objectives and better in one. Of trials
    with the very same values the earliest stands for all.
    """
    front: list[Row] = []
    ordered = sorted(_complete(rows), key=lambda row: (*_loss(row, directions), row.number))
    for row in ordered:  # each is no better in the first objective than those before it
        if not front or _loss(row, directions)[1:] < _loss(front[-1], directions)[1:]:
            front.append(row)
    return front


def winner(rows: Sequence[Row], directions: Sequence["Direction"]) -> Row | None:
    """Return the trial to test and to train again; of a front, the best by the first objective."""
    found = best(rows, directions)
    return found[0] if found else None


def _complete(rows: Sequence[Row]) -> list[Row]:
    return [
        row
        for row in rows
        if row.state == "complete" and row.values and all(map(math.isfinite, row.values))
    ]


def _loss(row: Row, directions: Sequence["Direction"]) -> tuple[float, ...]:
    """Turn values so that less is better."""
    return tuple(
        -value if direction == "max" else value
        for value, direction in zip(row.values, directions, strict=True)
    )
