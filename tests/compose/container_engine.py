"""A container engine of the tests' own: started by hand, away from any other, and gone afterwards.

It makes no rule in a firewall and leaves routing as it is, so its containers reach each other and
loopback alone. What is built takes its packages through the host's own network.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.processes import patience
from steps_log import timed

BUILD_SECONDS = 3600
TIMES_AS_PATIENT = 10
"""Than with a process alone: a service starts several, and the others load the machine."""
LOOK_SECONDS = 0.25


def require_engine() -> None:
    """Skip where no engine can be started, but never in CI."""
    found = shutil.which("dockerd") is not None and os.geteuid() == 0
    if not found and not os.environ.get("CI"):
        pytest.skip("needs root and the program dockerd")
    assert found, "in CI the services must run: install docker.io, be root"


@contextmanager
def private_engine(folder: Path) -> Iterator["Engine"]:
    """Start an engine whose files all lie in a folder; stop it, and what it runs, at the end."""
    socket, pid_file = folder / "docker.sock", folder / "pid"
    words = ["dockerd", f"--data-root={folder / 'data'}", f"--exec-root={folder / 'exec'}"]
    words += [f"--pidfile={pid_file}", f"--host=unix://{socket}"]
    words += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    log = folder / "dockerd.log"
    engine = Engine(f"unix://{socket}")
    with log.open("wb") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=stream)
    try:
        with timed("start the engine"):
            await_service(lambda: process.poll() is not None or engine.answers(), what="dockerd")
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield engine
    finally:
        process.terminate()
        process.wait(patience())
        # An engine makes its data a mount of its own, and may leave that behind.
        subprocess.run(
            ["umount", "--lazy", folder / "data"], stderr=subprocess.DEVNULL, check=False
        )
        shutil.rmtree(folder, ignore_errors=True)


class Engine:
    """Calls the client of the engine at an address, which is what DOCKER_HOST says."""

    def __init__(self, address: str) -> None:
        self.address = address

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which every client finds this engine."""
        return {**os.environ, "DOCKER_HOST": self.address}

    def answers(self) -> bool:
        """Tell whether it has started."""
        ended = subprocess.run(
            ["docker", "info"], env=self.environment, capture_output=True, check=False
        )
        return ended.returncode == 0

    def docker(self, *words: str) -> str:
        """Return what a command of the client prints; fail with its errors if it fails."""
        return called(["docker", *words], environment=self.environment)


def called(
    words: list[str], *, environment: dict[str, str], folder: Path | None = None, code: int = 0
) -> str:
    """Return what a command prints on both streams; fail with that if it ends otherwise."""
    ended = subprocess.run(
        words,
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert ended.returncode == code, f"{words} ended with {ended.returncode}:\n{ended.stdout}"
    return ended.stdout


def await_service(happened: Callable[[], object], *, what: str) -> None:
    """Wait for something that services bring about; fail, naming it, once that takes too long."""
    deadline = time.monotonic() + TIMES_AS_PATIENT * patience()
    while not happened():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(LOOK_SECONDS)
