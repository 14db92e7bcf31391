"""Trials whose process is gone, or has shown no sign of life for too long."""

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from pipeline.processes.lease import Lease, alive, is_local, working
from pipeline.study.ledger.marks import LEASE, lease_mark, lease_of
from pipeline.study.trial_end import TrialEnd

TICK_SECONDS = 10.0
"""How often a live lease moves, and a watcher looks at the least."""
LOOKS = 3
"""How often a still counter is looked at, at the least, within the grace time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A trial that was given up, or ended for its process.

    Args:
        number: The trial's.
        end: How it is on record now.
        adopted: Its process had ended it, and died before that was on record here.
        queued_again: Its point waits to be tried again.
    """

    number: int
    end: TrialEnd
    adopted: bool
    queued_again: bool

    @property
    def line(self) -> str:
        """One line for people."""
        if self.adopted:
            how = self.end.reason or self.end.state
            return f"trial {self.number} had ended ({how}) when its process died; it is on record"
        after = "is tried again" if self.queued_again else "was tried often enough"
        return f"trial {self.number} was lost with its process; its point {after}"


@dataclass(slots=True)
class Still:
    """A lease that has not moved since it was first looked at.

    Args:
        counter: Where it stands; `None` where there is no lease at all.
        seconds: How long it has stood there, not counting when the watcher itself stood still.
        looked_at: Monotonic time of the last look.
    """

    counter: int | None
    seconds: float
    looked_at: float


class Watch:
    """Tells live trials from lost ones, by processes where they are near, else by counters.

    Args:
        grace: Seconds without a sign of life after which a trial counts as lost.
        clock: Seconds that nobody can set.
    """

    def __init__(self, grace: float, clock: Callable[[], float] = monotonic) -> None:
        self._grace = grace
        self._clock = clock
        self._longest_step = min(2 * TICK_SECONDS, grace / LOOKS)
        self._still: dict[int, Still] = {}

    def lost_among(
        self, running: Iterable[FrozenTrial], died: Collection[int] = ()
    ) -> list[FrozenTrial]:
        """Look at all running trials, and return those that are lost.

        Args:
            running: The trials.
            died: Those whose process was seen to die.
        """
        running = list(running)
        numbers = {trial.number for trial in running}
        self._still = {n: still for n, still in self._still.items() if n in numbers}
        return [
            trial
            for trial in running
            if trial.number in died or self._is_lost(trial.number, lease_of(trial))
        ]

    def _is_lost(self, number: int, lease: Lease | None) -> bool:
        if lease is not None and is_local(lease):
            if not alive(lease):
                return True
            if working(lease):
                self._still.pop(number, None)
                return False
        return self._stood_still(number, None if lease is None else lease.counter) >= self._grace

    def _stood_still(self, number: int, counter: int | None) -> float:
        """Return for how many seconds a counter has not moved.

        Of the time since the last look only as much counts as passes between two looks of a
        watcher that runs: if it was stopped itself, others may have beaten all the while.
        """
        now = self._clock()
        still = self._still.get(number)
        if still is None or still.counter != counter:
            self._still[number] = Still(counter, 0.0, now)
            return 0.0
        still.seconds += min(now - still.looked_at, self._longest_step)
        still.looked_at = now
        return still.seconds


def beat(storage: BaseStorage, trial: FrozenTrial) -> None:
    """Move the lease of a trial, unless somebody has given it up."""
    lease = lease_of(trial)
    if trial.state != TrialState.RUNNING or lease is None:
        return
    mark = lease_mark(replace(lease, counter=lease.counter + 1))
    with suppress(UpdateFinishedTrialError):
        storage.set_trial_user_attr(trial._trial_id, LEASE, mark)
