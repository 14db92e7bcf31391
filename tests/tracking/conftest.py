import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from faults.stores import TrackingServer

from pipeline.tracking.client import RecorderClient
from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import Header
from pipeline.tracking.ownership import adopt
from pipeline.tracking.uri import sqlite_uri


@pytest.fixture
def database(tmp_path: Path, empty_database: Path) -> str:
    """The address of a ready database, alone in its folder."""
    path = tmp_path / "mlflow.db"
    shutil.copy(empty_database, path)
    return sqlite_uri(path)


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> Iterator[TrackingServer]:
    """A tracking server that answers, and that takes addresses of files which newer ones refuse."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder / "mlflow.db")
    server = TrackingServer(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES",
            "ftp,http,https,mlflow-artifacts,sftp,s3,gs,hdfs",
        )
        server.start()
        yield server
        server.kill()


@pytest.fixture(scope="module")
def running() -> Iterator[RecorderClient]:
    """A recorder that many tests use, as many trials do: its imports take seconds."""
    with RecorderClient() as recorder:
        yield recorder


@pytest.fixture
def recorder(running: RecorderClient, database: str) -> RecorderClient:
    """A recorder on a database of its own."""
    running.connect(database, experiment="pipeline")
    return running


@pytest.fixture
def begun(tmp_path: Path) -> Callable[..., Journal]:
    """Makes a run folder whose journal has begun, of a header that may be given in part."""

    def make(
        uri: str,
        name: str = "20260101-000000-lstm-abcdef",
        *,
        at: int | None = None,
        params: Mapping[str, Any] | None = None,
        **header: Any,
    ) -> Journal:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(adopt(folder))
        given = {"name": "lstm", "experiment": "pipeline", "uri": uri, **header}
        journal.begin(Header(params={"seed": 0} if params is None else params, **given), at=at)
        return journal

    return make
