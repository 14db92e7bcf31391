"""The database of studies, in a file or on a server: one transaction per call, and retried."""

import hashlib
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

import filelock

from pipeline.errors import ConfigError, did_you_mean
from pipeline.paths import cache_folder, create_folder
from pipeline.redaction import redact
from pipeline.signals import stop
from pipeline.study.ledger.storage_faults import (
    ServerGoneError,
    file_gone,
    file_replaced,
    named,
    no_database,
    server_gone,
    storage_faults,
)
from pipeline.tracking.database import create_file, lock_until_end
from pipeline.tracking.uri import sqlite_path, sqlite_uri, with_driver

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage
    from sqlalchemy import Connection, Engine, ExceptionContext

DATABASE = "optuna.db"
WAIT_SECONDS = 60.0
"""How long a call waits for a database that another process has locked."""
KINDS = ("sqlite", "postgresql", "mysql")
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
"""Well below `sweep.grace`, so that a driver that waits a little longer is not taken for dead."""
STOP_POLL_SECONDS = 0.2
LIBPQ = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}
"""So that a network that was cut in silence shows within half a minute, not within two hours."""
_SMALLEST_PAGE = 512
"""Bytes; the size of an SQLite file is a multiple of its page size, which is one of this."""
_reached: set[str] = set()
"""Servers that have answered this process: its next study waits for them from the beginning."""

Answer = TypeVar("Answer")
Lock = AbstractContextManager[object]


def storage_url(given: str | None, *, key: str = "sweep.storage") -> str:
    """Return the absolute address of the database: the one given, or `optuna.db` here.

    Args:
        given: The address; `None` = the default.
        key: What the command calls it.

    Raises:
        ConfigError: Optuna can't keep studies there, or the database's driver is missing.
    """
    if given is None:
        return sqlite_uri(Path.cwd() / DATABASE)
    kind = given.partition("://")[0].partition("+")[0]
    if "://" not in given or kind not in KINDS:
        raise ConfigError(
            f"{key}={redact(given)!r} is no address of a database; expected "
            "sqlite:///FILE, postgresql://HOST/NAME or mysql://HOST/NAME."
            f"{did_you_mean(kind, KINDS)}"
        )
    if kind != "sqlite":
        return with_driver(key, given)
    path = sqlite_path(given)
    if path is None or path.name in ("", ":memory:") or path.is_dir():
        raise ConfigError(f"{key}={given!r} names no file; expected sqlite:///FILE")
    return sqlite_uri(path)


def open_storage(
    url: str,
    *,
    wait: float = WAIT_SECONDS,
    patience: float = 0.0,
    from_start: bool = False,
) -> "StudyStorage":
    """Open a database for studies and create its tables, however many processes ask at once.

    Args:
        url: From `storage_url`.
        wait: Seconds that any call waits for a lock.
        patience: Seconds that any call waits for a server.
        from_start: Wait also for a server that has never answered this process; a wrong address
            else shows at once.

    Raises:
        ConfigError: The file is no database, or that of another program.
        EnvironmentFaultError: It is locked, can't be written, made by another Optuna, or down.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = sqlite_path(url)
    if path is not None:
        with storage_faults(url):
            return _open_file(url, path, wait)
    if url not in _reached and not from_start:
        Retry(0.0, named(url)).call(lambda: _reach(url))
    _reached.add(url)
    retry = Retry(patience, named(url))
    backend = retry.call(lambda: _with_tables(url, wait))
    return ServerStorage(backend, url, wait=wait, retry=retry)


class StudyStorage:
    """An open database of studies.

    Args:
        optuna: Optuna's storage in it, which remembers trials that have ended.
        engine: SQLAlchemy's engine behind it.
        url: Its address.
        wait: Seconds that a call waits for a lock.
    """

    def __init__(self, optuna: "BaseStorage", engine: "Engine", url: str, *, wait: float) -> None:
        self.optuna = optuna
        self.engine = engine
        self.url = url
        self.wait = wait

    def call(self, function: Callable[[], Answer]) -> Answer:
        """Return what a function that uses the storage returns; it fails with one line for people.

        On a server the call is one transaction, and is repeated where the server cut it short
        without telling whether it was written: so the function first looks whether it was.

        Raises:
            EnvironmentFaultError: The database is locked, gone, replaced, full or down.
            ConfigError: Its file is no database any more.
        """
        with storage_faults(self.url):
            return function()

    def lock(self, study: str) -> Lock:
        """Return the lock under which one process at a time takes or closes trials of a study.

        It is to be entered within `call`, where it may be entered again.
        """
        return _machine_lock(self.engine, f"study {study}", self.wait)

    def require_writable(self) -> None:
        """Wait for another process that writes, where Optuna would wait much longer."""

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        self.engine.dispose()


class FileStorage(StudyStorage):
    """Studies in an SQLite file, which is never taken for another one.

    Args:
        backend: Optuna's storage in it.
        url: Its address.
        path: The file.
        wait: Seconds that a call waits for a lock.
    """

    def __init__(self, backend: "RDBStorage", url: str, *, path: Path, wait: float) -> None:
        from optuna.storages import get_storage

        super().__init__(get_storage(backend), backend.engine, url, wait=wait)
        self._path = path
        found = path.stat()
        self._identity = (found.st_dev, found.st_ino)

    def call(self, function: Callable[[], Answer]) -> Answer:
        """Return what a function returns; it never works on a file other than the one opened."""
        # SQLite goes on in a file that was deleted, and would create one that is missing. The
        # open connections keep the number of the deleted file from being used again.
        try:
            found = self._path.stat()
        except OSError as error:
            raise file_gone(self._path) from error
        if (found.st_dev, found.st_ino) != self._identity:
            raise file_replaced(self._path)
        _require_pages(self._path, found.st_size)
        return super().call(function)

    def lock(self, study: str) -> Lock:
        """Return the lock of a study, which lies in a file beside the database."""
        path = self._path.with_name(f".{self._path.name}.{study}.lock")
        return filelock.FileLock(path, timeout=self.wait, mode=0o600)

    def require_writable(self) -> None:
        """Wait for another process that writes; Optuna would wait five times as long."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            connection.rollback()


class ServerStorage(StudyStorage):
    """Studies on a database server. One thread at a time may use it.

    Args:
        backend: Optuna's storage in it.
        url: Its address.
        wait: Seconds that a call waits for a lock.
        retry: Makes calls again while the server does not answer.
    """

    def __init__(self, backend: "RDBStorage", url: str, *, wait: float, retry: "Retry") -> None:
        self._cache = CachedTrials(backend)
        super().__init__(cast("BaseStorage", self._cache), backend.engine, url, wait=wait)
        self._sessions = backend.scoped_session
        self._retry = retry
        self.connection: Connection | None = None
        """That of the transaction of the current call."""

    def call(self, function: Callable[[], Answer]) -> Answer:
        """Return what a function returns, written whole or not at all, however often that takes."""

        def once() -> Answer:
            try:
                with (
                    storage_faults(self.url),
                    self.engine.connect() as connection,
                    connection.begin(),
                    self._sessions_within(connection),
                ):
                    return function()
            except BaseException:
                self._cache.clear()
                raise

        return self._retry.call(once)

    def lock(self, study: str) -> Lock:
        """Return the lock of a study, which ends with the transaction of the call.

        In PostgreSQL it holds for all that can reach the database, elsewhere for those of this
        machine.
        """
        is_postgresql = self.engine.dialect.name == "postgresql"
        return TransactionLock(self, f"study {study}") if is_postgresql else super().lock(study)

    @contextmanager
    def _sessions_within(self, connection: "Connection") -> Iterator[None]:
        """Make Optuna's own transactions parts of that of a connection."""
        self.connection = connection
        self._bind(connection, "create_savepoint")
        try:
            yield
        finally:
            self._bind(self.engine, "conditional_savepoint")
            self.connection = None

    def _bind(self, bind: "Connection | Engine", mode: str) -> None:
        self._sessions.remove()
        self._sessions.configure(bind=bind, join_transaction_mode=mode)


class CachedTrials:
    """Optuna's storage with its cache of trials, which can be cleared.

    The cache also holds what was written in a transaction that was rolled back.

    Args:
        backend: The storage itself, without a cache.
    """

    def __init__(self, backend: "RDBStorage") -> None:
        self._backend = backend
        self.clear()

    def clear(self) -> None:
        """Read everything again from now on."""
        from optuna.storages import get_storage

        self._storage = get_storage(self._backend)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


class TransactionLock:
    """PostgreSQL's own lock within the transaction of a call, which ends with that.

    Args:
        store: Has the transaction.
        name: What is locked.
    """

    def __init__(self, store: ServerStorage, name: str) -> None:
        self._store = store
        self._name = name

    def __enter__(self) -> None:
        assert self._store.connection is not None, "a lock is taken within `call`"
        lock_until_end(self._store.connection, self._name, wait=self._store.wait)

    def __exit__(self, *_: object) -> None:
        return


class Retry:
    """Makes calls to a server again while it does not answer.

    Args:
        seconds: How long it is waited for. What is left of that is shared by all calls until the
            server answers again, so that a command without hope ends.
        name: The database, as its user knows it.
    """

    def __init__(self, seconds: float, name: str) -> None:
        self._seconds = seconds
        self._name = name
        self._gone_at: float | None = None

    def call(self, function: Callable[[], Answer]) -> Answer:
        """Return what a function returns, once the server lets it end.

        Args:
            function: Can be repeated, also where it was done before and the answer was lost.

        Raises:
            ServerGoneError: The time is over, or a signal asked for a stop.
        """
        pause = 0.0  # a server that has restarted meanwhile answers at once
        while True:
            try:
                answer = function()
            except ServerGoneError as error:
                left = self._require_time(error)
                if pause == FIRST_PAUSE:
                    _warn(f"warning: {error}; waiting for it, {self._seconds:g} s at most")
                spread = random.uniform(0.5, 1.0)  # many drivers do not come back at once
                _sleep(min(left, pause * spread))
                pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * pause))
            else:
                if pause > FIRST_PAUSE:
                    _warn(f"note: {self._name} answers again; the study goes on")
                self._gone_at = None
                return answer

    def _require_time(self, error: ServerGoneError) -> float:
        """Return for how many seconds the server is still waited for.

        Raises:
            ServerGoneError: None are left.
        """
        now = time.monotonic()
        self._gone_at = now if self._gone_at is None else self._gone_at
        left = self._gone_at + self._seconds - now
        if left > 0 and stop.signal_number is None:
            return left
        over = f", and sweep.storage_patience={self._seconds:g} s are over" if self._seconds else ""
        raise ServerGoneError(
            f"{error}{over}; see that it runs, then go on with the same command"
        ) from error


def _warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _sleep(seconds: float) -> None:
    """Sleep, unless a signal asks for a stop that its handler only notes."""
    end = time.monotonic() + seconds
    while stop.signal_number is None and (left := end - time.monotonic()) > 0:
        time.sleep(min(STOP_POLL_SECONDS, left))


# ── a file ──────────────────────────────────────────────────────────────────────────────────


def _open_file(url: str, path: Path, wait: float) -> FileStorage:
    if not path.parent.is_dir():
        raise file_gone(path)

    def create(unfinished: Path) -> None:
        _file_storage(sqlite_uri(unfinished), unfinished, wait, is_new=True).close()

    create_file(path, create, is_void=lambda place: not _tables(place, wait), wait=wait)
    return _file_storage(url, path, wait, is_new="alembic_version" not in _tables(path, wait))


def _file_storage(url: str, path: Path, wait: float, *, is_new: bool) -> FileStorage:
    from optuna.storages import RDBStorage

    # Opened by its path, since what bends in an address (%, ?, {) does not in a path.
    options = {"creator": lambda: _connect(path, wait)}
    # A newer Optuna may have left out tables that the installed one would add to its database.
    backend = RDBStorage(_template(url), engine_kwargs=options, skip_table_creation=not is_new)
    return FileStorage(backend, url, path=path, wait=wait)


def _template(url: str) -> str:
    """Return an address as Optuna's storage takes it: a template, where braces are doubled."""
    return url.replace("{", "{{").replace("}", "}}")


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


# ── a server ────────────────────────────────────────────────────────────────────────────────


def _reach(url: str) -> None:
    with storage_faults(url), _engine(url).connect():
        return


def _engine(url: str) -> "Engine":
    """Return an engine whose connections are each opened for one purpose."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine(url, poolclass=NullPool, **_connection_options(url))


def _with_tables(url: str, wait: float) -> "RDBStorage":
    with storage_faults(url):
        engine = _engine(url)
        if engine.dialect.name != "postgresql":
            with _machine_lock(engine, "tables", wait):
                return _server_backend(url)
        with engine.begin() as connection:
            lock_until_end(connection, "tables", wait=wait)
            return _server_backend(url)


def _server_backend(url: str) -> "RDBStorage":
    from optuna.storages import RDBStorage
    from sqlalchemy import event

    options = {"pool_size": 1, "pool_pre_ping": True, **_connection_options(url)}
    backend = RDBStorage(_template(url), engine_kwargs=options)

    def raise_if_gone(context: "ExceptionContext") -> None:
        # Of what SQLAlchemy raises, Optuna repeats some by itself, outside of our transaction.
        if context.is_disconnect and not context.is_pre_ping:
            raise server_gone(url, context.original_exception) from context.original_exception

    event.listen(backend.engine, "handle_error", raise_if_gone)
    return backend


def _connection_options(url: str) -> dict[str, Any]:
    """Return how a server is connected to, apart from what its address says of that."""
    from sqlalchemy import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() != "postgresql":
        return {}
    chosen = {key: value for key, value in LIBPQ.items() if key not in parsed.query}
    # Each statement is to see what others wrote before it got the study's lock.
    return {"isolation_level": "READ COMMITTED", "connect_args": chosen}


def _machine_lock(engine: "Engine", name: str, wait: float) -> Lock:
    digest = hashlib.sha256(f"{engine.url} {name}".encode()).hexdigest()
    folder = cache_folder() / "locks"  # in the temporary folder anybody could be there first
    create_folder(folder)
    return filelock.FileLock(folder / f"study-{digest[:32]}", timeout=wait, mode=0o600)
