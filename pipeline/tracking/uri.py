"""Where runs are recorded, as an address that MLflow takes, and MLflow's own settings.

Nothing here imports MLflow.
"""

import os
import shlex
from collections.abc import MutableMapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.config.options import TrackingOptions
from pipeline.errors import ConfigError, did_you_mean
from pipeline.redaction import MASK, has_password, redact

DATABASE = "mlflow.db"
VARIABLE = "MLFLOW_TRACKING_URI"
SERVERS = ("http", "https", "databricks")
TRAINING_PAGES = "workflowType=machine_learning"
"""Ends an address on MLflow's pages: without it they open what they have for language models."""
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
REMEDIES = {"psycopg": "'psycopg[binary]'", "MySQLdb": "mysqlclient"}
"""What to install for a package that talks to a database, where that is not its own name."""
REQUEST_SECONDS = 5
"""Longest wait for one answer of a tracking server, unless the user's environment says another."""


def quiet_mlflow(environment: MutableMapping[str, str] = os.environ) -> None:
    """Bound MLflow's calls: by default one that fails is tried for four minutes."""
    environment.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_SECONDS))
    environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # a journal is sent again anyway
    environment["MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"] = "0"
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    environment["MLFLOW_ENABLE_ASYNC_LOGGING"] = "false"
    environment["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"  # leaves no half-closed database
    environment.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # its lines are not ours to show
    environment["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    environment["MLFLOW_UV_AUTO_DETECT"] = "false"  # a model takes no file of the current folder
    environment["GIT_PYTHON_REFRESH"] = "quiet"


def tracking_uri(options: TrackingOptions) -> str:
    """Return the absolute address of the store: `tracking.uri`, the environment's, or `mlflow.db`.

    Raises:
        ConfigError: MLflow can't record there.
    """
    if options.uri:
        return _absolute("tracking.uri", options.uri)
    if os.environ.get(VARIABLE):
        return _absolute(VARIABLE, os.environ[VARIABLE])
    if options.kind == "server":
        raise ConfigError(
            "tracking=server needs an address; expected tracking.uri=http://HOST:PORT, "
            f"or the environment's {VARIABLE}"
        )
    return sqlite_uri(Path.cwd() / DATABASE)


def store_uri(options: TrackingOptions) -> str | None:
    """Return the address of the store as `tracking_uri` does; `None` = nothing is tracked."""
    return None if options.kind == "none" else tracking_uri(options)


def sqlite_uri(path: Path) -> str:
    """Return the address of an SQLite file; `%` and `?` are all that its reader would bend."""
    return "sqlite:///" + str(path.absolute()).replace("%", "%25").replace("?", "%3F")


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite address, or `None` for any other store."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0])).absolute()


def is_server(uri: str) -> bool:
    """Tell whether an address is that of a tracking server rather than a database."""
    return urlsplit(uri).scheme in SERVERS


def shown(uri: str) -> str:
    """Return an address as it may be shown; the mere user of a database is no secret.

    What stands alone before the name of any other server is a token.
    """
    kind = uri.partition("://")[0].partition("+")[0]
    return uri if kind in DATABASES and not has_password(uri) else redact(uri)


def uri_words(uri: str) -> list[str]:
    """Return what a command is given so that it uses an address; nothing where it does anyway."""
    if not uri or MASK in redact(uri):  # a password comes from the environment alone
        return []
    is_default = uri == sqlite_uri(Path.cwd() / DATABASE) and not os.environ.get(VARIABLE)
    return [] if is_default else [f"tracking.uri={uri}"]


def how_to_name(recorded: str) -> str:
    """Say how a person names the address of a record, which is never used unasked.

    Args:
        recorded: The address without its password, as a run's folder has it.
    """
    if MASK in recorded:
        return f"{recorded} needs its password; put the whole address into {VARIABLE}"
    return f"add {shlex.quote(f'tracking.uri={recorded}')}"


def where_to_look(uri: str, experiment_id: str) -> tuple[str, ...]:
    """Return what shows an experiment's runs: a command unless a server runs, and an address."""
    if is_server(uri):
        return (page(redact(uri).rstrip("/"), experiment_id),)
    return (ui_command(uri), page("http://127.0.0.1:5000", experiment_id))


def ui_command(uri: str) -> str:
    """Return the command that serves the runs of a database, for the current folder."""
    # It would open an old `./mlruns` here instead of the database.
    has_old_store = any(Path("mlruns").glob("*/meta.yaml"))
    if sqlite_path(uri) == Path.cwd() / DATABASE and not has_old_store:
        return "mlflow ui"
    return f"mlflow ui --backend-store-uri {shlex.quote(shown(uri))}"


def page(server: str, experiment_id: str) -> str:
    """Return the address of the page that lists an experiment's runs."""
    return f"{server}/#/experiments/{experiment_id}?{TRAINING_PAGES}"


def _absolute(key: str, uri: str) -> str:
    scheme, colon, _ = uri.partition(":")
    kind = scheme.partition("+")[0]
    if not colon or kind == "file":
        raise ConfigError(
            f"{key}={redact(uri)!r} is a folder, and MLflow no longer records into files; "
            f"expected http://HOST:PORT or sqlite:///{DATABASE}"
        )
    if kind not in SERVERS + DATABASES:
        raise ConfigError(
            f"{key}={redact(uri)!r} has the unknown scheme {kind!r}; expected one of "
            f"{', '.join(SERVERS + DATABASES)}.{did_you_mean(kind, SERVERS + DATABASES)}"
        )
    path = sqlite_path(uri)
    if path is not None:
        return sqlite_uri(path)
    return with_driver(key, uri) if kind in DATABASES else uri


def with_driver(key: str, url: str) -> str:
    """Return the address of a database server with a driver that is installed.

    SQLAlchemy's own choice for `postgresql://` depends on its version; ours is psycopg.

    Args:
        key: Where the address comes from.
        url: The address.

    Raises:
        ConfigError: The driver is missing, or the address can't be read.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    scheme, _, rest = url.partition("://")
    named = f"postgresql+psycopg://{rest}" if scheme == "postgresql" else url
    try:
        make_url(named).get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        package = str(error.name)
        raise ConfigError(
            f"{key}={redact(url)!r} needs the package {package!r}, which is not "
            f"installed; install it with: pip install {REMEDIES.get(package, package)}"
        ) from error
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        text = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"{key}={redact(url)!r} can't be read: {redact(text)}") from error
    return named
