"""The recorder process: fills MLflow from journals, and answers a training process's commands.

It outlives the training process just long enough to close the runs that are still open.
"""

import heapq
import itertools
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import unforeseen
from pipeline.base.processes.lease import Lease, alive
from pipeline.base.processes.parent import Parent
from pipeline.base.redaction import redact
from pipeline.tracking.folders import remove_marked, unfinished, unsent
from pipeline.tracking.ownership import is_own
from pipeline.tracking.replay import FolderGoneError, Replay
from pipeline.tracking.run_record import JOURNAL, RunRecord
from pipeline.tracking.uri import StoreError, quiet_mlflow

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    from pipeline.tracking.mlflow_store import Store

TICK_SECONDS = 1.0
#: Seconds for which a transient fault is retried at the end of a run.
PATIENCE = 5.0
KNOWN_DOWN_PATIENCE = 2.0
LOCK_PATIENCE = 60.0
LONGEST_PAUSE = 30.0
#: Seconds for which what is queued is sent before the process ends.
QUEUE_SECONDS = 5.0
#: A trial that runs longer is shown as RUNNING; a shorter one is recorded at its end.
LONG_SECONDS = 2.0
DEATH_SECONDS = 5.0
#: Seconds between two measurements of the machine's load; MLflow's own default is 10, and the
#: environment's MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL overrides both.
MONITOR_SECONDS = 2.0
#: Seconds in which another process must release a run's folder.
FOLDER_SECONDS = 20.0

Answer = dict[str, Any]


def main() -> None:
    """Serve commands until `quit` or until the parent is gone, and send what is queued."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = Parent.claim()
    quiet_mlflow()
    try:
        import pipeline.tracking.mlflow_store  # noqa: F401 # takes seconds, before the first command
    except Exception as error:  # a broken library may raise anything
        parent.say({"id": 0, "problem": unforeseen(error)[1]})
        raise
    parent.say({"id": 0})
    outbox = Outbox()
    is_over = False
    next_tick = time.monotonic() + TICK_SECONDS
    while not parent.is_gone and not is_over:
        pause = 0.0 if outbox.can_deliver() else next_tick - time.monotonic()
        for command in parent.hear(pause):
            answer = outbox.carry_out(command)
            if answer is not None:
                parent.say(answer)
            is_over = is_over or command["do"] == "quit"
            if command["do"] == "open":
                outbox.warm_up(Path(command["folder"]))
        if time.monotonic() >= next_tick and not is_over:
            outbox.tick()
            next_tick = time.monotonic() + TICK_SECONDS
        if outbox.can_deliver() and not is_over:
            parent.say(outbox.deliver_next())
    if not is_over:
        outbox.quit(is_over=False)
    os._exit(0)  # a normal exit of the interpreter takes most of a second


@dataclass(frozen=True, slots=True, order=True)
class Delivery:
    """A journal that has to be sent whole.

    Args:
        is_earlier: Whether an earlier command has left it; all others go first.
        turn: Its place among the deliveries of its kind.
        folder: Folder of the journal.
        is_lost: Whether a run without a recorded end is closed as lost.
        command: Id of the command that is answered once it is sent.
    """

    is_earlier: bool
    turn: int
    folder: Path
    is_lost: bool = False
    command: int | None = None


class Outbox:
    """Sends the journals of several folders to one store, and retries after its outages.

    Open runs are followed while they train. Deliveries wait in a queue; one that fails is tried
    again after the next tick, until `finish`.
    """

    def __init__(self) -> None:
        self._uri = ""
        self._experiment = ""
        self._store: Store | None = None
        self._open: dict[Path, Replay] = {}
        self._watched: dict[Path, float] = {}
        """Trials that run, with the time from which MLflow shows them."""
        self._queue: list[Delivery] = []
        self._postponed: list[Delivery] = []
        self._turns = itertools.count()
        self._is_final = False
        self._is_patient = False
        # What measures, its thread, and when it may be started again; `None` = it can't be started.
        self._monitors: dict[Path, tuple[SystemMetricsMonitor, threading.Thread, float] | None] = {}
        self._failures = 0
        self._retry_at = 0.0
        self._problem = ""
        self._is_warm = False

    def carry_out(self, command: Answer) -> Answer | None:
        """Carry out a command and return its answer; a fault of the store is an answer, too.

        A delivery is answered once it is sent.
        """
        content = {key: value for key, value in command.items() if key not in ("id", "do")}
        if command["do"] == "deliver":
            self._queue_up(**content, command=command["id"])
            return None
        try:
            answer = getattr(self, command["do"])(**content) or {}
        except StoreError as error:
            answer = {"ok": False, "kind": error.kind, "problem": error.line}
        return {"ok": True, **answer, "id": command["id"]}

    # ── commands, each of which may raise StoreError ────────────────────────────────────────────

    def connect(self, uri: str, experiment: str, *, later: bool) -> None:
        """Connect to the store, or with `later` only when it is first needed.

        A failed connection is tried again when the store is next needed.
        """
        self._uri = uri
        self._experiment = experiment
        self._store = None
        self._is_final = False
        self._is_patient = False
        if not later:
            self._connected_store()

    def open(self, folder: str) -> Answer:
        """Start to follow a folder's journal; answer the run's id ('' = none) and the problem."""
        replay = Replay(Path(folder), wait=FOLDER_SECONDS)
        self._open[Path(folder)] = replay
        problem = None
        try:
            self._advance(replay)
        except StoreError as error:
            self._react_to(error, replay)
            problem = error.line
        return {"run_id": replay.state.run_id, "problem": problem}

    def watch(self, folder: str) -> None:
        """Open a trial that begins in a folder once it has run for `LONG_SECONDS`."""
        self._watched[Path(folder)] = time.monotonic() + LONG_SECONDS

    def close(self, folder: str) -> Answer:
        """Send a folder's journal, with the model, and end its run, patiently."""
        path = Path(folder)
        replay = self._open.get(path) or _wait_for_replay(path, FOLDER_SECONDS)
        if replay is None:
            return {"unsent": 0, "problem": None}
        error = self._finish(replay, is_over=True, patient=True)
        if error is None:
            self._failures = 0
            problem = replay.problem
        else:
            problem = error.line
        replay.release()
        self._open.pop(path, None)
        return {
            "unsent": replay.unsent(),
            "registered": replay.registered,
            "problem": problem,
        }

    def trials(self, study: str) -> Answer:
        """Answer the numbers of the trials that the store has of a study."""
        return {"trials": [run.trial for run in self._connected_store().trials_of(study, ())]}

    def send_earlier(self, output: str) -> None:
        """Queue the folders of the user's earlier runs with unsent values, to be sent when idle."""
        for folder in filter(is_own, unfinished(Path(output))):
            heapq.heappush(self._queue, Delivery(True, next(self._turns), folder))

    def finish(self) -> None:
        """Give up what can't be sent now, once the store has had a few seconds to answer."""
        self._is_final = True
        self._is_patient = True
        self._queue_again()

    def quit(self, *, is_over: bool = True) -> None:
        """Close all open runs, then send what is queued for a few seconds.

        Unless `is_over`, each run's training process is first given a few seconds to end.
        """
        for replay in list(self._open.values()):
            lease = replay.lease
            if lease is not None and not is_over:
                _wait_for_end(lease)
            self._finish(replay, is_over=is_over, patient=True)
            replay.release()
        self._open.clear()
        deadline = time.monotonic() + QUEUE_SECONDS
        while self._queue and not self._failures and time.monotonic() < deadline:
            self.deliver_next()

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
        self._open_long_ones()
        for replay in list(self._open.values()):
            try:
                self._advance(replay)
                self._failures = 0
            except StoreError as error:
                self._react_to(error, replay)
                if time.monotonic() < self._retry_at:
                    return
        self._queue_again()
        if self._queue and self._queue[0].is_earlier:
            self.deliver_next()

    def _open_long_ones(self) -> None:
        for folder, open_at in list(self._watched.items()):
            if time.monotonic() > open_at and RunRecord.read(folder).has_begun:
                del self._watched[folder]
                with suppress(StoreError):  # another process sends it
                    self._open[folder] = Replay(folder)

    # ── the queue ───────────────────────────────────────────────────────────────────────────────

    def can_deliver(self) -> bool:
        """Return whether something waits in the queue that may be sent now."""
        if not self._queue or self._queue[0].is_earlier:
            return False
        return self._is_final or time.monotonic() >= self._retry_at

    def deliver_next(self) -> Answer:
        """Send the first journal of the queue, and remove a folder that was marked for that.

        Returns the answer to its command, or only the problem if it is tried again later.
        """
        delivery = heapq.heappop(self._queue)
        problem = None
        try:
            if delivery.is_earlier:
                self._send_earlier(delivery.folder)
            else:
                self._deliver(delivery)
        except StoreError as error:
            problem = error.line
            if delivery.is_earlier:
                self._failures += 1  # its values stay in its journal, for `action=sync`
            elif error.transient and not self._is_final:
                self._postponed.append(delivery)
                return {"id": None, "problem": problem}
        except Exception as error:  # a journal that can't be sent must not stop those behind it
            problem = unforeseen(error)[1]
        unsent_values = 0
        if problem is not None:
            with suppress(OSError):
                unsent_values = unsent(delivery.folder)
        return {
            "id": delivery.command,
            "delivered": str(delivery.folder),
            "unsent": unsent_values,
            "problem": problem,
        }

    def _deliver(self, delivery: Delivery) -> None:
        """Send a whole journal and end its run; raise StoreError if the store lacks any of it."""
        folder = delivery.folder
        is_patient = self._is_patient
        if not is_patient and time.monotonic() < self._retry_at:
            raise StoreError("down", self._problem)
        replay = self._open.get(folder)
        if replay is None and (folder / JOURNAL).is_file():
            replay = _wait_for_replay(folder, FOLDER_SECONDS if is_patient else 0.0)
        if replay is None:  # without a journal, or sent by another process
            remove_marked(folder)
            return
        error = None
        if not replay.is_done():
            is_over = delivery.is_lost or self._is_final
            error = self._finish(replay, is_over=is_over, patient=is_patient)
        if error is None or folder not in self._open:
            replay.release()
            self._open.pop(folder, None)
        if error is not None:
            self._react_to(error, replay)
            self._is_patient = False
            raise error
        self._failures = 0
        if not replay.is_done():
            raise StoreError("waiting", f"the run of {str(folder)!r} has not ended")
        remove_marked(folder)

    def _send_earlier(self, folder: Path) -> None:
        """Send the rest of an earlier run, and close the run if its process is gone."""
        if folder not in self._open:
            error = Replay(folder).finish(self._store_of)
            if error is not None:
                raise error

    def _store_of(self, recorded: str) -> "Store | None":
        """Return the store if it is the one with a recorded address, else `None`."""
        return self._connected_store() if recorded == redact(self._uri) else None

    def _queue_up(self, folder: str, *, is_lost: bool, command: int) -> None:
        self._watched.pop(Path(folder), None)
        delivery = Delivery(False, next(self._turns), Path(folder), is_lost, command)
        heapq.heappush(self._queue, delivery)

    def _queue_again(self) -> None:
        """Queue again what could not be sent, behind what has been queued since."""
        for delivery in self._postponed:
            heapq.heappush(self._queue, replace(delivery, turn=next(self._turns)))
        self._postponed.clear()

    def _advance(self, replay: Replay) -> None:
        """Send a batch of a run, and start to measure its machine if it asks for that."""
        store = self._connected_store()
        if replay.is_refused:
            return
        replay.advance(store)
        if replay.measures_system:
            self._measure(replay)

    def _measure(self, replay: Replay) -> None:
        """Measure a run's machine, again after an outage; leave it unmeasured if that fails."""
        if replay.folder in self._monitors:
            measurement = self._monitors[replay.folder]
            if measurement is None:
                return
            monitor, thread, restart_at = measurement
            if thread.is_alive() or time.monotonic() < restart_at:
                return
            monitor.finish()
        self._monitors[replay.folder] = None
        with suppress(Exception):  # psutil raises many errors where a system hides its figures
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            monitor = SystemMetricsMonitor(
                replay.state.run_id,
                sampling_interval=MONITOR_SECONDS,
                resume_logging=True,
                tracking_uri=self._uri,
            )
            threads_before = set(threading.enumerate())
            monitor.start()
            (thread,) = set(threading.enumerate()) - threads_before
            restart_at = time.monotonic() + LONGEST_PAUSE
            self._monitors[replay.folder] = (monitor, thread, restart_at)

    def _connected_store(self) -> "Store":
        if self._store is None:
            from pipeline.tracking.mlflow_store import Store

            store = Store(self._uri)
            store.experiment(self._experiment)
            self._store = store
        return self._store

    def _react_to(self, error: StoreError, replay: Replay) -> None:
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
        measurement = self._monitors.pop(replay.folder, None)
        if measurement is not None:
            measurement[0].finish()
        usual_patience = KNOWN_DOWN_PATIENCE if self._failures else PATIENCE
        progress_at = time.monotonic()
        while True:
            unsent_before = replay.unsent()
            try:
                replay.read()  # counts the values even if the store can't be reached
                replay.drain(self._connected_store(), is_over=is_over)
            except StoreError as error:
                if not patient or not error.transient:
                    return error
                if replay.unsent() < unsent_before:
                    progress_at = time.monotonic()
                patience = LOCK_PATIENCE if error.kind == "locked" else usual_patience
                if time.monotonic() - progress_at >= patience:
                    return error
                if error.kind == "waiting":
                    self.tick()  # it may wait for a run that is open here
                time.sleep(0.25)
            else:
                return None


def _wait_for_end(lease: Lease) -> None:
    """Wait a few seconds for a run's process to end."""
    deadline = time.monotonic() + DEATH_SECONDS
    while alive(lease) and time.monotonic() < deadline:
        time.sleep(0.05)


def _wait_for_replay(folder: Path, seconds: float) -> Replay | None:
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
