"""What can be wrong with a store, in one line each. Nothing here imports MLflow."""

import errno
import os
import re
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pipeline.errors import ConfigError, EnvironmentFaultError, PipelineError
from pipeline.paths import shortage
from pipeline.redaction import redact
from pipeline.tracking.fields import cut
from pipeline.tracking.uri import VARIABLE, is_server, shown, sqlite_path

FaultKind = Literal[
    "down", "locked", "schema", "deleted", "refused", "broken", "unwritable", "waiting"
]

TRANSIENT: tuple[FaultKind, ...] = ("down", "locked", "unwritable", "waiting")
"""Faults that may be gone at the next try; `waiting` is for another process, not for the store."""

REFUSALS = (
    "RESOURCE_DOES_NOT_EXIST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "ENDPOINT_NOT_FOUND",
)
"""MLflow's codes for what no other try will change."""

CAUSES = {
    "refused": "connection refused",
    "timed out": "no answer in time",
    "timeout expired": "no answer in time",
    "Name or service not known": "unknown host",
    "unreachable": "unreachable",
    "reset by peer": "cut off",
    "closed the connection": "cut off",
}
"""What libraries say in many words, in few."""

UNWRITABLE = ("disk is full", "readonly database", "unable to open", "disk I/O")
"""SQLite's words for a file that it can't write."""
UNWELCOME = ("authentication failed", "no password supplied", "pg_hba.conf", '" does not exist')
"""Words of a PostgreSQL server that runs and wants another password, name or database."""
WELCOME = (
    "see whether the address is right, and the password in the environment's PGPASSWORD or "
    "PGPASSFILE"
)


class StoreError(Exception):
    """A call to a store that failed.

    Args:
        kind: What a caller can do about it.
        line: One line for people, without secrets.
    """

    def __init__(self, kind: FaultKind, line: str) -> None:
        super().__init__(line)
        self.kind: FaultKind = kind
        self.line = line

    @property
    def transient(self) -> bool:
        """Whether the same call may work later."""
        return self.kind in TRANSIENT


def fault(uri: str, text: str) -> StoreError:
    """Judge a library's message about a store."""
    revision = re.search(r"schema \(found version (\w+)|Can't locate revision .*'(\w+)'", text)
    if revision is not None:
        return schema_fault(uri, revision[1] or revision[2])
    if "database is locked" in text or "database table is locked" in text:
        return StoreError(
            "locked", f"{named(uri)} is locked by another program; end it, then retry"
        )
    if "file is not a database" in text or "database disk image is malformed" in text:
        return StoreError("broken", f"{named(uri)} is no database; {_elsewhere(uri)}")
    if any(word in text for word in UNWRITABLE):
        lacking = sqlite_shortage(uri, text)
        remedy = _elsewhere(uri) if lacking is None else lacking[1]
        state = "" if lacking is None else f" ({lacking[0]})"
        return StoreError("unwritable", f"{named(uri)} can't be written{state}; {remedy}")
    if any(word in text for word in UNWELCOME):
        return StoreError("refused", f"{named(uri)} refuses ({short_cause(text)}); {WELCOME}")
    return StoreError("down", down_line(uri, text))


def refusal(uri: str, code: str, text: str) -> StoreError:
    """Judge a message of MLflow's own, with its code for what was wrong."""
    judged = fault(uri, text)
    if judged.kind == "down" and code in REFUSALS:
        short = cut(redact(" ".join(text.split())), 200)
        return StoreError("refused", f"{named(uri)} refuses: {short}")
    return judged


def down_line(uri: str, text: str) -> str:
    """Say that a server or database does not answer, and what still works."""
    return f"{named(uri)} does not answer ({short_cause(text)}); start it, or {_elsewhere(uri)}"


def as_error(kind: FaultKind, line: str) -> PipelineError:
    """Return the error that ends a command which can't do without its store."""
    return ConfigError(line) if kind == "broken" else EnvironmentFaultError(line)


def named(uri: str) -> str:
    """Name a store as its user knows it, without a password."""
    if is_server(uri):
        return f"the tracking server {redact(uri)}"
    return f"the tracking database {str(sqlite_path(uri) or shown(uri))!r}"


def schema_fault(uri: str, revision: str) -> StoreError:
    """Say which program a database of another version of MLflow needs.

    Args:
        uri: Its address.
        revision: The version of its tables.
    """
    if not is_known(revision):
        line = (
            f"{named(uri)} was made by a newer MLflow, and MLflow {version('mlflow')}, which is "
            "installed, is too old for it; install the one that made it: pip install --upgrade "
            f"mlflow, or {_elsewhere(uri)}"
        )
    else:
        line = (
            f"{named(uri)} was made by another version of MLflow; back it up, then bring it up to "
            f"date with: mlflow db upgrade {redact(uri)}"
        )
    return StoreError("schema", line)


def is_known(revision: str) -> bool:
    """Tell whether the MLflow that is installed knows this version of a database."""
    package = find_spec("mlflow")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "store" / "db_migrations" / "versions"
    return any(folder.glob(f"{revision}_*.py"))


def sqlite_shortage(uri: str, text: str) -> tuple[str, str] | None:
    """Return what `shortage` says of a write that SQLite has refused in these words."""
    path = sqlite_path(uri)
    code = errno.EFBIG if "disk I/O" in text else errno.ENOSPC
    return None if path is None else shortage(path.parent, code)


def _elsewhere(uri: str) -> str:
    if sqlite_path(uri):
        return "record elsewhere with tracking.uri=sqlite:///FILE"
    unset = f" and without {VARIABLE}" if os.environ.get(VARIABLE) else ""
    return f"record here with tracking=local{unset}"


def short_cause(text: str) -> str:
    """Return the telling end of a chain of causes, without secrets."""
    for cause, word in CAUSES.items():
        if cause in text:
            return word
    _, _, fatal = text.rpartition("FATAL:")  # PostgreSQL's own word, behind where it came from
    said = re.split(r"DETAIL:|\(Background on this error", fatal or text)[0]
    return redact(" ".join(said.split()))[:120]
