"""The side of the recorder that trains, or drives a study. Nothing here imports MLflow."""

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
    "see that nothing kills it (the kernel does, where memory runs out), then type the same "
    "command again; tracking=none goes without a record"
)
#: At most so often a recorder that keeps dying is replaced, for its imports take seconds.
REVIVAL_SECONDS = 30.0
TICK_SECONDS = 0.25
#: Pause after a trial that could not be sent.
PAUSE_SECONDS = 1.0
#: A trial that lives longer shows as RUNNING; a shorter one is recorded in one go at its end.
LONG_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRun:
    """What became of a journal that was sent in one go.

    `done`: MLflow has all of it and the run's end; `later`: another try may help.
    """

    done: bool
    unsent: int
    problem: str | None = None
    later: bool = False


class Recorder:
    """A process of its own that fills MLflow from journals; training never waits for it.

    A context manager, with which the process ends. `problem` is the latest line about what could
    not be recorded, `registered` the result of the registration of the run that was closed last.
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
        """Process id of the recorder; `None` while there is none."""
        return self._child.pid if self._child.is_open else None

    def start(self) -> None:
        """Start the process, whose imports take seconds; it gets ready while others work."""
        self._is_ready = False
        self._child.start()

    def connect(self, uri: str, *, experiment: str, required: bool = True) -> str | None:
        """Reach the store at an absolute address, and its experiment, created where it is missing.

        Where it can't be, raise an EnvironmentFaultError (a ConfigError for a file that is no
        database) if it is `required`, else return the line as a warning.
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
        """Follow a folder's journal, which has begun; return the run's id, '' while it has none."""
        answer = self._ask_anew("open", folder=str(folder.absolute()))
        self._followed[folder] = None
        self.problem = answer.get("problem") or self.problem
        return str(answer.get("run_id") or read_state(folder).run_id)

    def close(self, folder: Path) -> int:
        """Send the rest, upload the artifacts, end the run; return how many values stay unsent."""
        self._revived_at = -math.inf  # the last chance for its values
        return self.record(folder, is_over=True, patient=True, last=True).unsent

    def record(
        self, folder: Path, *, is_over: bool, patient: bool = False, last: bool = False
    ) -> SentRun:
        """Send a folder's whole journal in one go and end the run; it need not be open.

        `is_over`: without a recorded end it is lost; `patient`: wait a few seconds for a store that
        does not answer; `last`: follow the folder no more, whatever becomes of it.
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
        """Return the numbers of a study's trials on record; an EnvironmentFaultError while down."""
        answer = self._ask_anew("trials", study=study)
        if not answer.get("ok"):
            raise as_error(answer.get("kind", "down"), answer["problem"])
        return set(answer["trials"])

    def send_earlier(self, output: Path) -> None:
        """Let the recorder send, in quiet moments, what earlier runs below `output` could not."""
        try:
            self._ask("send_earlier", DATABASE_SECONDS, output=str(output.absolute()))
        except ChildGoneError as error:
            self.problem = str(error)

    def quit(self) -> None:
        """End the process; a run that is still open becomes lost."""
        if self._child.is_open:  # else it has ended, or belongs to the process that forked this one
            with suppress(ChildGoneError):
                self._ask("quit", CLOSE_SECONDS)
                self._child.close(QUIT_SECONDS)

    def abandon(self) -> None:
        """Leave the process to itself: it finishes its command and ends, for nobody sends more."""
        self._child.abandon()

    def _ask(self, what: str, seconds: float, **content: object) -> dict[str, Any]:
        """Return the answer to a command, whose process may still be importing its libraries."""
        if not self._is_ready:
            self._child.answer(0, START_SECONDS)
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
                has_ended = isinstance(error, ChildEndedError)  # before it followed anything
            if not has_ended or is_last:
                line += f", twice; {ADVICE}" if has_ended else ""
                return {"ok": False, "kind": "down", "problem": line}
            is_last, self._revived_at = True, time.monotonic()
            self.start()

    def _ask_anew(self, what: str, **content: object) -> dict[str, Any]:
        """Ask, and once more with a new process that follows the same folders if one has died."""
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
    """A thread that owns the recorder process of a study; its methods do not block.

    A trial's folder stays as long as MLflow lacks any of it. While the store is down all waits in
    the journals, and is sent when it answers again, at `close`, or by `action=sync`. `registered`
    and `model_problem` are of the study that was left last. `uri` is of `tracking_uri`, `None` =
    nowhere.
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
        else:
            self._recorder.abandon()  # it was never reached, and ends by itself

    def connect(self, *, required: bool = True) -> str | None:
        """Reach the store as `Recorder.connect` does, then begin to work."""
        if self._uri is None:
            return None
        problem = self._recorder.connect(self._uri, experiment=self._experiment, required=required)
        self._thread.start()
        return problem

    def follow(self, folder: Path) -> None:
        """Keep the study's own run up to date until `close`, or until it is left."""
        if self._uri is not None:
            self._followed.append(folder)
            self._tasks.put(partial(self._recorder.open, folder))

    def leave(self, folder: Path) -> None:
        """Close a run that was followed, whose journal has ended; waits until that is done."""
        if self._thread.is_alive():
            left = threading.Event()
            self._tasks.put(partial(self._leave, folder))
            self._tasks.put(left.set)
            left.wait(CLOSE_SECONDS)

    def begin(self, folder: Path) -> None:
        """Watch a trial that begins in a folder."""
        if self._uri is not None:
            self._tasks.put(partial(self._begun.__setitem__, folder, time.monotonic()))

    def end(self, folder: Path, *, lost: bool, forget: bool) -> None:
        """Record a trial that has ended; `forget` removes its folder once MLflow has all of it."""
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
        """Return what `Recorder.trials` does; waits for what was asked before."""
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
            self._ended[folder] = lost, forget  # behind the others: one may be stuck, not all
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
        """Send all that waits; the first that fails after some seconds ends the waiting."""
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
    """Say that nobody listens at a network address, long before MLflow is imported; else `None`."""
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
