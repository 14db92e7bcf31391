"""The file that a path names: one on this machine, or one fetched because that was asked for."""

import hashlib
import os
import re
import shutil
import urllib.request
from pathlib import Path
from typing import BinaryIO
from urllib.error import URLError
from urllib.parse import urlsplit

from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.paths import cache_folder, create_folder, is_url, replace_file

FETCHED = ("http", "https")
SECONDS = 60
MOST_BYTES = 2**34


def local_file(path: str, *, key: str, allow_url: bool) -> Path:
    """Return the file, fetched into the cache once if it is a URL and that is allowed.

    Args:
        path: As the user gave it.
        key: The key that it was given by.
        allow_url: Whether anything may be fetched.

    Raises:
        ConfigError: It is a URL that is not allowed, or of a kind that is never fetched.
        EnvironmentFaultError: It can't be fetched.
    """
    if not is_url(path):
        return Path(path)
    shown = _without_secrets(path)
    if not allow_url:
        raise ConfigError(
            f"{key}={shown} is a URL, and nothing is fetched unasked; save the file first, or say "
            "data.allow_url=true"
        )
    if urlsplit(path).scheme.lower() not in FETCHED:
        raise ConfigError(f"{key}={shown} can't be fetched; expected http:// or https://")
    digest = hashlib.sha256(path.encode()).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(urlsplit(path).path).name)[-60:]
    file = cache_folder() / f"fetched-{digest}-{name}"
    if not file.exists():
        _fetch(path, file, shown)
    return file


def _fetch(url: str, file: Path, shown: str) -> None:
    try:
        create_folder(file.parent)
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            _require_room(int(answer.headers.get("Content-Length") or 0), file.parent, shown)
            replace_file(file, lambda target: _copy(answer, target, shown))
    except (URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise EnvironmentFaultError(f"{shown} can't be fetched: {reason}; try again") from error


def _copy(answer: BinaryIO, target: BinaryIO, shown: str) -> None:
    while block := answer.read(2**20):
        target.write(block)
        if target.tell() > MOST_BYTES:
            _require_room(MOST_BYTES + 1, Path(os.sep), shown)


def _require_room(size: int, folder: Path, shown: str) -> None:
    if size > MOST_BYTES:
        raise EnvironmentFaultError(
            f"{shown} is larger than {MOST_BYTES // 2**30} GiB; save it yourself and give its path"
        )
    if size > shutil.disk_usage(folder).free:
        raise EnvironmentFaultError(
            f"{shown} has {size} bytes, more than {folder} has room for; make room, or choose "
            "another place with XDG_CACHE_HOME"
        )


def _without_secrets(url: str) -> str:
    """Return a URL without a name, a password or what is behind its question mark."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
