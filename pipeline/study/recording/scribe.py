"""Puts trials on record in MLflow while the driver goes on. Nothing here imports MLflow."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Self

from pipeline.processes.lease import alive
from pipeline.running.resuming import trainer_of
from pipeline.study.recording.outbox import Outbox
from pipeline.study.trial_end import has_begun
from pipeline.tracking.books import Booked
from pipeline.tracking.client import Recorder
from pipeline.tracking.journal import JOURNAL
from pipeline.tracking.state import TRIALS

TICK_SECONDS = 0.25
LEAVE_SECONDS = 150.0
LONG_SECONDS = 2.0
"""A trial that lives longer shows as RUNNING; a shorter one is recorded in one go at its end."""


class Scribe:
    """A thread that owns the recorder of a study; nothing that is asked of it blocks.

    A trial's folder stays as long as MLflow lacks any of it. While the store is down all waits in
    the journals, and is sent when it answers again, at `close`, or by `action=sync`. `registered`
    and `model_problem` say what became of the model of the study that was left last.

    Args:
        uri: Where trials are tracked, of `tracking_uri`; `None` = nowhere.
        experiment: Name of the MLflow experiment.
    """

    def __init__(self, uri: str | None, *, experiment: str) -> None:
        self._uri = uri
        self._experiment = experiment
        self._recorder = None if uri is None else Recorder()
        self._outbox = Outbox(self._recorder)
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="scribe", daemon=True)
        self._is_over = False
        self.registered: str | None = None
        self.model_problem: str | None = None
        self._begun: dict[Path, float] = {}
        self._followed: list[Path] = []

    @property
    def problem(self) -> str | None:
        """What can't be recorded at the moment, in one line."""
        return self._outbox.problem

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.close()
        elif self._recorder is not None:
            self._recorder.abandon()  # it was never reached, and ends by itself

    def start(self) -> None:
        """Start the recorder, whose imports take seconds; it gets ready while others work."""
        if self._recorder is not None:
            self._recorder.start()

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
        self._tasks.put(partial(self._leave, folder, left))
        if self._thread.is_alive():
            left.wait(LEAVE_SECONDS)

    def begin(self, folder: Path) -> None:
        """Have an eye on a trial that begins in a folder."""
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
        self._tasks.put(partial(self._outbox.forget, folder))

    def books(self, study: str, metrics: Sequence[str]) -> list[Booked]:
        """Return the runs of a study's trials; waits for what was asked before.

        Raises:
            EnvironmentFaultError: The store can't be read now.
        """
        answer: Future[list[Booked]] = Future()
        self._tasks.put(partial(self._look_up, answer, study, metrics))
        return answer.result()

    def close(self) -> int:
        """Send what is left, for a bounded time, and return how many values MLflow lacks."""
        if self._thread.is_alive():
            self._tasks.put(self._finish)
            self._thread.join()
        if self._recorder is not None:
            self._recorder.quit()
        return self._outbox.unsent

    def _work(self) -> None:
        while not self._is_over:
            self._safely(self._next_task(0.0 if self._outbox.is_moving else TICK_SECONDS))
            self._safely(self._open_long_ones)
            self._safely(self._outbox.send)

    def _next_task(self, seconds: float) -> Callable[[], None]:
        try:
            return self._tasks.get(timeout=seconds)
        except Empty:
            return _nothing

    def _safely(self, task: Callable[[], None]) -> None:
        """Do a task; whatever is wrong with it, the study and its other trials go on."""
        try:
            task()
        except Exception as error:
            logging.getLogger("pipeline").exception("a trial could not be recorded")
            self._outbox.problem = f"{type(error).__name__}: {error}"

    def _follow(self, folder: Path) -> None:
        if self._recorder is not None:
            self._followed.append(folder)
            self._recorder.open(folder)

    def _leave(self, folder: Path, left: threading.Event) -> None:
        try:
            if self._recorder is not None and folder in self._followed:
                self._followed.remove(folder)
                unsent = self._recorder.close(folder)
                self._outbox.unsent += unsent
                self.registered = self._recorder.registered
                self.model_problem = None if unsent else self._recorder.problem
        finally:
            left.set()

    def _end(self, folder: Path, *, lost: bool, forget: bool) -> None:
        self._begun.pop(folder, None)
        self._outbox.add(folder, lost=lost, forget=forget)

    def _open_long_ones(self) -> None:
        """Let MLflow show what has been running for a while."""
        now = time.monotonic()
        for folder, begun_at in list(self._begun.items()):
            if now - begun_at > LONG_SECONDS and has_begun(folder):
                del self._begun[folder]
                if self._recorder is not None:
                    self._recorder.open(folder)

    def _look_up(self, answer: Future[list[Booked]], study: str, metrics: Sequence[str]) -> None:
        try:
            found = [] if self._recorder is None else self._recorder.books(study, metrics)
            answer.set_result(found)
        except Exception as error:  # the waiting thread raises it
            answer.set_exception(error)

    def _finish(self) -> None:
        self._is_over = True
        for folder in self._begun:
            self._outbox.add(folder, lost=True, forget=False)
        self._outbox.close()
        for folder in list(self._followed):
            self._leave(folder, threading.Event())


def leftovers(study: Path) -> list[Path]:
    """Return the trial folders that a driver left and nobody works on, in the trials' order.

    Args:
        study: The study's folder.
    """
    folders = sorted(path.parent for path in study.glob(f"{TRIALS}/*/{JOURNAL}"))
    leases = ((folder, trainer_of(folder)) for folder in folders)
    return [folder for folder, lease in leases if lease is None or not alive(lease)]


def _nothing() -> None:
    """Stand for a task when there is none."""
