"""One process at a time takes, ends or gives up trials of a study."""

import hashlib
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import filelock

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from pipeline.study.ledger.storage import Store

Lock = AbstractContextManager[object]


def study_lock(store: "Store", study: str) -> Lock:
    """Return the lock of a study; the process that holds it may take it again.

    Args:
        store: Where the study is kept.
        study: Its name.
    """
    if store.path is None:
        return server_lock(store.engine, f"study {study}", wait=store.wait)
    path = store.path.with_name(f".{store.path.name}.{study}.lock")
    return filelock.FileLock(path, timeout=store.wait, mode=0o600)


def server_lock(engine: "Engine", name: str, *, wait: float) -> Lock:
    """Return a lock in a database on a server.

    In PostgreSQL it holds for all that can reach the database, elsewhere for those of this
    machine.

    Args:
        engine: SQLAlchemy's.
        name: What is locked.
        wait: Seconds that the lock is waited for.
    """
    if engine.dialect.name == "postgresql":
        return AdvisoryLock(engine, name, wait=wait)
    digest = hashlib.sha256(f"{engine.url} {name}".encode()).hexdigest()
    path = Path(tempfile.gettempdir()) / f"pipeline-{digest[:32]}.lock"
    return filelock.FileLock(path, timeout=wait)


class AdvisoryLock:
    """PostgreSQL's own lock by number, on a connection of its own; it ends with its process.

    Args:
        engine: SQLAlchemy's.
        name: What is locked.
        wait: Seconds that the lock is waited for.
    """

    def __init__(self, engine: "Engine", name: str, *, wait: float) -> None:
        self._engine = engine
        self._wait_ms = round(wait * 1000)
        digest = hashlib.sha256(f"pipeline {name}".encode()).digest()
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
