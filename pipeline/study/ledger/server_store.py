"""Studies on a database server: each call is one transaction, and survives the server's restart."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import filelock

from pipeline.paths import cache_folder, create_folder
from pipeline.study.ledger.patience import Patience
from pipeline.study.ledger.storage_faults import named, server_gone, storage_faults
from pipeline.study.ledger.store import Lock, Result, Store, as_template
from pipeline.tracking.advisory import lock_until_end

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage
    from sqlalchemy import Connection, Engine, ExceptionContext

LIBPQ = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}
"""So that a network that was cut in silence shows within half a minute, not within two hours."""
_reached: set[str] = set()
"""Servers that have answered this process: its next study waits for them from the beginning."""


class Memory:
    """Optuna's storage with what it remembers of trials, which can be forgotten.

    It remembers also what a transaction has written that came to nothing in the end.

    Args:
        backend: The storage itself, which remembers nothing.
    """

    def __init__(self, backend: "RDBStorage") -> None:
        self._backend = backend
        self.forget()

    def forget(self) -> None:
        """Read everything anew from now on."""
        from optuna.storages import get_storage

        self._storage = get_storage(self._backend)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


class ServerStore(Store):
    """An open database on a server. One thread at a time may use it.

    Args:
        backend: Optuna's storage in it.
        url: Its address.
        wait: Seconds that a call waits for a lock.
        patience: Waits for the server.
    """

    def __init__(self, backend: "RDBStorage", *, url: str, wait: float, patience: Patience) -> None:
        self._memory = Memory(backend)
        super().__init__(cast("BaseStorage", self._memory), url)
        self.engine = backend.engine
        self._sessions = backend.scoped_session
        self._wait = wait
        self._patience = patience
        self._connection: Connection | None = None

    @property
    def connection(self) -> "Connection":
        """The connection of the call that is at work."""
        assert self._connection is not None, "a lock is taken within `work`"
        return self._connection

    def work(self, call: Callable[[], Result]) -> Result:
        """Return what a call returns, written whole or not at all, however often that takes."""
        return self._patience.call(lambda: self._transacted(call))

    def lock(self, study: str) -> Lock:
        """Return the lock of a study, which ends with the transaction of the call.

        In PostgreSQL it holds for all that can reach the database, elsewhere for those of this
        machine.
        """
        if self.engine.dialect.name == "postgresql":
            return TransactionLock(self, f"study {study}", wait=self._wait)
        return _machine_lock(self.engine, f"study {study}", wait=self._wait)

    def require_writable(self) -> None:
        """Do nothing: a server lets many write."""

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        self.engine.dispose()

    def _transacted(self, call: Callable[[], Result]) -> Result:
        try:
            with storage_faults(self.url), self._transaction():
                return call()
        except BaseException:
            self._memory.forget()
            raise

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with (
            self.engine.connect() as connection,
            connection.begin(),
            self._sessions_within(connection),
        ):
            yield

    @contextmanager
    def _sessions_within(self, connection: "Connection") -> Iterator[None]:
        """Let Optuna's own transactions be parts of that of a connection."""
        self._connection = connection
        self._bind(connection, "create_savepoint")
        try:
            yield
        finally:
            self._bind(self.engine, "conditional_savepoint")
            self._connection = None

    def _bind(self, bind: "Connection | Engine", mode: str) -> None:
        self._sessions.remove()
        self._sessions.configure(bind=bind, join_transaction_mode=mode)


class TransactionLock:
    """PostgreSQL's own lock within a store's transaction, which ends with that.

    Args:
        store: Has the transaction.
        name: What is locked.
        wait: Seconds that the lock is waited for.
    """

    def __init__(self, store: ServerStore, name: str, *, wait: float) -> None:
        self._store = store
        self._name = name
        self._wait = wait

    def __enter__(self) -> None:
        lock_until_end(self._store.connection, self._name, wait=self._wait)

    def __exit__(self, *_: object) -> None:
        return


def open_server(url: str, *, wait: float, patience: float, from_start: bool) -> ServerStore:
    """Open a database on a server and make its tables, once, however many processes ask at once.

    Args:
        url: Its address, with a driver.
        wait: Seconds that any call waits for a lock.
        patience: Seconds that any call waits for the server.
        from_start: The first call of a process waits too, where a wrong address else shows at once.
    """
    if url not in _reached and not from_start:
        Patience(0.0, named(url)).call(lambda: _reach(url))
        _reached.add(url)
    patient = Patience(patience, named(url))
    backend = patient.call(lambda: _with_tables(url, wait))
    return ServerStore(backend, url=url, wait=wait, patience=patient)


def _reach(url: str) -> None:
    with storage_faults(url), _engine(url).connect():
        return


def _engine(url: str) -> "Engine":
    """Return what opens a connection for one purpose alone."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine(url, poolclass=NullPool, **_connecting(url))


def _with_tables(url: str, wait: float) -> "RDBStorage":
    with storage_faults(url):
        engine = _engine(url)
        if engine.dialect.name != "postgresql":
            with _machine_lock(engine, "tables", wait=wait):
                return _backend(url)
        with engine.begin() as connection:
            lock_until_end(connection, "tables", wait=wait)
            return _backend(url)


def _backend(url: str) -> "RDBStorage":
    from optuna.storages import RDBStorage
    from sqlalchemy import event

    options = {"pool_size": 1, "pool_pre_ping": True, **_connecting(url)}
    backend = RDBStorage(as_template(url), engine_kwargs=options)

    def raise_if_gone(context: "ExceptionContext") -> None:
        # Of what SQLAlchemy raises, Optuna repeats some by itself, outside of our transaction.
        if context.is_disconnect and not context.is_pre_ping:
            raise server_gone(url, context.original_exception) from context.original_exception

    event.listen(backend.engine, "handle_error", raise_if_gone)
    return backend


def _connecting(url: str) -> dict[str, Any]:
    """Return how a server is connected to, apart from what its address says of that."""
    from sqlalchemy import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() != "postgresql":
        return {}
    chosen = {key: value for key, value in LIBPQ.items() if key not in parsed.query}
    # Each statement is to see what others wrote before it got the study's lock.
    return {"isolation_level": "READ COMMITTED", "connect_args": chosen}


def _machine_lock(engine: "Engine", name: str, *, wait: float) -> Lock:
    digest = hashlib.sha256(f"{engine.url} {name}".encode()).hexdigest()
    folder = cache_folder() / "locks"  # in the temporary folder anybody could be there first
    create_folder(folder)
    return filelock.FileLock(folder / f"study-{digest[:32]}", timeout=wait, mode=0o600)
