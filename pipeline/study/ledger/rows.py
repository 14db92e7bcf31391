"""Trials as plain records: how each stands, which are best, and how far a study is."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pipeline.study.trial_end import COUNTED_FAILURES

if TYPE_CHECKING:
    from pipeline.metrics import Direction

RowState = Literal["complete", "pruned", "failed", "running", "waiting"]
ENDS = {
    "complete": "complete",
    "pruned": "pruned",
    "diverged": "diverged",
    "oom": "out of memory",
    "error": "failed",
    "interrupted": "interrupted",
    "lost": "lost",
}
"""How trials end, in the words for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One trial of a study.

    Args:
        number: Counted from 0.
        state: How far it is, or how it ended.
        reason: Why it ended early: diverged, oom, error, interrupted, lost, pruned; else `None`.
        values: One value per objective; empty where it did not complete.
        params: Optuna's values by Optuna's names.
        overrides: What was varied: Hydra's texts by config key or group; `null` is off.
        attributes: What else is on record: `test/f1`, `seconds`, `epochs`, …
        started: Seconds since 1970; `None` where it has not begun.
        ended: Seconds since 1970; `None` where it has not ended.
    """

    number: int
    state: RowState
    reason: str | None = None
    values: tuple[float, ...] = ()
    params: Mapping[str, object] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a study is, whoever works on it.

    Args:
        total: Trials it is to have; `None` where nothing limits them.
        counts: Trials by how they ended, or `running`, `waiting`.
        left: Trials that may still be taken.
        best: Numbers of the best trials, the best first.
        best_row: The first of them; `None` where none has completed.
        consecutive_failures: Trials that failed one after another, none finished in between,
            since this process joined.
    """

    total: int | None
    counts: Mapping[str, int]
    left: int
    best: tuple[int, ...]
    best_row: Row | None
    consecutive_failures: int

    @property
    def counted(self) -> int:
        """Trials that count towards the total."""
        return sum(self.counts.get(end, 0) for end in ("complete", "pruned", *COUNTED_FAILURES))

    @property
    def running(self) -> int:
        """Trials that are being trained."""
        return self.counts.get("running", 0)

    @property
    def waiting(self) -> int:
        """Points that are queued."""
        return self.counts.get("waiting", 0)

    @property
    def settled(self) -> bool:
        """Whether nothing runs and nothing is left."""
        return self.running == 0 and self.left == 0

    @property
    def words(self) -> str:
        """The ends so far: `92 complete, 5 pruned, 2 diverged`."""
        told = [end for end in ENDS if self.counts.get(end)]
        return ", ".join(f"{self.counts[end]} {ENDS[end]}" for end in told) or "none has ended"


def count_ends(rows: Iterable[Row]) -> Counter[str]:
    """Count trials by how they ended, or by whether they run or wait."""
    return Counter(
        (row.reason or "error") if row.state == "failed" else str(row.state) for row in rows
    )


def best(rows: Iterable[Row], directions: Sequence["Direction"], k: int = 1) -> list[Row]:
    """Return the k best complete trials with finite values, the best first, ties by number.

    With two objectives the trials on the Pareto front come first, in the order of the first
    objective, then those on the front of the rest, and so on.
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


def pareto(rows: Iterable[Row], directions: Sequence["Direction"]) -> list[Row]:
    """Return the trials that no other dominates, in the order of the first objective.

    A trial dominates another if it is no worse in both objectives and better in one. Of trials
    with equal values only the earliest is returned.
    """
    front: list[Row] = []
    ordered = sorted(_complete(rows), key=lambda row: (*_loss(row, directions), row.number))
    for row in ordered:  # each is no better in the first objective than those before it
        if not front or _loss(row, directions)[1:] < _loss(front[-1], directions)[1:]:
            front.append(row)
    return front


def winner(rows: Iterable[Row], directions: Sequence["Direction"]) -> Row | None:
    """Return the trial to test and to train again; of a front, the best by the first objective."""
    return next(iter(best(rows, directions)), None)


def _complete(rows: Iterable[Row]) -> list[Row]:
    return [
        row
        for row in rows
        if row.state == "complete" and row.values and all(map(math.isfinite, row.values))
    ]


def _loss(row: Row, directions: Sequence["Direction"]) -> tuple[float, ...]:
    """Return the values with signs such that less is better."""
    return tuple(
        -value if direction == "max" else value
        for value, direction in zip(row.values, directions, strict=True)
    )
