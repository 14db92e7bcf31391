"""The record of a study: which process trains each trial, how each ended, and the progress."""

import math
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from omegaconf import DictConfig
from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from pipeline.base.ends import End, TrialEnd
from pipeline.base.processes.lease import Lease, LeaseWatch
from pipeline.config.plain import plain
from pipeline.study.ledger.definition import (
    StudyDefinition,
    checked_facts,
    create_or_check,
    data_on_record,
    start_points,
    stored_data,
    uid_of,
)
from pipeline.study.ledger.optuna_tables import StudyTables
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
from pipeline.study.ledger.search import (
    build_pruner,
    choose,
    compares_running,
    rung_epochs,
    study_in_memory,
)
from pipeline.study.ledger.storage import WAIT_SECONDS, Answer, StudyStorage, open_storage
from pipeline.study.ledger.storage_faults import odd_values
from pipeline.study.messages import end_in_journal
from pipeline.tracking.run_record import RunRecord

#: User attribute of a trial: the process that trains it, and a counter that shows it is alive.
LEASE = "lease"
#: Maximum age of what other processes' running trials have reported, for a pruner.
FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LostTrial:
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
            end = self.ended.end
            return f"trial {self.number} had ended ({end}) before its process died; it is recorded"
        retry = "is retried" if self.queued_again else "has no retries left"
        return f"trial {self.number} was lost because its process died; it {retry}"


@dataclass(slots=True)
class _Choice:
    """The trial that a call has chosen, and its point as Hydra's texts; `None` = none so far."""

    trial: FrozenTrial | None = None
    overrides: dict[str, str] = field(default_factory=dict)


class Ledger:
    """One open study; several processes may have it open, each with its own ledger.

    Every call may raise EnvironmentFaultError if the database is locked, gone, replaced, full or
    down, and ConfigError if its file is no longer a database. While a server is down, the call is
    repeated; it first checks what an interrupted attempt has written.
    """

    def __init__(self, store: StudyStorage, study: Study, definition: StudyDefinition) -> None:
        self.name = study.study_name
        self.uid = uid_of(study)
        self.objectives = definition.objectives
        self.names = definition.names
        self.prunes = definition.prunes
        self._study = study
        study.pruner = build_pruner(definition.options, prunes=self.prunes)  # samplers see it too
        self._definition = definition
        self._store = store
        self._storage = store.optuna
        self.is_in_doubt = False
        """Whether `close_lost` has seen a trial of which it can't tell yet whether it is lost."""
        self._watch = LeaseWatch(definition.options.grace)
        self._tables = StudyTables(store, study._study_id)
        self._trials = StudyTrials(self._tables, definition)
        self._own: dict[int, FrozenTrial] = {}
        """The trials that this process has taken."""
        self._compares_running = compares_running(definition.options)
        self._compared_at = -FRESH_SECONDS

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

        def open_study() -> Ledger:
            return cls(store, create_or_check(store.optuna, definition, points), definition)

        with odd_values(definition.url, definition.name):
            return store.call(open_study, lock=definition.name)

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
        choice = _Choice()
        trial = self._call(partial(self._take, asdict(holder), choice), lock=self.name)
        if trial is None:
            return None
        self._own[trial.number] = trial
        return Row(
            number=trial.number,
            state="running",
            overrides=choice.overrides,
            retry_of=trial.user_attrs.get(RETRY_OF),
        )

    def _take(self, lease: dict[str, Any], choice: _Choice) -> FrozenTrial | None:
        """Choose the next trial and write that it runs with this lease; `None` = none is left.

        `choice` holds what was chosen. If this call repeats one that was cut short after its trial
        was written, that trial is returned.
        """
        if choice.trial is not None and self._is_held(choice.trial, lease):
            return choice.trial
        while True:
            next_trial, trials = self._trials.next_trial()
            if next_trial is None:
                return None
            trial, choice.overrides = choose(self._study, self._definition, next_trial, trials)
            trial.user_attrs = {**trial.user_attrs, LEASE: lease}
            choice.trial = trial
            if next_trial.state != TrialState.WAITING:
                self._tables.add(trial)
                return trial
            if self._tables.start(next_trial, trial):
                return trial
            # Another program has started the waiting trial in the meantime.

    def report(self, taken: Row, *, step: int, value: float) -> bool:
        """Store a trial's objective `value` at rung `step`; return whether to end the trial."""
        if not self.prunes or not math.isfinite(value):
            return False
        before = self._own.get(taken.number)
        if before is None:
            return True
        trial = copy(before)
        trial.intermediate_values = {**before.intermediate_values, step: value}
        try:
            is_pruned = self._call(partial(self._compare, before, trial, step))
        except UpdateFinishedTrialError:
            return True  # another process has closed it
        self._own[taken.number] = trial
        return is_pruned

    def _compare(self, before: FrozenTrial, trial: FrozenTrial, step: int) -> bool:
        """Write the value of a trial at a rung, and let the pruner compare it with other trials.

        `before` is the trial without that value. Returns whether the trial is to be ended.
        """
        trial.system_attrs = dict(before.system_attrs)
        value = trial.intermediate_values[step]
        self._storage.set_trial_intermediate_value(trial._trial_id, step, value)
        compared = self._foreign_or_ended_trials()
        compared += [running for running in self._own.values() if running is not before]
        # What the pruner sets on the trial stays in memory at first.
        study = study_in_memory(self._study, trial, compared)
        is_pruned = self._study.pruner.prune(study, trial)
        for key, attribute in trial.system_attrs.items():
            if before.system_attrs.get(key) != attribute:
                self._storage.set_trial_system_attr(trial._trial_id, key, attribute)
        return bool(is_pruned)  # numpy has a bool of its own

    def _foreign_or_ended_trials(self) -> list[FrozenTrial]:
        """Return the trials that other processes have taken, or that have ended."""
        is_due = self._compares_running and monotonic() - self._compared_at >= FRESH_SECONDS
        trials = self._trials.read_trials(fresh=is_due)
        if is_due:
            self._compared_at = monotonic()
        return [trial for trial in trials if trial.number not in self._own]

    def leases(self) -> list[Lease | None]:
        """Return the leases of the running trials; `None` for a trial without one."""
        running = self._call(lambda: self._tables.running(LEASE))
        return [_lease(stored) for _, stored in running.values()]

    def beat(self, numbers: Iterable[int]) -> None:
        """Advance the lease counters of trials that are still being trained."""
        self._call(partial(self._beat, set(numbers)))

    def _beat(self, numbers: Container[int]) -> None:
        leases = {}
        for number, (trial_id, stored) in self._tables.running(LEASE).items():
            lease = _lease(stored)
            if number in numbers and lease is not None:
                leases[trial_id] = asdict(replace(lease, counter=lease.counter + 1))
        self._tables.set_attribute(LEASE, leases)

    def rungs_of(self, epochs: object) -> dict[int, int]:
        """Return the epochs after which a trial is compared, each with its rung; empty = never.

        `epochs` is the trial's `max_epochs`; without a number, there are no rungs.
        """
        if not (self.prunes and isinstance(epochs, int)):
            return {}
        return rung_epochs(epochs, self._definition.options.pruner_warmup)

    # ── trials that end ─────────────────────────────────────────────────────────────────────

    def finish(self, taken: Row, ended: TrialEnd) -> bool:
        """Record the end of a trial; a value that is not finite makes it a failure.

        The point of a trial that was interrupted or lost is queued again, up to `sweep.max_retry`
        times. Returns whether the end was recorded, which fails if another process has closed the
        trial with another end.
        """
        own_trial = self._own.pop(taken.number, None)
        ended = self._storable(ended)
        return self._call(partial(self._finish, taken.number, own_trial, ended))

    def _finish(self, number: int, trial: FrozenTrial | None, ended: TrialEnd) -> bool:
        if trial is None:
            trial = self._trials.read_trials(fresh=True)[number]
        if self._close_trial(trial, ended, self._retry_after(trial, ended)):
            return True
        return self._has_ended_as(self._trials.read_trials()[number], ended)

    def close_lost(
        self, folder_of: Callable[[int], Path], died: Collection[int] = (), end: End = End.LOST
    ) -> list[LostTrial]:
        """Close the trials of all processes that are gone or silent, and return them.

        If the journal in a trial's folder holds an end, that end is recorded; otherwise the trial
        ends as `end`. `died` are the numbers of trials whose process was seen to die,
        possibly on another machine.
        """
        closed: dict[int, LostTrial] = {}
        self._call(partial(self._close_all_lost, closed, folder_of, died, end))
        for number in closed:
            self._own.pop(number, None)
        return list(closed.values())

    def _close_all_lost(
        self,
        closed: dict[int, LostTrial],
        folder_of: Callable[[int], Path],
        died: Collection[int],
        end: End,
    ) -> None:
        """Close all lost trials, and put them into `closed` by their numbers.

        If this call repeats one that was cut short, `closed` has the trials that earlier attempts
        closed; those that are not on record with this end are removed.
        """
        lost = self._lost_trials(folder_of, died)
        if not lost and not closed:
            return
        with self._store.lock(self.name):
            on_record: dict[int, LostTrial] = {}
            for trial in self._trials.read_trials(fresh=True):
                closed_trial = closed.get(trial.number)
                if trial.state == TrialState.RUNNING and trial.number in lost:
                    closed_trial = self._close_lost(trial, folder_of(trial.number), end)
                elif closed_trial is not None and not self._has_ended_as(trial, closed_trial.ended):
                    closed_trial = None
                if closed_trial is not None:
                    on_record[trial.number] = closed_trial
            # Only at the end, so that an attempt that is cut short forgets nothing.
            closed.clear()
            closed.update(on_record)

    def _lost_trials(self, folder_of: Callable[[int], Path], died: Collection[int]) -> set[int]:
        """Return the numbers of running trials that are lost, and set `is_in_doubt`."""
        lost = set()
        self.is_in_doubt = False
        for number, (_, stored) in self._tables.running(LEASE).items():
            is_lost = self._is_lost(number, _lease(stored), folder_of(number))
            if is_lost is None:
                self.is_in_doubt = True
            if is_lost or number in died:
                lost.add(number)
        return lost

    def _is_lost(self, number: int, lease: Lease | None, folder: Path) -> bool | None:
        """Return whether the process of a trial is lost; `None` = that is not known yet.

        Anyone may have written the database, so a trial is not lost before the process that its
        journal names is.
        """
        is_lost = self._watch.judge(number, lease)
        record = RunRecord.read(folder) if is_lost else None
        if record is None or record.lease is None or not record.is_trial:
            return is_lost
        counter = 0 if lease is None else lease.counter
        journal_lease = replace(record.lease, counter=counter)
        if journal_lease == lease:
            return True
        return self._watch.judge((number, folder), journal_lease)

    def _close_lost(self, trial: FrozenTrial, folder: Path, end: End) -> LostTrial | None:
        """Close a lost trial; `None` = its process has just closed it."""
        recorded_end = end_in_journal(folder) if RunRecord.read(folder).is_trial else None
        ended = self._storable(recorded_end or TrialEnd(end=end))
        retry = self._retry_after(trial, ended)
        if not self._close_trial(trial, ended, retry):
            return None
        return LostTrial(
            number=trial.number,
            ended=ended,
            adopted=recorded_end is not None,
            queued_again=retry is not None,
        )

    def _retry_after(self, trial: FrozenTrial, ended: TrialEnd) -> FrozenTrial | None:
        return self._trials.retry_of(trial) if ended.end.is_retried else None

    def _close_trial(self, trial: FrozenTrial, ended: TrialEnd, retry: FrozenTrial | None) -> bool:
        """Write how a running trial ended; return whether it was still running."""
        attributes = {key: value for key, value in _attributes(ended).items() if value is not None}
        values = ended.values
        if ended.end is End.PRUNED and trial.last_step is not None:
            values = (trial.intermediate_values[trial.last_step],)
        return self._tables.end(trial, _state(ended), values, attributes, retry)

    def _has_ended_as(self, trial: FrozenTrial, ended: TrialEnd) -> bool:
        """Return whether a trial is on record with exactly this end, attributes included."""
        if trial.state != _state(ended):
            return False
        attributes = _attributes(ended)
        return all(trial.user_attrs.get(key) == value for key, value in attributes.items())

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
        for stored in self._trials.read_trials():
            if stored._trial_id == trial._trial_id and stored.state == TrialState.RUNNING:
                return bool(stored.user_attrs.get(LEASE) == lease)
        return False

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

    def data_of(self, config: DictConfig | Mapping[str, Any]) -> str | None:
        """Return the hash of the data that trials of a config train on; `None` = not known yet.

        References in `config` are resolved.
        """
        return stored_data(self.facts, plain(config))

    def note_data(self, config: Mapping[str, Any], data: str) -> str:
        """Return the stored data hash of a config; store `data` if there is none."""
        return self._call(lambda: data_on_record(self._study, config, data), lock=self.name)

    def importances(self) -> list[Importances]:
        """Return the importances of the parameters for each objective."""
        trials = self._call(self._trials.read_trials)
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        return [
            importances(complete, objective=index, minimizes=direction == "min")
            for index, direction in enumerate(self._definition.directions)
        ]


def _state(ended: TrialEnd) -> TrialState:
    return TrialState[ended.end.trial_state]


def _attributes(ended: TrialEnd) -> dict[str, Any]:
    """Return the user attributes of a trial with this end; a value of `None` is not stored."""
    attributes = dict(ended.attributes)
    if ended.message is not None:
        attributes["message"] = ended.message
    return {ATTRIBUTES: attributes or None, END_REASON: ended.end.reason}


def _lease(stored: Any) -> Lease | None:
    """Return a lease as it is stored with a trial; `None` if there is no complete one."""
    try:
        return Lease(**stored)
    except TypeError:
        return None
