"""The store that a run is recorded in: write access, the connection, and values not yet sent."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from pipeline.base.errors import EnvironmentFaultError, text_override
from pipeline.config.options import RunConfig, TrackingOptions
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.uri import sqlite_path, store_uri, uri_words

#: Time within which a closed port refuses a connection, in seconds; too short to be noticed.
REFUSAL_SECONDS = 0.1


def writable_store(options: RunConfig) -> str | None:
    """Return the address of the tracking store (`None` = no tracking) after checking write access.

    Raises:
        EnvironmentFaultError: `output` or the store's database can't be written.
    """
    uri = store_uri(options.tracking)
    output = Path(options.output)
    problems = []
    reason = _refusal(output)
    if reason is not None:
        problems.append(
            f"output={str(output)!r} can't be written ({reason}); choose another: output=FOLDER"
        )
    database = None if uri is None else sqlite_path(uri)
    if database is not None:
        reason = _refusal(database) or _refusal(database.parent)
        if reason is not None:
            problems.append(
                f"the tracking database {str(database)!r} can't be written ({reason}); record "
                "elsewhere with tracking.uri=sqlite:///FILE, or not at all with tracking=none"
            )
    if problems:
        raise EnvironmentFaultError(*problems)
    return uri


def _refusal(path: Path) -> str | None:
    """Return why a path, or its nearest existing parent, can't be written; `None` if it can."""
    absolute = path.absolute()
    for nearest in (absolute, *absolute.parents):
        if nearest.exists():
            break
    else:
        return None
    mode = os.W_OK | os.X_OK if nearest.is_dir() else os.W_OK
    if os.access(nearest, mode):
        return None
    is_read_only = os.statvfs(nearest).f_flag & os.ST_RDONLY
    return os.strerror(errno.EROFS if is_read_only else errno.EACCES)


@contextmanager
def connecting(
    recorder: RecorderClient | None, options: TrackingOptions, uri: str | None
) -> Iterator[None]:
    """Connect the recorder while the body runs; a stop does not wait for the connection.

    Raises:
        EnvironmentFaultError: The store does not answer, and the run requires it.
    """
    if recorder is None or uri is None:
        yield
        return
    connected: Future[str | None] = Future()

    def connect() -> None:
        try:
            connected.set_result(
                recorder.connect(uri, experiment=options.experiment, required=options.required)
            )
        except Exception as error:  # the waiting thread raises it
            connected.set_exception(error)

    Thread(target=connect, daemon=True).start()
    try:
        if wait([connected], timeout=REFUSAL_SECONDS).done:
            connected.result()  # raises at once if the server is down
        yield
        problem = connected.result()
    except BaseException:
        if not connected.done():
            recorder.abandon()
        raise
    if problem is not None:
        print(f"warning: {problem}; the values are kept in the run folder", file=sys.stderr)


def warn_of_unsent(
    unsent: int, problem: str | None, *, place: Path, output: Path, uri: str | None
) -> None:
    """Warn about values that MLflow lacks, if there are any, and print how to send them.

    Args:
        unsent: Number of values.
        problem: The cause in one line; `None` = unknown.
        place: Where the values wait.
        output: The folder that contains a folder for each run.
        uri: The store that they are for; `None` = nothing is tracked.
    """
    if unsent:
        cause = f"{problem}; " if problem else ""
        overrides = shlex.join([text_override("output", str(output)), *uri_words(uri or "")])
        print(
            f"warning: {cause}{unsent} values are kept in {str(place)!r}; send them with: "
            f"pipeline runs action=sync {overrides}",
            file=sys.stderr,
        )
