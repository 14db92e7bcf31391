"""How far a study is."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.study.ledger.rows import Row
from pipeline.study.trial_end import COUNTED_FAILURES

ENDLESS = 1_000_000_000
"""Trials left where nothing limits them."""


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
        """Trials that somebody trains."""
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


ENDS = {
    "complete": "complete",
    "pruned": "pruned",
    "diverged": "diverged",
    "oom": "out of memory",
    "error": "failed",
    "interrupted": "interrupted",
    "lost": "lost",
}


def count_ends(rows: Iterable[Row]) -> Counter[str]:
    """Count trials by how they ended, or by whether they run or wait."""
    return Counter(
        (row.reason or "error") if row.state == "failed" else str(row.state) for row in rows
    )


def since_last_success(ended: Iterable[Row]) -> list[Row]:
    """Return the trials by the time they ended, from the last on that did not fail.

    That one stays, since another trial may be told later that had ended before it.
    """
    ordered = sorted(ended, key=lambda row: row.ended or 0.0)
    last = max((place for place, row in enumerate(ordered) if row.state != "failed"), default=0)
    return ordered[last:]


def failures_in_a_row(ended: Iterable[Row]) -> int:
    """Return how many of the trials of `since_last_success` have failed.

    An interruption says nothing about a trial and is passed over.
    """
    return sum(row.state == "failed" and row.reason != "interrupted" for row in ended)
