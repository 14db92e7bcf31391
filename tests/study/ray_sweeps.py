"""Sweeps on Ray that a test starts and watches, with all that Ray has started for them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from faults.conftest import beside
from faults.processes import Training, start_command, wait_until
from faults.sweeps import BASE
from ray_nodes import Nodes

from pipeline.study.workers.ray import BRIDGE

SWEEP_PARTS = Path(__file__).parents[1] / "faults" / "own_code" / "sweep_parts.py"
DEFAULTS = (*beside(BASE, ["sweep.workers=null"]), "trust=[sweep_parts]")
Start = Callable[..., Training]


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
