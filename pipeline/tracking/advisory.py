"""PostgreSQL's own locks, by number: they end with the transaction that has taken them."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

DEAD_SECONDS = 300.0
"""A client that says nothing for so long within a transaction is gone; the server ends it."""


def lock_until_end(connection: "Connection", name: str, *, wait: float) -> None:
    """Wait for a lock, which holds until the connection's transaction ends, in whatever way.

    Since it lies in the same transaction as what is written under it, nothing can be written by a
    process that has lost it. Further locks of this transaction, those of rows, wait as long.

    Args:
        connection: In a transaction, to a PostgreSQL server.
        name: What is locked.
        wait: Seconds that the lock is waited for.
    """
    digest = hashlib.sha256(f"pipeline {name}".encode()).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    connection.exec_driver_sql(
        f"SELECT set_config('lock_timeout', '{round(wait * 1000)}', true), "
        "set_config('idle_in_transaction_session_timeout', "
        f"'{round(DEAD_SECONDS * 1000)}', true), pg_advisory_xact_lock({key})"
    )
