"""Puts a study and its trials on record in MLflow while its driver goes on; never imports it."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self

import filelock

from pipeline.config.compose import LONGEST_NAME
from pipeline.config.options import SweepOptions
from pipeline.config.record import flatten
from pipeline.errors import EnvironmentFaultError
from pipeline.paths import create_folder
from pipeline.processes.lease import alive
from pipeline.running.resuming import trainer_of
from pipeline.study.ledger.rows import Progress
from pipeline.study.trial_end import has_begun
from pipeline.tracking.client import Recorder, SentRun
from pipeline.tracking.facts import environment_tags
from pipeline.tracking.fields import NOTE_TAG, STUDY_TAG, TRIAL_TAG, RecordedTrial
from pipeline.tracking.folders import (
    COMMAND_TAG,
    TRIALS,
    is_finished,
    mark,
    remove,
    trial_folder,
    unsent,
)
from pipeline.tracking.journal import JOURNAL, Figure, Header, Journal, Scalar, Status

LOCK = ".study.lock"
TICK_SECONDS = 0.25
#: Pause after a trial that could not be sent.
PAUSE_SECONDS = 1.0
LEAVE_SECONDS = 150.0
#: A trial that lives longer shows as RUNNING; a shorter one is recorded in one go at its end.
LONG_SECONDS = 2.0


class MlflowRecorder:
    """A thread that owns the recorder process of a study; its methods do not block.

    A trial's folder stays as long as MLflow lacks any of it. While the store is down all waits in
    the journals, and is sent when it answers again, at `close`, or by `action=sync`. `registered`
    and `model_problem` tell what became of the model of the study that was left last, `problem`
    what can't be recorded at the moment.

    Args:
        uri: Where trials are tracked, of `tracking_uri`; `None` = nowhere.
        experiment: Name of the MLflow experiment.
    """

    def __init__(self, uri: str | None, *, experiment: str) -> None:
        self.problem: str | None = None
        self.registered: str | None = None
        self.model_problem: str | None = None
        self._uri = uri
        self._experiment = experiment
        self._recorder = Recorder()
        self._tasks: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow-recorder", daemon=True)
        self._is_over = False
        self._begun: dict[Path, float] = {}
        self._followed: list[Path] = []
        self._ended: dict[Path, tuple[bool, bool]] = {}
        """By folder of a trial that waits: is it lost, and is it removed once MLflow has it."""
        self._retry_at = 0.0
        self._unsent = 0

    def __enter__(self) -> Self:
        if self._uri is not None:
            self._recorder.start()  # its imports take seconds; it gets ready while others work
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.close()
        elif self._uri is not None:
            self._recorder.abandon()  # it was never reached, and ends by itself

    def connect(self, *, required: bool = True) -> str | None:
        """Reach the store, then begin to work.

        Args:
            required: Raise where it can't be reached; else return the line as a warning.

        Raises:
            EnvironmentFaultError: The store is down, locked or of another version.
            ConfigError: The file is no database.
        """
        problem = None
        if self._uri is not None:
            problem = self._recorder.connect(
                self._uri, experiment=self._experiment, required=required
            )
        self._thread.start()
        return problem

    def follow(self, folder: Path) -> None:
        """Keep the study's own run up to date until `close`, or until it is left."""
        if self._uri is not None:
            self._followed.append(folder)
            self._tasks.put(partial(self._recorder.open, folder))

    def leave(self, folder: Path) -> None:
        """Close a run that was followed, whose journal has ended; waits until that is done."""
        left = threading.Event()
        self._tasks.put(partial(self._leave, folder))
        self._tasks.put(left.set)
        if self._thread.is_alive():
            left.wait(LEAVE_SECONDS)

    def begin(self, folder: Path) -> None:
        """Watch a trial that begins in a folder."""
        if self._uri is not None:
            self._tasks.put(partial(self._begun.__setitem__, folder, time.monotonic()))

    def end(self, folder: Path, *, lost: bool, forget: bool) -> None:
        """Record a trial that has ended.

        Args:
            folder: Its folder.
            lost: Its process died: without an end in its journal it is lost.
            forget: Remove the folder once MLflow has all of it.
        """
        self._tasks.put(partial(self._end, folder, lost=lost, forget=forget))

    def forget(self, folder: Path) -> None:
        """Remove the folder of a trial that has ended, once MLflow has all of it."""
        self._tasks.put(partial(self._forget, folder))

    def trial_runs(self, study: str) -> list[RecordedTrial]:
        """Return the runs of the trials of a study's uid; waits for what was asked before.

        Raises:
            EnvironmentFaultError: The store can't be read now.
        """
        answer: Future[list[RecordedTrial]] = Future()

        def read() -> None:
            try:
                answer.set_result(self._recorder.trials(study, ()))
            except Exception as error:  # the waiting thread raises it
                answer.set_exception(error)

        if self._uri is None:
            return []
        self._tasks.put(read)
        return answer.result()

    def close(self) -> int:
        """Send what is left, for a bounded time, and return how many values MLflow lacks."""
        if self._thread.is_alive():
            self._tasks.put(self._finish)
            self._thread.join()
        if self._uri is not None:
            self._recorder.quit()
        return self._unsent

    # ── the thread ──────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        while not self._is_over:
            with suppress(Empty):
                self._safely(self._tasks.get(timeout=0.0 if self._can_send() else TICK_SECONDS))
            self._safely(self._open_long_ones)
            self._safely(self._send_first)

    def _safely(self, task: Callable[[], object]) -> None:
        """Do a task; whatever is wrong with it, the study and its other trials go on."""
        try:
            task()
        except Exception as error:
            logging.getLogger("pipeline").exception("a trial could not be recorded")
            self.problem = f"{type(error).__name__}: {error}"

    def _leave(self, folder: Path) -> None:
        if folder in self._followed:
            self._followed.remove(folder)
            unsent_here = self._recorder.close(folder)
            self._unsent += unsent_here
            self.registered = self._recorder.registered
            self.model_problem = None if unsent_here else self._recorder.problem

    def _open_long_ones(self) -> None:
        """Let MLflow show what has been running for a while."""
        for folder, begun_at in list(self._begun.items()):
            if time.monotonic() - begun_at > LONG_SECONDS and has_begun(folder):
                del self._begun[folder]
                self._recorder.open(folder)

    def _end(self, folder: Path, *, lost: bool, forget: bool) -> None:
        self._begun.pop(folder, None)
        was_lost, was_forgotten = self._ended.get(folder, (False, False))
        self._ended[folder] = (was_lost or lost, was_forgotten or forget)

    def _forget(self, folder: Path) -> None:
        if self._is_recorded(folder) and not is_finished(folder):
            self._end(folder, lost=False, forget=True)
        else:
            self._ended.pop(folder, None)
            remove(folder)

    def _is_recorded(self, folder: Path) -> bool:
        return self._uri is not None and (folder / JOURNAL).is_file()

    def _can_send(self) -> bool:
        return bool(self._ended) and time.monotonic() >= self._retry_at

    def _send_first(self) -> None:
        """Send the first trial that waits, unless that failed a moment ago."""
        if self._can_send():
            folder, (lost, _) = next(iter(self._ended.items()))
            self._settle(folder, self._record(folder, is_over=lost))

    def _record(self, folder: Path, *, is_over: bool, patient: bool = False) -> SentRun:
        if not self._is_recorded(folder):
            return SentRun(done=True, unsent=0)
        return self._recorder.record(folder, is_over=is_over, patient=patient)

    def _settle(self, folder: Path, recorded: SentRun) -> None:
        self.problem = recorded.problem
        trial = self._ended.pop(folder)
        forget = trial[1]
        if recorded.done:
            if forget:
                remove(folder)
        elif recorded.problem is None or recorded.later:
            self._ended[folder] = trial  # behind the others: one may be stuck, not all
            self._retry_at = time.monotonic() + PAUSE_SECONDS
        else:
            self._give_up(folder, forget=forget)

    def _give_up(self, folder: Path, *, forget: bool) -> None:
        """Leave a trial in its folder, for `action=sync` to send."""
        self._unsent += unsent(folder)
        if forget:
            mark(folder)

    def _finish(self) -> None:
        """Send all that waits; the first that fails after some seconds ends the waiting."""
        self._is_over = True
        for folder in list(self._begun):
            self._end(folder, lost=True, forget=False)
        patient = True
        for folder in list(self._ended):
            recorded = self._record(folder, is_over=True, patient=patient)
            patient = patient and recorded.done
            self._settle(folder, recorded)
        for folder, (_, forget) in self._ended.items():
            self._give_up(folder, forget=forget)
        for folder in list(self._followed):
            self._leave(folder)


def leftovers(study: Path) -> list[Path]:
    """Return the trial folders that a driver left and no process works on, in the trials' order.

    Args:
        study: The study's folder.
    """
    folders = sorted(path.parent for path in study.glob(f"{TRIALS}/*/{JOURNAL}"))
    leases = ((folder, trainer_of(folder)) for folder in folders)
    return [folder for folder, lease in leases if lease is None or not alive(lease)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDestination:
    """Where the runs of a study and of its trials belong.

    Args:
        name: Name of the study.
        uid: Tells it from an earlier one of its name.
        folder: The study's folder.
        uri: Where its trials are tracked; '' = nowhere.
        experiment: Name of the MLflow experiment.
        objectives: Names of its objectives.
    """

    name: str
    uid: str
    folder: Path
    uri: str
    experiment: str
    objectives: Sequence[str]

    def trial_folder(self, number: int) -> Path:
        """Return the folder of a trial's run."""
        return trial_folder(self.folder, self.uid, number)

    def study_header(
        self,
        options: SweepOptions,
        base: Mapping[str, Any],
        *,
        register: str | None = None,
        trust: Sequence[str] = (),
    ) -> Header:
        """Return what the journal of the study's own run begins with.

        Args:
            options: What the study is.
            base: The run that it varies.
            register: Name under which the winner's model is registered; `None` = it is not.
            trust: Packages whose classes that model may name.
        """
        tags = {COMMAND_TAG: "sweep", STUDY_TAG: self.uid, "study": self.name}
        return Header(
            name=self.name,
            experiment=self.experiment,
            uri=self.uri,
            params=flatten({**base, "sweep": options.model_dump()}),
            tags={**environment_tags(), **tags},
            key=f"{self.name}-{self.uid}",
            register=register,
            trust=trust,
        )

    def trial_header(self, number: int, params: Mapping[str, Scalar], **tags: str) -> Header:
        """Return what the journal of a trial's run begins with.

        Args:
            number: The trial's.
            params: Its flattened configuration.
            tags: Tags beside those that tell which trial it is.
        """
        own = {COMMAND_TAG: "trial", STUDY_TAG: self.uid, TRIAL_TAG: str(number)}
        return Header(
            name=f"{self.name[:LONGEST_NAME]}-{number}",
            experiment=self.experiment,
            uri=self.uri,
            params=params,
            tags={**own, "study": self.name, **tags},
            parent_folder=str(self.folder.absolute()),
            key=f"{self.name}-{self.uid}-{number}",
        )


class StudyLock:
    """The right to write a study's own run, which one driver has at a time.

    It ends with the process that has it, however that ends.

    Args:
        folder: The study's folder; it may not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = filelock.FileLock(folder / LOCK)

    def try_acquire(self) -> bool:
        """Take it if nobody has it; tell whether this driver has it now.

        Raises:
            EnvironmentFaultError: The folder can't be written.
        """
        if self._lock.is_locked:
            return True
        try:
            create_folder(self._folder)
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            return False
        except OSError as error:
            raise EnvironmentFaultError(
                f"the study's folder {str(self._folder)!r} can't be written ({error.strerror}); "
                "choose another with output=FOLDER"
            ) from error
        return True

    def release(self) -> None:
        """Let another driver have it."""
        self._lock.release()


class StudyRun:
    """The study's own run, written by whichever driver leads at the moment.

    Args:
        destination: Where it belongs.
        recorder: Brings the run into MLflow.
        header: Returns what the journal of the run begins with.
    """

    def __init__(
        self, destination: RunDestination, recorder: MlflowRecorder, header: Callable[[], Header]
    ) -> None:
        self._folder, self._objectives = destination.folder, destination.objectives
        self._recorder, self._header = recorder, header
        self._lock = StudyLock(destination.folder)
        self._journal: Journal | None = None
        self._values: dict[str, float] = {}
        self._tags: dict[str, str] = {}
        self._best_step = -1
        self._count_step = 0
        self._told: int | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes the run now; it does if no other does."""
        if self._journal is None and self._lock.try_acquire():
            journal = Journal(self._folder)
            self._remember(journal)
            journal.begin(self._header())
            self._recorder.follow(self._folder)
            self._journal = journal
        return self._journal is not None

    def update(self, progress: Progress) -> None:
        """Record how far the study is, if this process leads."""
        if not self.leads or self._journal is None:
            return
        ends = {k: n for k, n in progress.counts.items() if k not in ("running", "waiting")}
        if sum(ends.values()) > self._count_step:
            self._count_step = sum(ends.values())
            values = {f"trials/{key}": float(n) for key, n in ends.items()}
            self._journal.epoch(self._count_step, values)
        best = progress.best_row
        if best is None or best.number == self._told:
            return
        self._told = best.number
        found = {f"best/{k}": float(v) for k, v in zip(self._objectives, best.values, strict=True)}
        if any(self._values.get(key) != value for key, value in found.items()):
            # MLflow shows the value of the highest step, so a better trial of a lower number
            # than the best one before it gets the next step.
            self._best_step = max(best.number, self._best_step + 1)
            self._journal.epoch(self._best_step, found)
            self._values |= found
        gone = {key: "" for key in self._tags if key.startswith("best.")}
        tags = {f"best.{key}": str(value) for key, value in best.overrides.items()}
        self._tag({**gone, **tags, "best.trial": str(best.number)})

    def left(self, figure: Figure) -> None:
        """Record that the study's folder holds the winner's model, if this process leads."""
        if self._journal is not None:
            self._journal.model(figure)

    def describe(self, note: str) -> None:
        """Record the description of the study, in Markdown, if this process leads."""
        self._tag({NOTE_TAG: note})

    def end(self, status: Status, reason: str | None = None) -> None:
        """End the run, if this process leads: FINISHED, KILLED interrupted or FAILED.

        Waits until that has been sent; then another driver may lead.
        """
        if self._journal is not None:
            self._journal.end(status, reason)
            self._journal.close()
            self._recorder.leave(self._folder)
        self._journal = None
        self._lock.release()

    def _tag(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            if self._journal is not None and self._tags.get(key) != value:
                self._journal.tag(key, value)
                self._tags[key] = value

    def _remember(self, journal: Journal) -> None:
        """Take up what earlier drivers have recorded, so that nothing is recorded twice."""
        for event in journal.events():
            if event["event"] == "tag":
                self._tags[event["key"]] = event["value"]
            elif event["event"] == "epoch":
                self._values |= event["values"]
                kinds = {key.partition("/")[0] for key in event["values"]}
                if "best" in kinds:
                    self._best_step = max(self._best_step, event["epoch"])
                if "trials" in kinds:
                    self._count_step = max(self._count_step, event["epoch"])
