"""How a trial ended, in one record for both stores, and which trials ended with their process."""

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import EnvironmentFaultError
from pipeline.processes.lease import Lease, alive, is_local, working
from pipeline.tracking.journal import JOURNAL, Journal, Status, read_events

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

#: Reasons of failures that count towards the total.
COUNTED_FAILURES = ("diverged", "oom", "error")
#: Reasons of failures that the trial did not cause; its point is tried again.
RETRIED = ("interrupted", "lost")
#: Tag in a trial's journal that holds its values, as a JSON list.
VALUES = "pipeline.values"
REMEDY = (
    "put it back, go on all the same with sweep.allow_change=true, or begin a new study with "
    "sweep.name=NAME"
)
#: Optuna's system attribute of a trial for values that no sampler is asked for.
FIXED = "fixed_params"
#: User attribute of a trial: the process that trains it, and a counter that moves meanwhile.
LEASE = "lease"
#: How often the counter of a live lease moves, and the longest pause between two looks at it.
TICK_SECONDS = 10.0
#: Fewest looks at an unchanged counter within the grace time.
LOOKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnd:
    """How a trial ended.

    Args:
        state: What became of it.
        reason: pruned, diverged, oom, error, interrupted or lost; `None` where it completed.
        message: One line for people; `None` where there is nothing to say.
        values: One value per objective; empty where it did not complete.
        attributes: `seconds`, `epochs`, `threads`, and final values such as `test/f1`.
        exit_code: What a single run would have ended with: 3 for a fault of the environment.
        data: Hash of the data that it trained on; `None` where it failed.
    """

    state: Literal["complete", "pruned", "failed"]
    reason: str | None = None
    message: str | None = None
    values: tuple[float, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0
    data: str | None = None


def run_end(state: str, reason: str | None) -> tuple[Status, str | None] | None:
    """Return the status and `end_reason` of the MLflow run of a trial; `None` before its end."""
    if state == "failed":
        return "KILLED" if reason == "interrupted" else "FAILED", reason or "error"
    ends: dict[str, tuple[Status, str | None]] = {
        "complete": ("FINISHED", None),
        "pruned": ("FINISHED", "pruned"),
    }
    return ends.get(state)


def has_begun(folder: Path) -> bool:
    """Tell whether a trial's journal holds its begin; on a full disk it may be empty."""
    return next(read_events(folder / JOURNAL), None) is not None


def end_in_journal(folder: Path) -> TrialEnd | None:
    """Return the end that a trial's journal holds; `None` where it holds none."""
    try:
        events = list(read_events(folder / JOURNAL))
    except OSError:
        return None
    bounds = [event for event in events if event["event"] in ("begin", "end")]
    if not bounds or bounds[-1]["event"] != "end":
        return None
    status, reason = bounds[-1].get("status"), bounds[-1].get("reason")
    epochs = {event["epoch"] for event in events if event["event"] == "epoch"}
    seconds = (bounds[-1]["time"] - bounds[0]["time"]) / 1000
    attributes = {"seconds": seconds, "epochs": len(epochs)}
    if status == "FINISHED" and reason == "pruned":
        return TrialEnd(state="pruned", reason="pruned", attributes=attributes)
    if reason in (*COUNTED_FAILURES, *RETRIED):
        return TrialEnd(state="failed", reason=reason, attributes=attributes)
    tags = [e["value"] for e in events if e["event"] == "tag" and e.get("key") == VALUES]
    try:
        values = tuple(map(float, json.loads(tags[-1])))
    except (IndexError, ValueError, TypeError):
        return None
    is_whole = (
        status == "FINISHED" and reason is None and values and all(map(math.isfinite, values))
    )
    return TrialEnd(state="complete", values=values, attributes=attributes) if is_whole else None


def end_journal(folder: Path, state: str, reason: str | None) -> bool:
    """Let a trial's journal, where it has begun, end as the study says; tell whether it does."""
    known, wanted = end_in_journal(folder), run_end(state, reason)
    if not has_begun(folder) or wanted is None:
        return True
    if known is not None and run_end(known.state, known.reason) == wanted:
        return True
    try:
        with closing(Journal(folder)) as journal:
            journal.end(*wanted)
    except EnvironmentFaultError:
        return False
    return True


def changed_data_line(config: Mapping[str, Any], before: str, now: str) -> str:
    """Say that the data of a run are not those that its study has on record, and what to do.

    Args:
        config: The run as plain values.
        before: Hash of the data on record.
        now: Hash of those that were read.
    """
    path = config["data"].get("path")
    which = "the data" if path is None else f"data.path={path}: the data"
    return f"{which} had the hash {before[:12]} in this study and have {now[:12]} now; {REMEDY}"


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


def lease_of(trial: "FrozenTrial") -> Lease | None:
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
        self, running: Iterable["FrozenTrial"], died: Collection[int] = ()
    ) -> list["FrozenTrial"]:
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
