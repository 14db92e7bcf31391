"""Training processes that a test starts, watches, signals and ends."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from helpers.fork_python import Fork
from helpers.run_files import checkpoint, events

RECORDER = "pipeline.tracking.recorder"


def crowding() -> float:
    """How many processes want each core, 1 or more: what takes longer by as much."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def patience() -> float:
    """Seconds to wait for anything."""
    return 90.0 * crowding()


def wait_until(happened: Callable[[], object], *, what: str) -> None:
    """Wait for something to become true; fail, naming it, once that takes too long."""
    deadline = time.monotonic() + patience()
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.01)


def is_running(process: psutil.Process) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def await_end(*processes: psutil.Process) -> None:
    """Wait until none of the processes runs."""
    wait_until(lambda: not any(map(is_running, processes)), what=f"the end of {processes}")


class Training:
    """A process that trains in a folder, seen from outside, and the folder of what it prints.

    `exit_code` waits for its end and returns its code; negative = killed by that signal.
    """

    def __init__(
        self, pid: int, *, folder: Path, streams: Path, exit_code: Callable[[float], int]
    ) -> None:
        self.pid = pid
        self.folder = folder
        self._streams = streams
        self._exit_code = exit_code
        self._ended: int | None = None

    @property
    def out(self) -> str:
        """What it has printed so far; `err` is standard error."""
        return (self._streams / "out").read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return (self._streams / "err").read_text(encoding="utf-8")

    @property
    def run(self) -> Path:
        """The only run folder below `runs`."""
        (run,) = (self.folder / "runs").iterdir()
        return run

    def await_epoch(self, epoch: int | None = None) -> None:
        """Wait for the line of a finished epoch, of any by default."""
        line = re.compile(rf"^ *{epoch or '[0-9]+'}/\d+  ", re.MULTILINE)
        self.wait_until(lambda: line.search(self.out), what=f"epoch {epoch or ''}")

    def await_file(self, name: str) -> None:
        """Wait for a file in its current folder."""
        self.wait_until((self.folder / name).exists, what=f"the file {name}")

    def wait_until(self, happened: Callable[[], object], *, what: str) -> None:
        """Wait for something that only a living process can bring about."""

        def happened_or_ended() -> bool:
            if happened():
                return True
            assert self.is_alive(), f"ended before {what}: {self.err}"
            return False

        wait_until(happened_or_ended, what=what)

    def is_alive(self) -> bool:
        """Return whether it still runs."""
        try:
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def children(self) -> list[psutil.Process]:
        """Return its child processes; none once it has ended."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def recorder(self) -> psutil.Process:
        """Return the process that fills MLflow, as soon as it is there."""
        self.wait_until(lambda: self.running(RECORDER), what="its recorder")
        (process,) = self.running(RECORDER)
        return process

    def running(self, module: str) -> list[psutil.Process]:
        """Return the processes below it that run a module."""
        processes = []
        for process in self.children():
            with suppress(psutil.NoSuchProcess):  # such as git, which lives for a moment
                if module in process.cmdline():
                    processes.append(process)
        return processes

    def end(self) -> int:
        """Wait for its end and return its exit code; negative = killed by that signal."""
        if self._ended is None:
            self._ended = self._exit_code(patience())
        return self._ended

    def require_success(self) -> None:
        """Wait for its end; fail with what it printed unless it succeeded."""
        assert self.end() == 0, self.err

    def finish(self) -> None:
        """Kill it if it still runs."""
        if self._ended is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.end()


def start_command(
    words: Sequence[str],
    *,
    streams: Path,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    command: str = "train",
    python: str | None = None,
) -> Training:
    """Start `python -m pipeline.<command>` in the current folder, or a fork by fork_python.py.

    Where there are words before the command, it is never a fork.
    """
    streams.mkdir()
    arguments = ["-m", f"pipeline.{command}", *words]
    variables = {**os.environ, **(environment or {})}
    process: Fork | subprocess.Popen[bytes]
    with (
        (streams / "out").open("wb") as out,
        (streams / "err").open("wb") as err,
        Path(os.devnull).open("rb") as nothing,
    ):
        if python is None or prefix:
            process = subprocess.Popen(
                [*prefix, sys.executable, *arguments],
                stdin=nothing,
                stdout=out,
                stderr=err,
                env=variables,
            )
        else:
            descriptors = [stream.fileno() for stream in (nothing, out, err)]
            process = Fork(python, arguments, descriptors, environment=variables)
    return Training(process.pid, folder=Path.cwd(), streams=streams, exit_code=process.wait)


def listening(pid: int) -> set[str]:
    """Return the addresses on which a process and those below it listen."""
    first = psutil.Process(pid)
    return {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in filter(is_running, [first, *first.children(recursive=True)])
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def recorded_epochs(run: Path) -> list[int]:
    """Return the epochs on record, in their order, each once."""
    return list(dict.fromkeys(e["epoch"] for e in events(run) if e["event"] == "epoch"))


def ending(run: Path) -> tuple[str, str | None] | None:
    """Return the status and the reason at the end of a journal; `None` where it stays open."""
    last = [event for event in events(run) if event["event"] in ("begin", "end")][-1]
    return (last["status"], last["reason"]) if last["event"] == "end" else None


def only_line(text: str) -> str:
    """Return the only line of a text."""
    (line,) = text.splitlines()
    return line


def lines_of(text: str, *, start: str) -> Iterator[str]:
    """Yield the lines that begin with a word."""
    return (line for line in text.splitlines() if line.startswith(start))


def checkpoint_epoch(run: Path, name: str = "last") -> int:
    """Return the epoch of a run's checkpoint, which is whole."""
    return int(checkpoint(run, name)["pipeline"]["epoch"])
