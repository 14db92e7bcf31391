"""Whose run a folder holds: the list of the runs and studies that this user has begun.

A folder below `output` may have been put there by anyone. It is sent, closed or removed unasked
only if the user's list holds it. The list is a folder with a small file for each run or study,
outside of `output`. It names the inode and the change time of one file, `owner`, that is made when
the run begins and never touched again. A folder that is moved keeps both. A copy, a restored backup
and an unpacked archive have others, and nobody can set a change time.
"""

import json
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

from pipeline.base.errors import ConfigError, typed_text
from pipeline.base.paths import TRIALS, create_folder, state_folder
from pipeline.base.regular_files import lock_regular, open_regular, read_regular
from pipeline.tracking.run_record import JOURNAL

OWNER = "owner"
#: File in the user's state folder with the number of the run that began last.
LAST_ORDER = "last_order"
ORDER_DIGITS = 15
#: Longest wait for another run that begins at the same time.
LOCK_SECONDS = 2.0
_IDENTITY = re.compile(rb"[0-9a-f]{32}")

#: Inode and change time in nanoseconds of a file `owner`.
Mark = tuple[int, int]

#: The marks of what this process has begun, by identity: a user without a state folder has no list.
_begun_here: dict[str, Mark] = {}


def begin_own(folder: Path) -> None:
    """Note in the user's list that the run or study of a new folder is the user's own.

    Raises:
        OSError: The folder can't be written, or has an owner already.
    """
    identity = secrets.token_hex(16)
    descriptor = open_regular(folder / OWNER, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        os.write(descriptor, identity.encode())
    except OSError as error:
        error.filename = str(folder / OWNER)  # an error of a write has no filename
        raise
    finally:
        os.close(descriptor)
    mark = _mark((folder / OWNER).lstat())
    _begun_here[identity] = mark
    with suppress(OSError, RuntimeError):  # no home folder, or one that can't be written
        create_folder(_owned_folder())
        entry = open_regular(
            _owned_folder() / identity, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
        )
        with os.fdopen(entry, "w", encoding="utf-8") as file:
            json.dump({"mark": mark, "folder": str(folder.absolute())}, file)


def next_order() -> int:
    """Return a number that is larger than those of all runs that this user began before.

    It is the time in milliseconds since 1970, or more if the clock was set back since the last run.
    Without a state folder that can be written, it is the time.
    """
    now = time.time_ns() // 1_000_000
    with suppress(OSError, RuntimeError):  # no home folder, or one that can't be written
        create_folder(state_folder())
        descriptor = lock_regular(state_folder() / LAST_ORDER, wait=LOCK_SECONDS)
        try:
            text = os.read(descriptor, ORDER_DIGITS)
            last = int(text) if text.isdigit() else 0
            now = max(now, last + 1)
            os.pwrite(descriptor, str(now).zfill(ORDER_DIGITS).encode(), 0)
        finally:
            os.close(descriptor)
    return now


def is_own(folder: Path) -> bool:
    """Return whether this user has begun the run or study in a folder; a trial is its study's."""
    try:
        file = owner_of(folder) / OWNER
        content = read_regular(file)
        mark = _mark(file.lstat())
    except OSError:
        return False
    if not _IDENTITY.fullmatch(content):
        return False
    identity = content.decode()
    return mark in (_begun_here.get(identity), _listed_mark(identity))


def require_own(folder: Path) -> None:
    """Require that this user has begun the run in a folder.

    Raises:
        ConfigError: The run is foreign.
    """
    if not is_own(folder):
        raise ConfigError(
            f"{str(folder)!r} is foreign: it was not begun here by you, or it is a copy. If you "
            f"trust it, make it your own with: {adopt_words(folder)}"
        )


def adopt(folder: Path) -> Path:
    """Make a run or study the user's own, and return its folder: for a trial, that of its study.

    Raises:
        OSError: The folder can't be written.
    """
    owner = owner_of(folder)
    (owner / OWNER).unlink(missing_ok=True)
    begin_own(owner)
    return owner


def forget_own(folder: Path) -> None:
    """Take a run or study off the user's list before its folder is removed."""
    if is_own(folder) and owner_of(folder) == folder:
        identity = read_regular(folder / OWNER).decode()
        _begun_here.pop(identity, None)
        with suppress(OSError, RuntimeError):
            (_owned_folder() / identity).unlink()


def adopt_words(folder: Path) -> str:
    """Return the command that makes a foreign folder the user's own."""
    return f"pipeline runs action=adopt {typed_text('run', str(owner_of(folder)))}"


def owner_of(folder: Path) -> Path:
    """Return the folder with the file `owner`: that of the study for a trial."""
    if folder.parent.name != TRIALS or (folder / OWNER).exists():
        return folder
    study = folder.parents[1]
    is_study = (study / OWNER).exists() or (study / JOURNAL).exists()
    return study if is_study else folder


def _owned_folder() -> Path:
    return state_folder() / "owned"


def _mark(status: os.stat_result) -> Mark:
    return status.st_ino, status.st_ctime_ns


def _listed_mark(identity: str) -> Mark | None:
    """Return the mark that the user's list has for an identity."""
    try:
        inode, changed = json.loads(read_regular(_owned_folder() / identity))["mark"]
    except (OSError, RuntimeError, ValueError, TypeError, KeyError):
        return None
    return inode, changed
