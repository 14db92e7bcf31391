"""Leases of running trials: each names the process that trains it, and shows whether it lives."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from time import monotonic

from optuna.trial import FrozenTrial

from pipeline.processes.lease import Lease, alive, is_local, working
from pipeline.study.trial_end import TrialEnd

LEASE = "lease"
"""User attribute of a trial: the process that trains it, and a counter that moves meanwhile."""
TICK_SECONDS = 10.0
"""How often the counter of a live lease moves, and the longest pause between two looks at it."""
LOOKS = 3
"""Fewest looks at an unchanged counter within the grace time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A trial whose process is gone, closed by another one.

    Args:
        number: The trial's.
        end: Its end on record.
        adopted: Its journal held an end that was not on record yet.
        queued_again: Its point is queued to be tried again.
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


def lease_of(trial: FrozenTrial) -> Lease | None:
    """Read the lease of a trial; `None` where there is no complete one."""
    try:
        return Lease(**trial.user_attrs[LEASE])
    except (KeyError, TypeError):
        return None


class LeaseWatch:
    """Finds lost trials: by their processes on this machine, else by their counters.

    Args:
        grace: Seconds without a sign of life after which a trial counts as lost.
        clock: Monotonic time in seconds.
    """

    def __init__(self, grace: float, clock: Callable[[], float] = monotonic) -> None:
        self._grace = grace
        self._clock = clock
        self._longest_step = min(2 * TICK_SECONDS, grace / LOOKS)
        self._looks: dict[int, tuple[int | None, float, float]] = {}
        """By trial: its counter, for how many seconds that has not moved, when it was looked at."""

    def lost_among(
        self, running: Iterable[FrozenTrial], died: Collection[int] = ()
    ) -> list[FrozenTrial]:
        """Look at all running trials, and return those that are lost.

        Args:
            running: The trials.
            died: Numbers of those whose process was seen to die.
        """
        running = list(running)
        numbers = {trial.number for trial in running}
        self._looks = {n: look for n, look in self._looks.items() if n in numbers}
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
                self._looks.pop(number, None)
                return False
        counter = None if lease is None else lease.counter
        return self._seconds_unchanged(number, counter) >= self._grace

    def _seconds_unchanged(self, number: int, counter: int | None) -> float:
        """Return for how many seconds a counter has not moved.

        Of the time since the last look at most the usual pause between two looks counts: while
        the watcher itself was stopped, the counter may have moved.
        """
        now = self._clock()
        known, seconds, looked_at = self._looks.get(number, (counter, 0.0, now))
        seconds += min(now - looked_at, self._longest_step)
        seconds = seconds if known == counter else 0.0
        self._looks[number] = (counter, seconds, now)
        return seconds
