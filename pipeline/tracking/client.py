"""The training process's side of the recorder. Nothing here imports MLflow."""

import json
import os
import select
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pipeline.tracking.faults import as_error, down_line, named
from pipeline.tracking.quiet import REQUEST_SECONDS, quiet_mlflow
from pipeline.tracking.state import read_state, unsent
from pipeline.tracking.uri import is_server

START_SECONDS = 90.0
SERVER_SECONDS = 2 * REQUEST_SECONDS - 1.0
DATABASE_SECONDS = 90.0
CLOSE_SECONDS = 150.0
QUIT_SECONDS = 5.0

Answer = dict[str, Any]


class RecorderGoneError(Exception):
    """The recorder process has ended, or did not answer in time and was ended."""


class Recorder:
    """A process of its own that fills MLflow from journals; training never waits for it.

    A context manager: whatever happens, the process ends with it. `problem` holds the latest line
    about what could not be recorded.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._id = 0
        self._rest = b""
        self._ready = False
        self._connection = ("", "")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.quit()

    def start(self) -> None:
        """Start the process, whose imports take seconds; it gets ready while others work."""
        environment = dict(os.environ)
        quiet_mlflow(environment)
        root = str(Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        self._rest, self._ready = b"", False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline.tracking.recorder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            bufsize=0,
        )

    def connect(self, uri: str, *, experiment: str, required: bool = True) -> str | None:
        """Reach the store at `uri` and its experiment.

        Args:
            uri: Absolute address, of `tracking_uri`.
            experiment: Name of the MLflow experiment.
            required: Raise where it can't be reached; else return the line as a warning.

        Raises:
            EnvironmentFaultError: The store is down, locked or of another version.
            ConfigError: The file is no database.
        """
        self._connection = (uri, experiment)
        unheard = _no_listener(uri)
        if unheard is not None and required:
            raise as_error("down", unheard)
        answer = self._connect(uri, experiment, later=unheard is not None)
        if not answer["ok"] and required:
            raise as_error(answer["kind"], answer["problem"])
        self.problem = unheard or answer.get("problem")
        return self.problem

    def open(self, folder: Path) -> str:
        """Follow a folder's journal, which has begun; return the run's id, '' while it has none."""
        try:
            answer = self._ask("open", DATABASE_SECONDS, folder=str(folder.absolute()))
        except RecorderGoneError as error:
            answer = {"problem": str(error)}
        self.problem = answer.get("problem") or self.problem
        return str(answer.get("run_id") or read_state(folder).run_id)

    def close(self, folder: Path) -> int:
        """Send the rest, upload the artifacts, end the run; return how many values stay unsent."""
        try:
            answer = self._ask("close", CLOSE_SECONDS, folder=str(folder.absolute()))
        except RecorderGoneError:
            answer = self._close_anew(folder)
        self.problem = answer.get("problem")
        return int(answer.get("unsent", unsent(folder)))

    def mend(self, output: Path) -> None:
        """Let the recorder send, in quiet moments, what earlier runs below `output` could not."""
        try:
            self._ask("mend", DATABASE_SECONDS, output=str(output.absolute()))
        except RecorderGoneError as error:
            self.problem = str(error)

    def quit(self) -> None:
        """End the process; a run that is still open becomes lost."""
        if self._process is None or self._owner != os.getpid():
            return
        try:
            self._ask("quit", CLOSE_SECONDS)
            self._stop(wait=QUIT_SECONDS)
        except RecorderGoneError:
            return

    def abandon(self) -> None:
        """Leave the process to itself: it finishes its command and ends, for nobody sends more."""
        self._process = None

    def _connect(self, uri: str, experiment: str, *, later: bool = False) -> Answer:
        seconds = SERVER_SECONDS if is_server(uri) else DATABASE_SECONDS
        command = "expect" if later else "connect"
        try:
            return self._ask(command, seconds, uri=uri, experiment=experiment)
        except RecorderGoneError as error:
            return {"ok": False, "kind": "down", "problem": f"{named(uri)}: {error}"}

    def _close_anew(self, folder: Path) -> Answer:
        """Close with a new process, once, after the first has died."""
        try:
            self.start()
            self._connect(*self._connection)
            self._ask("open", DATABASE_SECONDS, folder=str(folder.absolute()))
            return self._ask("close", CLOSE_SECONDS, folder=str(folder.absolute()))
        except RecorderGoneError as error:
            return {"problem": str(error)}

    def _ask(self, what: str, seconds: float, **content: str) -> Answer:
        """Send a command and return its answer, or end a process that does not give one."""
        self._id += 1
        if not self._ready:
            self._ready = bool(self._wait_for(0, START_SECONDS))
        self._send({"id": self._id, "do": what, **content})
        return self._wait_for(self._id, seconds)

    def _send(self, command: dict[str, object]) -> None:
        try:
            os.write(self._pipe("stdin"), json.dumps(command).encode() + b"\n")
        except OSError as error:
            self._stop()
            raise RecorderGoneError("the recorder process has ended") from error

    def _wait_for(self, wanted: int, seconds: float) -> Answer:
        """Return the answer to a command; one that a signal made somebody miss is skipped."""
        deadline = time.monotonic() + seconds
        while True:
            line = self._line(deadline - time.monotonic())
            answer: Answer = json.loads(line)
            if answer["id"] == wanted:
                return answer

    def _line(self, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            wait = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._pipe("stdout")], [], [], wait)
            content = os.read(self._pipe("stdout"), 1 << 16) if ready else b""
            if not content:
                self._stop()
                state = "has ended" if ready else f"did not answer within {seconds:.0f} s"
                raise RecorderGoneError(f"the recorder process {state}")
            self._rest += content
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _pipe(self, name: Literal["stdin", "stdout"]) -> int:
        if self._process is None:
            raise RecorderGoneError("the recorder process has ended")
        pipe = self._process.stdin if name == "stdin" else self._process.stdout
        assert pipe is not None  # both are asked for in `start`
        return pipe.fileno()

    def _stop(self, *, wait: float = 0.0) -> None:
        """Close the pipes and see the process end, by force after `wait` seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()


def _no_listener(uri: str) -> str | None:
    """Say that nobody listens at a network address, long before MLflow is imported; else `None`."""
    parts = urlsplit(uri)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    if parts.hostname is None or port is None or _is_proxied(parts.scheme, parts.hostname):
        return None
    try:
        socket.create_connection((parts.hostname, port), timeout=REQUEST_SECONDS).close()
    except OSError as error:
        return down_line(uri, str(error))
    return None


def _is_proxied(scheme: str, host: str) -> bool:
    return scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)
