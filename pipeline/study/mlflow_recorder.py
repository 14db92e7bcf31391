"""Puts trials on record in MLflow while the driver goes on. Nothing here imports MLflow."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Self

from pipeline.processes.lease import alive
from pipeline.running.resuming import trainer_of
from pipeline.study.trial_end import has_begun
from pipeline.tracking.client import Recorder, SentRun
from pipeline.tracking.fields import RecordedTrial
from pipeline.tracking.folders import TRIALS, is_finished, mark, remove, unsent
from pipeline.tracking.journal import JOURNAL

TICK_SECONDS = 0.25
PAUSE_SECONDS = 1.0
"""Pause after a trial that could not be sent."""
LEAVE_SECONDS = 150.0
LONG_SECONDS = 2.0
"""A trial that lives longer shows as RUNNING; a shorter one is recorded in one go at its end."""


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
        self._recorder = None if uri is None else Recorder()
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow-recorder", daemon=True)
        self._is_over = False
        self._begun: dict[Path, float] = {}
        self._followed: list[Path] = []
        self._ended: dict[Path, tuple[bool, bool]] = {}
        """By folder of a trial that waits: is it lost, and is it removed once MLflow has it."""
        self._retry_at = 0.0
        self._unsent = 0

    def __enter__(self) -> Self:
        if self._recorder is not None:
            self._recorder.start()  # its imports take seconds; it gets ready while others work
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.close()
        elif self._recorder is not None:
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
        if self._recorder is not None and self._uri is not None:
            problem = self._recorder.connect(
                self._uri, experiment=self._experiment, required=required
            )
        self._thread.start()
        return problem

    def follow(self, folder: Path) -> None:
        """Keep the study's own run up to date until `close`, or until it is left."""
        self._tasks.put(partial(self._follow, folder))

    def leave(self, folder: Path) -> None:
        """Close a run that was followed, whose journal has ended; waits until that is done."""
        left = threading.Event()
        self._tasks.put(partial(self._leave, folder))
        self._tasks.put(left.set)
        if self._thread.is_alive():
            left.wait(LEAVE_SECONDS)

    def begin(self, folder: Path) -> None:
        """Watch a trial that begins in a folder."""
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
        if self._recorder is None:
            return []
        read = partial(self._recorder.trials, study, ())
        answer: Future[list[RecordedTrial]] = Future()

        def answered() -> None:
            try:
                answer.set_result(read())
            except Exception as error:  # the waiting thread raises it
                answer.set_exception(error)

        self._tasks.put(answered)
        return answer.result()

    def close(self) -> int:
        """Send what is left, for a bounded time, and return how many values MLflow lacks."""
        if self._thread.is_alive():
            self._tasks.put(self._finish)
            self._thread.join()
        if self._recorder is not None:
            self._recorder.quit()
        return self._unsent

    # ── the thread ──────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        while not self._is_over:
            with suppress(Empty):
                self._safely(self._tasks.get(timeout=0.0 if self._can_send() else TICK_SECONDS))
            self._safely(self._open_long_ones)
            self._safely(self._send_first)

    def _safely(self, task: Callable[[], None]) -> None:
        """Do a task; whatever is wrong with it, the study and its other trials go on."""
        try:
            task()
        except Exception as error:
            logging.getLogger("pipeline").exception("a trial could not be recorded")
            self.problem = f"{type(error).__name__}: {error}"

    def _follow(self, folder: Path) -> None:
        if self._recorder is not None:
            self._followed.append(folder)
            self._recorder.open(folder)

    def _leave(self, folder: Path) -> None:
        if self._recorder is not None and folder in self._followed:
            self._followed.remove(folder)
            unsent_here = self._recorder.close(folder)
            self._unsent += unsent_here
            self.registered = self._recorder.registered
            self.model_problem = None if unsent_here else self._recorder.problem

    def _open_long_ones(self) -> None:
        """Let MLflow show what has been running for a while."""
        now = time.monotonic()
        for folder, begun_at in list(self._begun.items()):
            if now - begun_at > LONG_SECONDS and has_begun(folder):
                del self._begun[folder]
                if self._recorder is not None:
                    self._recorder.open(folder)

    def _end(self, folder: Path, *, lost: bool, forget: bool) -> None:
        self._begun.pop(folder, None)
        was_lost, was_forgotten = self._ended.get(folder, (False, False))
        self._ended[folder] = (was_lost or lost, was_forgotten or forget)

    def _forget(self, folder: Path) -> None:
        if (folder / JOURNAL).is_file() and self._recorder is not None and not is_finished(folder):
            self._end(folder, lost=False, forget=True)
        else:
            self._ended.pop(folder, None)
            remove(folder)

    def _can_send(self) -> bool:
        return bool(self._ended) and time.monotonic() >= self._retry_at

    def _send_first(self) -> None:
        """Send the first trial that waits, unless that failed a moment ago."""
        if self._can_send():
            folder, (lost, _) = next(iter(self._ended.items()))
            self._settle(folder, self._record(folder, is_over=lost))

    def _record(self, folder: Path, *, is_over: bool, patient: bool = False) -> SentRun:
        if self._recorder is None or not (folder / JOURNAL).is_file():
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
