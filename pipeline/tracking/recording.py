"""Keeps the MLflow runs of open run folders up to date, through outages and restarts."""

import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.processes.lease import alive
from pipeline.redaction import redact
from pipeline.tracking.books import booked
from pipeline.tracking.faults import StoreError
from pipeline.tracking.forgetting import is_marked, remove
from pipeline.tracking.replay import InUseError, Replay
from pipeline.tracking.settling import Closed
from pipeline.tracking.state import unfinished
from pipeline.tracking.store import Store

BEAT_SECONDS = 10.0
PATIENCE = 5.0
KNOWN_DOWN_PATIENCE = 2.0
LOCK_PATIENCE = 60.0
LONGEST_PAUSE = 30.0
MENDING_SECONDS = 5.0


@dataclass(slots=True)
class Recording:
    """An open run: its journal, the beats of its lease, and what the store refused for good."""

    replay: Replay
    beats: int = 0
    next_beat: float = 0.0
    refusal: str | None = None


class Desk:
    """Fills one store from the journals of several folders. `StoreError` is all that it raises."""

    def __init__(self) -> None:
        self._uri = ""
        self._experiment = ""
        self._store: Store | None = None
        self._open: dict[Path, Recording] = {}
        self._unmended: deque[Path] = deque()
        self._failures = 0
        self._retry_at = 0.0
        self._problem = ""

    def expect(self, uri: str, experiment: str) -> None:
        """Name the store and the experiment; they are reached when they are first needed."""
        self._uri, self._experiment, self._store = uri, experiment, None

    def connect(self) -> None:
        """Reach the store now; where that fails, later calls try again."""
        self._connected()

    def open(self, folder: Path) -> tuple[str, str | None]:
        """Begin to follow a folder's journal; return its run id, or '' and what is in the way."""
        recording = self._open[folder] = _taken(folder, wait=20)
        try:
            self._advance(recording, self._connected())
        except StoreError as error:
            self._note(error, recording)
            return recording.replay.state.run_id, error.line
        return recording.replay.state.run_id, None

    def close(self, folder: Path) -> Closed:
        """Send the rest, end the run, and log and register the model that it has left."""
        recording = self._open.pop(folder, None)
        if recording is None:
            raise StoreError("refused", f"{str(folder)!r} is not open")
        error = self._finish(recording, is_over=True)
        recording.replay.release()
        settled = recording.replay.settled
        return Closed(
            unsent=recording.replay.backlog.unsent(),
            problem=settled.problem if error is None else error.line,
            registered=settled.registered,
        )

    def record(self, folder: Path, *, is_over: bool, patient: bool) -> tuple[bool, int]:
        """Send a folder's whole journal in one go, and let go of it once its run has ended.

        Args:
            folder: The run's folder; it need not be open.
            is_over: The run goes on no more: without a recorded end it is lost.
            patient: Wait some seconds for a fault to pass.

        Returns:
            Whether the store has all of it, and how many values it lacks.
        """
        if not patient and time.monotonic() < self._retry_at:
            raise StoreError("down", self._problem)
        recording = self._open.get(folder) or _taken(folder)
        try:
            self._send(recording, is_over=is_over, patient=patient)
        finally:
            done = recording.replay.is_done()
            if done or folder not in self._open:
                recording.replay.release()
                self._open.pop(folder, None)
        return done, recording.replay.backlog.unsent()

    def books(self, study: str, metrics: list[str]) -> list[dict[str, Any]]:
        """Return what the store has of a study's trials."""
        runs = booked(self._connected().of_study(study), metrics)
        return [asdict(run) for run in runs]

    def mend(self, output: Path) -> None:
        """Note the folders of earlier runs that have something unsent, for quiet moments."""
        self._unmended.extend(unfinished(output))

    def tick(self) -> None:
        """Send at most one batch of each open run, then look after one earlier run."""
        if time.monotonic() < self._retry_at:
            return
        for recording in self._open.values():
            try:
                self._advance(recording, self._connected())
                self._failures = 0
            except StoreError as error:
                self._note(error, recording)
                if time.monotonic() < self._retry_at:
                    return
        if self._unmended:
            self._mend(self._unmended.popleft())

    def leave(self, *, is_over: bool = False) -> None:
        """Close all open runs, then look after earlier ones for a few seconds.

        Args:
            is_over: The open runs go on no more; else wait a moment for the trainer's death.
        """
        for recording in self._open.values():
            if not is_over:
                _await_death(recording.replay)
            self._finish(recording, is_over=is_over)
            recording.replay.release()
        self._open.clear()
        deadline = time.monotonic() + MENDING_SECONDS
        while self._unmended and not self._failures and time.monotonic() < deadline:
            self._mend(self._unmended.popleft())

    def _connected(self) -> Store:
        if self._store is None:
            store = Store(self._uri)
            store.experiment(self._experiment)
            self._store = store
        return self._store

    def _advance(self, recording: Recording, store: Store) -> None:
        if recording.refusal is not None:
            return
        recording.replay.backlog.read()
        if recording.replay.backlog.ready():
            recording.replay.push(store)
        if time.monotonic() >= recording.next_beat:
            recording.beats += 1
            recording.next_beat = time.monotonic() + BEAT_SECONDS
            recording.replay.beat(store, recording.beats)

    def _note(self, error: StoreError, recording: Recording) -> None:
        """Pause after a fault that may pass; give a run up that the store refuses."""
        if error.kind == "waiting":
            return
        if error.transient:
            self._problem = error.line
            self._failures += 1
            self._retry_at = time.monotonic() + min(LONGEST_PAUSE, 2.0**self._failures)
        else:
            recording.refusal = error.line

    def _send(self, recording: Recording, *, is_over: bool, patient: bool) -> None:
        """Send all that is left, once or for some seconds; raise what is in the way."""
        error = self._finish(recording, is_over=is_over, patient=patient)
        if error is not None:
            self._note(error, recording)
            raise error
        self._failures = 0

    def _finish(
        self, recording: Recording, *, is_over: bool, patient: bool = True
    ) -> StoreError | None:
        """Send all that is left and close the run; return why that failed, after a bounded wait."""
        known_down = self._failures > 0
        moved_at = time.monotonic()
        while True:
            left = recording.replay.backlog.unsent()
            try:
                recording.replay.backlog.read()  # even where the store can't be reached, to count
                recording.replay.drain(self._connected(), is_over=is_over)
            except StoreError as error:
                if recording.replay.backlog.unsent() < left:
                    moved_at = time.monotonic()
                patience = _patience(error, known_down=known_down) if patient else 0.0
                if time.monotonic() - moved_at >= patience:
                    return error
                if error.kind == "waiting":
                    self.tick()  # perhaps for one that is open here
                time.sleep(0.25)
            else:
                return None

    def _mend(self, folder: Path) -> None:
        """Send what an earlier run could not, and close it if its process is gone."""
        if folder in self._open:
            return
        try:
            replay = Replay(folder)
        except InUseError:
            return
        try:
            if replay.backlog.uri == redact(self._uri):
                replay.drain(self._connected(), is_over=False)
        except StoreError:
            self._failures += 1  # its values stay in its journal, for `action=sync`
        finally:
            replay.release()
        if replay.is_done() and is_marked(folder):
            remove(folder)


def _patience(error: StoreError, *, known_down: bool) -> float:
    """Return for how many seconds a fault is worth another try at the end of a run."""
    if not error.transient:
        return 0.0
    if error.kind == "locked":
        return LOCK_PATIENCE
    return KNOWN_DOWN_PATIENCE if known_down else PATIENCE


def _await_death(replay: Replay) -> None:
    """Wait until a training process that has closed its pipes is gone, at most 5 seconds."""
    deadline = time.monotonic() + 5
    lease = replay.backlog.lease
    while lease is not None and alive(lease) and time.monotonic() < deadline:
        time.sleep(0.05)


def _taken(folder: Path, *, wait: float = 0.0) -> Recording:
    """Take a folder's journal in hand, for which another process may have to be waited for."""
    try:
        return Recording(Replay(folder, wait=wait))
    except InUseError as error:
        line = f"{str(folder)!r} is recorded by another process"
        raise StoreError("refused" if wait else "waiting", line) from error
