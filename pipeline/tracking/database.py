"""Makes a database ready for MLflow, once, however many processes ask at the same moment."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

import filelock

from pipeline.paths import create_folder
from pipeline.tracking.advisory import lock_until_end
from pipeline.tracking.faults import StoreError, fault, is_known, named, schema_fault
from pipeline.tracking.uri import is_server, sqlite_path

LOCK_SECONDS = 60.0
POOLING = "MLFLOW_SQLALCHEMYSTORE_POOLCLASS"
"""MLflow's variable for what becomes of connections between its calls."""


@contextmanager
def prepare_database(uri: str) -> Iterator[None]:
    """Hold a lock under which MLflow may create its tables where that is still to be done.

    Raises:
        StoreError: The database is locked for a minute, is none, can't be written, or is down.
    """
    path = sqlite_path(uri)
    # An open file would stay half closed; of a server, each new connection is a process there.
    os.environ[POOLING] = "QueuePool" if path is None else "NullPool"
    if path is not None:
        with _file(uri, path):
            yield
    elif is_server(uri):
        yield
    else:
        with _database_server(uri):
            yield


@contextmanager
def _database_server(uri: str) -> Iterator[None]:
    """Reach a database server, which MLflow would try for two minutes, and hold a lock in it."""
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


@contextmanager
def _file(uri: str, path: Path) -> Iterator[None]:
    """Hold a lock beside a readable, writable file."""
    try:
        if _complete(path):
            _require_known(uri, path)
            yield
            _remove_shadow(uri, path)
            return
        create_folder(path.parent)
        lock = path.with_name(f".{path.name}.lock")
        with filelock.FileLock(lock, timeout=LOCK_SECONDS):
            _create_private(path)
            _check(path)
            yield
            _remove_shadow(uri, path)
            lock.unlink(missing_ok=True)  # whoever locks it from now on finds all done
    except filelock.Timeout as error:
        raise StoreError("locked", f"{named(uri)} is being created by another process") from error
    except (sqlite3.Error, OSError) as error:
        text = str(error) if isinstance(error, sqlite3.Error) else "unable to open"
        raise fault(uri, text) from error


def _complete(path: Path) -> bool:
    """Tell whether MLflow has done the last step of creating its tables, the experiment 0."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as connection:
        known = "SELECT 1 FROM sqlite_master WHERE name = 'experiments'"
        if connection.execute(known).fetchone() is None:
            return False
        first = "SELECT 1 FROM experiments WHERE experiment_id = 0"
        return connection.execute(first).fetchone() is not None


def _require_known(uri: str, path: Path) -> None:
    """Refuse a database of a newer MLflow, before the installed one creates the tables it misses.

    Raises:
        StoreError: It is one.
    """
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if not is_known(revision):
        raise schema_fault(uri, revision)


def _create_private(path: Path) -> None:
    """Create the file for its owner alone: runs hold command lines and paths."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _check(path: Path) -> None:
    """Read the file, waiting for a lock, and turn on the write-ahead log, which stays on.

    MLflow would try a file that is no database for hours, and a locked one for five seconds.
    """
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as connection:
        connection.execute("PRAGMA schema_version").fetchone()
        connection.execute("PRAGMA journal_mode=WAL").fetchone()


def _remove_shadow(uri: str, path: Path) -> None:
    """Remove the empty folder that MLflow creates under the escaped spelling of a path."""
    spelled = Path(uri.removeprefix("sqlite:///")).parent
    if str(spelled) != unquote(str(spelled)) and spelled != path.parent:
        with suppress(OSError):
            os.removedirs(spelled)
