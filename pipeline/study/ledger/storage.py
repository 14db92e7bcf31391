"""Where studies are kept: Optuna's database, made whole once, and never taken for another."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import filelock

from pipeline.config.values import nearest
from pipeline.errors import ConfigError
from pipeline.redaction import redact
from pipeline.study.ledger.lock import server_lock
from pipeline.study.ledger.storage_faults import (
    file_gone,
    file_replaced,
    no_database,
    storage_faults,
)
from pipeline.tracking.uri import sqlite_path, sqlite_uri

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy import Engine

DATABASE = "optuna.db"
WAIT_SECONDS = 60.0
"""How long a call waits for a database that somebody else has locked."""
KINDS = ("sqlite", "postgresql", "mysql")
REMEDIES = {"psycopg": "'psycopg[binary]'", "MySQLdb": "mysqlclient"}
"""What to install for a package that talks to a database, where that is not its own name."""
_SMALLEST_PAGE = 512
"""Bytes; the size of an SQLite file is a multiple of its page size, which is one of this."""


def storage_url(given: str | None) -> str:
    """Return the absolute address of the database: `sweep.storage`, or `optuna.db` here.

    Raises:
        ConfigError: Optuna can't keep studies there, or the database's driver is missing.
    """
    if given is None:
        return sqlite_uri(Path.cwd() / DATABASE)
    kind = given.partition("://")[0].partition("+")[0]
    if "://" not in given or kind not in KINDS:
        raise ConfigError(
            f"sweep.storage={redact(given)!r} is no address of a database; expected "
            f"sqlite:///FILE, postgresql://HOST/NAME or mysql://HOST/NAME.{nearest(kind, KINDS)}"
        )
    if kind != "sqlite":
        _require_driver(given)
        return given
    path = sqlite_path(given)
    if path is None or path.name in ("", ":memory:") or path.is_dir():
        raise ConfigError(f"sweep.storage={given!r} names no file; expected sqlite:///FILE")
    return sqlite_uri(path)


def _require_driver(url: str) -> None:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(url).get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        package = str(error.name)
        raise ConfigError(
            f"sweep.storage={redact(url)!r} needs the package {package!r}, which is not "
            f"installed; install it with: pip install {REMEDIES.get(package, package)}"
        ) from error
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        text = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"sweep.storage={redact(url)!r} can't be read: {redact(text)}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """An open database of studies.

    Args:
        storage: Optuna's door to it, which remembers trials that have ended.
        engine: SQLAlchemy's.
        url: Its address.
        path: Its file, where it is one.
        identity: Device and number of this file when it was opened.
        wait: Seconds that a call waits for a lock.
    """

    storage: "BaseStorage"
    engine: "Engine"
    url: str
    path: Path | None
    identity: tuple[int, int] | None
    wait: float

    @contextmanager
    def work(self) -> Iterator[None]:
        """Let calls fail with one line for people, and never on a file other than the one opened.

        Raises:
            EnvironmentFaultError: The database is locked, gone, replaced, full or down.
            ConfigError: The file is no database any more.
        """
        self._require_same_file()
        with storage_faults(self.url):
            yield

    def require_writable(self) -> None:
        """Wait for whoever writes; Optuna would wait five times as long to create a trial."""
        if self.path is not None:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                connection.rollback()

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        self.engine.dispose()

    def _require_same_file(self) -> None:
        # SQLite goes on in a file that was deleted, and would create one that is missing. The
        # open connections keep the number of the deleted file from being used again.
        if self.path is None:
            return
        try:
            found = self.path.stat()
        except OSError as error:
            raise file_gone(self.path) from error
        if (found.st_dev, found.st_ino) != self.identity:
            raise file_replaced(self.path)
        _require_pages(self.path, found.st_size)


def open_storage(url: str, *, wait: float = WAIT_SECONDS) -> Store:
    """Open a database for studies and make it whole, once, however many processes ask at once.

    Args:
        url: From `storage_url`.
        wait: Seconds that any call waits for a lock.

    Raises:
        ConfigError: The file is no database, or that of another program.
        EnvironmentFaultError: It is locked, can't be written, or made by another Optuna.
    """
    path = sqlite_path(url)
    with storage_faults(url):
        if path is None:
            return _open_server(url, wait)
        if not path.parent.is_dir():
            raise file_gone(path)
        if _is_whole(path, wait):
            return _open_file(url, path, wait)
        lock = path.with_name(f".{path.name}.lock")
        with filelock.FileLock(lock, timeout=wait):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            _write_ahead(path, wait)
            store = _open_file(url, path, wait)
            lock.unlink(missing_ok=True)  # whoever locks it from now on finds all done
        return store


def _open_server(url: str, wait: float) -> Store:
    from sqlalchemy import create_engine

    engine = create_engine(url)
    with server_lock(engine, "tables", wait=wait):
        store = _store(url, None, wait, pool_pre_ping=True)
    engine.dispose()
    return store


def _require_pages(path: Path, size: int) -> None:
    """Refuse a file that was written over; SQLite goes on from its log and does not see it."""
    if size < _SMALLEST_PAGE or size % _SMALLEST_PAGE:
        raise no_database(sqlite_uri(path))


def _is_whole(path: Path, wait: float) -> bool:
    """Tell whether Optuna has done the last step of creating its tables, noting their version."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    _require_pages(path, path.stat().st_size)
    with closing(_connect(path, wait)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = {name for (name,) in rows}
        if tables and not tables & {"studies", "version_info"}:
            raise ConfigError(
                f"{str(path)!r} is the database of another program; expected one for studies "
                "alone: sweep.storage=sqlite:///FILE"
            )
        if "alembic_version" not in tables:
            return False
        return connection.execute("SELECT 1 FROM alembic_version").fetchone() is not None


def _connect(path: Path, wait: float) -> sqlite3.Connection:
    """Connect to a file that is there."""
    uri = f"file:{quote(str(path))}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=wait, check_same_thread=False)
    # Beside a write-ahead log this can't damage the file; a power cut may undo the last trial.
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def _write_ahead(path: Path, wait: float) -> None:
    """Turn on the write-ahead log, which stays on: readers and a writer don't wait then."""
    with closing(_connect(path, wait)) as connection:
        connection.execute("PRAGMA journal_mode=WAL").fetchone()


def _open_file(url: str, path: Path, wait: float) -> Store:
    # Opened by its path, since what bends in an address (%, ?, {) does not in a path.
    return _store(url, path, wait, creator=lambda: _connect(path, wait))


def _store(url: str, path: Path | None, wait: float, **engine: Any) -> Store:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Optuna fills in a template: braces stand for themselves when doubled.
    doubled = url.replace("{", "{{").replace("}", "}}")
    storage = optuna.storages.RDBStorage(doubled, engine_kwargs=engine)
    identity = None
    if path is not None:
        found = path.stat()
        identity = (found.st_dev, found.st_ino)
    return Store(
        storage=optuna.storages.get_storage(storage),
        engine=storage.engine,
        url=url,
        path=path,
        identity=identity,
        wait=wait,
    )
