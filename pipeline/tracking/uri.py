"""Addresses of tracking stores, MLflow's settings, and what can be wrong with a store."""

import errno
import os
import re
import shlex
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from pipeline.base.errors import (
    ConfigError,
    EnvironmentFaultError,
    PipelineError,
    did_you_mean,
    pip_install,
    text_override,
    typed_text,
)
from pipeline.base.paths import shortage
from pipeline.base.redaction import MASK, has_password, redact
from pipeline.tracking.fields import TRAINING_PAGES, VIEW, cut

if TYPE_CHECKING:
    from pipeline.config.options import TrackingOptions

DATABASE = "mlflow.db"
#: Folder of all artifacts, beside the database.
ARTIFACTS = "mlartifacts"
VARIABLE = "MLFLOW_TRACKING_URI"
SERVERS = ("http", "https", "databricks")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
#: Names under which database drivers and clients of file stores are installed, if they differ from
#: the package's name.
REMEDIES = {
    "MySQLdb": "mysqlclient",
    "botocore": "boto3",
    "google": "google-cloud-storage",
    "azure": "azure-storage-blob",
}
#: Longest wait for an answer of a tracking server in seconds; the environment can override it.
REQUEST_SECONDS = 5

FaultKind = Literal[
    "down", "full", "locked", "schema", "deleted", "refused", "broken", "unwritable", "waiting"
]

#: Faults that a retry may resolve; `waiting` means waiting for another process.
TRANSIENT: tuple[FaultKind, ...] = ("down", "full", "locked", "unwritable", "waiting")

#: MLflow's error codes for which a retry is useless.
REFUSALS = (
    "RESOURCE_DOES_NOT_EXIST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "ENDPOINT_NOT_FOUND",
)

#: What an answer is that the tracking server can't have given.
FOREIGN_ANSWER = "its answer is that of a proxy or a login page"

#: Short forms of libraries' messages, by a part of the message.
CAUSES = {
    "refused": "connection refused",
    "timed out": "no answer in time",
    "timeout expired": "no answer in time",
    "Name or service not known": "unknown host",
    "unreachable": "unreachable",
    "reset by peer": "cut off",
    "closed the connection": "cut off",
    "not in a valid JSON format": FOREIGN_ANSWER,
    "failed with error code 30": FOREIGN_ANSWER,  # a redirect, which is not followed
    FOREIGN_ANSWER: FOREIGN_ANSWER,
}

#: Parts of messages of SQLite, PostgreSQL and filelock by kind of fault; `refused` means that a
#: PostgreSQL server runs but rejects the password, user or database name, and `full` that it has
#: as many connections as it may have.
FAULT_WORDS: Mapping[FaultKind, tuple[str, ...]] = {
    "locked": ("is locked", "a lock is held", "lock timeout"),
    "broken": ("not a database", "disk image is malformed", "malformed database"),
    "unwritable": ("disk is full", "readonly database", "unable to open", "disk I/O"),
    "refused": ("authentication failed", "no password supplied", "pg_hba.conf", '" does not exist'),
    "full": ("too many clients", "connection slots are reserved", "too many connections"),
}
MAKE_ROOM = "stop other programs that use it, or raise its max_connections"
WELCOME = "check the address and the password (PGPASSWORD or PGPASSFILE)"


def quiet_mlflow() -> None:
    """Set MLflow's environment variables; by default a failed call is retried for four minutes."""
    environment = os.environ
    environment.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_SECONDS))
    environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # a journal is sent again anyway
    environment["MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"] = "0"
    environment.setdefault("MLFLOW_ALLOW_HTTP_REDIRECTS", "false")  # a server names no other host
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    environment["MLFLOW_ENABLE_ASYNC_LOGGING"] = "false"
    environment["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"  # leaves no half-closed database
    environment.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # its log lines are not shown
    environment["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    environment["MLFLOW_UV_AUTO_DETECT"] = "false"  # a model takes no file of the current folder
    environment["GIT_PYTHON_REFRESH"] = "quiet"


def tracking_uri(options: "TrackingOptions") -> str:
    """Return the absolute address of the store; the default is `mlflow.db` in the current folder.

    Raises ConfigError if MLflow can't record at the address, or if `tracking=server` has none.
    """
    if options.uri:
        return _absolute("tracking.uri", options.uri)
    if os.environ.get(VARIABLE):
        return _absolute(VARIABLE, os.environ[VARIABLE])
    if options.kind == "server":
        raise ConfigError(
            "tracking=server needs tracking.uri=http://HOST:PORT or the environment "
            f"variable {VARIABLE}"
        )
    return sqlite_uri(Path.cwd() / DATABASE)


def store_uri(options: "TrackingOptions") -> str | None:
    """Return the same as `tracking_uri`, or `None` if nothing is tracked."""
    return None if options.kind == "none" else tracking_uri(options)


def sqlite_uri(path: Path) -> str:
    """Return the address of an SQLite file, with `%` and `?` escaped."""
    return "sqlite:///" + str(path.absolute()).replace("%", "%25").replace("?", "%3F")


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite address; `None` for any other store."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0])).absolute()


def local_artifacts(uri: str, run_id: str) -> Path | None:
    """Return the folder of a run's artifacts if it lies beside a database file, else `None`."""
    database = sqlite_path(uri)
    if database is None or not database.is_file() or not run_id.isalnum():
        return None
    folders = database.parent.glob(f"{ARTIFACTS}/*/{run_id}/artifacts")
    return next(folders, None)


def is_server(uri: str) -> bool:
    """Tell whether an address is that of a tracking server rather than a database."""
    return urlsplit(uri).scheme in SERVERS


def shown(uri: str) -> str:
    """Return an address as it may be shown: secrets are masked, a database's user name is not."""
    scheme, _, _ = uri.partition("://")
    kind, _, _ = scheme.partition("+")
    return uri if kind in DATABASES and not has_password(uri) else redact(uri)


def uri_words(uri: str) -> list[str]:
    """Return the words that make a command use an address; none if the command does so anyway."""
    if not uri or MASK in redact(uri):  # a password comes from the environment alone
        return []
    is_default = uri == sqlite_uri(Path.cwd() / DATABASE) and not os.environ.get(VARIABLE)
    return [] if is_default else [text_override("tracking.uri", uri)]


def how_to_name(recorded: str) -> str:
    """Say how to name a recorded address, whose password is masked, in a command."""
    if MASK in recorded:
        return f"{recorded} needs its password; set {VARIABLE} to the whole address"
    return f"add {typed_text('tracking.uri', recorded)}"


def how_to_delete(uri: str) -> str:
    """Say how runs that are marked as deleted are removed from a store for good."""
    address = shlex.quote(redact(uri))
    return f"delete them from MLflow with: mlflow gc --backend-store-uri {address}"


def where_to_look(uri: str, experiment_id: str) -> tuple[str, ...]:
    """Return how to see runs: a command, unless a server runs, and the page of all runs."""
    server = redact(uri).rstrip("/") if is_server(uri) else "http://127.0.0.1:5000"
    # A terminal shows the address up to its first parameter, without which other pages open.
    page = f"{server}/#/experiments/{experiment_id}/runs?{TRAINING_PAGES}&viewStateShareKey={VIEW}"
    return (page,) if is_server(uri) else (ui_command(uri), page)


def ui_command(uri: str) -> str:
    """Return the command that serves the runs of a database, if typed in the current folder."""
    # The short command would open an old `./mlruns` instead of the database.
    has_old_store = any(Path("mlruns").glob("*/meta.yaml"))
    if sqlite_path(uri) == Path.cwd() / DATABASE and not has_old_store:
        return "mlflow ui"
    return f"mlflow ui --backend-store-uri {shlex.quote(shown(uri))}"


def _absolute(key: str, uri: str) -> str:
    scheme, colon, _ = uri.partition(":")
    kind = scheme.partition("+")[0]
    option = f"{key}={redact(uri)!r}"
    if not colon or kind == "file":
        raise ConfigError(
            f"{option} is a folder, but MLflow no longer records into "
            f"folders; expected http://HOST:PORT or sqlite:///{DATABASE}"
        )
    if kind not in SERVERS + DATABASES:
        raise ConfigError(
            f"{option} has the unknown scheme {kind!r}; expected one of "
            f"{', '.join(SERVERS + DATABASES)}.{did_you_mean(kind, SERVERS + DATABASES)}"
        )
    path = sqlite_path(uri)
    if path is not None:
        return sqlite_uri(path)
    return with_driver(key, uri) if kind in DATABASES else uri


def with_driver(key: str, url: str) -> str:
    """Return the address of a database server with an installed driver; for PostgreSQL, psycopg.

    `key` is the name of the option or variable that gives the address. Raises ConfigError if the
    driver is missing or the address can't be read.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    scheme, _, address = url.partition("://")
    full_url = f"postgresql+psycopg://{address}" if scheme == "postgresql" else url
    try:
        make_url(full_url).get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        package = str(error.name)
        raise ConfigError(
            f"{key}={redact(url)!r} needs the package {package!r}, which is not "
            f"installed; install it with: {pip_install(REMEDIES.get(package, package))}"
        ) from error
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        text = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"{key}={redact(url)!r} can't be read: {redact(text)}") from error
    return full_url


# ── what can be wrong with a store ────────────────────────────────────────────────────────────────


class StoreError(Exception):
    """A failed call to a store: the kind of fault, and a message of one line without secrets."""

    def __init__(self, kind: FaultKind, line: str) -> None:
        super().__init__(line)
        self.kind: FaultKind = kind
        self.line = line

    @property
    def transient(self) -> bool:
        """Whether the same call may work later."""
        return self.kind in TRANSIENT


def fault(uri: str, text: str) -> StoreError:
    """Return the error for a library's message about a store."""
    revision = re.search(r"schema \(found version (\w+)|Can't locate revision .*'(\w+)'", text)
    if revision is not None:
        return schema_fault(uri, revision[1] or revision[2])
    kind = fault_kind(text)
    if kind == "down":
        return StoreError(kind, down_line(uri, text))
    if kind == "unwritable":
        return StoreError(kind, f"{named(uri)} {unwritable(uri, text, _other_store(uri))}")
    lines = {
        "locked": "is locked by another program; stop it, then retry",
        "broken": f"is not a database; {_other_store(uri)}",
        "refused": f"refuses ({short_cause(text)}); {WELCOME}",
        "full": f"{accepts_none(text)}; {MAKE_ROOM}, or {_other_store(uri)}",
    }
    return StoreError(kind, f"{named(uri)} {lines[kind]}")


def fault_kind(text: str) -> FaultKind:
    """Return the kind of fault in a library's message about a database; `down` if it is unknown."""
    for kind, phrases in FAULT_WORDS.items():
        if any(phrase in text for phrase in phrases):
            return kind
    return "down"


def missing_package(uri: str, name: str) -> StoreError:
    """Return the error for a place of artifacts whose client library is not installed."""
    package = REMEDIES.get(name) or REMEDIES.get(name.partition(".")[0], name)
    line = (
        f"{named(uri)} keeps its files where the package {name!r} is needed, which is not "
        f"installed; install it with: {pip_install(package)}"
    )
    return StoreError("refused", line)


def refusal(uri: str, code: str, text: str) -> StoreError:
    """Return the error for a message of MLflow's own and its error code."""
    error = fault(uri, text)
    if error.kind != "down" or code not in REFUSALS:
        return error
    short = cut(redact(" ".join(text.split())), 200)
    return StoreError("refused", f"{named(uri)} refuses: {short}")


def down_line(uri: str, text: str) -> str:
    """Say that a server or database does not answer, and what still works."""
    cause = short_cause(text)
    return f"{named(uri)} does not answer ({cause}); {revival(text)}, or {_other_store(uri)}"


def revival(text: str) -> str:
    """Return what helps if a server does not answer; PostgreSQL says that it is starting."""
    is_starting = "starting up" in text or "in recovery mode" in text
    return "wait until it has started" if is_starting else "start it"


def accepts_none(text: str) -> str:
    """Say that a PostgreSQL server has as many connections as it may have."""
    return f"accepts no more connections ({short_cause(text)})"


def as_error(kind: FaultKind, line: str) -> PipelineError:
    """Return the error that ends a command: ConfigError if the file is not a database."""
    return ConfigError(line) if kind == "broken" else EnvironmentFaultError(line)


def named(uri: str) -> str:
    """Return the name of a store as its user knows it, without a password."""
    if is_server(uri):
        return f"the tracking server {redact(uri)}"
    return f"the tracking database {str(sqlite_path(uri) or shown(uri))!r}"


def schema_fault(uri: str, revision: str) -> StoreError:
    """Return the error for a database of another version of MLflow, with a way to use it."""
    if revision in known_revisions():
        problem = (
            "was created by another version of MLflow; back it up, then upgrade it with: "
            f"mlflow db upgrade {redact(uri)}"
        )
    else:
        problem = (
            f"was created by a newer MLflow, and MLflow {version('mlflow')} is too old for it; "
            f"upgrade it: pip install --upgrade mlflow, or {_other_store(uri)}"
        )
    return StoreError("schema", f"{named(uri)} {problem}")


def known_revisions() -> set[str]:
    """Return the schema versions that the installed MLflow knows."""
    package = find_spec("mlflow")
    folder = Path(str(package and package.origin)).parent
    files = folder.glob("store/db_migrations/versions/*_*.py")
    return {file.name.partition("_")[0] for file in files}


def unwritable(uri: str, text: str, remedy: str) -> str:
    """Say that a database can't be written; `remedy` applies unless the disk is full."""
    path = sqlite_path(uri)
    if path is not None:
        code = errno.EFBIG if "disk I/O" in text else errno.ENOSPC
        disk_shortage = shortage(path.parent, code)
        if disk_shortage is not None:
            state, disk_remedy = disk_shortage
            return f"can't be written ({state}); {disk_remedy}"
    return f"can't be written; {remedy}"


def _other_store(uri: str) -> str:
    if sqlite_path(uri):
        return "record elsewhere with tracking.uri=sqlite:///FILE"
    unset = f" and without {VARIABLE}" if os.environ.get(VARIABLE) else ""
    return f"record here with tracking=local{unset}"


def short_cause(text: str) -> str:
    """Return the most specific part of a chain of causes, without secrets."""
    for phrase, cause in CAUSES.items():
        if phrase in text:
            return cause
    _, _, fatal = text.rpartition("FATAL:")  # the server's own message, after its origin
    message = re.split(r"DETAIL:|\(Background on this error", fatal or text)[0]
    return redact(" ".join(message.split()))[:120]
