"""Errors of a study's database, each with a message of one line."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import filelock

from pipeline.base.errors import ConfigError, EnvironmentFaultError, PipelineError
from pipeline.base.redaction import redact
from pipeline.tracking.uri import (
    MAKE_ROOM,
    WELCOME,
    accepts_none,
    fault_kind,
    revival,
    short_cause,
    shown,
    sqlite_path,
    unwritable,
)

#: PostgreSQL's codes for errors that a retry may solve: it restarts, has too many connections, a
#: lock is held, or it has aborted a transaction in favour of another. So may all codes of class 08
#: (connections).
PASSING = ("57P01", "57P02", "57P03", "57P05", "25P03", "53300", "55P03", "40001", "40P01")
#: What reading a value of another kind than expected raises, here and in Optuna.
_UNREADABLE = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)

STOP_OTHER = "stop that program"


class ServerGoneError(EnvironmentFaultError):
    """A database server does not answer, or has cut a call short; a retry may succeed.

    `remedy` is what to do if no retry does.
    """

    def __init__(self, problem: str, remedy: str = "start it") -> None:
        super().__init__(problem)
        self.remedy = remedy


@contextmanager
def storage_faults(url: str) -> Iterator[None]:
    """Translate errors of Optuna, SQLAlchemy and SQLite to errors with one line.

    Raises ConfigError if the file is not a database, ServerGoneError if a retry may succeed, and
    otherwise EnvironmentFaultError.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError, sqlite3.Error, filelock.Timeout) as error:
        if sqlite_path(url) is None and _may_pass(error):
            raise server_gone(url, error) from error
        raise _error_for(url, _text(error)) from error
    except OSError as error:
        raise _error_for(url, f"unable to open: {error.strerror}") from error
    except RuntimeError as error:
        if "table schema" not in str(error):
            raise
        raise EnvironmentFaultError(_schema_line(url, str(error))) from error


@contextmanager
def odd_values(url: str, study: str) -> Iterator[None]:
    """Turn errors about values of a study that no sweep has written into one line.

    Raises ConfigError, which names the database and the study.
    """
    from sqlalchemy.exc import StatementError

    try:
        yield
    except (*_UNREADABLE, StatementError) as error:
        raise ConfigError(
            f"the study {study!r} in {database_name(url)} can't be read "
            f"({type(error).__name__}): a sweep has not written it like this; restore the database "
            "from a backup, or choose another with storage=sqlite:///FILE (of a sweep: "
            "sweep.storage)"
        ) from error


def database_name(url: str) -> str:
    """Return the name of a database for messages: its file or its address without a password."""
    return f"the study database {str(sqlite_path(url) or shown(url))!r}"


def file_gone(path: Path) -> EnvironmentFaultError:
    """Return the error for a database whose file or folder is missing."""
    if not path.parent.is_dir():
        return EnvironmentFaultError(
            f"the folder of the study database {str(path)!r} does not exist; create it, or choose "
            "another with sweep.storage=sqlite:///FILE"
        )
    return EnvironmentFaultError(
        f"the study database {str(path)!r} was removed during the study; restore it and continue "
        "with the same command, which otherwise starts a new study"
    )


def server_gone(url: str, error: BaseException) -> ServerGoneError:
    """Return the error for a server that does not answer, or no longer answers."""
    text = _text(error)
    match fault_kind(text):
        case "locked":
            return ServerGoneError(f"{database_name(url)} is locked by another program", STOP_OTHER)
        case "full":
            return ServerGoneError(f"{database_name(url)} {accepts_none(text)}", MAKE_ROOM)
        case _:
            line = f"{database_name(url)} does not answer ({short_cause(text)})"
            return ServerGoneError(line, revival(text))


def no_database(url: str) -> ConfigError:
    """Return the error for a file that is not a database."""
    return ConfigError(
        f"{database_name(url)} is not a database; choose another file with "
        "sweep.storage=sqlite:///FILE"
    )


def _text(error: BaseException) -> str:
    """Return the messages of an error and of its causes."""
    words = "a lock is held" if isinstance(error, filelock.Timeout) else str(error)
    return f"{words} {_text(error.__cause__)}" if error.__cause__ is not None else words


def _schema_line(url: str, text: str) -> str:
    made_by = re.search(r"set up by optuna (\d[\w.]*\w)", text)
    if made_by is not None and "updating optuna" in text:
        return (
            f"{database_name(url)} was created by Optuna {made_by[1]}, but Optuna "
            f"{version('optuna')} is too old for it; install that version: "
            f"pip install optuna=={made_by[1]}"
        )
    return (
        f"{database_name(url)} was created by another version of Optuna; back it up, then upgrade "
        f"it with: optuna storage upgrade --storage {redact(url)!r}"
    )


def _error_for(url: str, text: str) -> PipelineError:
    kind = fault_kind(text)
    if kind == "broken":
        return no_database(url)
    if kind == "locked":
        line = f"is still locked by another program; {STOP_OTHER}, then continue with the same"
        line += " command"
    elif "no such table" in text or ("relation" in text and "does not exist" in text):
        line = "has lost its tables; restore it and continue with the same command"
    elif kind == "unwritable":
        line = unwritable(url, text, "make room, or choose another with sweep.storage=")
    elif kind == "refused":
        line = f"refuses ({short_cause(text)}); {WELCOME}"
    else:
        line = f"can't be used ({short_cause(text)}); fix that, then continue with the same command"
    return EnvironmentFaultError(f"{database_name(url)} {line}")


def _may_pass(error: BaseException | None) -> bool:
    """Return whether the server was gone, or may accept the same call at another time."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

    if error is None:
        return False
    if not isinstance(error, DBAPIError):
        return _may_pass(error.__cause__)
    code = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated or code is not None:
        return error.connection_invalidated or code in PASSING or str(code).startswith("08")
    is_of_connection = isinstance(error, OperationalError | InterfaceError)
    return is_of_connection and fault_kind(str(error)) != "refused"
