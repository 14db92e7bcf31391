"""Real servers and processes for tests."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
from faults.processes import wait_until

ROOT = Path(__file__).parents[2]


def start_mlflow(*words: str, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start `mlflow WORDS` on a port of loopback, and wait until it answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words, "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    try:
        await_answer(port, what=f"mlflow {words[0]}")
    except AssertionError:
        stop_server(process)
        raise
    return process


def await_answer(port: int, *, what: str = "mlflow server") -> None:
    """Wait until an MLflow server on loopback answers a new connection."""

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return True
        except OSError:
            return False

    wait_until(answers, what=what)


def stop_server(process: subprocess.Popen[bytes]) -> None:
    """Kill a server with its workers, which share its process group."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
        process.wait()


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
