"""The driver's side of a Ray cluster: what it has room for, and workers that live on it."""

import json
import os
import platform
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, Self

import pipeline
from pipeline.errors import EnvironmentFaultError
from pipeline.paths import create_folder, python_path
from pipeline.study.workers.crew import Worker
from pipeline.study.workers.local_process import COMMAND
from pipeline.study.workers.ray_connection import Spec
from pipeline.study.workers.ray_process import RayProcess

OPEN_SECONDS = 60.0
START_SECONDS = 180.0
"""How long a connection to a cluster, or the start of one, may take."""
CLOSE_SECONDS = 20.0
CARRIED = ("XDG_CACHE_HOME", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG")
"""Variables that workers take from the driver and not from their node: where data lie, and what
may change numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A file that a node has to see.

    Args:
        path: The file, in the study's folder.
        secret: What it says.
    """

    path: Path
    secret: str


@contextmanager
def token_in(folder: Path) -> Iterator[Token]:
    """Leave a file in a folder while the body runs, by which nodes show that they see it."""
    create_folder(folder)
    secret = secrets.token_hex(16)
    path = folder.absolute() / f".{secret[:8]}.tmp"
    try:
        path.write_text(secret, encoding="ascii")
        yield Token(path=path, secret=secret)
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()  # a study that could not begin leaves nothing


class RayCluster:
    """A connection to Ray, which a process of its own keeps. A context manager.

    Args:
        spec: The cluster, and what each worker reserves there.
        environment: Variables of its workers beside those of their nodes.
        command: Words for Python on the nodes.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._spec = spec
        self._environment = dict(environment or {})
        self._command = list(command)
        self._numbers = count()
        self.free: list[dict[str, float]] = []

    def __enter__(self) -> Self:
        if self._spec.address is None:
            self._spec = replace(self._spec, folder=mkdtemp(prefix="ray-"))
        self._control, theirs = socket.socketpair()
        with theirs:
            self._bridge = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "pipeline.study.workers.ray_bridge"),
                    json.dumps(asdict(self._spec)),
                ],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": python_path()},
                start_new_session=True,
            )
        try:
            self.free = self._answer()
        except BaseException:  # a stop as well: Ray may take minutes to find that it can't
            self._end(0.0)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end(CLOSE_SECONDS)

    def _end(self, seconds: float) -> None:
        """Let the bridge end, and end it if that takes longer; nothing of a cluster here stays."""
        self._control.close()
        self._reap(seconds)
        rmtree(self._spec.folder, ignore_errors=True)

    def _reap(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            if self._bridge.wait(seconds) == 0:
                return
        with suppress(ProcessLookupError):  # parts of a cluster of its own would stay for a minute
            os.killpg(self._bridge.pid, signal.SIGKILL)
        self._bridge.wait()

    def worker(self, token: Token) -> Worker:
        """Make a worker, not started yet, on a node that sees the token."""
        process = {
            "command": self._command,
            "environment": {**_carried(), **self._environment},
            "folder": str(Path.cwd()),
            "token": str(token.path),
            "secret": token.secret,
            "pipeline": pipeline.__version__,
            "python": f"Python {platform.python_version()}",
        }
        return Worker(transport=RayProcess(self.tell, next(self._numbers), process))

    def tell(self, order: Mapping[str, Any], connection: socket.socket | None) -> None:
        """Give the bridge an order, and the end of a worker's socket with it.

        Raises:
            EnvironmentFaultError: The connection to Ray is lost.
        """
        line = json.dumps(order).encode() + b"\n"
        descriptors = [] if connection is None else [connection.fileno()]
        try:
            socket.send_fds(self._control, [line], descriptors)
        except ConnectionError as error:
            raise EnvironmentFaultError(
                f"the connection to {self._place} was lost; see whether it is up with "
                "'ray status', then give the same command, which goes on"
            ) from error

    def _answer(self) -> list[dict[str, float]]:
        """Wait for the bridge to reach the cluster.

        Raises:
            EnvironmentFaultError: It does not, or not in time.
        """
        seconds = START_SECONDS if self._spec.address is None else OPEN_SECONDS
        deadline, said = time.monotonic() + seconds, b""
        while not said.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._control], [], [], left)[0]:
                raise EnvironmentFaultError(f"{self._place} gave no answer within {seconds:.0f} s")
            content = self._control.recv(1 << 16)
            if not content:
                raise EnvironmentFaultError(f"{self._place} ended the process that speaks to it")
            said += content
        answer: dict[str, Any] = json.loads(said)
        if "problem" in answer:
            raise EnvironmentFaultError(answer["problem"])
        free: list[dict[str, float]] = answer["free"]
        return free

    @property
    def _place(self) -> str:
        address = self._spec.address
        return "Ray on this machine" if address is None else f"the Ray cluster at {address}"


def _carried() -> dict[str, str]:
    found = {name: os.environ[name] for name in CARRIED if name in os.environ}
    return {**found, "PYTHONPATH": python_path()}
