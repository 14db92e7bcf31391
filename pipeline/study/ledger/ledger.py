"""The record of a study: who takes which trial, how each ends, and how far the study is."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from pipeline.processes.lease import Lease, LeaseWatch
from pipeline.study.ledger.definition import (
    StudyDefinition,
    create_or_check,
    data_on_record,
    start_points,
    stored_data,
)
from pipeline.study.ledger.rows import (
    ATTRIBUTES,
    END_REASON,
    RETRY_OF,
    Importances,
    Progress,
    Row,
    StudyTrials,
    importances,
)
from pipeline.study.ledger.search import build_pruner, choose, study_in_memory
from pipeline.study.ledger.storage import WAIT_SECONDS, StudyStorage, open_storage
from pipeline.study.messages import RETRIED, TrialEnd, end_in_journal

#: User attribute of a trial: the process that trains it, and a counter that moves meanwhile.
LEASE = "lease"
#: Age that what other processes have done may have for a pruner; what this one does is always seen.
FRESH_SECONDS = 1.0
_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A trial whose process is gone, closed by another one, and its end on record.

    `adopted`: its journal held an end that was not on record yet; `queued_again`: its point is
    queued to be tried again.
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


class Ledger:
    """One open study; several processes may have it open, each with a ledger of its own.

    Every call may raise `EnvironmentFaultError` (the database is locked, gone, replaced, full or
    down) and `ConfigError` (its file is no database any more), one line each. A server that is
    down is waited for, and the call is made again: each finds out what the cut one has written.
    """

    def __init__(self, store: StudyStorage, study: Study, definition: StudyDefinition) -> None:
        self.name = study.study_name
        self.uid = str(study.user_attrs["uid"])
        self.objectives, self.names = definition.objectives, definition.names
        self.prunes = definition.prunes
        self.study = study
        """The study as Optuna has it, for its pictures."""
        study.pruner = build_pruner(definition.options, prunes=self.prunes)  # samplers see it too
        self._definition = definition
        self._store, self._storage = store, store.optuna
        self.is_in_doubt = False
        """Whether `close_lost` has seen a trial that may be lost and may be alive."""
        self._watch = LeaseWatch(definition.options.grace)
        self._trials = StudyTrials(study, definition)
        self._own: dict[int, FrozenTrial] = {}
        """The trials that this process has taken."""
        self._others: Sequence[FrozenTrial] = ()
        self._read_at = -FRESH_SECONDS

    @classmethod
    def open(cls, definition: StudyDefinition, *, wait: float = WAIT_SECONDS) -> "Ledger":
        """Begin a study or go on with one, and queue its start points once.

        Any call waits `wait` seconds for a lock.

        Raises:
            ConfigError: Another space, run or objective than the study has, a start point outside
                of the space, or a file that is no database.
            EnvironmentFaultError: The database is locked, can't be written, or is down.
        """
        points = start_points(definition)
        store = open_storage(
            definition.url,
            wait=wait,
            patience=definition.options.storage_patience,
            from_start=definition.options.await_storage,
        )

        def opened() -> Ledger:
            return cls(store, create_or_check(store.optuna, definition, points), definition)

        return store.call(opened, lock=definition.name)

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    # ── trials that run ─────────────────────────────────────────────────────────────────────

    def take(self, holder: Lease) -> Row | None:
        """Take the next trial for a process, waiting points first; `None` = there is none now.

        Raises ConfigError where the sampler can't choose a point.
        """
        lease = asdict(holder)
        written: FrozenTrial | None = None
        overrides: dict[str, str] = {}

        def take() -> FrozenTrial | None:
            nonlocal written, overrides
            if written is not None and self._is_held(written, lease):
                return written
            before, trials = self._trials.next_trial()
            if before is None:
                return None
            self._store.require_writable()
            written, overrides = choose(self.study, self._definition, before, trials)
            written.user_attrs = {**written.user_attrs, LEASE: lease}
            if before.state == TrialState.WAITING:
                self._write_waiting(before, written)
                return written
            storage, study_id = self._storage, self.study._study_id
            written._trial_id = storage.create_new_trial(study_id, template_trial=written)
            # The lock makes the number known, unless another program adds trials as well; to check
            # it costs nothing, while to read it reads the trial.
            if self._id(written.number) != written._trial_id:
                written.number = storage.get_trial_number_from_id(written._trial_id)
            return written

        trial = self._store.call(take, lock=self.name)
        if trial is None:
            return None
        self._own[trial.number] = trial
        retry_of = trial.user_attrs.get(RETRY_OF)
        return Row(number=trial.number, state="running", overrides=overrides, retry_of=retry_of)

    def report(self, taken: Row, *, step: int, value: float) -> bool:
        """Store the objective of a trial at a rung, and tell whether the trial is to be ended."""
        if not self.prunes or not math.isfinite(value):
            return False
        own = self._own.get(taken.number)
        if own is None:
            return True
        trial = copy(own)
        trial.intermediate_values = {**own.intermediate_values, step: value}

        def compare() -> bool:
            trial.system_attrs = dict(own.system_attrs)
            self._storage.set_trial_intermediate_value(trial._trial_id, step, value)
            others = [
                *self._trials_of_others(),
                *(one for one in self._own.values() if one is not own),
            ]
            # What the pruner sets on the trial stays in memory at first.
            decision = self.study.pruner.prune(study_in_memory(self.study, trial, others), trial)
            for key, noted in trial.system_attrs.items():
                if own.system_attrs.get(key) != noted:
                    self._storage.set_trial_system_attr(trial._trial_id, key, noted)
            return bool(decision)  # numpy has a bool of its own

        try:
            decision = self._store.call(compare)
        except UpdateFinishedTrialError:
            return True  # another process has closed it
        self._own[taken.number] = trial
        return decision

    def _trials_of_others(self) -> Sequence[FrozenTrial]:
        """Return the trials that other processes have taken, or that have ended."""
        if monotonic() - self._read_at >= FRESH_SECONDS:
            self._others = [one for one in self._trials.now() if one.number not in self._own]
            self._read_at = monotonic()
        return self._others

    def _forget(self, numbers: Iterable[int]) -> None:
        """Forget trials that have ended; their results are read before the next decision."""
        for number in numbers:
            self._own.pop(number, None)
        self._read_at = -FRESH_SECONDS

    def leases(self) -> list[Lease | None]:
        """Return the leases of the trials that run."""
        trials = self._store.call(self._trials.now)
        return [lease_of(trial) for trial in trials if trial.state == TrialState.RUNNING]

    def beat(self, numbers: Iterable[int]) -> None:
        """Move the leases of trials that are still being trained."""
        held = list(numbers)

        def move() -> None:
            for number in held:
                trial = self._storage.get_trial(self._id(number))
                lease = lease_of(trial)
                if trial.state == TrialState.RUNNING and lease is not None:
                    moved = asdict(replace(lease, counter=lease.counter + 1))
                    with suppress(UpdateFinishedTrialError):
                        self._storage.set_trial_user_attr(trial._trial_id, LEASE, moved)

        self._store.call(move)

    # ── trials that end ─────────────────────────────────────────────────────────────────────

    def finish(self, taken: Row, end: TrialEnd) -> bool:
        """Put the end of a trial on record; a value that is not finite is a failure.

        The point of a trial that was interrupted or lost is queued again, up to `sweep.max_retry`
        times. Returns whether the end counts: it does not where another process has closed the
        trial.
        """
        self._forget([taken.number])
        end = self._storable(end)

        def finish() -> bool:
            trial = self._storage.get_trial(self._id(taken.number))
            if trial.state != TrialState.RUNNING:
                return self._has_ended_as(trial, end)
            self._close_trial(trial, end)
            return True

        return self._store.call(finish, lock=self.name)

    def close_lost(
        self, folder_of: Callable[[int], Path], died: Collection[int] = ()
    ) -> list[Lost]:
        """Close the trials whose process is gone or silent, whoever took them.

        Where the journal in its folder holds an end, a trial ended so; else it is lost. `died` are
        trials whose process was seen to die, maybe on another machine.
        """
        closed: dict[int, Lost] = {}

        def close() -> None:
            nonlocal closed
            running = [one for one in self._trials.now() if one.state == TrialState.RUNNING]
            judged = {one.number: self._watch.judge(one.number, lease_of(one)) for one in running}
            self.is_in_doubt = None in judged.values()
            lost = {number for number, is_lost in judged.items() if is_lost or number in died}
            if not lost and not closed:
                return
            with self._store.lock(self.name):
                before, closed = closed, {}
                for trial in self._trials.now():
                    number = trial.number
                    if trial.state == TrialState.RUNNING and number in lost:
                        closed[number] = self._close_lost(trial, folder_of(number))
                    elif number in before and self._has_ended_as(trial, before[number].end):
                        closed[number] = before[number]

        self._store.call(close)
        self._forget(closed)
        return list(closed.values())

    def _close_lost(self, trial: FrozenTrial, folder: Path) -> Lost:
        told = end_in_journal(folder)
        end = self._storable(told or TrialEnd(state="failed", reason="lost"))
        queued = self._close_trial(trial, end)
        return Lost(number=trial.number, end=end, adopted=told is not None, queued_again=queued)

    def _close_trial(self, trial: FrozenTrial, end: TrialEnd) -> bool:
        """Write how a running trial ended, and tell whether its point is queued again.

        The state is written last: a kill before that leaves a running trial, and whoever closes
        that finds its point queued.
        """
        again = self._trials.retry_of(trial) if end.reason in RETRIED else None
        queued = (other.user_attrs.get(RETRY_OF) for other in self._trials.now())
        if again is not None and trial.number not in queued:
            self.study.enqueue_trial(*again)
        trial_id = trial._trial_id
        for key, value in _end_attributes(end).items():
            if value is not None:
                self._storage.set_trial_user_attr(trial_id, key, value)
        values: Sequence[float] | None = None if end.state == "failed" else end.values or None
        if end.state == "pruned" and not values and trial.last_step is not None:
            values = (trial.intermediate_values[trial.last_step],)
        self._storage.set_trial_state_values(trial_id, _STATES[end.state], values)
        return again is not None

    def _has_ended_as(self, trial: FrozenTrial, end: TrialEnd) -> bool:
        """Tell whether a trial has ended so and not otherwise, with all that is stored of it."""
        stored = trial.user_attrs
        is_same = all(stored.get(key) == value for key, value in _end_attributes(end).items())
        return trial.state == _STATES[end.state] and is_same

    def _storable(self, end: TrialEnd) -> TrialEnd:
        """Return the end as it may be stored: Optuna would take an infinite value for the best."""
        if end.state != "complete":
            return end
        if len(end.values) == len(self.objectives) and all(map(math.isfinite, end.values)):
            return end
        message = end.message or f"came to {list(end.values)}, which is no result"
        return replace(end, state="failed", values=(), reason="diverged", message=message)

    # ── writing ─────────────────────────────────────────────────────────────────────────────

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)

    def _is_held(self, trial: FrozenTrial, lease: Mapping[str, object]) -> bool:
        """Tell whether the trial of this id has this lease: after a crash, a server reuses ids."""
        try:
            found = self._storage.get_trial(trial._trial_id)
        except KeyError:
            return False
        return found.state == TrialState.RUNNING and found.user_attrs.get(LEASE) == lease

    def _write_waiting(self, before: FrozenTrial, after: FrozenTrial) -> None:
        """Write the point of a waiting trial, and last that it runs."""
        trial_id, storage = before._trial_id, self._storage
        for name, value in after.params.items():
            if name not in before.params:
                distribution = after.distributions[name]
                internal = distribution.to_internal_repr(value)
                storage.set_trial_param(trial_id, name, internal, distribution)
        for key, value in after.system_attrs.items():
            if before.system_attrs.get(key) != value:
                storage.set_trial_system_attr(trial_id, key, value)
        for key, value in after.user_attrs.items():
            if before.user_attrs.get(key) != value:
                storage.set_trial_user_attr(trial_id, key, value)
        storage.set_trial_state_values(trial_id, state=TrialState.RUNNING)

    # ── reading, and facts of the study ─────────────────────────────────────────────────────

    def progress(self) -> Progress:
        """Return how far the study is."""
        return self._store.call(self._trials.progress)

    def trials(self) -> list[Row]:
        """Return all trials by number."""
        return self._store.call(self._trials.rows)

    @property
    def facts(self) -> dict[str, Any]:
        """User attributes of the study: `uid`, `space`, `base`, `objectives`, and those set."""
        return self._store.call(lambda: dict(self.study.user_attrs))

    def set_fact(self, key: str, value: Any) -> None:
        """Set a user attribute of the study to a value that JSON can hold."""
        self._store.call(lambda: self.study.set_user_attr(key, value))

    def data_of(self, config: Mapping[str, Any]) -> str | None:
        """Return the hash of the data that trials of a config train on; `None` = not known yet."""
        return stored_data(self.facts, config)

    def note_data(self, config: Mapping[str, Any], data: str) -> str:
        """Return the hash of the data of a config, stored now unless it was."""
        return self._store.call(lambda: data_on_record(self.study, config, data), lock=self.name)

    def importances(self) -> list[Importances]:
        """Return for each objective which parameters made trials good, and how much."""
        trials = self._store.call(self._trials.now)
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        return [
            importances(complete, objective=index, minimizes=direction == "min")
            for index, direction in enumerate(self._definition.directions)
        ]


def _end_attributes(end: TrialEnd) -> dict[str, Any]:
    """Return the user attributes of a trial that has ended so; `None` where it has none."""
    message = {} if end.message is None else {"message": end.message}
    return {ATTRIBUTES: {**end.attributes, **message} or None, END_REASON: end.reason}


def lease_of(trial: FrozenTrial) -> Lease | None:
    """Read the lease of a trial; `None` where there is no complete one."""
    try:
        return Lease(**trial.user_attrs[LEASE])
    except (KeyError, TypeError):
        return None
