"""The record of a study: which process trains each trial, how each ended, and the progress."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from pipeline.ends import End, TrialEnd
from pipeline.processes.lease import Lease, LeaseWatch
from pipeline.study.ledger.definition import (
    StudyDefinition,
    checked_facts,
    create_or_check,
    data_on_record,
    start_points,
    stored_data,
    uid_of,
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
from pipeline.study.ledger.search import build_pruner, choose, compares_running, study_in_memory
from pipeline.study.ledger.storage import WAIT_SECONDS, Answer, StudyStorage, open_storage
from pipeline.study.ledger.storage_faults import odd_values
from pipeline.study.ledger.tables import StudyTables
from pipeline.study.messages import end_in_journal
from pipeline.tracking.journal import RunRecord

#: User attribute of a trial: the process that trains it, and a counter that shows it is alive.
LEASE = "lease"
#: Maximum age of what other processes' running trials have reported, for a pruner.
FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A trial whose process is gone, and the end with which another process has closed it.

    `adopted` is true if the end comes from the trial's journal, and `queued_again` is true if its
    point is queued to be tried again.
    """

    number: int
    ended: TrialEnd
    adopted: bool
    queued_again: bool

    @property
    def line(self) -> str:
        """Message about the trial, in one line."""
        if self.adopted:
            how = self.ended.end
            return f"trial {self.number} had ended ({how}) before its process died; it is recorded"
        after = "is retried" if self.queued_again else "has no retries left"
        return f"trial {self.number} was lost because its process died; it {after}"


class Ledger:
    """One open study; several processes may have it open, each with its own ledger.

    Every call may raise EnvironmentFaultError if the database is locked, gone, replaced, full or
    down, and ConfigError if its file is no longer a database. While a server is down, the call is
    repeated; it first checks what an interrupted attempt has written.
    """

    def __init__(self, store: StudyStorage, study: Study, definition: StudyDefinition) -> None:
        self.name = study.study_name
        self.uid = uid_of(study)
        self.objectives, self.names = definition.objectives, definition.names
        self.prunes = definition.prunes
        self._study = study
        study.pruner = build_pruner(definition.options, prunes=self.prunes)  # samplers see it too
        self._definition = definition
        self._store, self._storage = store, store.optuna
        self.is_in_doubt = False
        """Whether `close_lost` has seen a trial of which it can't tell yet whether it is lost."""
        self._watch = LeaseWatch(definition.options.grace)
        self._tables = StudyTables(store, study._study_id)
        self._trials = StudyTrials(self._tables, definition)
        self._own: dict[int, FrozenTrial] = {}
        """The trials that this process has taken."""
        self._compares_running = compares_running(definition.options)
        self._read_at = -FRESH_SECONDS

    @classmethod
    def open(cls, definition: StudyDefinition, *, wait: float = WAIT_SECONDS) -> "Ledger":
        """Create or continue a study, and queue its start points once.

        Each call waits up to `wait` seconds for a lock.

        Raises:
            ConfigError: The study on record has another space, run or objective, a start point
                lies outside of the space, or the file is not a database.
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

        with odd_values(definition.url, definition.name):
            return store.call(opened, lock=definition.name)

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    def _call(self, function: Callable[[], Answer], *, lock: str | None = None) -> Answer:
        """Return what `function` returns, called as `StudyStorage.call` does.

        Raises ConfigError if the study has values that no sweep has written.
        """
        with odd_values(self._definition.url, self.name):
            return self._store.call(function, lock=lock)

    # ── trials that run ─────────────────────────────────────────────────────────────────────

    def take(self, holder: Lease) -> Row | None:
        """Take the next trial for the process `holder`, queued points first; `None` = none for now.

        Raises ConfigError if the sampler can't choose a point.
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
            written, overrides = choose(self._study, self._definition, before, trials)
            written.user_attrs = {**written.user_attrs, LEASE: lease}
            if before.state != TrialState.WAITING:
                self._tables.add(written)
            elif not self._tables.start(before, written):
                return take()  # another program was faster
            return written

        trial = self._call(take, lock=self.name)
        if trial is None:
            return None
        self._own[trial.number] = trial
        retry_of = trial.user_attrs.get(RETRY_OF)
        return Row(number=trial.number, state="running", overrides=overrides, retry_of=retry_of)

    def report(self, taken: Row, *, step: int, value: float) -> bool:
        """Store a trial's objective `value` at rung `step`; return whether to end the trial."""
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
            decision = self._study.pruner.prune(study_in_memory(self._study, trial, others), trial)
            for key, noted in trial.system_attrs.items():
                if own.system_attrs.get(key) != noted:
                    self._storage.set_trial_system_attr(trial._trial_id, key, noted)
            return bool(decision)  # numpy has a bool of its own

        try:
            decision = self._call(compare)
        except UpdateFinishedTrialError:
            return True  # another process has closed it
        self._own[taken.number] = trial
        return decision

    def _trials_of_others(self) -> list[FrozenTrial]:
        """Return the trials that other processes have taken, or that have ended."""
        is_due = self._compares_running and monotonic() - self._read_at >= FRESH_SECONDS
        trials = self._trials.now(fresh=is_due)
        self._read_at = monotonic() if is_due else self._read_at
        return [one for one in trials if one.number not in self._own]

    def leases(self) -> list[Lease | None]:
        """Return the leases of the running trials; `None` for a trial without one."""
        running = self._call(lambda: self._tables.running(LEASE))
        return [_lease(stored) for _, stored in running.values()]

    def beat(self, numbers: Iterable[int]) -> None:
        """Advance the lease counters of trials that are still being trained."""
        held = set(numbers)

        def move() -> None:
            moved = {}
            for number, (trial_id, stored) in self._tables.running(LEASE).items():
                lease = _lease(stored)
                if number in held and lease is not None:
                    moved[trial_id] = asdict(replace(lease, counter=lease.counter + 1))
            self._tables.set_attribute(LEASE, moved)

        self._call(move)

    # ── trials that end ─────────────────────────────────────────────────────────────────────

    def finish(self, taken: Row, ended: TrialEnd) -> bool:
        """Record the end of a trial; a value that is not finite makes it a failure.

        The point of a trial that was interrupted or lost is queued again, up to `sweep.max_retry`
        times. Returns whether the end was recorded, which fails if another process has closed the
        trial with another end.
        """
        own = self._own.pop(taken.number, None)
        ended = self._storable(ended)

        def finish() -> bool:
            trial = own or self._trials.now(fresh=True)[taken.number]
            if self._close_trial(trial, ended, self._repeated(trial, ended)):
                return True
            return self._has_ended_as(self._trials.now()[taken.number], ended)

        return self._call(finish)

    def close_lost(
        self, folder_of: Callable[[int], Path], died: Collection[int] = (), end: End = End.LOST
    ) -> list[Lost]:
        """Close the trials of all processes that are gone or silent, and return them.

        If the journal in a trial's folder holds an end, that end is recorded; otherwise the trial
        ends as `end`. `died` are the numbers of trials whose process was seen to die,
        possibly on another machine.
        """
        closed: dict[int, Lost] = {}

        def close() -> None:
            nonlocal closed
            leases = {
                number: _lease(stored)
                for number, (_, stored) in self._tables.running(LEASE).items()
            }
            judged = {
                number: self._is_lost(number, lease, folder_of(number))
                for number, lease in leases.items()
            }
            self.is_in_doubt = None in judged.values()
            lost = {number for number, is_lost in judged.items() if is_lost or number in died}
            if not lost and not closed:
                return
            with self._store.lock(self.name):
                before, closed = closed, {}
                for trial in self._trials.now(fresh=True):
                    one = before.get(trial.number)
                    if trial.state == TrialState.RUNNING and trial.number in lost:
                        one = self._close_lost(trial, folder_of(trial.number), end)
                    elif one is not None and not self._has_ended_as(trial, one.ended):
                        one = None
                    if one is not None:
                        closed[trial.number] = one

        self._call(close)
        self._own = {number: one for number, one in self._own.items() if number not in closed}
        return list(closed.values())

    def _is_lost(self, number: int, lease: Lease | None, folder: Path) -> bool | None:
        """Return whether the process of a trial is lost; `None` = that is not known yet.

        Anyone may have written the database, so a trial is not lost before the process that its
        journal names is. That one is also another if several ranks train the trial.
        """
        is_lost = self._watch.judge(number, lease)
        record = RunRecord.read(folder) if is_lost else None
        if record is None or record.lease is None or not record.is_trial:
            return is_lost
        counter = 0 if lease is None else lease.counter
        of_journal = replace(record.lease, counter=counter)
        return True if of_journal == lease else self._watch.judge((number, folder), of_journal)

    def _close_lost(self, trial: FrozenTrial, folder: Path, end: End) -> Lost | None:
        """Close a lost trial; `None` = its process has just closed it."""
        on_record = end_in_journal(folder) if RunRecord.read(folder).is_trial else None
        ended = self._storable(on_record or TrialEnd(end=end))
        again = self._repeated(trial, ended)
        if not self._close_trial(trial, ended, again):
            return None
        return Lost(
            number=trial.number,
            ended=ended,
            adopted=on_record is not None,
            queued_again=again is not None,
        )

    def _repeated(self, trial: FrozenTrial, ended: TrialEnd) -> FrozenTrial | None:
        return self._trials.retry_of(trial) if ended.end.is_retried else None

    def _close_trial(self, trial: FrozenTrial, ended: TrialEnd, again: FrozenTrial | None) -> bool:
        """Write how a running trial ended; return whether it was still running."""
        attributes = {key: value for key, value in _attributes(ended).items() if value is not None}
        values = ended.values
        if ended.end is End.PRUNED and trial.last_step is not None:
            values = (trial.intermediate_values[trial.last_step],)
        return self._tables.end(trial, _state(ended), values, attributes, again)

    def _has_ended_as(self, trial: FrozenTrial, ended: TrialEnd) -> bool:
        """Return whether a trial is on record with exactly this end, attributes included."""
        stored = trial.user_attrs
        is_same = all(stored.get(key) == value for key, value in _attributes(ended).items())
        return trial.state == _state(ended) and is_same

    def _storable(self, ended: TrialEnd) -> TrialEnd:
        """Return the end to store; an infinite value fails, since Optuna would take it for best."""
        if ended.end is not End.COMPLETE:
            return ended
        if len(ended.values) == len(self.objectives) and all(map(math.isfinite, ended.values)):
            return ended
        message = f"returned {list(ended.values)}, which is not a valid result"
        return replace(ended, end=End.DIVERGED, values=(), message=message)

    def _is_held(self, trial: FrozenTrial, lease: Mapping[str, object]) -> bool:
        """Return whether the trial with this id has this lease; servers reuse ids after a crash."""
        running = (one for one in self._trials.now() if one.state == TrialState.RUNNING)
        held = (one.user_attrs.get(LEASE) for one in running if one._trial_id == trial._trial_id)
        return lease in held

    # ── reading, and facts of the study ─────────────────────────────────────────────────────

    def progress(self) -> Progress:
        """Return the progress of the study."""
        return self._call(self._trials.progress)

    def trials(self) -> list[Row]:
        """Return all trials, ordered by number."""
        return self._call(self._trials.rows)

    @property
    def facts(self) -> dict[str, Any]:
        """User attributes of the study: `uid`, `space`, …, and those set with `set_fact`."""
        return self._call(lambda: checked_facts(self._study))

    def set_fact(self, key: str, value: Any) -> None:
        """Set a user attribute of the study to a value that JSON can hold."""
        self._call(lambda: self._study.set_user_attr(key, value))

    def data_of(self, config: Mapping[str, Any]) -> str | None:
        """Return the hash of the data that trials of a config train on; `None` = not known yet."""
        return stored_data(self.facts, config)

    def note_data(self, config: Mapping[str, Any], data: str) -> str:
        """Return the stored data hash of a config; store `data` if there is none."""
        return self._call(lambda: data_on_record(self._study, config, data), lock=self.name)

    def importances(self) -> list[Importances]:
        """Return the importances of the parameters for each objective."""
        trials = self._call(self._trials.now)
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        return [
            importances(complete, objective=index, minimizes=direction == "min")
            for index, direction in enumerate(self._definition.directions)
        ]


def _state(ended: TrialEnd) -> TrialState:
    return TrialState[ended.end.trial_state]


def _attributes(ended: TrialEnd) -> dict[str, Any]:
    """Return the user attributes of a trial with this end; a value of `None` is not stored."""
    message = {} if ended.message is None else {"message": ended.message}
    return {ATTRIBUTES: {**ended.attributes, **message} or None, END_REASON: ended.end.reason}


def _lease(stored: Any) -> Lease | None:
    """Return a lease as it is stored with a trial; `None` if there is no complete one."""
    try:
        return Lease(**stored)
    except TypeError:
        return None
