"""The database of studies, in a file or on a server; calls to a server are retried."""

import logging
import os
import random
import re
import sqlite3
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import filelock

from pipeline.base.errors import ConfigError, EnvironmentFaultError, did_you_mean
from pipeline.base.redaction import redact
from pipeline.base.signals import stop
from pipeline.study.ledger.storage_faults import (
    ServerGoneError,
    database_name,
    file_gone,
    no_database,
    server_gone,
    storage_faults,
)
from pipeline.tracking.database import create_file, limit_waits, lock_until_end
from pipeline.tracking.uri import sqlite_path, sqlite_uri, with_driver

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy import Connection, Engine, ExceptionContext

DATABASE = "optuna.db"
#: How long a call waits for a database that another process has locked.
WAIT_SECONDS = 60.0
#: The same on a server, where the call is repeated: in between, the user is told, and may stop it.
SERVER_WAIT_SECONDS = 10.0
KINDS = ("sqlite", "postgresql")
FIRST_PAUSE = 0.2
#: Well below `sweep.grace`, so that a driver that waits for a retry is not taken for dead.
LONGEST_PAUSE = 5.0
STOP_POLL_SECONDS = 0.2
#: Options that detect a silently cut network within half a minute instead of two hours.
LIBPQ = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}
#: Bytes; the size of an SQLite file is a multiple of its page size, which is a multiple of this.
_SMALLEST_PAGE = 512
#: Beginning of the statement that makes a table or an index, as SQLite stores it.
_TABLE = re.compile(r"CREATE (TABLE|INDEX|UNIQUE INDEX) ")
#: Servers that have answered this process; its next study waits for them from the start.
_reached: set[str] = set()

Answer = TypeVar("Answer")


def storage_url(storage: str | None, *, key: str = "sweep.storage") -> str:
    """Return the absolute address of a database; `None` = `optuna.db` in the working directory.

    `key` is the option that `storage` comes from. Raises ConfigError if Optuna can't keep studies
    at that address, or the database's driver is not installed.
    """
    if storage is None:
        return sqlite_uri(Path.cwd() / DATABASE)
    scheme, separator, _ = storage.partition("://")
    kind = scheme.partition("+")[0]
    if not separator or kind not in KINDS:
        raise ConfigError(
            f"{key}={redact(storage)!r} is not a supported database URL; expected "
            f"sqlite:///FILE or postgresql://HOST/NAME.{did_you_mean(kind, KINDS)}"
        )
    if kind != "sqlite":
        return with_driver(key, storage)
    path = sqlite_path(storage)
    if path is None or path.name in ("", ":memory:") or path.is_dir():
        raise ConfigError(f"{key}={storage!r} has no file name; expected sqlite:///FILE")
    return sqlite_uri(path)


def open_storage(
    url: str,
    *,
    wait: float = WAIT_SECONDS,
    patience: float | None = None,
    from_start: bool = False,
) -> "StudyStorage":
    """Open a database for studies and create its tables; processes may do so concurrently.

    Each call waits up to `wait` seconds for a lock, and is repeated for up to `patience` seconds
    (`None` = not at all) while a server does not answer, is full or locked.
    Unless `from_start` is true, a server that has never answered this process is not waited for,
    so that a wrong address fails at once.

    Raises:
        ConfigError: The file is not a database, or that of another program.
        EnvironmentFaultError: The database is locked, can't be written, is down, or was made by
            another version of Optuna.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # It prints the traceback of a stop that arrives while a connection is closed, which is reported
    # as a stop.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    path = sqlite_path(url)
    if path is not None:
        with storage_faults(url):
            return _open_file(path, wait)
    # It warns of each lost connection, which `Retry` says in the user's words.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    if url not in _reached and not from_start:
        Retry(0.0, database_name(url)).call(lambda: _reach(url))
    _reached.add(url)
    retry = Retry(patience or 0.0, database_name(url))
    wait = wait if patience is None else min(wait, SERVER_WAIT_SECONDS)
    backend = retry.call(lambda: _with_tables(url, wait))
    return StudyStorage(backend, url, wait=wait, retry=retry)


class StudyStorage:
    """An open database of studies, in a file or on a server; one thread at a time may use it.

    A call waits up to `wait` seconds for a lock. `retry` repeats it while a server does not
    answer, and is `None` for a file.
    """

    def __init__(
        self, backend: "RDBStorage", url: str, *, wait: float, retry: "Retry | None" = None
    ) -> None:
        from optuna.storages import get_storage

        self.optuna = get_storage(backend)
        """Optuna's storage, which caches trials that have ended."""
        self.engine = backend.engine
        weakref.finalize(self, self.engine.dispose)  # else SQLite's log stays beside the file
        self.wait = wait
        self.rollbacks = 0
        """Number of calls to a server that failed; what they read may have been rolled back."""
        self._backend = backend
        self._url = url
        self._retry = retry
        self._connection: Connection | None = None
        """Connection of the transaction of the current call to a server."""
        self._path = None if retry is not None else sqlite_path(url)
        self._opened = None if self._path is None else self._path.stat()

    def call(self, function: Callable[[], Answer], *, lock: str | None = None) -> Answer:
        """Return what `function` returns, called under the lock of the study `lock` if given.

        The call never uses another file than the one that was opened. On a server, the call is one
        transaction. It is repeated if the server has cut it short without telling whether it was
        written, so `function` has to check first whether it was.

        Raises:
            EnvironmentFaultError: The database is locked, gone, replaced, full or down.
            ConfigError: The file is no longer a database.
        """
        if self._retry is not None:
            return self._retry.call(lambda: self._in_transaction(function, lock))
        self._require_same_file()
        with storage_faults(self._url):
            return self._call_locked(function, lock)

    def _call_locked(self, function: Callable[[], Answer], lock: str | None) -> Answer:
        if lock is None:
            return function()
        with self.lock(lock):
            return function()

    def _require_same_file(self) -> None:
        """Require that the file is there, and is the one that was opened.

        SQLite continues in a deleted file, and would create a missing one. The open connections
        keep the inode of the deleted file from being used again.
        """
        assert self._path is not None
        assert self._opened is not None
        try:
            status = self._path.stat()
        except OSError as error:
            raise file_gone(self._path) from error
        if not os.path.samestat(status, self._opened):
            raise EnvironmentFaultError(
                f"the study database {str(self._path)!r} was replaced during the study; restore "
                "it and continue with the same command"
            )
        _require_pages(self._path, status.st_size)

    @contextmanager
    def lock(self, study: str) -> Iterator[None]:
        """Hold the lock under which one process at a time takes or gives up trials of a study.

        The context has to be entered within `call`. For a file, the lock is a file beside it; on a
        server, it is held until the call ends.
        """
        if self._path is not None:
            path = self._path.with_name(f".{self._path.name}.{study}.lock")
            with filelock.FileLock(path, timeout=self.wait, mode=0o600):
                yield
        else:
            assert self._connection is not None, "a lock is taken within `call`"
            lock_until_end(self._connection, f"study {study}", wait=self.wait)
            yield

    @contextmanager
    def transaction(self) -> "Iterator[Connection]":
        """Connection with a transaction: that of the current call, or for a file one of its own."""
        if self._connection is not None:
            yield self._connection
        else:
            with self.engine.begin() as connection:
                yield connection

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        self.engine.dispose()

    def _in_transaction(self, function: Callable[[], Answer], lock: str | None) -> Answer:
        """Return what `function` returns, with Optuna's transactions as parts of a single one."""
        try:
            with (
                storage_faults(self._url),
                self.engine.connect() as connection,
                connection.begin(),
                self._shared_transaction(connection),
            ):
                return self._call_locked(function, lock)
        except BaseException:
            self.rollbacks += 1
            self._forget_cache()
            raise

    @contextmanager
    def _shared_transaction(self, connection: "Connection") -> Iterator[None]:
        """Let Optuna's sessions join the transaction of a connection while the body runs."""
        self._connection = connection
        # Each commit of Optuna ends a savepoint, and not the transaction.
        self._configure_sessions(connection, "create_savepoint")
        try:
            yield
        finally:
            self._configure_sessions(self.engine, "conditional_savepoint")
            self._connection = None

    def _configure_sessions(self, bind: "Connection | Engine", mode: str) -> None:
        """Let Optuna's next session use a connection or engine, and end the current session."""
        self._backend.scoped_session.remove()
        self._backend.scoped_session.configure(bind=bind, join_transaction_mode=mode)

    def _forget_cache(self) -> None:
        """Let Optuna read everything again, since what it has cached may have been rolled back.

        The storage gets the state of a new one, and stays the same object for open studies.
        """
        from optuna.storages import get_storage

        new_storage = get_storage(self._backend)
        vars(self.optuna).update(vars(new_storage))


class Retry:
    """Repeats calls to the server `name` while it does not answer, for up to `seconds`.

    All calls share the remaining time until the server answers again, so that a command ends if
    the server stays down.
    """

    def __init__(self, seconds: float, name: str) -> None:
        self._seconds = seconds
        self._name = name
        self._gone_at: float | None = None

    def call(self, function: Callable[[], Answer]) -> Answer:
        """Return what `function` returns, repeating it while the server does not answer.

        Raises ServerGoneError if the time is over, or a signal asked for a stop.
        """
        pause = 0.0  # a server that has restarted meanwhile answers at once
        while True:
            try:
                answer = function()
            except ServerGoneError as error:
                left = self._require_time(error)
                if pause == FIRST_PAUSE:
                    line = f"warning: {error}; waiting up to {self._seconds:g} s"
                    print(line, file=sys.stderr)
                spread = random.uniform(0.5, 1.0)  # many drivers do not come back at once
                _sleep_until_stop(min(left, pause * spread))
                pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * pause))
            else:
                if pause > FIRST_PAUSE:
                    print(
                        f"note: {self._name} is available again; the study continues",
                        file=sys.stderr,
                    )
                self._gone_at = None
                return answer

    def _require_time(self, error: ServerGoneError) -> float:
        """Return the seconds left to wait for the server; raise ServerGoneError if none are."""
        now = time.monotonic()
        if self._gone_at is None:
            self._gone_at = now
        left = self._gone_at + self._seconds - now
        if left > 0 and stop.signal_number is None:
            return left
        patience = ""
        if self._seconds:
            patience = f", and sweep.storage_patience={self._seconds:g} s are over"
        raise ServerGoneError(
            f"{error}{patience}; {error.remedy}, then continue with the same command"
        ) from error


def _sleep_until_stop(seconds: float) -> None:
    """Sleep for some seconds, or until a signal asks for a stop."""
    deadline = time.monotonic() + seconds
    while stop.signal_number is None:
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(STOP_POLL_SECONDS, left))


# ── a file ──────────────────────────────────────────────────────────────────────────────────


def _open_file(path: Path, wait: float) -> StudyStorage:
    from optuna.storages import RDBStorage

    if not path.parent.is_dir():
        raise file_gone(path)

    def open_database(file: Path, *, is_new: bool) -> StudyStorage:
        url = sqlite_uri(file)
        # Opened by its path, since %, ? and { have a special meaning in an address.
        options = {"creator": lambda: _connect(file, wait)}
        # The installed Optuna would add tables that a newer one may have left out.
        backend = RDBStorage(_template(url), engine_kwargs=options, skip_table_creation=not is_new)
        return StudyStorage(backend, url, wait=wait)

    create_file(
        path,
        lambda unfinished: open_database(unfinished, is_new=True).close(),
        is_void=lambda file: not _tables(file, wait),
        wait=wait,
    )
    return open_database(path, is_new="alembic_version" not in _tables(path, wait))


def _template(url: str) -> str:
    """Return an address as a template, with doubled braces, which Optuna's storage expects."""
    return url.replace("{", "{{").replace("}", "}}")


def _require_pages(path: Path, size: int) -> None:
    """Raise ConfigError if a file was overwritten, which SQLite with its log does not notice."""
    if size < _SMALLEST_PAGE or size % _SMALLEST_PAGE:
        raise no_database(sqlite_uri(path))


def _tables(path: Path, wait: float) -> set[str]:
    """Return the names of a file's tables, none if it is missing or empty.

    Raises ConfigError if the file is not a database, that of another program, or has anything
    but tables and indexes.
    """
    if not path.exists() or path.stat().st_size == 0:
        return set()
    _require_pages(path, path.stat().st_size)
    with closing(_connect(path, wait)) as connection:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    # A view or a trigger runs statements of whoever has written the file, perhaps without an end.
    # An index that SQLite makes by itself has no statement.
    for _, name, statement in rows:
        if statement is not None and not _TABLE.match(str(statement)):
            raise ConfigError(
                f"{str(path)!r} has a view, a trigger or a virtual table, {str(name)!r}; expected "
                "only tables of a sweep: restore it from a backup, or choose another database with "
                "sqlite:///FILE"
            )
    tables = {str(name) for kind, name, _ in rows if kind == "table"}
    if tables and not tables & {"studies", "version_info"}:
        raise ConfigError(
            f"{str(path)!r} belongs to another program; expected a database for studies "
            "only: sweep.storage=sqlite:///FILE"
        )
    return tables


def _connect(path: Path, wait: float) -> sqlite3.Connection:
    """Connect to an existing file."""
    uri = f"file:{quote(str(path))}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=wait, check_same_thread=False)
    # With a write-ahead log this can't damage the file, but a power cut may undo the last trial.
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


# ── a server ────────────────────────────────────────────────────────────────────────────────


def _reach(url: str) -> None:
    with storage_faults(url), _engine(url).connect():
        return


def _engine(url: str) -> "Engine":
    """Return an engine that opens a new connection for each use."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine(url, poolclass=NullPool, **_connection_options(url))


def _with_tables(url: str, wait: float) -> "RDBStorage":
    from optuna.storages import RDBStorage
    from sqlalchemy import event

    def raise_if_gone(context: "ExceptionContext") -> None:
        # Optuna retries after some of SQLAlchemy's errors itself, outside of our transaction.
        if context.is_disconnect and not context.is_pre_ping:
            raise server_gone(url, context.original_exception) from context.original_exception

    options = {"pool_size": 1, "pool_pre_ping": True, **_connection_options(url)}
    with storage_faults(url), _engine(url).begin() as connection:
        lock_until_end(connection, "tables", wait=wait)
        backend = RDBStorage(_template(url), engine_kwargs=options)
        event.listen(backend.engine, "handle_error", raise_if_gone)
        limit_waits(backend.engine, wait=wait)
        return backend


def _connection_options(url: str) -> dict[str, Any]:
    """Return the connection options for a server, without those that its address sets."""
    from sqlalchemy import make_url

    query = make_url(url).query
    defaults = {key: value for key, value in LIBPQ.items() if key not in query}
    # Each statement has to see what others wrote before this process got the study's lock.
    return {"isolation_level": "READ COMMITTED", "connect_args": defaults}
