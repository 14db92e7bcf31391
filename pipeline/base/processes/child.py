"""Child processes: starting, messaging, watching and ending them; their own side is `parent.py`.

A message is a frame: the length of its content (four bytes, big-endian), then a JSON object in
ASCII. `Child` reads and writes without blocking, so a child that stops within a frame or does not
read delays no other process.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from pipeline.base.paths import python_path
from pipeline.base.processes.cpu import bound_spinning
from pipeline.base.processes.lease import Lease, descendants, lease_of_process

Message = dict[str, Any]

HEADER = struct.Struct(">I")
CHUNK = 1 << 16
#: New objects between two searches for cyclic garbage; Python's own value is 700. With 10,000 the
#: searches still took 15 % of the time of `predict`.
COLLECTION_THRESHOLD = 200_000
USUAL_THRESHOLDS = gc.get_threshold()
#: Longest content of a frame in bytes.
MAX_BYTES = 1 << 26

GRACE_SECONDS = 5.0
#: Interval in seconds at which a wait checks that the other process lives, since its pipe may
#: outlive it, and at which a listening process says that it lives.
WATCH_SECONDS = 1.0


class Channel:
    """Messages to and from another process. Only `wait` blocks.

    `ended` says that nothing more will come. Both descriptors become non-blocking; the caller has
    to close them.
    """

    def __init__(self, reader: int, writer: int) -> None:
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self.reader = reader
        self.ended = False
        self._writer = writer
        self._received = bytearray()
        self._unsent = bytearray()
        self._is_closed = False

    def send(self, *messages: Mapping[str, object]) -> None:
        """Write messages as far as the other end takes them now; `flush` writes the rest.

        Raises ValueError if a message exceeds `MAX_BYTES`.
        """
        frames = bytearray()
        for message in messages:
            content = json.dumps(message).encode("ascii")
            if len(content) > MAX_BYTES:
                raise ValueError(f"a message of {len(content):,} bytes exceeds {MAX_BYTES:,}")
            frames += HEADER.pack(len(content)) + content
        if not self._is_closed:
            self._unsent += frames
            self.flush()

    def flush(self) -> bool:
        """Write what the other end takes now; tell whether nothing is left to write."""
        while self._unsent:
            # Taken out first, so that nothing is written twice if a signal handler raises.
            content = self._unsent[:CHUNK]
            del self._unsent[:CHUNK]
            try:
                written = os.write(self._writer, content)
            except BlockingIOError:
                self._unsent[:0] = content
                return False
            except OSError:
                self.stop_writing()
                break
            self._unsent[:0] = content[written:]
        return True

    def stop_writing(self) -> None:
        """Write nothing more."""
        self._is_closed = True
        self._unsent.clear()

    def receive(self) -> list[Message]:
        """Return the messages that have arrived completely, without waiting for more."""
        received = self._received
        while not self.ended and len(received) < HEADER.size + MAX_BYTES:
            try:
                content = os.read(self.reader, CHUNK)
            except BlockingIOError:
                break
            except OSError:
                content = b""
            self.ended = not content
            received += content
        messages: list[Message] = []
        try:
            while len(received) >= HEADER.size:
                end = HEADER.size + HEADER.unpack_from(received)[0]
                if end > HEADER.size + MAX_BYTES:
                    raise ValueError("a frame is too long")
                if len(received) < end:
                    break
                messages.append(json.loads(received[HEADER.size : end]))
                del received[:end]
        except ValueError:  # the start of the next frame is unknown
            self.ended = True
            received.clear()
        return messages

    def wait(self, seconds: float, *, reading: bool = True, writing: bool = True) -> bool:
        """Wait until data can be read or unsent data written; tell whether data can be read."""
        events = {self.reader: select.POLLIN} if reading else {}
        if writing and self._unsent:  # both descriptors may be the same
            events[self._writer] = events.get(self._writer, 0) | select.POLLOUT
        poll = select.poll()
        for descriptor, mask in events.items():
            poll.register(descriptor, mask)
        ready_events = dict(poll.poll(max(0.0, seconds) * 1000))
        return bool(reading and ready_events.get(self.reader, 0) & ~select.POLLOUT)


def ignore(_: Message) -> None:
    """Leave a message that nobody waits for alone."""


class ChildGoneError(Exception):
    """The process can't be reached: it has ended, was let go, or did not answer in time."""


class ChildEndedError(ChildGoneError):
    """The process has ended by itself or was killed."""


def tune_process() -> None:
    """Bound the spinning of threads, and search for cyclic garbage rarely, and not at exit.

    This comes before torch is imported. The libraries create a million objects that stay; searching
    them took a third of the time of a short run.
    """
    bound_spinning()
    gc.set_threshold(COLLECTION_THRESHOLD)
    atexit.register(gc.freeze)


@contextmanager
def collecting_as_usual() -> Iterator[None]:
    """Search for cyclic garbage at Python's usual rate, since cycles may hold large tensors.

    Older objects are left out: one search of the million objects of the libraries takes 0.4 s.
    """
    before = gc.get_threshold()
    is_frozen = gc.get_freeze_count() > 0  # by an outer call, or by a worker of a study
    if not is_frozen:
        gc.freeze()
    gc.set_threshold(*USUAL_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not is_frozen:
            gc.unfreeze()


def python_module(module: str) -> tuple[str, ...]:
    """Return the arguments with which Python runs a module."""
    return ("-P", "-m", module)


class Process(Protocol):
    """What `Child` needs of a process that was started, as `subprocess.Popen` defines it."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; `None` while the process runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once the process has ended; raises subprocess.TimeoutExpired."""


Environment = Mapping[str, str | None]
Launch = Callable[[Sequence[str], Environment, socket.socket], Process]


def new_process(
    command: Sequence[str], environment: Environment, stream: socket.socket
) -> subprocess.Popen[bytes]:
    """Start Python in a session of its own; `stream` is its standard input and output."""
    variables = {**os.environ, "PYTHONPATH": python_path(), **environment}
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=stream.fileno(),
        stdout=stream.fileno(),
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in variables.items() if value is not None},
        start_new_session=True,
    )


class Child:
    """A Python process in a session of its own, so that Ctrl-C in a terminal does not reach it.

    It ends when its standard input is closed, and so when this process dies. Only `wait`,
    `see_end`, `close`, `ask` and `answer` wait, for a limited time; `start` waits for a fork
    server, up to `FORK_SECONDS`.

    Args:
        command: Arguments of Python.
        environment: Variables in addition to those of this process; `None` removes one.
        name: Name of the process in error messages.
        launch: Starts the process: `new_process`, or the `launch` of a fork server.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Environment | None = None,
        name: str = "the process",
        launch: Launch = new_process,
    ) -> None:
        self._command = command
        self._environment = environment or {}
        self._name = name
        self._launch = launch
        self._last_id = 0
        self._process: Process | None = None

    def start(self) -> None:
        """Start the process; a process that has ended and was closed can be started again."""
        self._stream, child_end = socket.socketpair()
        with child_end:
            self._process = self._launch(self._command, self._environment, child_end)
        self._channel = Channel(self._stream.fileno(), self._stream.fileno())
        self._owner = os.getpid()
        self._has_died = False
        self.lease: Lease = lease_of_process(self._process.pid)

    @property
    def is_open(self) -> bool:
        """Whether this process has started it, and has neither closed nor abandoned it."""
        return self._process is not None and self._owner == os.getpid()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running().pid

    def fileno(self) -> int:
        """Return the file descriptor to wait on for messages of the process."""
        return self._channel.reader

    # ── messages ────────────────────────────────────────────────────────────────────────────

    def send(self, message: Mapping[str, object]) -> None:
        """Send a message without waiting; `has_ended` tells whether the process is gone."""
        self._channel.send(message)

    def send_descriptor(self, message: Mapping[str, object], descriptor: int) -> None:
        """Send a message as JSON without a frame, and a descriptor; raises OSError.

        Linux may split a message of more than 32 KiB.
        """
        socket.send_fds(self._stream, [json.dumps(message).encode("ascii")], [descriptor])

    def messages(self) -> list[Message]:
        """Return the messages of the process since the last call, without waiting."""
        # Checked before the pipe is read, so that the last messages of a process are not lost.
        self._has_died = self._running().poll() is not None
        self._channel.flush()
        return self._channel.receive()

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone and `messages` has returned its last messages."""
        return self._has_died or self._channel.ended

    def tell(self, **content: object) -> int:
        """Send a message without waiting; return its `id`, which is that of its answer."""
        self._last_id += 1
        self.send({**content, "id": self._last_id})
        return self._last_id

    def ask(
        self, seconds: float, *, others: Callable[[Message], object] = ignore, **content: object
    ) -> Message:
        """Send a message and return the answer with the same `id`; raises as `answer` does."""
        self._running()
        return self.answer(self.tell(**content), seconds, others=others)

    def answer(
        self, message_id: int, seconds: float, *, others: Callable[[Message], object] = ignore
    ) -> Message:
        """Return the answer with the id `message_id`; `others` is called with all other messages.

        Raises ChildEndedError if the process has ended, ChildGoneError if no answer comes within
        `seconds` or the process is not open. The process is closed before an error.
        """
        self._running()
        deadline = time.monotonic() + seconds
        while not self.has_ended:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            self._channel.wait(min(remaining, WATCH_SECONDS))
            answer = None
            for message in self.messages():
                if message.get("id") == message_id:
                    answer = message
                else:
                    others(message)
            if answer is not None:
                return answer
        has_ended = self.has_ended
        self.close(0.0)
        if has_ended:
            raise ChildEndedError(f"{self._name} has ended")
        raise ChildGoneError(f"{self._name} did not answer within {seconds:.0f} s")

    # ── its end ─────────────────────────────────────────────────────────────────────────────

    def wait(self, seconds: float) -> int | None:
        """Wait for the process to end; return its exit code, negative for a signal.

        Returns `None` if the process still runs after `seconds`.
        """
        with suppress(subprocess.TimeoutExpired):
            return self._running().wait(seconds)
        return None

    def kill(self) -> None:
        """Kill the process and the processes that it has started."""
        process = self._running()
        if process.poll() is None:
            kill_session(process.pid)

    def see_end(self, seconds: float = GRACE_SECONDS) -> str:
        """Wait for the process to end, kill it after `seconds`, and say how it ended.

        A process that waits for a disk may not end even then.
        """
        code = self.wait(seconds)
        if code is None:
            self.kill()
            code = self.wait(GRACE_SECONDS)
        if code is None:
            return "does not end, not even by SIGKILL"
        if code < 0:
            return f"ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def dismiss(self) -> None:
        """Close the standard input of the process, which makes it end; don't wait for that."""
        self._running()
        self._channel.stop_writing()
        with suppress(OSError):  # the process is gone
            self._stream.shutdown(socket.SHUT_WR)

    def close(self, seconds: float = GRACE_SECONDS) -> bool:
        """Close the standard input of the process, kill it after `seconds`, and hear no more.

        Returns whether it has ended.
        """
        if self._process is None:
            return True
        self.dismiss()
        self.see_end(seconds)
        has_ended = self._running().poll() is not None
        self._stream.close()
        self._process = None
        return has_ended

    def abandon(self) -> None:
        """Leave the process to itself: it finishes what it was told, and ends."""
        if self._process is not None:
            self._stream.close()
            self._process = None

    def _running(self) -> Process:
        if self._process is None:
            raise ChildGoneError(f"{self._name} has ended")
        return self._process


def kill_session(pid: int) -> None:
    """Kill a process and those that it has started, even before its session has begun."""
    # The processes that a worker trains together with have sessions of their own.
    descendant_pids = descendants(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    for descendant_pid in descendant_pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(descendant_pid, signal.SIGKILL)
