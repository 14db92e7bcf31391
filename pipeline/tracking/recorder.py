"""The recorder process: fills MLflow from journals, and answers a training process's commands.

It outlives the training process just long enough to close the runs that are still open.
"""

import os
import signal
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import unforeseen
from pipeline.processes.child import Parent
from pipeline.processes.lease import alive
from pipeline.redaction import redact
from pipeline.tracking.folders import unfinished
from pipeline.tracking.journal import JOURNAL
from pipeline.tracking.ownership import is_own
from pipeline.tracking.replay import FolderGoneError, Replay
from pipeline.tracking.uri import StoreError, quiet_mlflow

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    from pipeline.tracking.store import Store

TICK_SECONDS = 1.0
#: Seconds for which a transient fault is retried at the end of a run.
PATIENCE = 5.0
KNOWN_DOWN_PATIENCE = 2.0
LOCK_PATIENCE = 60.0
LONGEST_PAUSE = 30.0
EARLIER_SECONDS = 5.0
DEATH_SECONDS = 5.0
#: Seconds between two measurements of the machine's load; MLflow's own default is 10, and the
#: environment's MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL overrides both.
MONITOR_SECONDS = 2.0
#: Seconds in which another process must release a run's folder.
FOLDER_SECONDS = 20.0

Answer = dict[str, Any]


def main() -> None:
    """Serve commands until `quit` or until the parent is gone; tick once a second."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = Parent.claim()
    quiet_mlflow()
    try:
        import pipeline.tracking.store  # noqa: F401 # takes seconds, before the first command
    except Exception as error:  # a broken library may raise anything
        parent.say({"id": 0, "problem": unforeseen(error)[1]})
        raise
    parent.say({"id": 0})
    runs, is_over = OpenRuns(), False
    next_tick = time.monotonic() + TICK_SECONDS
    while not (parent.is_gone or is_over):
        for command in parent.hear(next_tick - time.monotonic()):
            parent.say({"id": command.pop("id"), **runs.carry_out(**command)})
            is_over = is_over or command["do"] == "quit"
            if command["do"] == "open":
                runs.warm_up(Path(command["folder"]))
        if time.monotonic() >= next_tick and not is_over:
            runs.tick()
            next_tick = time.monotonic() + TICK_SECONDS
    if not is_over:
        runs.quit(is_over=False)
    os._exit(0)  # a normal exit of the interpreter takes most of a second


class OpenRuns:
    """Sends the journals of several folders to one store, and retries after its outages."""

    def __init__(self) -> None:
        self._uri = ""
        self._experiment = ""
        self._store: Store | None = None
        self._open: dict[Path, Replay] = {}
        self._earlier: deque[Path] = deque()
        # What measures, its thread, and when it may be started again; `None` = it can't be started.
        self._monitors: dict[Path, tuple[SystemMetricsMonitor, threading.Thread, float] | None] = {}
        self._failures = 0
        self._retry_at = 0.0
        self._problem = ""
        self._is_warm = False

    def carry_out(self, do: str, **content: Any) -> Answer:
        """Carry out a command and return its answer; a fault of the store is an answer, too."""
        try:
            return {"ok": True, **(getattr(self, do)(**content) or {})}
        except StoreError as error:
            return {"ok": False, "kind": error.kind, "problem": error.line}

    # ── commands, each of which may raise StoreError ────────────────────────────────────────────

    def connect(self, uri: str, experiment: str, *, later: bool) -> None:
        """Connect to the store, or with `later` only when it is first needed.

        A failed connection is tried again when the store is next needed.
        """
        self._uri, self._experiment, self._store = uri, experiment, None
        if not later:
            self._connected()

    def open(self, folder: str) -> Answer:
        """Start to follow a folder's journal; answer the run's id ('' = none) and the problem."""
        replay = self._open[Path(folder)] = Replay(Path(folder), wait=FOLDER_SECONDS)
        problem = None
        try:
            self._advance(replay)
        except StoreError as error:
            self._note(error, replay)
            problem = error.line
        return {"run_id": replay.state.run_id, "problem": problem}

    def record(self, folder: str, *, is_over: bool, patient: bool, last: bool) -> Answer:
        """Send a folder's journal as `Recorder.record` does, with the model at the run's end."""
        if not patient and time.monotonic() < self._retry_at:
            raise StoreError("down", self._problem)
        place = Path(folder)
        replay = self._open.get(place) or _taken(place, FOLDER_SECONDS if patient else 0.0)
        if replay is None:
            return {"done": True, "unsent": 0}
        error = self._finish(replay, is_over=is_over, patient=patient)
        if error is not None and not last:
            self._note(error, replay)
        elif error is None:
            self._failures = 0
        if last or replay.is_done() or place not in self._open:
            replay.release()
            self._open.pop(place, None)
        return {
            "done": replay.is_done(),
            "unsent": replay.unsent(),
            "registered": replay.registered,
            "problem": replay.problem if error is None else error.line,
            "kind": "down" if error is None else error.kind,
        }

    def trials(self, study: str) -> Answer:
        """Answer the numbers of the trials that the store has of a study."""
        return {"trials": [run.trial for run in self._connected().trials_of(study, ())]}

    def send_earlier(self, output: str) -> None:
        """Note the folders of the user's earlier runs with unsent values, to be sent when idle."""
        self._earlier.extend(filter(is_own, unfinished(Path(output))))

    def quit(self, *, is_over: bool = True) -> None:
        """Close all open runs, then send earlier runs for a few seconds.

        Unless `is_over`, each run's training process is first given a few seconds to end.
        """
        for replay in self._open.values():
            deadline, lease = time.monotonic() + DEATH_SECONDS, replay.lease
            while not is_over and lease and alive(lease) and time.monotonic() < deadline:
                time.sleep(0.05)
            self._finish(replay, is_over=is_over, patient=True)
            replay.release()
        self._open.clear()
        deadline = time.monotonic() + EARLIER_SECONDS
        while self._earlier and not self._failures and time.monotonic() < deadline:
            self._send_one_earlier()

    def warm_up(self, folder: Path) -> None:
        """Prepare for the model of a run that was opened, while the run trains."""
        run = self._open.get(folder)
        if run is not None and run.leaves_model and not self._is_warm:
            from pipeline.tracking.models import warm_up

            self._is_warm = True
            warm_up()

    # ── between commands ────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        """Send at most one batch of each open run, then the rest of one earlier run."""
        if time.monotonic() < self._retry_at:
            return
        for replay in self._open.values():
            try:
                self._advance(replay)
                self._failures = 0
            except StoreError as error:
                self._note(error, replay)
                if time.monotonic() < self._retry_at:
                    return
        if self._earlier:
            self._send_one_earlier()

    def _advance(self, replay: Replay) -> None:
        """Send a batch of a run, and start to measure its machine if it asks for that."""
        store = self._connected()
        if replay.is_refused:
            return
        replay.advance(store)
        if replay.measures_system:
            self._measure(replay)

    def _measure(self, replay: Replay) -> None:
        """Measure a run's machine, again after an outage; leave it unmeasured if that fails."""
        if replay.folder in self._monitors:
            known = self._monitors[replay.folder]
            if known is None or known[1].is_alive() or time.monotonic() < known[2]:
                return
            known[0].finish()
        self._monitors[replay.folder] = None
        with suppress(Exception):  # psutil raises many errors where a system hides its figures
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            monitor = SystemMetricsMonitor(
                replay.state.run_id,
                sampling_interval=MONITOR_SECONDS,
                resume_logging=True,
                tracking_uri=self._uri,
            )
            others = set(threading.enumerate())
            monitor.start()
            (thread,) = set(threading.enumerate()) - others
            self._monitors[replay.folder] = monitor, thread, time.monotonic() + LONGEST_PAUSE

    def _connected(self) -> "Store":
        if self._store is None:
            from pipeline.tracking.store import Store

            store = Store(self._uri)
            store.experiment(self._experiment)
            self._store = store
        return self._store

    def _note(self, error: StoreError, replay: Replay) -> None:
        """Pause after a transient fault; after any other, mark the run as refused."""
        if error.kind == "waiting":
            return
        if error.transient:
            self._problem = error.line
            self._failures += 1
            self._retry_at = time.monotonic() + min(LONGEST_PAUSE, 2.0**self._failures)
        else:
            replay.is_refused = True

    def _finish(self, replay: Replay, *, is_over: bool, patient: bool) -> StoreError | None:
        """Send the rest and close the run; return the error if that fails for a bounded time."""
        if (known := self._monitors.pop(replay.folder, None)) is not None:
            known[0].finish()
        usual = KNOWN_DOWN_PATIENCE if self._failures else PATIENCE
        moved_at = time.monotonic()
        while True:
            left = replay.unsent()
            try:
                replay.read()  # counts the values even if the store can't be reached
                replay.drain(self._connected(), is_over=is_over)
            except StoreError as error:
                if replay.unsent() < left:
                    moved_at = time.monotonic()
                patience = LOCK_PATIENCE if error.kind == "locked" else usual
                if not (patient and error.transient) or time.monotonic() - moved_at >= patience:
                    return error
                if error.kind == "waiting":
                    self.tick()  # it may wait for a run that is open here
                time.sleep(0.25)
            else:
                return None

    def _send_one_earlier(self) -> None:
        """Send the rest of an earlier run, and close the run if its process is gone."""
        folder = self._earlier.popleft()
        here = redact(self._uri)
        with suppress(StoreError):
            if folder not in self._open and Replay(folder).finish(
                lambda uri: self._connected() if uri == here else None
            ):
                self._failures += 1  # its values stay in its journal, for `action=sync`


def _taken(folder: Path, seconds: float) -> Replay | None:
    """Return a folder's journal, which is awaited for some seconds if another process sends it.

    `None` means that the other process has sent all of it and removed the folder.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return Replay(folder)
        except FolderGoneError:
            return None
        except StoreError as error:
            if error.kind != "waiting" or time.monotonic() >= deadline:
                raise
        time.sleep(0.25)
        if not (folder / JOURNAL).is_file():
            return None


if __name__ == "__main__":
    main()
