"""Studies on record: reading, comparing with MLflow, and closing their lost trials."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path

from omegaconf import OmegaConf
from optuna import delete_study
from sqlalchemy import text

from pipeline.base.errors import ConfigError, EnvironmentFaultError, did_you_mean
from pipeline.base.paths import conf_folder, name_problem
from pipeline.base.processes.lease import BEAT_SECONDS
from pipeline.config.options import SweepOptions
from pipeline.study.ledger.definition import Objective, StudyDefinition, facts_on_record, find_study
from pipeline.study.ledger.ledger import Ledger, LostTrial
from pipeline.study.ledger.storage import open_storage, storage_url
from pipeline.study.ledger.storage_faults import database_name, odd_values
from pipeline.study.space.space import Space
from pipeline.tracking.folders import mark, trial_folder
from pipeline.tracking.journal import Journal
from pipeline.tracking.run_record import RunRecord
from pipeline.tracking.uri import sqlite_path

_READ_NAMES = "SELECT study_name FROM studies"
#: Number of checks of a silent trial within the grace time.
REAP_LOOKS = 10


class Studies:
    """The studies of the database at `storage`; `None` = the default database.

    Raises EnvironmentFaultError if the file is missing or can't be read, and ConfigError if it is
    not a database of studies.
    """

    def __init__(self, storage: str | None) -> None:
        self._url = storage_url(storage, key="storage")
        path = sqlite_path(self._url)
        if path is not None and not path.is_file():
            raise EnvironmentFaultError(
                f"{database_name(self._url)} does not exist; expected the database of the sweep: "
                "storage=sqlite:///FILE"
            )
        self._store = open_storage(self._url)

    def names(self) -> list[str]:
        """Return the sorted names of the studies that a sweep may have created.

        A name that can't be that of a study's folder, such as a path, is passed over.
        """
        names = []
        for name in self._all_names():
            if name_problem("study", name) is None and self._may_be_of_a_sweep(name):
                names.append(name)
        return sorted(names)

    def name_problems(self) -> list[str]:
        """Return a line for each name that `names` passes over."""
        problems = [name_problem("study", name) for name in self._all_names()]
        return [problem for problem in problems if problem is not None]

    def _all_names(self) -> list[str]:
        def read() -> list[str]:
            with self._store.transaction() as connection:
                return [str(name) for (name,) in connection.execute(text(_READ_NAMES))]

        return self._store.call(read)

    def _may_be_of_a_sweep(self, name: str) -> bool:
        """Return whether a study has the id that a sweep gives it, or can't be read."""
        try:
            with self.reading(name):
                return "uid" in (facts_on_record(self._store, name) or {})
        except ConfigError:
            return True

    def reading(self, name: str) -> AbstractContextManager[None]:
        """Turn errors about values of a study that no sweep has written into a ConfigError."""
        return odd_values(self._url, name)

    def readable(self, names: Iterable[str], *, grace: float) -> Iterator[Ledger]:
        """Open some studies; of one that can't be read, a warning is printed instead."""
        for name in names:
            try:
                ledger = self.open(name, grace=grace)
            except ConfigError as error:
                print(f"warning: {error}", file=sys.stderr)
            else:
                yield ledger

    def open(self, name: str, *, grace: float = 60.0) -> Ledger:
        """Open a study without the right to take trials.

        A trial counts as lost after `grace` seconds without a sign of life. Raises ConfigError if
        there is no study of this name.
        """
        if problem := name_problem("study", name):
            raise ConfigError(problem)
        names = self.names()
        if name not in names:
            raise ConfigError(
                f"study={name!r} is unknown in {database_name(self._url)}; known: "
                f"{', '.join(names) or 'none'}.{did_you_mean(name, names)}"
            )
        tree = OmegaConf.load(conf_folder() / "sweep.yaml")
        values = OmegaConf.to_container(tree.sweep)
        assert isinstance(values, dict)
        options = SweepOptions.model_validate({**values, "grace": grace})

        with self.reading(name):
            ledger = self._store.call(partial(self._open, name, options))
            ledger.trials()  # a trial that has not ended is not read before
            ledger.leases()
            return ledger

    def _open(self, name: str, options: SweepOptions) -> Ledger:
        study = find_study(self._store.optuna, name)
        assert study is not None  # its name was found
        facts = study.user_attrs
        definition = StudyDefinition(
            url=self._url,
            name=name,
            options=options,
            space=Space.from_stored(facts.get("space") or {}),
            base={},
            objectives=[Objective(**stored) for stored in facts.get("objectives", [])],
            seed=0,
        )
        return Ledger(self._store, study, definition)

    def delete(self, name: str) -> None:
        """Delete a study and its trials from the database."""
        storage = self._store.optuna
        self._store.call(lambda: delete_study(study_name=name, storage=storage))


def reap_trials(
    studies: Studies, names: Iterable[str], output: Path, *, grace: float
) -> Iterator[tuple[str, LostTrial]]:
    """Close the lost trials of some studies, and yield each with the name of its study.

    A study that can't be read is passed over with a warning.

    A trial of another machine, or of a process that a signal has stopped, is lost after `grace`
    seconds without a sign of life; this function waits for them. `output` is the folder of the
    studies' folders.
    """
    opened = list(studies.readable(names, grace=grace))
    deadline = time.monotonic() + 2 * grace
    while True:
        for study in tuple(opened):
            try:
                lost_trials = _reap(study, output / study.name)
            except ConfigError as error:
                print(f"warning: {error}", file=sys.stderr)
                opened.remove(study)
                continue
            for lost in lost_trials:
                yield study.name, lost
        if time.monotonic() > deadline or not any(study.is_in_doubt for study in opened):
            return
        time.sleep(min(grace / REAP_LOOKS, BEAT_SECONDS))


def _reap(ledger: Ledger, study_folder: Path) -> list[LostTrial]:
    folder_of = partial(trial_folder, study_folder, ledger.uid)
    lost_trials = ledger.close_lost(folder_of)
    for lost in lost_trials:
        folder = folder_of(lost.number)
        if not lost.adopted and RunRecord.read(folder).is_trial:
            with closing(Journal(folder)) as journal:
                journal.end(lost.ended)  # whatever the trial itself has written
            mark(folder)
    return lost_trials


def require_study(folder: Path, study: Ledger) -> None:
    """Require that a folder is not that of a run or of another study, like which one is named.

    Raises:
        ConfigError: Its journal is not that of the study.
    """
    if not RunRecord.read(folder).is_study(study.uid):
        raise ConfigError(
            f"{str(folder)!r} is not the folder of study={study.name!r} in this database: it holds "
            "a run or another study; name that study's database with storage=sqlite:///FILE"
        )
