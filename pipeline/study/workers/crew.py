"""The driver's side of a worker: told what to do and listened to, without ever waiting for it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pipeline.study.workers.job import Job, TestJob
from pipeline.study.workers.messages import Ended, Gone, Message, Ready, Tested, decode
from pipeline.tracking.facts import command_tags
from pipeline.tracking.lease import Lease, boot_id, started

QUIT_SECONDS = 5.0
CHUNK = 1 << 16

State = Literal["starting", "idle", "training", "testing", "gone"]


class Worker:
    """A process that trains trials one after another, and dies with the process that started it.

    It has a session of its own, so that a terminal's Ctrl-C reaches the driver alone.

    Args:
        environment: Variables beside this process's own, such as CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.state: State = "starting"
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._lease: Lease | None = None
        self._said = b""
        self._unsent = b""

    def start(self) -> None:
        """Start the process, which says Ready once it has loaded its libraries."""
        root = str(Path(__file__).parents[3])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline.study.workers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, **self._environment},
            start_new_session=True,
            bufsize=0,
        )
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self._lease = _lease_of(self._process.pid)

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._running().pid

    @property
    def lease(self) -> Lease:
        """What tells whether the process is still there."""
        assert self._lease is not None, "start it first"
        return self._lease

    def fileno(self) -> int:
        """Return the pipe to wait on for what it says."""
        pipe = self._running().stdout
        assert pipe is not None
        return pipe.fileno()

    def train(self, job: Job) -> None:
        """Let it train a trial; it answers with Rung, and with Ended once."""
        self.state = "training"
        job = replace(job, tags={**command_tags(), **job.tags})
        self._send({"do": "train", "job": job.to_json()})

    def test(self, job: TestJob) -> None:
        """Let it test the kept weights of a trial; it answers with Tested."""
        self.state = "testing"
        self._send({"do": "test", "job": job.to_json()})

    def verdict(self, prune: bool) -> None:
        """Answer a Rung."""
        self._send({"do": "verdict", "prune": prune})

    def interrupt(self) -> None:
        """Stop what it does now; it answers as ever and stays for more."""
        if self.state in ("training", "testing") and self._running().poll() is None:
            self._running().send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End the process and whatever it has started, at once."""
        process = self._running()
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def quit(self) -> None:
        """Let the process end, whatever it does, and see it gone."""
        process = self._running()
        assert process.stdin is not None
        if process.stdin.closed:
            return
        self._send({"do": "quit"})
        process.stdin.close()
        try:
            process.wait(QUIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
        self.state = "gone"

    def messages(self) -> list[Message]:
        """Return what it has said since the last call; Gone, once, where it has died."""
        if self.state == "gone":
            return []
        self._send_rest()
        has_ended = self._running().poll() is not None
        is_closed = self._read()
        *lines, self._said = self._said.split(b"\n")
        messages = [decode(line) for line in lines]
        for message in messages:
            if isinstance(message, Ready | Ended | Tested):
                self.state = "idle"
        own_word = [message for message in messages if isinstance(message, Gone)]
        if not (has_ended or is_closed or own_word):
            return messages
        gone = self._bury()
        return messages if own_word else [*messages, gone]

    def _bury(self) -> Gone:
        """See the process end, and say how it did."""
        process = self._running()
        with suppress(subprocess.TimeoutExpired):
            process.wait(QUIT_SECONDS)  # its pipe closes a moment before
        self.kill()
        self.state = "gone"
        code = process.wait()
        if code < 0:
            return Gone(message=f"ended by {signal.Signals(-code).name}")
        return Gone(message=f"ended with exit code {code}")

    def _read(self) -> bool:
        """Read all there is, and tell whether the pipe is closed."""
        while True:
            try:
                content = os.read(self.fileno(), CHUNK)
            except BlockingIOError:
                return False
            if not content:
                return True
            self._said += content

    def _send(self, order: Mapping[str, Any]) -> None:
        self._unsent += json.dumps(order, ensure_ascii=False).encode() + b"\n"
        self._send_rest()

    def _send_rest(self) -> None:
        """Write what the pipe takes; the rest goes with the next call."""
        pipe = self._running().stdin
        assert pipe is not None
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(pipe.fileno(), self._unsent) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # that it has died is told by `messages`
            self._unsent = b""

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "start it first"
        return self._process


def _lease_of(pid: int) -> Lease:
    return Lease(host=socket.gethostname(), boot_id=boot_id(), pid=pid, started=started(pid) or "")
