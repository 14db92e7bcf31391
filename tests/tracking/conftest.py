import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from mlflow_databases import make_database
from real_processes import stop_server, wait_for_health

from pipeline.tracking.client import Recorder
from pipeline.tracking.journal import Header, Journal
from pipeline.tracking.uri import sqlite_uri


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and nothing in them; making one takes seconds."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    make_database(path)
    return path


@pytest.fixture
def database(tmp_path: Path, empty_database: Path) -> str:
    """The address of a ready database, alone in its folder."""
    path = tmp_path / "mlflow.db"
    shutil.copy(empty_database, path)
    return sqlite_uri(path)


@pytest.fixture(scope="module")
def running() -> Iterator[Recorder]:
    """A recorder that many tests use, as many trials do: its imports take seconds."""
    with Recorder() as recorder:
        yield recorder


@pytest.fixture
def recorder(running: Recorder, database: str) -> Recorder:
    """A recorder on a database of its own."""
    running.connect(database, experiment="pipeline")
    return running


@pytest.fixture
def begun(tmp_path: Path) -> Callable[..., Journal]:
    """Makes a run folder whose journal has begun."""

    def make(
        uri: str,
        name: str = "20260101-000000-lstm-abcdef",
        params: Mapping[str, str | int | float | bool | None] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Journal:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(folder)
        header = Header(
            name="lstm",
            experiment="pipeline",
            uri=uri,
            params={"seed": 0} if params is None else params,
            tags=tags or {},
        )
        journal.begin(header)
        return journal

    return make


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def server(
    tmp_path: Path, empty_database: Path
) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Starts real tracking servers on loopback ports, all on one database."""
    path = tmp_path / "server" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(empty_database, path)
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--backend-store-uri", sqlite_uri(path)),
            ],
            cwd=path.parent,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        started.append(process)
        wait_for_health(port)
        return process

    yield start
    for process in started:
        stop_server(process)
