"""Folders that may come from someone else: checked for links, and opened without following any.

A check and what follows it are two steps: a process of the same user that changes a folder in
between is not noticed.
"""

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.paths import CHECKPOINTS, TRIALS

#: Bytes of a file with JSON, far more than any run writes.
LARGEST_JSON = 1 << 28
LOCK_POLL_SECONDS = 0.05
#: Kinds of entries that are refused, by the test for their mode.
_REFUSED = {
    stat.S_ISLNK: "a link",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def open_regular(path: str | Path, flags: int = os.O_RDONLY, mode: int = 0o640) -> int:
    """Open a regular file without following a link, and return its descriptor.

    A file that is opened for writing may have no second name, through which another file would
    change.

    Raises:
        OSError: The file is missing, is a link or not a regular file, or can't be opened.
    """
    # Without O_NONBLOCK, opening a pipe waits for its other end.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    status = os.fstat(descriptor)
    has_other_names = status.st_nlink > 1 and flags & (os.O_WRONLY | os.O_RDWR)
    if stat.S_ISREG(status.st_mode) and not has_other_names:
        os.set_blocking(descriptor, True)
        return descriptor
    os.close(descriptor)
    reason = "it has a second name" if has_other_names else "it is not a regular file"
    raise OSError(errno.EINVAL, reason, str(path))


def lock_regular(path: Path, *, wait: float) -> int:
    """Lock a file, which is created if its folder exists, and return its descriptor.

    Closing the descriptor releases the lock. `filelock` would make a folder again that another
    process has removed.

    Raises:
        BlockingIOError: Another process still holds the lock after `wait` seconds.
        OSError: The folder is missing, or the file is a link or not a regular file.
    """
    descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + wait
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(LOCK_POLL_SECONDS)
            else:
                return descriptor
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file, without following a link.

    Raises:
        OSError: The file is missing, is a link or not a regular file, or can't be read.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        return file.read()


def read_json(path: Path) -> Any:
    """Return the content of a regular file with JSON, without following a link.

    Raises:
        OSError: The file is missing, is a link or not a regular file, or can't be read.
        ValueError: It is not JSON in UTF-8, too large or nested too deeply.
    """
    if path.lstat().st_size > LARGEST_JSON:
        raise ValueError(f"{str(path)!r} has more than {LARGEST_JSON} bytes")
    try:
        return json.loads(read_regular(path).decode("utf-8"))
    except RecursionError as error:
        raise ValueError(f"{str(path)!r} is nested too deeply") from error


def is_regular(path: Path) -> bool:
    """Return whether a path is a regular file and not a link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def stream_kind(path: Path) -> str | None:
    """Return what a path is, such as `a pipe`, if it can't be read like a file; else `None`.

    A pipe may never deliver anything, a device may be endless, and both can be read only once.
    Links are followed.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # opening it will say why
        return None
    return _refused_kind(mode)


def _refused_kind(mode: int) -> str | None:
    for is_kind, kind in _REFUSED.items():
        if is_kind(mode):
            return kind
    return None


def is_in_one_line(name: str) -> bool:
    """Return whether the name of a file or folder has no line break and no tab.

    Other control characters are shown as escapes, but with these a name could pretend to be lines
    of a list.
    """
    return "\n" not in name and "\t" not in name


def folder_problem(folder: Path, *, is_written: bool = False) -> str | None:
    """Return why the folder of a run or study can't be used, or `None`.

    It may hold folders and regular files only. The folder itself may not be a link either; the
    folders above it may.

    Args:
        folder: The folder of a run or a study.
        is_written: Whether files in it will be written. Then none of them may have a second name,
            except for checkpoints.
    """
    try:
        if not is_in_one_line(folder.name):
            return f"{str(folder)!r} has a line break or a tab in its name; rename it"
        if folder.is_symlink():
            return f"{str(folder)!r} is a link; name the folder that it points to"
        for path, status in _entries(folder):
            kind = _refused_kind(status.st_mode)
            if kind is not None:
                return (
                    f"{str(path)!r} is {kind}; a run's folder holds files and folders only, so "
                    "remove it"
                )
            if not is_written or not stat.S_ISREG(status.st_mode) or status.st_nlink == 1:
                continue
            if not _has_names_here(path, status, folder):
                return (
                    f"{str(path)!r} is the same file as another one (a hard link), which would "
                    "change with it; copy the folder and use the copy"
                )
    except OSError as error:
        return f"{error.filename!r} can't be read ({error.strerror})"
    return None


def require_plain_folder(folder: Path, *, is_written: bool = False) -> None:
    """Require that the folder of a run or study has no links; see `folder_problem`.

    Raises:
        ConfigError: It has one, named in the message.
    """
    problem = folder_problem(folder, is_written=is_written)
    if problem is not None:
        raise ConfigError(problem)


def _has_names_here(path: Path, status: os.stat_result, folder: Path) -> bool:
    """Return whether a checkpoint has two names, both of them in the folder of checkpoints."""
    place = path.parent.relative_to(folder).parts
    is_trial = len(place) == 3 and place[0] == TRIALS and place[2] == CHECKPOINTS
    if status.st_nlink != 2 or not (place == (CHECKPOINTS,) or is_trial):
        return False
    for _ in range(2):  # a name may change while the folder is read
        with os.scandir(path.parent) as entries:
            names = [entry for entry in entries if entry.inode() == status.st_ino]
        if len(names) == 2:
            return True
    return not path.exists() or path.lstat().st_ino != status.st_ino  # it was replaced meanwhile


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield what lies in a folder and below it, with its status; no link is followed."""
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        # What another process has removed or renamed meanwhile is passed over.
        with suppress(FileNotFoundError), os.scandir(place) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    yield Path(entry.path), status
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(Path(entry.path))
