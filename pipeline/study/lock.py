"""One process at a time takes, ends or gives up trials of a study."""

import hashlib
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import filelock

from pipeline.study.storage import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection

Lock = AbstractContextManager[object]


def study_lock(store: Store, study: str) -> Lock:
    """Return the lock of a study; the process that holds it may take it again.

    Beside a file, or in PostgreSQL, it holds for all processes that can reach the database;
    elsewhere for those of this machine.

    Args:
        store: Where the study is kept.
        study: Its name.
    """
    if store.path is not None:
        return filelock.FileLock(
            store.path.with_name(f".{store.path.name}.{study}.lock"), timeout=store.wait, mode=0o600
        )
    if store.engine.dialect.name == "postgresql":
        return AdvisoryLock(store, study)
    digest = hashlib.sha256(f"{store.url} {study}".encode()).hexdigest()
    folder = Path(tempfile.gettempdir())
    return filelock.FileLock(folder / f"pipeline-{digest[:32]}.lock", timeout=store.wait)


class AdvisoryLock:
    """PostgreSQL's own lock by number, on a connection of its own; it ends with its process.

    Args:
        store: Where the study is kept.
        study: Its name.
    """

    def __init__(self, store: Store, study: str) -> None:
        self._engine = store.engine
        self._wait_ms = round(store.wait * 1000)
        digest = hashlib.sha256(f"pipeline {study}".encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)
        self._connection: Connection | None = None
        self._depth = 0

    def __enter__(self) -> None:
        if self._depth == 0:
            connection = self._engine.connect()
            try:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {self._wait_ms}")
                # Held until the transaction ends, and so never longer than the connection.
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({self._key})")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        self._depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth == 0 and self._connection is not None:
            self._connection.close()
            self._connection = None
