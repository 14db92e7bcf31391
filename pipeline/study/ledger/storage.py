"""Where studies are kept: Optuna's database, in a file or on a server."""

from pathlib import Path

from pipeline.errors import ConfigError, did_you_mean
from pipeline.redaction import redact
from pipeline.study.ledger.storage_faults import storage_faults
from pipeline.study.ledger.store import Store
from pipeline.tracking.drivers import with_driver
from pipeline.tracking.uri import sqlite_path, sqlite_uri

DATABASE = "optuna.db"
WAIT_SECONDS = 60.0
"""How long a call waits for a database that somebody else has locked."""
KINDS = ("sqlite", "postgresql", "mysql")


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
) -> Store:
    """Open a database for studies and make it whole, once, however many processes ask at once.

    Args:
        url: From `storage_url`.
        wait: Seconds that any call waits for a lock.
        patience: Seconds that any call waits for a server.
        from_start: Wait also for a server that has never answered this process.

    Raises:
        ConfigError: The file is no database, or that of another program.
        EnvironmentFaultError: It is locked, can't be written, made by another Optuna, or down.
    """
    import optuna

    from pipeline.study.ledger.file_store import open_file
    from pipeline.study.ledger.server_store import open_server

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = sqlite_path(url)
    if path is None:
        return open_server(url, wait=wait, patience=patience, from_start=from_start)
    with storage_faults(url):
        return open_file(url, path, wait=wait)
