"""The record of a study: who takes which trial, how each ended, and how far the study is."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from pipeline.config.options import SweepOptions
from pipeline.config.record import data_fingerprint
from pipeline.processes.lease import Lease
from pipeline.study.ledger.founding import DATA, found, noted_data
from pipeline.study.ledger.importances import Importances, importances
from pipeline.study.ledger.lost import Lost, beat
from pipeline.study.ledger.marks import RETRY_OF, lease_mark
from pipeline.study.ledger.objectives import Objective
from pipeline.study.ledger.parts import Parts
from pipeline.study.ledger.points import Points
from pipeline.study.ledger.progress import Progress
from pipeline.study.ledger.rows import Row
from pipeline.study.ledger.settling import GivingUp, Settling
from pipeline.study.ledger.start_points import start_points
from pipeline.study.ledger.storage import WAIT_SECONDS, open_storage
from pipeline.study.ledger.store import Store
from pipeline.study.ledger.taking import Taken, Taking
from pipeline.study.trial_end import TrialEnd

__all__ = ["Ledger", "Lost", "Progress", "Row", "Taken"]


class Ledger:
    """One open study; several processes may have it open, each has a ledger of its own.

    Every call may raise `EnvironmentFaultError` (the database is locked, gone, replaced, full or
    down) and `ConfigError` (its file is no database any more), one line each. A server that is
    down is waited for, and the call is made again: each finds out what the cut one has written.

    Args:
        store: Where the study is kept.
        study: Optuna's study, whole.
        parts: How this process takes part in it.
    """

    def __init__(self, store: Store, study: Study, parts: Parts) -> None:
        self.name = study.study_name
        self._store = store
        self._study = study
        self._storage = store.storage
        self._work = store.work
        self._lock = store.lock(study.study_name)
        self._parts = parts
        self._rows = parts.rows
        self._settling = Settling(study, parts.rows, max_retry=parts.budget.max_retry)
        self.uid = str(study.user_attrs["uid"])

    @classmethod
    def open(
        cls,
        *,
        url: str,
        name: str,
        options: SweepOptions,
        space: Points,
        base: Mapping[str, Any],
        data: str | None = None,
        objectives: Sequence[Objective],
        seed: int,
        base_point: Mapping[str, object] | None = None,
        wait: float = WAIT_SECONDS,
    ) -> "Ledger":
        """Begin a study or go on with one, and queue its start points once.

        Args:
            url: From `storage_url`.
            name: Name of the study.
            options: What it is.
            space: What is varied.
            base: The run that it varies, as plain values.
            data: Hash of the data of that run; `None` = it is not checked.
            objectives: What it is about.
            seed: Where its random numbers come from.
            base_point: The run as it stands, as Optuna's values; `None` = outside of the space.
            wait: Seconds that any call waits for a lock.

        Raises:
            ConfigError: Another space, run or objective than the study has, a start point outside
                of the space, or a file that is no database.
            EnvironmentFaultError: The database is locked, can't be written, or is down.
        """
        points = start_points(options, space, base_point)
        store = open_storage(
            url,
            wait=wait,
            patience=options.storage_patience,
            from_start=options.await_storage,
        )

        def opened() -> Ledger:
            with store.lock(name):
                study = found(
                    store.storage,
                    name,
                    space=space,
                    base=base,
                    data=data,
                    objectives=objectives,
                    points=points,
                    allow_change=options.allow_change,
                )
                parts = Parts.of(study, space, options, objectives, seed=seed)
                return cls(store, study, parts)

        return store.work(opened)

    @property
    def prunes(self) -> bool:
        """Whether trials are compared before they end."""
        return self._parts.comparing is not None

    def take(self, holder: Lease) -> Taken | None:
        """Take the next trial, points that wait first; `None` = there is none to take now.

        Args:
            holder: The process that is going to train it.

        Raises:
            ConfigError: The sampler can't choose a point.
        """
        taking = Taking(self._study, self._parts.budget, self._parts.sampling, lease_mark(holder))

        def take() -> bool:
            with self._lock:
                return taking.take(self._rows.tally(), self._store.require_writable)

        if not self._work(take):
            return None
        if self._parts.comparing is not None:
            self._parts.comparing.begin(taking.trial)
        return Taken(
            number=taking.trial.number,
            overrides=taking.overrides,
            params=dict(taking.trial.params),
            retry_of=taking.trial.user_attrs.get(RETRY_OF),
        )

    def report(self, taken: Taken, *, step: int, value: float) -> bool:
        """Note what a trial has come to at a rung, and tell whether it is to be ended.

        Args:
            taken: The trial.
            step: The rung.
            value: The objective there.
        """
        comparing = self._parts.comparing
        if comparing is None or not math.isfinite(value):
            return False
        try:
            return comparing.report(taken.number, step=step, value=value, work=self._work)
        except UpdateFinishedTrialError:
            return True  # somebody has given it up

    def beat(self, numbers: Iterable[int]) -> None:
        """Move the leases of trials that are still being trained."""
        held = list(numbers)

        def move() -> None:
            for number in held:
                beat(self._storage, self._storage.get_trial(self._id(number)))

        self._work(move)

    def finish(self, taken: Taken, end: TrialEnd) -> bool:
        """Put the end of a trial on record.

        A value that is no finite number is a failure. What was interrupted or lost is queued
        again, up to `sweep.max_retry` times.

        Returns:
            Whether it counts; somebody may have given the trial up and queued it again, and then
            the result is dropped.
        """
        self._forget(taken.number)

        def finish() -> bool:
            with self._lock:
                trial = self._storage.get_trial(self._id(taken.number))
                if trial.state != TrialState.RUNNING:
                    return self._settling.is_settled(trial, end)
                self._settling.settle(trial, end)
                return True

        return self._work(finish)

    def sweep_lost(
        self, folder_of: Callable[[int], Path], died: Collection[int] = ()
    ) -> list[Lost]:
        """Give up the trials whose process is gone or silent, whoever took them.

        Where its journal says that a trial had ended, that counts; else it is lost.

        Args:
            folder_of: Returns the folder of a trial's run.
            died: Trials whose process was seen to die, maybe on another machine.
        """
        giving_up = GivingUp(self._settling, self._rows, folder_of)

        def sweep() -> None:
            lost = self._parts.watch.lost_among(self._running(), died)
            if lost or giving_up.found:
                with self._lock:
                    giving_up.give_up({trial.number for trial in lost})

        self._work(sweep)
        self._forget(*giving_up.found)
        return list(giving_up.found.values())

    def _forget(self, *numbers: int) -> None:
        if self._parts.comparing is not None:
            self._parts.comparing.end(*numbers)

    def _running(self) -> list[FrozenTrial]:
        return [trial for trial in self._rows.trials() if trial.state == TrialState.RUNNING]

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)

    def progress(self) -> Progress:
        """Return how far the study is."""
        return self._work(self._rows.progress)

    def trials(self) -> list[Row]:
        """Return all trials by number."""
        return self._work(self._rows.rows)

    @property
    def study(self) -> Study:
        """The study as Optuna has it, for its pictures."""
        return self._study

    @property
    def facts(self) -> dict[str, Any]:
        """What is noted with the study: `uid`, `space`, `base`, `objectives`, and what was set."""
        return self._work(lambda: dict(self._study.user_attrs))

    def set_fact(self, key: str, value: Any) -> None:
        """Note something with the study, as JSON can hold it."""
        self._work(lambda: self._study.set_user_attr(key, value))

    def data_of(self, config: Mapping[str, Any]) -> str | None:
        """Return the hash of the data that trials of a config train on; `None` = not known yet.

        Args:
            config: The config of a trial as plain values.
        """
        noted = self.facts.get(DATA, {}).get(data_fingerprint(config))
        return None if noted is None else str(noted)

    def note_data(self, config: Mapping[str, Any], data: str) -> str:
        """Return the hash of the data of a config, noted now unless it was.

        Args:
            config: The config of a trial as plain values.
            data: What its worker has read.
        """

        def note() -> str:
            with self._lock:
                return noted_data(self._study, config, data)

        return self._work(note)

    def importances(self) -> list[Importances]:
        """Return for each objective which parameters made trials good, and how much."""

        def read() -> tuple[list[FrozenTrial], list[StudyDirection]]:
            complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            return complete, self._study.directions

        complete, directions = self._work(read)
        return [
            importances(complete, objective=index, minimizes=one == StudyDirection.MINIMIZE)
            for index, one in enumerate(directions)
        ]

    def close(self) -> None:
        """Close the database."""
        self._store.close()
