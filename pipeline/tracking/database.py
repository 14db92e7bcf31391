"""Preparation of databases for MLflow: one process at a time creates the tables, once."""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import filelock

from pipeline.base.paths import create_folder, read_cached, sync_file, write_cached
from pipeline.tracking.uri import (
    StoreError,
    fault,
    is_server,
    known_revisions,
    named,
    schema_fault,
    sqlite_path,
    sqlite_uri,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

LOCK_SECONDS = 60.0
#: MLflow's tables that have rows before it creates the experiment 0.
FILLED_BY_CREATION = {"alembic_version", "workspaces"}
#: Seconds of silence within a transaction after which the PostgreSQL server ends the connection.
DEAD_SECONDS = 300


@contextmanager
def prepare_database(uri: str) -> Iterator[None]:
    """Context in which MLflow can open a database; its tables are created under a lock.

    Raises StoreError if the database stays locked, is not a database, can't be read or written,
    does not answer, or was made by a newer MLflow.
    """
    path = sqlite_path(uri)
    # A pool would leave an SQLite file half closed; a server starts a process for each connection.
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "QueuePool" if path is None else "NullPool"
    if path is None:
        with nullcontext() if is_server(uri) else _locked_database_server(uri):
            yield
        return
    try:
        create_file(path, _create_tables, is_void=_is_void, wait=LOCK_SECONDS)
        # A database of a newer MLflow is refused before the installed one adds its tables.
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as connection:
            if {"experiments", "alembic_version"} <= _tables(connection):
                row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
                if row is not None and row[0] not in known_revisions():
                    raise schema_fault(uri, row[0])
        yield
        _remove_shadow(uri, path)
    except filelock.Timeout as error:
        raise StoreError("locked", f"{named(uri)} is being created by another process") from error
    except (sqlite3.Error, OSError) as error:
        text = str(error) if isinstance(error, sqlite3.Error) else "unable to open"
        raise fault(uri, text) from error


@contextmanager
def _locked_database_server(uri: str) -> Iterator[None]:
    """Connect to a database server and hold a lock in it; MLflow would retry for two minutes."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.pool import NullPool

    engine = create_engine(uri, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                lock_until_end(connection, "mlflow", wait=LOCK_SECONDS)
            yield
    except OperationalError as error:
        raise fault(uri, str(error)) from error


def lock_until_end(connection: "Connection", name: str, *, wait: float) -> None:
    """Wait for a named lock, which holds until the PostgreSQL connection's transaction ends.

    A process that has lost the lock can't write in that transaction any more. Waiting for the lock,
    or for locks of rows, fails after `wait` seconds.
    """
    digest = hashlib.sha256(f"pipeline {name}".encode()).digest()
    number = int.from_bytes(digest[:8], "big", signed=True)
    connection.exec_driver_sql(f"{_limits(wait, 'true')}, pg_advisory_xact_lock({number})")


def limit_waits(engine: "Engine", *, wait: float) -> None:
    """Let locks of rows be waited for and held as `lock_until_end` does, in every transaction."""
    from sqlalchemy import event

    def limit(connection: Any, _record: object) -> None:
        connection.cursor().execute(_limits(wait, "false"))
        connection.commit()

    event.listen(engine, "connect", limit)
    engine.dispose()  # what is connected has no limits yet


def _limits(wait: float, is_local: str) -> str:
    return (
        f"SELECT set_config('lock_timeout', '{round(wait * 1000)}', {is_local}), "
        f"set_config('idle_in_transaction_session_timeout', '{DEAD_SECONDS}s', {is_local})"
    )


def create_file(
    path: Path,
    create_tables: Callable[[Path], None],
    *,
    is_void: Callable[[Path], bool],
    wait: float,
) -> None:
    """Create an SQLite file that has all its tables from the moment it exists.

    One process at a time builds it with `create_tables` under a temporary name, if `is_void` says
    that the file is missing or can be replaced. Raises filelock.Timeout if another process holds
    the lock for `wait` seconds.
    """
    path = path.resolve()  # replaces the target of a link, not the link
    lock = path.with_name(f".{path.name}.lock")
    if is_void(path):
        create_folder(path.parent)
        with filelock.FileLock(lock, timeout=wait):
            _create_beside(path, create_tables, is_void)
    with suppress(OSError):
        lock.unlink(missing_ok=True)  # a process that locks it from now on finds the finished file


def _create_beside(
    path: Path, create_tables: Callable[[Path], None], is_void: Callable[[Path], bool]
) -> None:
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        _remove_file(unfinished)
        if not is_void(path):  # the process that held the lock has created it
            return
        # Only the owner may read it, since runs contain command lines and paths.
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT, 0o600))
        _set(unfinished, "journal_mode=WAL")  # persists: readers and a writer do not wait
        create_tables(unfinished)
        _set(unfinished, "wal_checkpoint=TRUNCATE")  # a log would keep the temporary name
        if is_void(path):  # else a program without the lock has created it meanwhile
            _remove_file(path)
            unfinished.replace(path)
            sync_file(path)
    finally:
        _remove_file(unfinished)


def _create_tables(path: Path) -> None:
    """Create MLflow's tables and its experiment 0.

    The tables are copied from a database in the user's cache if possible, since MLflow's migrations
    take a second.
    """
    from mlflow import __version__
    from mlflow.tracking import MlflowClient

    revisions = hashlib.sha256(" ".join(sorted(known_revisions())).encode()).hexdigest()[:8]
    name = f"mlflow-{__version__}-{revisions}.db"
    cached = read_cached(name)
    with closing(sqlite3.connect(":memory:")) as memory, closing(sqlite3.connect(path)) as file:
        if cached is not None:
            memory.deserialize(cached)
            memory.backup(file)
        MlflowClient(sqlite_uri(path))
        _remove_shadow(sqlite_uri(path), path)
        if cached is None:
            insertion = 'INSERT INTO "experiments"'  # experiment 0 contains the path of its folder
            lines = [line for line in file.iterdump() if not line.startswith(insertion)]
            memory.executescript("\n".join(lines))
            write_cached(name, memory.serialize())


def _is_void(path: Path) -> bool:
    """Tell whether a file is missing, is empty, or has only empty tables of MLflow.

    MLflow creates experiment 0 last, so a database without it was left by a killed process. Waits
    for a locked file, on which MLflow would give up after five seconds.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return True
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as connection:
        tables = _tables(connection)
        if "experiments" not in tables:
            return not tables
        for table in tables - FILLED_BY_CREATION:
            name = table.replace('"', '""')
            if connection.execute(f'SELECT 1 FROM "{name}"').fetchone():
                return False
        return True


def _tables(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {str(name) for (name,) in rows}


def _set(path: Path, pragma: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA {pragma}").fetchone()


def _remove_file(path: Path) -> None:
    """Remove an SQLite file and its logs, which would be applied to the next file of that name."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _remove_shadow(uri: str, path: Path) -> None:
    """Remove the empty folder that MLflow creates under the escaped spelling of a path."""
    escaped = Path(uri.removeprefix("sqlite:///")).parent
    if str(escaped) != unquote(str(escaped)) and escaped != path.parent:
        with suppress(OSError):
            os.removedirs(escaped)
