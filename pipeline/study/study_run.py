"""The MLflow run of a study, and the destination of this run and of the trials' runs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import filelock

from pipeline.base.ends import End
from pipeline.base.errors import ConfigError, EnvironmentFaultError
from pipeline.base.paths import create_folder
from pipeline.base.regular_files import require_plain_folder
from pipeline.config.naming import LONGEST_STUDY_NAME
from pipeline.study.ledger.definition import Objective
from pipeline.study.ledger.rows import Progress
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.facts import environment_tags
from pipeline.tracking.fields import COMMAND_TAG, NOTE_TAG, STUDY_TAG, TRIAL_TAG
from pipeline.tracking.folders import read_state, trial_folder
from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import Header, ModelScore, Scalar
from pipeline.tracking.ownership import OWNER, begin_own, forget_own, next_order
from pipeline.tracking.run_record import RunRecord
from pipeline.tracking.uri import where_to_look

LOCK = ".study.lock"


@dataclass(frozen=True, kw_only=True)  # StudyPlan inherits slots from its other base
class RunDestination:
    """Where the runs of a study and of its trials are recorded.

    Args:
        name: Name of the study.
        folder: The study's folder.
        uri: Address of the MLflow store; `None` = runs are not tracked.
        experiment: Name of the MLflow experiment.
        objectives: The study's objectives.
        uid: Tells the study from an earlier one of the same name; '' before it is opened.
    """

    name: str
    folder: Path
    uri: str | None
    experiment: str
    objectives: Sequence[Objective]
    uid: str = ""

    @property
    def where_to_look(self) -> tuple[str, ...]:
        """Command and address that show the runs; empty if nothing is tracked."""
        experiment_id = read_state(self.folder).experiment_id
        if self.uri is None or not experiment_id:
            return ()
        return where_to_look(self.uri, experiment_id)

    def trial_folder(self, number: int) -> Path:
        """Return the folder of a trial's run."""
        return trial_folder(self.folder, self.uid, number)

    def create_trial_folder(self, number: int) -> Path:
        """Create the folder of a trial's run unless it exists, and return it."""
        folder = self.trial_folder(number)
        create_folder(folder)
        return folder

    def header_of_study(
        self,
        params: Mapping[str, Scalar],
        *,
        data: str,
        rows: Mapping[str, int],
        register: str | None,
        trust: Sequence[str],
    ) -> Header:
        """Return the header of the journal of the study's own run.

        Args:
            params: Flattened config, without the keys that trials vary.
            data: Hash of the data.
            rows: Rows of each part of the data; empty if trials may have other data.
            register: Name under which the best model is registered; `None` = it is not.
            trust: Packages whose classes the config may name.
        """
        tags = {COMMAND_TAG: "sweep", STUDY_TAG: self.uid, "study": self.name}
        if rows:
            tags["data.hash"] = data
        return Header(
            name=self.name,
            experiment=self.experiment,
            uri=self.uri or "",
            params=params,
            tags={**environment_tags(), **tags},
            key=f"{self.name}-{self.uid}",
            register=register,
            trust=trust,
            rows=rows,
            order=next_order(),
        )

    def trial_header(self, number: int, params: Mapping[str, Scalar], **tags: str) -> Header:
        """Return the header of the journal of a trial's run; `params` is its flattened config."""
        trial_tags = {COMMAND_TAG: "trial", STUDY_TAG: self.uid, TRIAL_TAG: str(number)}
        return Header(
            name=f"{self.name[:LONGEST_STUDY_NAME]}-{number}",
            experiment=self.experiment,
            uri=self.uri or "",
            params=params,
            tags={**trial_tags, "study": self.name, **tags},
            parent_folder=str(self.folder.absolute()),
            key=f"{self.name}-{self.uid}-{number}",
        )


def require_study_folder(folder: Path) -> None:
    """Require that a folder may be that of a study: there is none yet, or it is a study's.

    Raises ConfigError if it is the folder of a run, or holds a link.
    """
    if folder.exists():
        require_plain_folder(folder, is_written=True)
        if RunRecord.read(folder).is_run:
            raise ConfigError(f"{str(folder)!r} is the folder of a run; choose another sweep.name")


def begin_study_folder(folder: Path) -> None:
    """Create the folder of a study, as the user's own, unless it exists.

    Raises EnvironmentFaultError if it can't be written.
    """
    if folder.exists():
        return
    try:
        create_folder(folder)
        with suppress(FileExistsError):  # another driver has begun the study meanwhile
            begin_own(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error


def remove_unused_folder(folder: Path) -> None:
    """Remove the folder of a study that could not begin, unless there is more in it."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == [OWNER]:
            forget_own(folder)
            (folder / OWNER).unlink()
        folder.rmdir()


def leader_lock(folder: Path) -> filelock.BaseFileLock | None:
    """Acquire the lock on a study's own run; return `None` if another driver holds it.

    The lock is a file in the study's folder, which is created if needed. It is free again when
    the process ends. Raises EnvironmentFaultError if the folder can't be written.
    """
    lock = filelock.FileLock(folder / LOCK)
    try:
        create_folder(folder)
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return None
    except OSError as error:
        raise _unwritable(folder, error) from error
    return lock


def _unwritable(folder: Path, error: OSError) -> EnvironmentFaultError:
    return EnvironmentFaultError(
        f"the study's folder {str(folder)!r} can't be written ({error.strerror}); "
        "choose another with output=FOLDER"
    )


class StudyRun:
    """The study's own MLflow run, written by whichever driver leads at the moment."""

    def __init__(
        self, destination: RunDestination, recorder: RecorderClient, header: Callable[[], Header]
    ) -> None:
        self._folder = destination.folder
        self._objectives = destination.objectives
        self._recorder = recorder
        self._header = header
        self._lock: filelock.BaseFileLock | None = None
        self._journal: Journal | None = None
        self._values: dict[str, float] = {}
        self._tags: dict[str, str] = {}
        self._best_step = -1
        self._count_step = 0
        self._recorded_best: int | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes the run; it takes the lead if no other process has it."""
        self._lock = self._lock or leader_lock(self._folder)
        if self._journal is None and self._lock is not None:
            journal = Journal(self._folder)
            self._remember(journal)
            journal.begin(self._header())
            self._recorder.follow(self._folder)
            self._journal = journal
        return self._journal is not None

    def update(self, progress: Progress) -> None:
        """Record the progress of the study, if this process leads."""
        if not self.leads or self._journal is None:
            return
        ends = {end: progress.counts[end] for end in End if end in progress.counts}
        if sum(ends.values()) > self._count_step:
            self._count_step = sum(ends.values())
            values = {f"trials/{key}": float(n) for key, n in ends.items()}
            self._journal.epoch(self._count_step, values)
        best = progress.best_row
        if best is None or best.number == self._recorded_best:
            return
        self._recorded_best = best.number
        best_values = {}
        for objective, value in zip(self._objectives, best.values, strict=True):
            best_values[f"best/{objective.name}"] = float(value)
        if not best_values.items() <= self._values.items():
            # MLflow shows the value of the highest step, so a better trial of a lower number
            # than the best one before it gets the next step.
            self._best_step = max(best.number, self._best_step + 1)
            self._journal.epoch(self._best_step, best_values)
            self._values |= best_values
        # The tags of keys that this trial does not vary become empty.
        tags = {key: "" for key in self._tags if key.startswith("best.")}
        for key, text in best.overrides.items():
            tags[f"best.{key}"] = str(text)
        tags["best.trial"] = str(best.number)
        self._tag(tags)

    def tested(self, metrics: Mapping[str, float]) -> None:
        """Record the test metrics of the best trial, if this process leads."""
        if self._journal is not None and not metrics.items() <= self._values.items():
            # MLflow shows the latest of the values of one step.
            latest = max(self._journal.read().epochs, default=0)
            self._journal.epoch(latest + 1, metrics)

    def record_model(self, figure: ModelScore) -> None:
        """Record the winner's model, saved in the study's folder, if this process leads."""
        if self._journal is not None:
            self._journal.model(figure)

    def describe(self, note: str) -> None:
        """Record the description of the study, in Markdown, if this process leads."""
        self._tag({NOTE_TAG: note})

    def finish(self) -> None:
        """Record the finish if this process leads; only `describe` and `end` may follow."""
        if self._journal is not None:
            self._journal.end(End.COMPLETE)

    def end(self, end: End) -> None:
        """End the run if this process leads, and wait until it is sent; then another may lead.

        A run that has finished keeps that status.
        """
        if self._journal is not None:
            if not self._journal.has_ended:
                self._journal.end(end)
            self._journal.close()
            self._recorder.close(self._folder)
        if self._lock is not None:
            self._lock.release()
        self._journal = self._lock = None

    def _tag(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            if self._journal is not None and self._tags.get(key) != value:
                self._journal.tag(key, value)
                self._tags[key] = value

    def _remember(self, journal: Journal) -> None:
        """Read what earlier drivers have recorded, so that nothing is recorded twice."""
        earlier = journal.read()
        self._tags = earlier.tags
        self._values = earlier.values
        for step, values in earlier.epochs.items():
            kinds = {key.partition("/")[0] for key in values}
            if "best" in kinds:
                self._best_step = step
            if "trials" in kinds:
                self._count_step = step
