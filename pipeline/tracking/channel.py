"""A recorder process and the two pipes to it. Nothing here imports MLflow."""

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

from pipeline.tracking.quiet import quiet_mlflow

START_SECONDS = 90.0
ENDED = "the recorder process has ended"

Answer = dict[str, Any]


class RecorderGoneError(Exception):
    """The recorder process has ended, or did not answer in time and was ended."""


class RecorderEndedError(RecorderGoneError):
    """The recorder process has ended by itself, or something has killed it."""


class Channel:
    """One recorder process; commands and answers go as JSON lines, one after another."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._id = 0
        self._rest = b""
        self._ready = False

    @property
    def pid(self) -> int | None:
        """Process id of the recorder; `None` while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def is_mine(self) -> bool:
        """Whether there is a recorder, and this process has started it."""
        return self._process is not None and self._owner == os.getpid()

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

    def ask(self, what: str, seconds: float, **content: object) -> Answer:
        """Send a command and return its answer, or end a process that does not give one.

        Raises:
            RecorderGoneError: There is no process, or no longer.
        """
        self._id += 1
        if not self._ready:
            self._ready = bool(self._wait_for(0, START_SECONDS))
        self._send({"id": self._id, "do": what, **content})
        return self._wait_for(self._id, seconds)

    def abandon(self) -> None:
        """Leave the process to itself: it finishes its command and ends, for nobody sends more."""
        self._process = None

    def stop(self, *, wait: float = 0.0) -> None:
        """Close the pipes and see the process end, by force after `wait` seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()

    def _send(self, command: dict[str, object]) -> None:
        try:
            os.write(self._pipe("stdin"), json.dumps(command).encode() + b"\n")
        except OSError as error:
            self.stop()
            raise RecorderEndedError(ENDED) from error

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
                self.stop()
                if ready:
                    raise RecorderEndedError(ENDED)
                raise RecorderGoneError(
                    f"the recorder process did not answer within {seconds:.0f} s"
                )
            self._rest += content
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _pipe(self, name: Literal["stdin", "stdout"]) -> int:
        if self._process is None:
            raise RecorderGoneError(ENDED)
        pipe = self._process.stdin if name == "stdin" else self._process.stdout
        assert pipe is not None  # both are asked for in `start`
        return pipe.fileno()
