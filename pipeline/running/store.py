"""The output folder and the tracking store of a run: checked, connected, what was not sent."""

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

from pipeline.config.options import TrackingOptions
from pipeline.errors import EnvironmentFaultError
from pipeline.tracking.client import Recorder
from pipeline.tracking.uri import sqlite_path, uri_words

REFUSAL_SECONDS = 0.1
"""Long enough for a closed port to show, too short to be felt."""


def require_writable(output: Path, uri: str | None) -> None:
    """Make sure that the run folders and the tracking database can be written.

    Args:
        output: The folder that holds a folder for each run; it may not exist yet.
        uri: Where runs are tracked; `None` = nowhere.

    Raises:
        EnvironmentFaultError: A place can't be written; all of them are named.
    """
    problems = list(_problems(output, uri))
    if problems:
        raise EnvironmentFaultError(*problems)


def _problems(output: Path, uri: str | None) -> Iterator[str]:
    if why := _refusal(output):
        yield f"output={str(output)!r} can't be written ({why}); choose another: output=FOLDER"
    database = None if uri is None else sqlite_path(uri)
    if database is not None and (why := _refusal(database) or _refusal(database.parent)):
        yield (
            f"the tracking database {str(database)!r} can't be written ({why}); record elsewhere "
            "with tracking.uri=sqlite:///FILE, or nowhere with tracking=none"
        )


def _refusal(place: Path) -> str | None:
    """Say why a file or folder, or what it is to be made in, can't be written; else `None`."""
    nearest = _nearest(place)
    if nearest is None or os.access(nearest, os.W_OK | (os.X_OK if nearest.is_dir() else 0)):
        return None
    read_only = os.statvfs(nearest).f_flag & os.ST_RDONLY
    return os.strerror(errno.EROFS if read_only else errno.EACCES)


def _nearest(place: Path) -> Path | None:
    """Return the path itself or the lowest of its parents that exists."""
    absolute = place.absolute()
    return next((path for path in (absolute, *absolute.parents) if path.exists()), None)


@contextmanager
def connecting(recorder: Recorder, options: TrackingOptions, uri: str) -> Iterator[None]:
    """Connect the recorder while the body runs; afterwards it is connected.

    A stop does not wait for it: the recorder's process then ends by itself.

    Raises:
        EnvironmentFaultError: The store does not answer, and the run requires it.
    """
    connected: Future[str | None] = Future()
    Thread(target=_connect, args=(connected, recorder, options, uri), daemon=True).start()
    try:
        if wait([connected], timeout=REFUSAL_SECONDS).done:
            connected.result()  # a server that is down is told at once
        yield
        problem = connected.result()
    except BaseException:
        if not connected.done():
            recorder.abandon()
        raise
    if problem is not None:
        print(f"warning: {problem}; the values wait in the run folder", file=sys.stderr)


def _connect(
    connected: Future[str | None], recorder: Recorder, options: TrackingOptions, uri: str
) -> None:
    try:
        connected.set_result(
            recorder.connect(uri, experiment=options.experiment, required=options.required)
        )
    except Exception as error:  # the waiting thread raises it
        connected.set_exception(error)


def warn_of_unsent(
    unsent: int, problem: str | None, *, place: Path, output: Path, uri: str | None
) -> None:
    """Tell a person that MLflow lacks values, why, and how it gets them.

    Args:
        unsent: How many; 0 needs no word.
        problem: What was in the way, in one line.
        place: Where the values wait.
        output: The folder that holds a folder for each run.
        uri: The store that they are for; `None` = nothing is tracked.
    """
    if unsent:
        why = f"{problem}; " if problem else ""
        where = shlex.join([f"output={output}", *uri_words(uri or "")])
        print(
            f"warning: {why}{unsent} values wait in {str(place)!r}; send them with: "
            f"python -m pipeline.runs action=sync {where}",
            file=sys.stderr,
        )


def warn_of_model(unsent: int, problem: str | None) -> None:
    """Tell a person why MLflow has all of a run but its model, which stays in the run's folder.

    Args:
        unsent: How many values MLflow lacks; those are told by themselves.
        problem: What was in the way, in one line.
    """
    if problem and not unsent:
        print(f"warning: {problem}", file=sys.stderr)
