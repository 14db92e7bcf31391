"""The training process's side of the recorder. Nothing here imports MLflow."""

import math
import socket
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pipeline.processes.child import Child, ChildEndedError, ChildGoneError, python_module
from pipeline.tracking.fields import RecordedTrial
from pipeline.tracking.folders import read_state, unsent
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRun:
    """What became of a journal that was sent in one go.

    `done`: MLflow has all of it and the run's end; `unsent`: values that MLflow lacks;
    `problem`: what is in the way, in one line; `later`: another try may help.
    """

    done: bool
    unsent: int
    problem: str | None = None
    later: bool = False


class Recorder:
    """A process of its own that fills MLflow from journals; training never waits for it.

    A context manager: whatever happens, the process ends with it. `problem` holds the latest
    line about what could not be recorded, `registered` the result of the registration of the
    run that was closed last.
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

        Where `required` and it can't be reached, raise an EnvironmentFaultError, or a
        ConfigError for a file that is no database; else return the line as a warning.
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

        `is_over`: without a recorded end it is lost; `patient`: wait a few seconds for a
        store that does not answer; `last`: follow the folder no more, whatever becomes of
        it.
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

    def trials(self, study: str, metrics: Sequence[str]) -> list[RecordedTrial]:
        """Return the runs of a study's trials by its uid, with the metrics that are asked for.

        Raises an EnvironmentFaultError where the store can't be read now.
        """
        answer = self._ask_anew("trials", study=study, metrics=list(metrics))
        if not answer.get("ok"):
            raise as_error(answer.get("kind", "down"), answer["problem"])
        return [RecordedTrial(**run) for run in answer["runs"]]

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
