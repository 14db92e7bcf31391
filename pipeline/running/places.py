"""The folders that a run writes to, tried before anything is created or loaded."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import EnvironmentFaultError
from pipeline.tracking.uri import sqlite_path


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
