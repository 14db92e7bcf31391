"""Places and names of files, and writing a file whole or not at all."""

import errno
import fnmatch
import getpass
import hashlib
import json
import logging
import os
import re
import resource
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pipeline.base.errors import ConfigError, EnvironmentFaultError

DIGEST_BYTES = 32
URL_START = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
#: Beginnings of the addresses that curl fetches.
FETCHED = ("http://", "https://", "ftp://")
#: Pattern of the names of half-written files.
LEFTOVERS = ".*.tmp"
#: Folder of checkpoints within that of a run. A file may have two names in it: the best checkpoint
#: is often the last one as well.
CHECKPOINTS = "checkpoints"
#: Folder of trials within that of a study.
TRIALS = "trials"
NAME_PATTERN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


def conf_folder() -> Path:
    """Return the folder of the shipped configuration: in a wheel's package, beside a clone's."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def python_path() -> str:
    """Return the PYTHONPATH with which a child process finds this program and the user's code."""
    root = str(Path(__file__).parents[2])
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))


def cache_folder() -> Path:
    """Return this user's cache folder, for files that can be made again; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "pipeline"


def state_folder() -> Path:
    """Return this user's folder for what can't be made again; it may not exist yet.

    Raises:
        RuntimeError: The user has no home folder.
    """
    if chosen := os.environ.get("PIPELINE_STATE"):
        return Path(chosen)
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "pipeline"


def read_cached(name: str) -> bytes | None:
    """Return the content that `write_cached` wrote; `None` if it is missing or damaged."""
    with suppress(OSError):
        content = (cache_folder() / name).read_bytes()
        if hashlib.sha256(content[:-DIGEST_BYTES]).digest() == content[-DIGEST_BYTES:]:
            return content[:-DIGEST_BYTES]
    return None


def write_cached(name: str, content: bytes) -> None:
    """Write a file with its digest into the user's cache; do nothing if that can't be written."""
    with suppress(OSError):
        create_folder(cache_folder())
        content += hashlib.sha256(content).digest()
        replace_file(cache_folder() / name, lambda file: file.write(content))


def name_user() -> None:
    """Set HOME and USER if neither environment nor system defines them, as in some containers."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"  # as container engines do; nothing can be cached there
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it would warn about it
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = str(os.getuid())


def is_url(path: str) -> bool:
    """Return whether a path is an address, such as `https://…` or `s3://…`."""
    return URL_START.match(path) is not None


def url_problem(key: str, path: str, *, words: str | None = None) -> str | None:
    """Return why an address can't stand for a file, and the command that fetches it, or `None`.

    `words` set the fetched file, up to its name; `None` = `key=`.
    """
    if not is_url(path):
        return None
    # A user name, a password or a query may be a secret.
    without_query = re.split(r"[?#]", path)[0]
    place = re.sub(r"(://)[^/]*@", r"\1", without_query)
    name = place.rpartition("/")[2] or "FILE"
    address = shlex.quote(place) if place == path else "URL"
    fetch = f"download it first: curl -O {address}"
    if not path.lower().startswith(FETCHED):
        fetch = "copy it to this machine first"
    return f"{key}={place!r} is a URL; {fetch}, then set {words or f'{key}='}{shlex.quote(name)}"


def leads_out(path: str) -> bool:
    """Return whether a path may name a place outside of the folder that it is taken from."""
    return is_url(path) or path.startswith("/") or ".." in Path(path).parts or "\0" in path


def place_problem(key: str, place: str) -> str | None:
    """Return why a text can't be the path of a file or folder, or `None`."""
    if "\0" in place:
        return f"{key}={place!r} is not a valid path (it holds a NUL); choose another."
    try:
        os.lstat(place)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return f"{key}={place!r} is not a valid path ({error.strerror}); choose a shorter one."
    return None


def output_problem(place: str) -> str | None:
    """Return why nothing can be written below `output=`, or `None`."""
    if is_url(place):
        return f"output={place!r} is a URL; expected a local path. Write there, then copy it."
    return place_problem("output", place)


def name_problem(key: str, name: str) -> str | None:
    """Return what is wrong with a name that becomes part of a path, or `None`."""
    if NAME_PATTERN.fullmatch(name):
        return None
    return (
        f"{key}={name!r} is not a name; expected 1 to 64 letters, digits, '_', '-' or '.', "
        "not beginning with '.'"
    )


def create_folder(folder: Path) -> None:
    """Create a folder and its missing parents, accessible to their owner and group only."""
    if not folder.is_dir():
        create_folder(folder.parent)
        folder.mkdir(mode=0o750, exist_ok=True)


def create_run_folder(output: Path, name: str) -> Path:
    """Create `<output>/<time>-<name>-<6 hex>`, accessible to its owner and group only.

    Raises:
        ConfigError: `output` is a file.
        EnvironmentFaultError: `output` can't be written.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output={str(output)!r} is a file; expected a folder. Choose another.")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = output / f"{stamp}-{name}-{secrets.token_hex(3)}"
    try:
        create_folder(output)
        folder.mkdir(mode=0o750)
        replace_file(folder / ".writable", lambda _: None)
        (folder / ".writable").unlink()
    except OSError as error:
        reason = str(error.strerror)
        remedy = "choose another with output=FOLDER"
        lack = shortage(output, error.errno)
        if lack is not None:
            reason, remedy = lack
        raise EnvironmentFaultError(
            f"output={str(output)!r} can't be written ({reason}); {remedy}"
        ) from error
    return folder


def replace_file(path: Path, write: Callable[[BinaryIO], object], *, synced: bool = True) -> None:
    """Write a file so that, at any moment, either the old or the whole new one is there.

    The new content is written beside its target and renamed once it is complete and on the disk. A
    killed process leaves `.<name>.<pid>.tmp` behind. Without `synced`, no kill loses the file, but
    a power cut may, until `sync_file` has returned.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.unlink(missing_ok=True)  # an earlier process of this number may have left it
        # A new file: whatever took its name meanwhile, such as a link, is not written to.
        with beside.open("xb") as file:
            write(file)
            file.flush()
            if synced:
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException as error:
        if isinstance(error, OSError):
            for words in shortage(path, error.errno) or ():  # space may be free again later
                error.add_note(words)
        with suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # an error of a write has no filename
        raise
    if synced:
        _sync(path.parent)


def shortage(place: Path, code: int | None) -> tuple[str, str] | None:
    """Return what a failed write lacked and what helps; `None` if its error says it all."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if code == errno.EFBIG and most != resource.RLIM_INFINITY:
        return f"a file may have {most} bytes at most", "raise that limit with ulimit -f"
    if code != errno.ENOSPC:
        return None
    existing = next(path for path in (place, *place.absolute().parents) if path.exists())
    disk = os.statvfs(existing)
    if disk.f_favail or not disk.f_files:  # some file systems don't count inodes
        return None
    return "no inodes free", "remove files or choose another place"


def lack_in_output(folder: Path, code: int | None) -> tuple[str, str]:
    """Return what a failed write into a run's folder lacked and what helps."""
    try:
        free = f"{shutil.disk_usage(folder).free} bytes free"
        lack = shortage(folder, code)
    except OSError:  # gone, or on a file system that does not answer
        return "its folder was removed during the run", "do not remove it"
    return lack or (free, "make room or choose another folder with output=FOLDER")


def sync_file(path: Path) -> None:
    """Wait until a file and its name are on the disk."""
    _sync(path)
    _sync(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Replace a text file as `replace_file` does, in UTF-8."""
    replace_file(path, lambda file: file.write(text.encode("utf-8")))


def replace_json(path: Path, value: object, *, has_nan: bool = True) -> None:
    """Replace a file, as `replace_file` does, with indented JSON; `has_nan` allows NaN in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=has_nan, indent=1)
    replace_text(path, f"{text}\n")


def remove_leftovers(folder: Path) -> None:
    """Remove the half-written files that a kill left in `folder` and below it."""
    for file in files_below(folder):
        if file.match(LEFTOVERS):
            with suppress(OSError):
                file.unlink()


# `Path.glob` raises if another process removes a folder that it is about to list.


def entries(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted; nothing if the folder is gone or can't be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def leftovers(folder: Path) -> list[Path]:
    """Return the half-written files in a folder; none if the folder is gone or can't be read."""
    try:
        with os.scandir(folder) as entries_of_folder:
            names = [entry.name for entry in entries_of_folder]
    except OSError:
        return []
    return [folder / name for name in fnmatch.filter(names, LEFTOVERS)]


def files_below(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder and below it and is not a folder; no link is followed."""
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place) / name


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
