import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from faults.stores import free_port

from pipeline.tracking.client import Recorder
from pipeline.tracking.journal import Header, Journal
from pipeline.tracking.uri import sqlite_uri


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


@pytest.fixture(name="free_port")
def _free_port() -> int:
    return free_port()
