"""A fork server: a process that has loaded libraries, and forks the children that need them.

A fork takes about 10 ms, where importing the libraries takes a new process seconds of CPU time. The
server is a new process, or a fork of its starter. It never uses a GPU and has no thread when it
forks, since neither works in a fork.

`python -m pipeline.base.processes.fork_server MODULE ...` is the server, which loads these modules.
"""

import gc
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn, Self

from pipeline.base.processes.child import (
    CHUNK,
    WATCH_SECONDS,
    Channel,
    Child,
    ChildGoneError,
    Environment,
    Launch,
    Message,
    Process,
    kill_session,
    new_process,
    python_module,
)
from pipeline.base.processes.lease import UNSEEN, status
from pipeline.base.processes.parent import claim_streams
from pipeline.base.signals import STOP_SIGNALS

#: Variable with which Python imports nothing from the current folder.
SAFE_PATH = "PYTHONSAFEPATH"
#: How long the server may take to fork.
FORK_SECONDS = 15.0


def can_fork() -> bool:
    """Return whether a fork server works here: on Linux, unless a sandbox forbids `pidfd_open`.

    Elsewhere, libraries that are loaded don't work in a fork.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return sys.platform == "linux"


class ForkServer:
    """A server that loads `modules`, and forks processes that call `main` of one.

    It dies with this process. Whoever started it kills the forks of a server that has died; where
    both are gone, a fork ends as its input closes.

    As a context manager, it starts the server and ends it. `is_loaded` tells whether the modules
    are loaded, `has_ended` that the server has to be started again.

    Args:
        modules: What the server loads.
        environment: Variables of the server in addition to those of this process.
        launch: Starts the server: `new_process`, or `fork_here` for the first time.
    """

    def __init__(
        self, *modules: str, environment: Environment, launch: Launch = new_process
    ) -> None:
        self._server = Child(
            (*python_module(__name__), *modules),
            environment=environment,
            name="the fork server",
            launch=self._launch_server,
        )
        self._next_launch = launch
        self._forks: dict[int, Fork] = {}
        self._answer: Fork | str | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the server without waiting for it; one that has ended is started again."""
        self._server.close()
        self._server.start()
        self._problem: str | None = None
        self.is_loaded = False
        self.has_ended = False

    def fileno(self) -> int:
        """Return the file descriptor to wait on for news of the server and of its forks."""
        return self._server.fileno()

    def listen(self) -> None:
        """Take notice of what has become of the server and its forks, without waiting."""
        if self.has_ended:
            return
        for message in self._server.messages():
            if "problem" in message:
                self._problem = message["problem"]
            elif "failed" in message:
                self._answer = message["failed"]
            elif "pid" not in message:
                self.is_loaded = True
            elif message["code"] is None:
                fork = Fork(self, message["pid"])
                self._forks[fork.pid] = fork
                self._answer = fork
            else:
                self._forks.pop(message["pid"]).code = message["code"]
        if self._server.has_ended:
            self._kill_forks()

    def launch(
        self, command: Sequence[str], environment: Environment, stream: socket.socket
    ) -> "Fork":
        """Fork a process that calls `main` of the module that `command` runs, as `Child` asks for.

        Raises ChildGoneError if the server can't fork, has ended or does not answer.
        """
        self._answer = None
        remaining = FORK_SECONDS
        deadline = time.monotonic() + remaining
        request = {"module": command[-1], "environment": dict(environment)}
        with suppress(OSError):  # the server has ended
            self._server.send_descriptor(request, stream.fileno())
        while not self.has_ended and remaining > 0:
            # Before listening, which so comes last even if this process was stopped for long.
            remaining = deadline - time.monotonic()
            select.select([self], [], [], max(0.0, remaining))
            self.listen()
            if isinstance(self._answer, Fork):
                return self._answer
            if self._answer is not None:
                raise ChildGoneError(self._answer)
        self._server.kill()
        self._kill_forks()
        raise ChildGoneError("the fork server has ended or does not answer")

    def see_end(self) -> str:
        """Say why the server has ended."""
        return self._problem or self._server.see_end()

    def close(self) -> None:
        """End the server and its forks at once."""
        self._server.close(0.0)
        self._kill_forks()

    def _launch_server(
        self, command: Sequence[str], environment: Environment, stream: socket.socket
    ) -> Process:
        launch = self._next_launch
        self._next_launch = new_process
        return launch(command, environment, stream)

    def _kill_forks(self) -> None:
        self.has_ended = True
        self.is_loaded = False
        for pid, fork in self._forks.items():
            kill_session(pid)
            fork.code = -signal.SIGKILL
        self._forks.clear()


class Fork:
    """A forked process, with the methods of `subprocess.Popen` that `Child` needs."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        self._server = server

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; `None` while the process runs."""
        self._server.listen()
        return self.code

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once the process has ended; raises subprocess.TimeoutExpired."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise subprocess.TimeoutExpired("a fork", deadline)
            has_news = select.select([self._server], [], [], min(remaining, WATCH_SECONDS))[0]
            if not has_news and status(self.pid) in ("zombie", UNSEEN):
                self.code = -signal.SIGKILL  # its exit code stays unknown: the server is stopped
        return code


def launch_with_torch() -> Launch:
    """Return how to start a server that needs torch, whose import takes a third of its time.

    In a process of one thread that has not loaded torch, torch is loaded, and the server is a fork.
    """
    if not can_fork() or "torch" in sys.modules or threading.active_count() > 1:
        return new_process
    import torch  # noqa: F401

    return fork_here


def fork_here(command: Sequence[str], environment: Environment, stream: socket.socket) -> Process:
    """Fork this process, which goes on as the module that `command` runs, as `Child` asks for.

    It needs `can_fork`, one thread, and libraries that were loaded and not used yet. Where it can't
    fork, it starts a new process.
    """
    try:
        pid = os.fork()
    except OSError:  # too many processes, or too little memory for another one of this size
        return new_process(command, environment, stream)
    if pid == 0:
        try:
            sys.argv = list(command[2:])  # after `-P -m`
            descriptor = stream.fileno()
            _redirect_all_but({0, 1, 2, descriptor})
            # As the option -P of a new process does. A worker, which has the variable, is a fork
            # that has done it.
            if not (sys.flags.safe_path or os.environ.get(SAFE_PATH)):
                del sys.path[0]
            _run_module(descriptor, module=sys.argv[0], environment=environment)
        finally:
            os._exit(1)
    return OwnFork(pid)


def _redirect_all_but(descriptors: set[int]) -> None:
    """Redirect all open file descriptors of this process but these to `/dev/null`."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    open_descriptors = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    for descriptor in open_descriptors - descriptors - {nowhere}:
        # Not closed: objects that hold the number would close another file of that number.
        os.dup2(nowhere, descriptor)


class OwnFork:
    """A fork of this process, with the methods of `subprocess.Popen` that `Child` needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; `None` while the process runs."""
        return self._code_after(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once the process has ended; raises subprocess.TimeoutExpired."""
        code = self._code_after(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a fork", timeout or 0)
        return code

    def _code_after(self, timeout: float | None) -> int | None:
        if self._code is None and select.select([self._descriptor], [], [], timeout)[0]:
            self._code = exit_code_of(self.pid)
            os.close(self._descriptor)
        return self._code


def exit_code_of(pid: int) -> int:
    """Return the exit code of a child that has ended, negative for a signal."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # known already, or SIGCHLD is ignored
        return -signal.SIGKILL


# ── the server ───────────────────────────────────────────────────────────────────────────────


def main() -> NoReturn:
    """Load the modules that the command line names, and fork until the parent is gone."""
    reader, writer = claim_streams()
    os.close(writer)  # both are the same socket
    control = socket.socket(fileno=reader)
    channel = Channel(reader, reader)
    try:
        for module in sys.argv[1:]:
            import_module(module)
    except Exception as error:  # whatever a broken installation raises
        channel.send({"problem": f"{type(error).__name__}: {' '.join(str(error).split())}"})
        os._exit(1)
    gc.collect()
    gc.freeze()  # so that the forks share the memory of the modules
    channel.send({})
    parent = os.getppid()
    running: dict[int, int] = {}  # process ids by descriptors that are ready once they end
    while os.getppid() == parent:
        for ready in select.select([reader, *running], [], [], WATCH_SECONDS)[0]:
            if ready == reader:
                channel.send(_fork(control, running))
            else:
                pid = running.pop(ready)
                os.close(ready)
                channel.send({"pid": pid, "code": exit_code_of(pid)})
    os._exit(0)


def _fork(control: socket.socket, running: dict[int, int]) -> Message:
    """Fork the process that the next request asks for, and return the answer."""
    content, streams, *_ = socket.recv_fds(control, CHUNK, 1)
    if not streams:
        os._exit(0)  # the parent has ended
    request = json.loads(content)
    try:
        pid = os.fork()
        if pid == 0:
            for descriptor in (control.detach(), *running):
                os.close(descriptor)
            _run_module(*streams, **request)
        running[os.pidfd_open(pid)] = pid
    except OSError as error:
        return {"failed": str(error)}
    finally:
        os.close(*streams)
    return {"pid": pid, "code": None}


def _run_module(stream: int, *, module: str, environment: Environment) -> NoReturn:
    """Run `main` of a module in a new session, with a stream as standard input and output."""
    try:
        os.setsid()
        for number in (0, 1):
            os.dup2(stream, number)
        os.close(stream)
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        import_module(module).main()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
