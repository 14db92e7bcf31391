"""The database of studies: made once, found again, and every fault told in one line."""

import resource
import shutil
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from importlib import metadata
from pathlib import Path
from types import ModuleType

import optuna
import pytest
from helpers.fixture_types import Patch
from helpers.server_processes import run_script
from optuna.study import StudyDirection
from sqlalchemy import create_engine
from study.ledgers import database, open_ledger

from pipeline.base.errors import ConfigError, EnvironmentFaultError, Interrupted, PipelineError
from pipeline.base.processes.lease import own_lease
from pipeline.study.ledger.storage import open_storage, storage_url
from pipeline.tracking.uri import sqlite_uri


def test_study_database_lies_in_the_current_folder(own_folder: Path, monkeypatch: Patch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", ModuleType("psycopg"))  # as if it were installed
    assert storage_url("postgresql://host/name") == "postgresql+psycopg://host/name"
    assert storage_url(None) == f"sqlite:///{own_folder}/optuna.db"
    assert storage_url("sqlite:///sub/my.db") == f"sqlite:///{own_folder}/sub/my.db"


@pytest.mark.parametrize("name", ["a b", "数据", "🙂", "a#b", "50%25", "why?", "{x}", "a=b,[c]"])
def test_database_file_may_have_any_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / f"{name}.db"
    path.parent.mkdir()
    open_storage(sqlite_uri(path)).close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert sqlite3.connect(path).execute("SELECT count(*) FROM studies").fetchone() == (0,)


def test_kill_while_creating_leaves_no_database_file(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    url = sqlite_uri(folder / "optuna.db")
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    script = f"""
from pipeline.study.ledger.storage import open_storage
from sqlalchemy import event
from sqlalchemy.engine import Engine
@event.listens_for(Engine, "after_cursor_execute")
def count(*statement):
    if "CREATE TABLE trial_values" in statement[2]: {kill}
open_storage({url!r})
"""
    killed = run_script(script, cwd=tmp_path)
    assert killed.wait() == -signal.SIGKILL
    assert not (folder / "optuna.db").exists()
    open_storage(url).close()
    assert [path.name for path in folder.iterdir()] == ["optuna.db"]
    optuna.create_study(storage=url, study_name="again")


def test_new_database_is_private_and_waits_for_locks(tmp_path: Path) -> None:
    """It uses SQLite's write-ahead log."""
    path = tmp_path / "optuna.db"
    store = open_storage(sqlite_uri(path))
    files = [path, *tmp_path.glob("optuna.db-*")]
    with store.engine.connect() as connection:
        names = ("journal_mode", "synchronous", "busy_timeout")
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]
    store.close()
    assert {stat.S_IMODE(file.stat().st_mode) for file in files if file.exists()} == {0o600}
    assert settings == ["wal", 1, 60_000]


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("optuna.db", "'optuna.db' is not a supported database URL; expected sqlite:///FILE"),
        ("redis://host", "'redis://host' is not a supported database URL"),
        ("postgres://host/name", "a supported database URL; .* Did you mean 'postgresql'?"),
        ("sqlite://", "'sqlite://' has no file name; expected sqlite:///FILE"),
        ("sqlite:///:memory:", "has no file name"),
        (
            "postgresql+nosuch://me:secret@host/name",
            r"postgresql\+nosuch://me:\*\*\*@host/name' can't be read: Can't load plugin",
        ),
        ("postgresql://host:port/name", "can't be read"),
        ("postgresql+psycopg2://host/name", "needs the package 'psycopg2', which is not installed"),
        ("mysql://host/name", "'mysql://host/name' is not a supported database URL"),
    ],
)
def test_unsupported_database_url_is_refused(url: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        storage_url(url)


def test_postgresql_without_its_driver_names_what_to_install(monkeypatch: Patch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as where it is not installed
    with pytest.raises(ConfigError, match=r"with: pip install 'psycopg\[binary\]>=3.2'"):
        storage_url("postgresql://host/name")


# ── files that can't be opened ──────────────────────────────────────────────────────────────


def change(path: Path, *statements: str) -> None:
    """Change a database, or make one."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def of_optuna(path: Path, revision: str, version: str) -> None:
    change(
        database(path.parent),
        f"UPDATE alembic_version SET version_num = '{revision}'",
        f"UPDATE version_info SET library_version = '{version}'",
    )


@pytest.mark.parametrize(
    ("make", "line"),
    [
        *(
            (
                lambda path, size=size: path.write_bytes(b"x" * size),
                "ConfigError: the study database '{}' is not a database; choose",
            )
            for size in (11, 4096)
        ),
        (
            lambda path: change(path, "CREATE TABLE experiments (name TEXT)"),
            "ConfigError: '{}' belongs to another program; expected",
        ),
        (
            lambda path: of_optuna(path, "v1.3.0.a", "1.3.0"),
            "EnvironmentFaultError: the study database '{0}' was created by another version "
            "of Optuna; back it up, then upgrade it with: optuna storage upgrade --storage "
            "'sqlite:///{0}'",
        ),
        (
            lambda path: of_optuna(path, "v9.0.0.a", "9.0.0"),
            "EnvironmentFaultError: the study database '{}' was created by Optuna 9.0.0, but "
            f"Optuna {metadata.version('optuna')} is too old for it; install that version: pip "
            "install optuna==9.0.0",
        ),
    ],
    ids=["short text", "text", "another program", "older Optuna", "newer Optuna"],
)
def test_file_without_studies_is_refused_and_unchanged(
    make: Callable[[Path], object], line: str, tmp_path: Path
) -> None:
    path = tmp_path / "optuna.db"
    make(path)
    before = path.read_bytes()
    with pytest.raises(PipelineError) as raised:
        open_storage(sqlite_uri(path))
    assert path.read_bytes() == before
    assert f"{type(raised.value).__name__}: {raised.value}".startswith(line.format(path))


def test_missing_database_folder_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "optuna.db"
    with pytest.raises(
        EnvironmentFaultError, match=f"the folder of .* '{path}' does not exist; cre"
    ):
        open_storage(sqlite_uri(path))
    assert not path.parent.exists()


# ── faults of an open one ───────────────────────────────────────────────────────────────────


def test_file_size_limit_of_database_is_named(path: Path) -> None:
    store = open_storage(sqlite_uri(path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(EnvironmentFaultError) as raised:
            store.call(
                lambda: store.optuna.create_new_study([StudyDirection.MAXIMIZE], study_name="lr")
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(raised.value) == (
        f"the study database '{path}' can't be written (a file may have 4096 bytes at most); raise "
        "that limit with ulimit -f"
    )


def test_locked_database_is_waited_for_then_named(path: Path) -> None:
    patient, hasty = open_ledger(path), open_ledger(path, wait=0.2)
    other = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    line = f"the study database '{path}' is still locked by another program"
    with pytest.raises(EnvironmentFaultError, match=line):
        hasty.take(own_lease())
    release = threading.Timer(0.7, lambda: other.execute("ROLLBACK"))
    release.start()
    assert patient.take(own_lease()) is not None
    release.join()
    assert hasty.take(own_lease()) is not None
    with (
        patient._store.lock(patient.name),  # that of a study names its database as well
        pytest.raises(EnvironmentFaultError, match=f"'{path}' is still locked by another program"),
    ):
        hasty.take(own_lease())


def write_over(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(content)


def replaced(path: Path) -> None:
    path.rename(path.with_name("moved.db"))
    database(path.parent)


@pytest.mark.parametrize(
    ("spoil", "kind", "line"),
    [
        (lambda path: write_over(path, b"only a text"), ConfigError, "is not a database"),
        (lambda path: write_over(path, b""), ConfigError, "is not a database"),
        (Path.unlink, EnvironmentFaultError, "was removed during the study"),
        (replaced, EnvironmentFaultError, "was replaced during"),
        (
            lambda path: shutil.rmtree(path.parent),
            EnvironmentFaultError,
            "does not exist; create it",
        ),
    ],
    ids=["text", "empty", "removed", "replaced", "folder removed"],
)
def test_removed_database_file_is_not_created_again(
    spoil: Callable[[Path], object], kind: type[PipelineError], line: str, tmp_path: Path
) -> None:
    """Neither is one that was replaced or overwritten."""
    (tmp_path / "studies").mkdir()
    path = database(tmp_path / "studies")
    ledger = open_ledger(path)
    spoil(path)
    content = path.read_bytes() if path.exists() else None
    with pytest.raises(kind, match=f"the study database '{path}' {line}"):
        ledger.take(own_lease())
    assert (path.read_bytes() if path.exists() else None) == content


def test_stop_while_closing_connection_prints_no_traceback(
    tmp_path: Path, monkeypatch: Patch, caplog: pytest.LogCaptureFixture
) -> None:
    open_ledger(database(tmp_path)).close()
    engine = create_engine("sqlite://")
    engine.connect().close()

    def stopped(_: object) -> None:
        raise Interrupted(signal.SIGHUP)

    monkeypatch.setattr(engine.dialect, "do_close", stopped)
    with suppress(Interrupted):
        engine.dispose()
    assert caplog.records == []
