"""Fault F41: a process that is killed while it creates MLflow's database."""

import os
import resource
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from helpers.fixture_types import Patch
from mlflow.tracking import MlflowClient
from sqlalchemy import event
from sqlalchemy.engine import Engine

from pipeline.base.paths import read_cached, write_cached
from pipeline.tracking.mlflow_store import Store
from pipeline.tracking.uri import StoreError, quiet_mlflow, sqlite_uri


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet_mlflow()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: Patch) -> Path:
    """The folder of a cache that is empty, so that MLflow creates the tables itself."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pipeline"


def killed_at(beginning: str, work: Callable[[], object]) -> int:
    """Return the signal that ended a fork, which kills itself after a statement of a kind."""
    child = os.fork()
    if child == 0:

        @event.listens_for(Engine, "after_cursor_execute")
        def _kill(_: object, __: object, statement: str, *___: object) -> None:
            if statement.lstrip().startswith(beginning):
                os.kill(os.getpid(), signal.SIGKILL)

        work()
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("phase", "is_cached"),
    [
        ("INSERT", False),
        pytest.param("INSERT", True, marks=pytest.mark.slow),
        pytest.param("ALTER TABLE", False, marks=pytest.mark.slow),
    ],
    ids=["the last row", "the last row, cached", "a migration"],
)
def test_kill_while_creating_database_leaves_no_partial_file(
    phase: str, is_cached: bool, tmp_path: Path
) -> None:
    if is_cached:
        Store(sqlite_uri(tmp_path / "earlier" / "mlflow.db"))
    folder = tmp_path / "new"
    uri = sqlite_uri(folder / "mlflow.db")
    assert killed_at(phase, lambda: Store(uri)) == signal.SIGKILL
    assert not (folder / "mlflow.db").exists()
    assert Store(uri).experiment("pipeline") == "1"
    assert [path.name for path in folder.iterdir()] == ["mlflow.db"]
    assert MlflowClient(uri).get_experiment("0").name == "Default"


@pytest.mark.usefixtures("cache")
def test_file_size_limit_leaves_no_partial_database(tmp_path: Path) -> None:
    uri = sqlite_uri(tmp_path / "mlflow.db")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        limit = r"can't be written \(a file may have 500000 bytes at most\); raise that limit with"
        with pytest.raises(StoreError, match=limit):
            Store(uri)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [path for path in tmp_path.iterdir() if ".tmp" in path.name or path.suffix == ".db"]
    assert Store(uri).experiment("pipeline") == "1"


def test_half_created_database_is_created_again(tmp_path: Path) -> None:
    """Another program was killed while it created it."""
    uri = sqlite_uri(tmp_path / "mlflow.db")
    assert killed_at("ALTER TABLE", lambda: MlflowClient(uri)) == signal.SIGKILL
    assert (tmp_path / "mlflow.db").exists()
    assert Store(uri).experiment("pipeline") == "1"
    assert MlflowClient(uri).get_experiment("0").name == "Default"


def test_tables_of_another_program_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        connection.execute("CREATE TABLE cells (name TEXT)")
        connection.execute("INSERT INTO cells VALUES ('precious')")
    with pytest.raises(StoreError, match=f"the tracking database '{path}'"):
        Store(sqlite_uri(path))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM cells").fetchall() == [("precious",)]


def test_link_to_missing_database_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mlflow.db").symlink_to(tmp_path / "elsewhere" / "real.db")
    Store(sqlite_uri(tmp_path / "mlflow.db"))
    assert (tmp_path / "mlflow.db").is_symlink()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["real.db"]


@pytest.mark.slow
def test_tables_come_from_an_intact_cache(tmp_path: Path, cache: Path) -> None:
    first = described(tmp_path / "first" / "mlflow.db")
    (kept,) = cache.iterdir()
    content = read_cached(kept.name)
    assert content is not None
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content)
        connection.execute("CREATE TABLE more (one)")
        write_cached(kept.name, connection.serialize())
    second = described(tmp_path / "second" / "mlflow.db")
    assert second == sorted([*first, "CREATE TABLE more (one);"])
    kept.write_bytes(kept.read_bytes()[:-1])
    third = described(tmp_path / "third" / "mlflow.db")
    shutil.rmtree(cache.parent)
    cache.parent.write_bytes(b"a file, below which nothing can be written")
    fourth = described(tmp_path / "fourth" / "mlflow.db")
    # MLflow's migrations leave constraints in an order that differs from time to time.
    heads = [[line.partition("(")[0] for line in lines] for lines in (first, third, fourth)]
    assert heads[1:] == heads[:1] * 2


def described(path: Path) -> list[str]:
    """Create a database; return the statements that make it, without those of experiments."""
    assert Store(sqlite_uri(path)).experiment("pipeline") == "1"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        places = connection.execute(
            "SELECT artifact_location FROM experiments ORDER BY 1"
        ).fetchall()
        assert places[0] == (str(Path.cwd() / "mlruns" / "0"),)
        rows = 'INSERT INTO "experiments"'
        return sorted(line for line in connection.iterdump() if not line.startswith(rows))
