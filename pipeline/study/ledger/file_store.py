"""Studies in an SQLite file, made whole once, and never taken for another."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import filelock

from pipeline.errors import ConfigError
from pipeline.study.ledger.storage_faults import (
    file_gone,
    file_replaced,
    no_database,
    storage_faults,
)
from pipeline.study.ledger.store import Lock, Result, Store, as_template
from pipeline.tracking.database import create_file
from pipeline.tracking.uri import sqlite_uri

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

_SMALLEST_PAGE = 512
"""Bytes; the size of an SQLite file is a multiple of its page size, which is one of this."""


class FileStore(Store):
    """An open file of studies.

    Args:
        backend: Optuna's storage in it.
        url: Its address.
        path: The file.
        wait: Seconds that a call waits for a lock.
    """

    def __init__(self, backend: "RDBStorage", *, url: str, path: Path, wait: float) -> None:
        from optuna.storages import get_storage

        super().__init__(get_storage(backend), url)
        self.engine = backend.engine
        self._path = path
        self._wait = wait
        found = path.stat()
        self._identity = (found.st_dev, found.st_ino)

    def work(self, call: Callable[[], Result]) -> Result:
        """Return what a call returns; it never works on a file other than the one opened."""
        self._require_same_file()
        with storage_faults(self.url):
            return call()

    def lock(self, study: str) -> Lock:
        """Return the lock of a study, which lies in a file beside the database."""
        path = self._path.with_name(f".{self._path.name}.{study}.lock")
        return filelock.FileLock(path, timeout=self._wait, mode=0o600)

    def require_writable(self) -> None:
        """Wait for whoever writes; Optuna would wait five times as long to create a trial."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            connection.rollback()

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        self.engine.dispose()

    def _require_same_file(self) -> None:
        # SQLite goes on in a file that was deleted, and would create one that is missing. The
        # open connections keep the number of the deleted file from being used again.
        try:
            found = self._path.stat()
        except OSError as error:
            raise file_gone(self._path) from error
        if (found.st_dev, found.st_ino) != self._identity:
            raise file_replaced(self._path)
        _require_pages(self._path, found.st_size)


def open_file(url: str, path: Path, *, wait: float) -> FileStore:
    """Open a file of studies and make it whole, once, however many processes ask at once.

    Args:
        url: Its address.
        path: The file.
        wait: Seconds that any call waits for a lock.
    """
    if not path.parent.is_dir():
        raise file_gone(path)
    create_file(
        path,
        lambda unfinished: _create_tables(unfinished, wait),
        is_void=lambda place: not _tables(place, wait),
        wait=wait,
    )
    is_new = "alembic_version" not in _tables(path, wait)
    return _opened(url, path, wait, is_new=is_new)


def _create_tables(path: Path, wait: float) -> None:
    _opened(sqlite_uri(path), path, wait, is_new=True).close()


def _opened(url: str, path: Path, wait: float, *, is_new: bool) -> FileStore:
    from optuna.storages import RDBStorage

    # Opened by its path, since what bends in an address (%, ?, {) does not in a path.
    options = {"creator": lambda: _connect(path, wait)}
    # A newer Optuna may have left out tables that the installed one would add to its database.
    template = as_template(url)
    backend = RDBStorage(template, engine_kwargs=options, skip_table_creation=not is_new)
    return FileStore(backend, url=url, path=path, wait=wait)


def _require_pages(path: Path, size: int) -> None:
    """Refuse a file that was written over; SQLite goes on from its log and does not see it."""
    if size < _SMALLEST_PAGE or size % _SMALLEST_PAGE:
        raise no_database(sqlite_uri(path))


def _tables(path: Path, wait: float) -> set[str]:
    """Return the names of a file's tables; one that is missing or empty has none."""
    if not path.exists() or path.stat().st_size == 0:
        return set()
    _require_pages(path, path.stat().st_size)
    with closing(_connect(path, wait)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = {name for (name,) in rows}
    if tables and not tables & {"studies", "version_info"}:
        raise ConfigError(
            f"{str(path)!r} is the database of another program; expected one for studies "
            "alone: sweep.storage=sqlite:///FILE"
        )
    return tables


def _connect(path: Path, wait: float) -> sqlite3.Connection:
    """Connect to a file that is there."""
    uri = f"file:{quote(str(path))}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=wait, check_same_thread=False)
    # Beside a write-ahead log this can't damage the file; a power cut may undo the last trial.
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection
