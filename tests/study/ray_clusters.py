"""Ray clusters of several nodes on this machine, and sweeps on them that a test watches."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from faults.conftest import beside
from faults.processes import Training, start_command, wait_until
from faults.sweeps import BASE

RAY = (sys.executable, "-c", "from ray.scripts.scripts import main; main()")
SMALL = ("--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats", "--block")
OTHER = "node-2"
"""What the second machine is called."""
BRIDGE = "pipeline.study.workers.ray_bridge"
SWEEP_PARTS = Path(__file__).parents[1] / "faults" / "own_code" / "sweep_parts.py"
DEFAULTS = (*beside(BASE, ["sweep.workers=null"]), "trust=[sweep_parts]")
Start = Callable[..., Training]


class Nodes:
    """The machines of a cluster.

    Args:
        folder: Takes what Ray writes; its path is short.
        prefix: Words before a command that let it run where the cluster is.
    """

    def __init__(self, folder: Path, prefix: Sequence[str]) -> None:
        self.prefix = tuple(prefix)
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._folder = folder
        self._started: list[psutil.Popen] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"

    def start_head(self) -> None:
        """Start the first node, of one CPU."""
        port = self.address.partition(":")[2]
        self._start("--head", f"--port={port}", "--include-dashboard=false")

    @contextmanager
    def other(self, *prefix: str) -> Iterator[psutil.Popen]:
        """Another node of one CPU: another machine by its name, where root may say so."""
        if os.geteuid() == 0:
            script = f'hostname {OTHER}; exec "$@"'
            prefix = ("unshare", "--uts", *prefix, "sh", "-c", script, "sh")
        node = self._start(f"--address={self.address}", prefix=prefix)
        try:
            yield node
        finally:
            self.kill(node)

    def kill(self, node: psutil.Popen) -> None:
        """End all processes of a node at once, as a machine without power would."""
        if node.poll() is None:
            for process in [*node.children(recursive=True), node]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        node.wait()

    def stop(self) -> None:
        """End all nodes."""
        for node in reversed(self._started):
            self.kill(node)

    def _start(self, *words: str, prefix: Sequence[str] = ()) -> psutil.Popen:
        folder = self._folder / str(len(self._started))
        log = folder.with_suffix(".log")
        with log.open("wb") as out:
            node = psutil.Popen(
                [
                    *(*self.prefix, *prefix, *RAY, "start", *words, *SMALL),
                    *(f"--temp-dir={folder}", "--node-ip-address=127.0.0.1"),
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
            )
        self._started.append(node)

        def is_up() -> bool:
            assert node.poll() is None, log.read_text(encoding="utf-8")
            return "Ray runtime started" in log.read_text(encoding="utf-8")

        wait_until(is_up, what=f"a node: {' '.join(words)}")
        return node


@contextmanager
def nodes() -> Iterator[Nodes]:
    """A cluster without nodes yet; all end with the body."""
    folder = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
    try:
        with _network() as prefix:
            cluster = Nodes(folder, prefix)
            try:
                yield cluster
            finally:
                cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _network() -> Iterator[Sequence[str]]:
    """Words that let a command run in a network of its own, of which only loopback is there."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--net", "true"], check=False).returncode:
        yield ()
        return
    keeper = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; exec sleep inf"])
    try:
        prefix = ("nsenter", f"--net=/proc/{keeper.pid}/ns/net", "--")
        up = [*prefix, "ip", "-brief", "address", "show", "up"]
        wait_until(lambda: b"127.0.0.1" in subprocess.check_output(up), what="a network")
        yield prefix
    finally:
        keeper.kill()
        keeper.wait()


@contextmanager
def sweeps(streams: Path) -> Iterator[Start]:
    """Starts sweeps in the current folder, for a cluster or by themselves; none outlives the body.

    Args:
        streams: Folder of those that take what they print.
    """
    (Path.cwd() / SWEEP_PARTS.name).write_bytes(SWEEP_PARTS.read_bytes())
    started: list[Training] = []

    def call(*words: str, cluster: Nodes | None = None, **environment: str) -> Training:
        there: Sequence[str] = ()
        if cluster is not None:
            there = ("sweep.launcher=ray", f"sweep.ray.address={cluster.address}")
        training = start_command(
            beside(beside(DEFAULTS, there), words),
            folder=Path.cwd(),
            streams=streams / f"sweep{len(started)}",
            prefix=() if cluster is None else cluster.prefix,
            environment={**({} if cluster is None else cluster.environment), **environment},
            command="sweep",
        )
        started.append(training)
        return training

    yield call
    for training in started:
        training.finish()


def await_waiting(running: Training, count: int) -> list[psutil.Process]:
    """Wait until so many trials wait; return the processes that train them."""
    found: list[Path] = []

    def enough() -> bool:
        found[:] = Path.cwd().glob("waiting-*")
        return len(found) >= count

    running.wait_until(enough, what=f"{count} trials that wait")
    return [psutil.Process(int(path.name.partition("-")[2])) for path in found]


def forget_waiting() -> None:
    """Let trials that waited be no sign of those that wait later."""
    for path in Path.cwd().glob("waiting-*"):
        path.unlink()


def bridge_of(running: Training) -> psutil.Process:
    """Return the process that speaks to Ray for a sweep."""
    (bridge,) = (child for child in running.children() if BRIDGE in child.cmdline())
    return bridge


def await_end(processes: Sequence[psutil.Process]) -> None:
    """Wait until none of them runs."""

    def ended() -> bool:
        return not any(is_running(process) for process in processes)

    wait_until(ended, what="the end of all that Ray has started")


def is_running(process: psutil.Process) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def await_family(running: Training) -> list[psutil.Process]:
    """Wait for a trial; return what speaks to Ray, and all that Ray has started for it."""
    await_waiting(running, 1)
    bridge = bridge_of(running)
    return [bridge, *bridge.children(recursive=True)]


def folder_of(family: Sequence[psutil.Process]) -> Path:
    """Return where a cluster of this machine writes."""
    (socket,) = (
        word.partition("=")[2]
        for process in family
        for word in process.cmdline()
        if word.startswith("--raylet_socket_name=")
    )
    return Path(socket).parents[2]


def actors_of(workers: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that have started workers."""
    return [actor for worker in workers if (actor := worker.parent()) is not None]
