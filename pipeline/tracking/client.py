"""Client of the recorder process, for trainings and studies. Nothing here imports MLflow."""

import logging
import math
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self
from urllib.parse import urlsplit

from pipeline.processes.child import Child, ChildEndedError, ChildGoneError, python_module
from pipeline.tracking.folders import is_finished, mark, read_state, remove, unsent
from pipeline.tracking.journal import JOURNAL, has_begun
from pipeline.tracking.uri import REQUEST_SECONDS, TRANSIENT, as_error, down_line, is_server, named

START_SECONDS = 90.0
SERVER_SECONDS = 2 * REQUEST_SECONDS - 1.0
DATABASE_SECONDS = 90.0
CLOSE_SECONDS = 150.0
QUIT_SECONDS = 5.0
ADVICE = (
    "check what kills it (often the kernel, when memory runs out), then run the same command "
    "again; tracking=none records nothing"
)
#: Shortest time between two restarts of a recorder that keeps dying: its imports take seconds.
REVIVAL_SECONDS = 30.0
TICK_SECONDS = 0.25
#: Pause after a trial that could not be sent.
PAUSE_SECONDS = 1.0
#: A trial that runs longer is shown as RUNNING; a shorter one is recorded at its end.
LONG_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRun:
    """Result of sending a whole journal.

    `done` is true once MLflow has the whole journal and the run's end. `unsent` counts the values
    that MLflow lacks. `problem` says in one line what failed. `later` is true if another try may
    succeed.
    """

    done: bool
    unsent: int
    problem: str | None = None
    later: bool = False


class Recorder:
    """A separate process that fills MLflow from journals, so that training does not wait for it.

    As a context manager, it ends the process on exit. `problem` is the latest line about what could
    not be recorded. `registered` is the result of registering the model of the run that was closed
    last.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self.registered: str | None = None
        self._child = Child(
            python_module("pipeline.tracking.recorder"), name="the recorder process"
        )
        self._is_ready = False
        self._connection = ("", "")
        self._followed: dict[Path, None] = {}
        self._revived_at = -math.inf

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.quit()

    @property
    def pid(self) -> int | None:
        """Process id of the recorder; `None` if the process is not open."""
        return self._child.pid if self._child.is_open else None

    def start(self) -> None:
        """Start the process. Its imports take seconds, in which the caller can do other work."""
        self._is_ready = False
        self._child.start()

    def connect(self, uri: str, *, experiment: str, required: bool = True) -> str | None:
        """Connect to the store at an absolute address, and create the experiment if it is missing.

        If the store can't be reached and is not `required`, returns the problem as a warning. If it
        is `required`, raises ConfigError for a file that is not a database, else
        EnvironmentFaultError.
        """
        self._connection = (uri, experiment)
        unheard = _no_listener(uri)
        if unheard is not None and required:
            raise as_error("down", unheard)
        answer = self._connect(later=unheard is not None)
        if not answer["ok"] and required:
            raise as_error(answer["kind"], answer["problem"])
        self.problem = unheard or answer.get("problem")
        return self.problem

    def open(self, folder: Path) -> str:
        """Follow the journal in a folder, which must have begun.

        Returns the id of the MLflow run, '' if the run could not be created yet.
        """
        answer = self._ask_anew("open", folder=str(folder.absolute()))
        self._followed[folder] = None
        self.problem = answer.get("problem") or self.problem
        return str(answer.get("run_id") or read_state(folder).run_id)

    def close(self, folder: Path) -> int:
        """Send the rest, upload the artifacts, end the run; return the number of unsent values."""
        self._revived_at = -math.inf  # allow a restart: there is no later chance
        return self.record(folder, is_over=True, patient=True, last=True).unsent

    def record(
        self, folder: Path, *, is_over: bool, patient: bool = False, last: bool = False
    ) -> SentRun:
        """Send the whole journal of a folder and end the run; the folder need not be open.

        `is_over` closes a run without a recorded end as lost. `patient` retries for a few seconds
        if the store does not answer. `last` stops following the folder, whatever the result.
        """
        if last:
            self._followed[folder] = None  # a restarted recorder follows it too
        content = {"is_over": is_over, "patient": patient, "last": last}
        answer = self._ask_anew("record", folder=str(folder.absolute()), **content)
        self.problem, self.registered = answer.get("problem"), answer.get("registered")
        done = bool(answer.get("done"))
        if done or last:
            self._followed.pop(folder, None)
        return SentRun(
            done=done,
            unsent=int(answer.get("unsent", unsent(folder))),
            problem=self.problem,
            later=answer.get("kind", "down") in TRANSIENT,
        )

    def trials(self, study: str) -> set[int]:
        """Return the numbers of the trials that the store has of a study, given by its uid.

        Raises EnvironmentFaultError if the store can't be read now.
        """
        answer = self._ask_anew("trials", study=study)
        if not answer.get("ok"):
            raise as_error(answer.get("kind", "down"), answer["problem"])
        return set(answer["trials"])

    def send_earlier(self, output: Path) -> None:
        """Let the idle recorder send what earlier runs below `output` could not send."""
        # Nothing waits for an answer: the recorder may be busy, and the training goes on.
        self._child.send({"id": None, "do": "send_earlier", "output": str(output.absolute())})

    def quit(self) -> None:
        """End the process; a run that is still open is closed as lost."""
        if not self._child.is_open:
            return  # it has ended, or belongs to the process that forked this one
        if not self._is_ready:
            self._child.close(0.0)  # it still loads its libraries, and has no run
            return
        with suppress(ChildGoneError):
            self._ask("quit", CLOSE_SECONDS)
            self._child.close(QUIT_SECONDS)

    def abandon(self) -> None:
        """Let the process end by itself after its current command; it takes no more commands."""
        self._child.abandon()

    def _ask(self, what: str, seconds: float, **content: object) -> dict[str, Any]:
        """Return the answer to a command; wait first until the process has done its imports."""
        if not self._is_ready:
            if "problem" in (answer := self._child.answer(0, START_SECONDS)):
                raise ChildGoneError(answer["problem"])  # it can't import its libraries
            self._is_ready = True
        return self._child.ask(seconds, do=what, **content)

    def _connect(self, *, later: bool) -> dict[str, Any]:
        uri, experiment = self._connection
        seconds = SERVER_SECONDS if is_server(uri) else DATABASE_SECONDS
        is_last = self._has_revived()
        while True:
            try:
                return self._ask("connect", seconds, uri=uri, experiment=experiment, later=later)
            except ChildGoneError as error:
                line = f"{named(uri)}: {error}"
                has_ended = isinstance(error, ChildEndedError)  # before it followed any folder
            if not has_ended or is_last:
                line += f", twice; {ADVICE}" if has_ended else ""
                return {"ok": False, "kind": "down", "problem": line}
            is_last, self._revived_at = True, time.monotonic()
            self.start()

    def _ask_anew(self, what: str, **content: object) -> dict[str, Any]:
        """Ask; if the process has died, ask again with a new one that follows the same folders."""
        problem = None
        while True:
            try:
                if problem is not None:
                    self._revived_at = time.monotonic()
                    self.start()
                    self._connect(later=False)
                    for folder in self._followed:
                        self._ask("open", DATABASE_SECONDS, folder=str(folder.absolute()))
                return self._ask(what, CLOSE_SECONDS, **content)
            except ChildGoneError as error:
                if problem is not None or self._has_revived():
                    return {"problem": str(error)}
                problem = str(error)

    def _has_revived(self) -> bool:
        return time.monotonic() - self._revived_at <= REVIVAL_SECONDS


class MlflowRecorder:
    """A thread that owns the recorder process of a study.

    `follow`, `begin`, `end` and `forget` do not block. The folder of a trial is kept until MLflow
    has all of it. While the store is down, events stay in the journals; they are sent when it
    answers again, at `close`, or by `action=sync`. `registered` and `model_problem` are about the
    model of the study that was left last.

    Args:
        uri: Address of the store, as `tracking_uri` returns it; `None` records nowhere.
        experiment: Name of the MLflow experiment.
        recorder: The process, if it has been started already.
    """

    def __init__(
        self, uri: str | None, *, experiment: str, recorder: Recorder | None = None
    ) -> None:
        self.problem: str | None = None
        self.registered: str | None = None
        self.model_problem: str | None = None
        self._uri = uri
        self._experiment = experiment
        self._recorder = recorder or Recorder()
        self._tasks: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow-recorder", daemon=True)
        self._is_over = False
        self._begun: dict[Path, float] = {}
        self._followed: list[Path] = []
        self._ended: dict[Path, tuple[bool, bool]] = {}
        """By folder: whether a waiting trial is lost, and whether to remove it once sent."""
        self._retry_at = 0.0
        self._unsent = 0

    def __enter__(self) -> Self:
        if self._uri is not None and self._recorder.pid is None:
            self._recorder.start()  # its imports take seconds; it gets ready while others work
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.close()
        else:
            self._recorder.abandon()  # the store was never reached; the process ends by itself

    def connect(self, *, required: bool = True) -> str | None:
        """Connect to the store as `Recorder.connect` does, then start the thread."""
        if self._uri is None:
            return None
        problem = self._recorder.connect(self._uri, experiment=self._experiment, required=required)
        self._thread.start()
        return problem

    def follow(self, folder: Path) -> None:
        """Keep the study's own run up to date until `close` or `leave`."""
        if self._uri is not None:
            self._followed.append(folder)
            self._tasks.put(partial(self._recorder.open, folder))

    def leave(self, folder: Path) -> None:
        """Close a run that was followed and whose journal has ended; wait until that is done."""
        if self._thread.is_alive():
            left = threading.Event()
            self._tasks.put(partial(self._leave, folder))
            self._tasks.put(left.set)
            left.wait(CLOSE_SECONDS)

    def begin(self, folder: Path) -> None:
        """Watch a trial that begins in a folder; MLflow shows it if it runs long enough."""
        if self._uri is not None:
            self._tasks.put(partial(self._begun.__setitem__, folder, time.monotonic()))

    def end(self, folder: Path, *, lost: bool, forget: bool) -> None:
        """Record a trial that has ended.

        `lost` says that its process died without recording an end. `forget` removes the folder once
        MLflow has all of it.
        """
        if self._uri is not None:
            self._tasks.put(partial(self._end, folder, lost=lost, forget=forget))
        elif forget:
            remove(folder)

    def forget(self, folder: Path) -> None:
        """Remove the folder of a trial that has ended, once MLflow has all of it."""
        if self._uri is not None:
            self._tasks.put(partial(self._forget, folder))
        else:
            remove(folder)

    def trials(self, study: str) -> set[int]:
        """Return the same as `Recorder.trials`, after all tasks that were queued before."""
        if self._uri is None:
            return set()
        answer: Future[set[int]] = Future()

        def read() -> None:
            try:
                answer.set_result(self._recorder.trials(study))
            except Exception as error:  # the waiting thread raises it
                answer.set_exception(error)

        self._tasks.put(read)
        return answer.result()

    def close(self) -> int:
        """Send what is left, for a bounded time, and return how many values MLflow lacks."""
        if self._thread.is_alive():
            self._tasks.put(self._finish)
            self._thread.join()
        self._recorder.quit()
        return self._unsent

    # ── the thread ──────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        while not self._is_over:
            with suppress(Empty):
                self._safely(self._tasks.get(timeout=0.0 if self._can_send() else TICK_SECONDS))
            self._safely(self._open_long_ones)
            if self._can_send():
                self._safely(partial(self._send, next(iter(self._ended)), is_over=False))

    def _safely(self, task: Callable[[], object]) -> None:
        """Run a task and log any exception, so that the study and its other trials go on."""
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
        """Open trials that have run for more than `LONG_SECONDS`, so that MLflow shows them."""
        for folder, begun_at in list(self._begun.items()):
            if time.monotonic() - begun_at > LONG_SECONDS and has_begun(folder):
                del self._begun[folder]
                self._recorder.open(folder)

    def _end(self, folder: Path, *, lost: bool, forget: bool) -> None:
        self._begun.pop(folder, None)
        was_lost, was_forgotten = self._ended.get(folder, (False, False))
        self._ended[folder] = (was_lost or lost, was_forgotten or forget)

    def _forget(self, folder: Path) -> None:
        if (folder / JOURNAL).is_file() and not is_finished(folder):
            self._end(folder, lost=False, forget=True)
        else:
            self._ended.pop(folder, None)
            remove(folder)

    def _can_send(self) -> bool:
        return not self._is_over and bool(self._ended) and time.monotonic() >= self._retry_at

    def _send(self, folder: Path, *, is_over: bool, patient: bool = False) -> bool:
        """Send a trial that has ended; tell whether MLflow has all of it."""
        lost, forget = self._ended[folder]
        sent = SentRun(done=True, unsent=0)
        if (folder / JOURNAL).is_file():
            sent = self._recorder.record(folder, is_over=is_over or lost, patient=patient)
        self.problem = sent.problem
        del self._ended[folder]
        if sent.done and forget:
            remove(folder)
        elif not sent.done and (sent.problem is None or sent.later):
            self._ended[folder] = lost, forget  # to the end: perhaps only this one is stuck
            self._retry_at = time.monotonic() + PAUSE_SECONDS
        elif not sent.done:
            self._give_up(folder, forget=forget)
        return sent.done

    def _give_up(self, folder: Path, *, forget: bool) -> None:
        """Leave a trial in its folder, for `action=sync` to send."""
        self._unsent += unsent(folder)
        if forget:
            mark(folder)

    def _finish(self) -> None:
        """Send all that is left; after the first failure, the store gets no more time to answer."""
        self._is_over = True
        for folder in list(self._begun):
            self._end(folder, lost=True, forget=False)
        patient = True
        for folder in list(self._ended):
            patient = self._send(folder, is_over=True, patient=patient) and patient
        for folder, (_, forget) in self._ended.items():
            self._give_up(folder, forget=forget)
        for folder in list(self._followed):
            self._leave(folder)


def _no_listener(uri: str) -> str | None:
    """Return a line if nothing listens at a network address, else `None`; MLflow is not needed."""
    parts = urlsplit(uri)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    proxies, host = urllib.request.getproxies(), parts.hostname
    is_proxied = host and parts.scheme in proxies and not urllib.request.proxy_bypass(host)
    if host is None or port is None or is_proxied:
        return None
    try:
        socket.create_connection((host, port), timeout=REQUEST_SECONDS).close()
    except OSError as error:
        return down_line(uri, str(error))
    return None
