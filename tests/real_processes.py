"""Real servers, sockets and training processes for tests."""

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
from faults.processes import crowding

ROOT = Path(__file__).parents[1]
SERVER_START_SECONDS = 90


def stop_server(process: subprocess.Popen[bytes]) -> None:
    """Kill a server with its workers, which share its process group."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
        process.wait()


def wait_for_health(port: int) -> None:
    deadline = time.monotonic() + SERVER_START_SECONDS * crowding()
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def run_script(
    script: str, *arguments: str, cwd: Path, stderr: int | None = None
) -> subprocess.Popen[str]:
    """Start a Python script as a process of its own that can import the package."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def youngest_child() -> int:
    """Return the pid of the process that this one started last."""
    children = psutil.Process().children()
    return int(max(children, key=lambda child: child.create_time()).pid)
