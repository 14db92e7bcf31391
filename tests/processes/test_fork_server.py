"""A fork server: its forks are processes of their own, and nothing outlives its starter."""

import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from faults.processes import await_end, is_running, wait_until
from helpers.fixture_types import Patch

from pipeline.base.processes.child import Child, ChildGoneError, python_module
from pipeline.base.processes.fork_server import ForkServer, can_fork
from pipeline.study.workers.worker import WORKER, worker_server

ROOT = Path(__file__).parents[2]
# What a fork runs: it tells what it is, then ends in the way that it is told.
FORKED = """
import os, subprocess, sys
from pipeline.base.processes.parent import Parent

def main():
    parent = Parent.claim()
    print("what a library prints")
    umask = os.umask(0)
    parent.say({"session": os.getsid(0), "folder": os.getcwd(), "umask": umask,
                "variables": dict(os.environ), "below": subprocess.Popen(["sleep", "20"]).pid})
    os._exit(parent.first_message()["code"])
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ForkServer]:
    """A loaded server of forks that tell what they are."""
    (tmp_path / "forked.py").write_text(FORKED)
    with loaded("forked", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}") as server:
        yield server


@contextmanager
def loaded(*modules: str, **environment: str) -> Iterator[ForkServer]:
    with ForkServer(*modules, environment=environment) as server:
        await_loaded(server)
        yield server


def await_true(server: ForkServer, condition: Callable[[], bool]) -> None:
    """Listen to a server until something holds of it."""

    def holds() -> bool:
        server.listen()
        return condition()

    wait_until(holds, what="the fork server")


def await_loaded(server: ForkServer) -> None:
    await_true(server, lambda: server.is_loaded)


def start_fork(server: ForkServer, **environment: str | None) -> tuple[Child, dict[str, Any]]:
    """A fork and what it says first."""
    child = Child(python_module("forked"), environment=environment, launch=server.launch)
    child.start()
    select.select([child], [], [], 20)
    (facts,) = child.messages()
    return child, facts


def test_fork_is_a_separate_process_with_known_end(server: ForkServer, monkeypatch: Patch) -> None:
    monkeypatch.setenv("SINCE", "is not the server's")
    os.umask(umask := os.umask(0))
    forks = [start_fork(server, MINE=value, HOME=None) for value in ("1", "2")]
    for value, (child, facts) in zip("12", forks, strict=True):
        assert facts["session"] == child.pid == child.lease.pid
        assert facts["folder"] == str(Path.cwd())
        assert facts["umask"] == umask
        assert facts["variables"]["MINE"] == value
        assert not {"HOME", "SINCE"} & {*facts["variables"]}
    (first, _), (second, facts) = forks
    assert first.wait(0.0) is None
    first.send({"code": 7})
    assert first.see_end() == "ended with exit code 7"
    below = psutil.Process(facts["below"])
    second.kill()
    assert second.see_end() == "ended by SIGKILL"
    await_end(below)


def test_forks_die_with_their_server(server: ForkServer) -> None:
    """The server can be started again."""
    child, _ = start_fork(server)
    process = psutil.Process(child.pid)
    psutil.Process(process.ppid()).kill()
    assert child.see_end() == "ended by SIGKILL"
    assert server.has_ended
    with pytest.raises(ChildGoneError, match="the fork server has ended"):
        start_fork(server)
    await_end(process)
    server.start()
    await_loaded(server)
    child, _ = start_fork(server)
    child.send({"code": 0})
    assert child.see_end() == "ended with exit code 0"


def test_server_that_cannot_fork_keeps_its_forks(server: ForkServer) -> None:
    """It says why it cannot."""
    child, _ = start_fork(server)
    pid = psutil.Process(child.pid).ppid()
    opened = {int(one.name) for one in Path(f"/proc/{pid}/fd").iterdir()}
    room = next(number for number in range(1024) if number not in opened) + 1
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (room, before[1]))
    with pytest.raises(ChildGoneError, match="Too many open files"):
        start_fork(server)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    for one in (child, start_fork(server)[0]):
        one.send({"code": 0})
        assert one.see_end() == "ended with exit code 0"


def test_can_fork_requires_process_descriptors() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert can_fork()
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        works = can_fork()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not works


def test_fork_of_stopped_server_can_be_killed(server: ForkServer) -> None:
    child, _ = start_fork(server)
    process = psutil.Process(child.pid)
    os.kill(process.ppid(), signal.SIGSTOP)
    child.close()
    assert not is_running(process)


STARTER = """
import os, sys, time, psutil
sys.path.append({tests!r})
from test_fork_server import loaded, start_fork
with loaded("forked", PYTHONPATH={path!r}) as server:
    child, _ = start_fork(server)  # which ends as soon as nothing holds it
    print(*[one.pid for one in psutil.Process().children(recursive=True)], flush=True)
    time.sleep(600)
"""


def test_server_and_forks_end_with_killed_starter(tmp_path: Path) -> None:
    (tmp_path / "forked.py").write_text(FORKED)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    script = STARTER.format(tests=str(Path(__file__).parent), path=path)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    starter = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment
    )
    assert starter.stdout is not None
    server, fork, _ = (psutil.Process(int(pid)) for pid in starter.stdout.readline().split())
    starter.send_signal(signal.SIGKILL)
    starter.communicate()
    await_end(server, fork)


FORKS_ITSELF = """
import os, signal, socket, sys
sys.path.append({tests!r})
from test_fork_server import await_loaded, await_true, is_running, psutil, start_fork
from pipeline.base.processes.fork_server import ForkServer, fork_here
ours, theirs = socket.socketpair()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with ForkServer("forked", environment={{"SET": "1"}}, launch=fork_here) as server:
    theirs.close()
    assert ours.recv(1) == b""  # the server does not hold it
    child, facts = start_fork(server)
    parent = psutil.Process(psutil.Process(child.pid).ppid())
    assert parent.cmdline() == psutil.Process().cmdline()
    assert facts["variables"]["SET"] == "1"
    os.kill(child.pid, signal.SIGTERM)
    assert child.see_end() == "ended by SIGTERM"
    parent.kill()
    await_true(server, lambda: server.has_ended)
    assert server.see_end() == "ended by SIGKILL"
    server.start()
    await_loaded(server)
    child, _ = start_fork(server)
    assert psutil.Process(psutil.Process(child.pid).ppid()).cmdline() != psutil.Process().cmdline()
"""


def test_server_forked_from_starter_shares_nothing(tmp_path: Path) -> None:
    (tmp_path / "forked.py").write_text(FORKED)
    path = os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "tests")))
    script = FORKS_ITSELF.format(tests=str(Path(__file__).parent))
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


def test_missing_module_is_reported_in_one_line() -> None:
    with ForkServer("pipeline.nowhere", environment={}) as server:
        await_true(server, lambda: server.has_ended)
        assert server.see_end() == "ModuleNotFoundError: No module named 'pipeline.nowhere'"


@pytest.mark.slow
def test_no_thread_lives_when_workers_are_forked(monkeypatch: Patch) -> None:
    # BLAS's own threads end before a fork; of any other, one more task would be seen.
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with worker_server() as server:
        await_loaded(server)
        child = Child(python_module(WORKER), launch=server.launch)
        child.start()
        tasks = Path(f"/proc/{psutil.Process(child.pid).ppid()}/task")
        assert len(list(tasks.iterdir())) == 1
        child.close(0.0)
