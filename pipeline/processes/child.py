"""A process that this one starts, talks to, watches and ends.

Messages between two processes are JSON with a length before it, read and written without waiting.
A frame is the length of its content, four bytes, big-endian, and the content, a JSON object in
ASCII. A process that is stopped in the middle of a frame, or that does not read, delays nobody:
what has come so far is kept until the rest comes, and what can't be written now is written later.
"""

import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pipeline.paths import python_path
from pipeline.processes.lease import Lease, lease_of_process

Message = dict[str, Any]

HEADER = struct.Struct(">I")
CHUNK = 1 << 16
MAX_BYTES = 1 << 26
"""Longest content of a frame."""

GRACE_SECONDS = 5.0
WATCH_SECONDS = 1.0
"""How often a wait for an answer looks whether the process lives; its pipe may outlive it."""


class FrameWriter:
    """Writes messages to a pipe or socket.

    Args:
        descriptor: Becomes non-blocking; it is closed by whoever has opened it.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._unsent = bytearray()
        self._is_closed = False

    @property
    def is_flushed(self) -> bool:
        """Whether all that was sent is written."""
        return not self._unsent

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def send(self, *messages: Mapping[str, object]) -> None:
        """Write messages together, as far as they are taken now; `flush` writes the rest.

        Raises:
            ValueError: One is longer than `MAX_BYTES`.
        """
        frames = bytearray()
        for content in (json.dumps(message).encode("ascii") for message in messages):
            if len(content) > MAX_BYTES:
                raise ValueError(f"a message of {len(content):,} bytes exceeds {MAX_BYTES:,}")
            frames += HEADER.pack(len(content)) + content
        if not self._is_closed:
            self._unsent += frames
            self.flush()

    def flush(self) -> None:
        """Write what the other end takes now; one that is gone takes all and loses it."""
        while self._unsent:
            # Taken out first: where a signal's handler raises, nothing is written twice.
            content = self._unsent[:CHUNK]
            del self._unsent[:CHUNK]
            try:
                written = os.write(self._descriptor, content)
            except BlockingIOError:
                self._unsent[:0] = content
                return
            except OSError:
                self.close()
                return
            self._unsent[:0] = content[written:]

    def close(self) -> None:
        """Write nothing more."""
        self._is_closed = True
        self._unsent.clear()

    def wait(self, seconds: float) -> None:
        """Wait until more can be written, at most so long."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll(seconds * 1000)


class FrameReader:
    """Reads messages from a pipe or socket.

    Args:
        descriptor: Becomes non-blocking; it is closed by whoever has opened it.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.ended = False
        """Nothing more will come: the other end is closed, or has sent what is not a frame."""
        self._descriptor = descriptor
        self._content = bytearray()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def receive(self) -> list[Message]:
        """Return the messages that have come whole, without waiting for more."""
        while not self.ended and len(self._content) < HEADER.size + MAX_BYTES:
            try:
                content = os.read(self._descriptor, CHUNK)
            except BlockingIOError:
                break
            except OSError:
                content = b""
            self.ended = not content
            self._content += content
        messages: list[Message] = []
        try:
            messages.extend(self._frames())
        except ValueError:  # where the next frame begins is not known any more
            self.ended = True
            self._content.clear()
        return messages

    def wait(self, seconds: float, writer: FrameWriter | None = None) -> bool:
        """Wait until there is something to read, or `writer` can write what it has not.

        Args:
            seconds: At most so long.
            writer: Of the same conversation.

        Returns:
            Whether there is something to read, the end included.
        """
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if writer is not None and not writer.is_flushed:
            poll.register(writer.fileno(), select.POLLOUT)
        ready = [descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)]
        return self._descriptor in ready

    def _frames(self) -> Iterator[Message]:
        while len(self._content) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._content)
            if length > MAX_BYTES:
                raise ValueError(f"a frame of {length:,} bytes")
            end = HEADER.size + length
            if len(self._content) < end:
                return
            message = json.loads(self._content[HEADER.size : end])
            del self._content[:end]
            yield message


class ChildGoneError(Exception):
    """There is no process any more: it has ended, was let go of, or did not answer in time."""


class ChildEndedError(ChildGoneError):
    """The process has ended by itself, or something has killed it."""


def python_module(module: str) -> tuple[str, ...]:
    """Return the words for Python that run a module by itself."""
    return ("-P", "-m", module)


def torchrun(module: str, ranks: int) -> tuple[str, ...]:
    """Return the words for Python that run a module as several ranks of this machine.

    torchrun ends all of them where one dies; the first one is to read standard input.
    """
    meeting = ("--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1")
    launcher = python_module("torch.distributed.run")
    return (*launcher, "--nnodes=1", f"--nproc-per-node={ranks}", *meeting, "-m", module)


class Child:
    """A Python process in a session of its own, which a terminal's Ctrl-C does not reach.

    It ends when its standard input is closed, so also when this process dies (`parent.Parent` is
    its side). Only `wait`, `see_end`, `close`, `ask` and `answer` wait for it, all for a limited
    time.

    Args:
        command: Words for Python, from a launcher such as `python_module`.
        environment: Variables beside those of this process; `None` removes one.
        name: What it is called in an error of `ask`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str | None] | None = None,
        name: str = "the process",
    ) -> None:
        self._command = command
        self._environment = environment or {}
        self._name = name
        self._asked = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; one that has ended and was closed may be started again.

        Raises:
            OSError: The machine has no room for another process.
        """
        variables = {**os.environ, "PYTHONPATH": python_path(), **self._environment}
        self._process = process = subprocess.Popen(
            [sys.executable, *self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in variables.items() if value is not None},
            start_new_session=True,
            bufsize=0,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._writer = FrameWriter(process.stdin.fileno())
        self._reader = FrameReader(process.stdout.fileno())
        self._owner = os.getpid()
        self._has_died = False
        self.lease: Lease = lease_of_process(process.pid)

    @property
    def is_open(self) -> bool:
        """Whether it was started by this very process, and neither closed nor abandoned."""
        return self._process is not None and self._owner == os.getpid()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running().pid

    def fileno(self) -> int:
        """Return the descriptor to wait on for what it says."""
        return self._reader.fileno()

    # ── messages ────────────────────────────────────────────────────────────────────────────

    def send(self, message: Mapping[str, object]) -> None:
        """Send a message without waiting; that the process is gone is told by `has_ended`."""
        self._writer.send(message)

    def messages(self) -> list[Message]:
        """Return what it has said since the last call, without waiting."""
        # What a process says before its death is read after that was noticed.
        self._has_died = self._running().poll() is not None
        self._writer.flush()
        return self._reader.receive()

    @property
    def has_ended(self) -> bool:
        """Whether the last call of `messages` has returned the last ones."""
        return self._has_died or self._reader.ended

    def ask(self, seconds: float, **content: object) -> Message:
        """Send a message and return the answer, which has its `id`.

        Raises:
            ChildGoneError: No answer came within `seconds`; the process was ended.
            ChildEndedError: It has ended.
        """
        self._running()
        self._asked += 1
        self.send({"id": self._asked, **content})
        return self.answer(self._asked, seconds)

    def answer(self, wanted: int, seconds: float) -> Message:
        """Wait for the answer with an id; one that a signal made somebody miss is skipped.

        Raises:
            ChildGoneError: No answer came within `seconds`; the process was ended.
            ChildEndedError: It has ended.
        """
        self._running()
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self.has_ended:
            self._reader.wait(min(left, WATCH_SECONDS), self._writer)
            for message in self.messages():
                if message.get("id") == wanted:
                    return message
        has_ended = self.has_ended
        self.close(0.0)
        if has_ended:
            raise ChildEndedError(f"{self._name} has ended")
        raise ChildGoneError(f"{self._name} did not answer within {seconds:.0f} s")

    # ── its end ─────────────────────────────────────────────────────────────────────────────

    def wait(self, seconds: float) -> int | None:
        """Wait for its end; return its exit code, negative for a signal, `None` if it runs on."""
        with suppress(subprocess.TimeoutExpired):
            return self._running().wait(seconds)
        return None

    def kill(self) -> None:
        """End the process and whatever it has started, at once."""
        process = self._running()
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def see_end(self, seconds: float = GRACE_SECONDS) -> str:
        """Wait for its end, force it after `seconds`, and say how it ended."""
        if self.wait(seconds) is None:
            self.kill()
        code = self._running().wait()
        if code < 0:
            return f"ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def dismiss(self) -> None:
        """Close its standard input, by which it ends, without waiting for that."""
        pipe = self._running().stdin
        assert pipe is not None
        self._writer.close()
        pipe.close()

    def close(self, seconds: float = GRACE_SECONDS) -> None:
        """Let go of it, see it end, by force after `seconds`, and close the pipes."""
        if self._process is None:
            return
        self.dismiss()
        self.see_end(seconds)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def abandon(self) -> None:
        """Leave the process to itself: it does what it was told, hears no more, and ends."""
        if self._process is not None:
            self.dismiss()
            self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ChildGoneError(f"{self._name} has ended")
        return self._process
