"""What the user's cache keeps: files that were fetched, and large tables as mapped arrays."""

import hashlib
import json
import os
import platform
import re
import shutil
import urllib.request
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO
from urllib.error import URLError
from urllib.parse import urlsplit

import numpy as np
import psutil

from pipeline.data.source import Column, Samples
from pipeline.data.tables.columns import Keys
from pipeline.data.tables.conversion import Files, read_samples
from pipeline.data.tables.file import form_of
from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.paths import cache_folder, create_folder, is_url, replace_file
from pipeline.terminal import announce, duration

FETCHED = ("http", "https")
SECONDS = 60
MOST_BYTES = 2**34
LARGE_BYTES = 2**28
"""Size of a file, or of its cells as numbers, from which it is converted and mapped."""
VERSION = 1
"""Of what the cache holds; another one is converted anew."""
PLACES = ("path", "test_path", "validation_path", "sep", "allow_url")
"""Keys that say which files are read; the others say how."""
ARRAYS = ("inputs", "targets", "test", "validation", "groups", "order", "ids")
FACTS = "facts.json"


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
    too_large = EnvironmentFaultError(
        f"{shown} is larger than {MOST_BYTES // 2**30} GiB; save it yourself and give its path"
    )

    def copy(target: BinaryIO) -> None:
        while block := answer.read(2**20):
            target.write(block)
            if target.tell() > MOST_BYTES:
                raise too_large

    try:
        create_folder(file.parent)
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
            if size > MOST_BYTES:
                raise too_large
            if size > shutil.disk_usage(file.parent).free:
                raise EnvironmentFaultError(
                    f"{shown} has {size} bytes, more than {file.parent} has room for; make room, "
                    "or choose another place with XDG_CACHE_HOME"
                )
            replace_file(file, copy)
    except (URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise EnvironmentFaultError(f"{shown} can't be fetched: {reason}; try again") from error


def _without_secrets(url: str) -> str:
    """Return a URL without a name, a password or what is behind its question mark."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def is_large(files: Files) -> bool:
    """Tell whether the rows of a table are better not kept in memory."""
    return _size(files) >= LARGE_BYTES


def _size(files: Files) -> int:
    """Return the bytes of the files, or of their cells as numbers where they say how many."""
    import pyarrow.parquet as pq

    sizes = []
    for path, _ in files.paths:
        is_text = form_of(path).sep is not None  # refuses what can't be read, before its size
        sizes.append(path.stat().st_size)
        if not is_text:
            stored = pq.read_metadata(path)
            sizes[-1] = max(sizes[-1], 8 * stored.num_rows * stored.num_columns)
    return sum(sizes)


def stored(files: Files, keys: Keys) -> Samples:
    """Return a table from the user's cache, converted first where it does not lie there.

    It is known by path, size, time of change and keys. Any number of processes may do this at
    once: each writes a folder of its own, and the first one to be done keeps it.

    Raises:
        ConfigError: A key can't apply to this table.
        DataError: The table can't be learned from as it stands.
        EnvironmentFaultError: The cache has no room or can't be written.
    """
    paths = [str(path.resolve()) for path, _ in files.paths]
    states = [(path.stat().st_size, path.stat().st_mtime_ns) for path, _ in files.paths]
    told = sorted(item for item in asdict(keys).items() if item[0] not in PLACES)
    how = (VERSION, [part for _, part in files.paths], files.sep, told)
    table, state, read = (
        hashlib.sha256(repr(words).encode()).hexdigest()[:16] for words in (paths, states, how)
    )
    place = cache_folder() / f"table-{table}-{state}-{read}"
    if not (place / FACTS).exists():
        _forget_older(place.parent, table, state)
        _convert(files, keys, place)
    return _load(place)


def _forget_older(cache: Path, table: str, state: str) -> None:
    """Remove what an earlier state of the file or a killed process left.

    A process that has it mapped keeps what it has.
    """
    for other in cache.glob(f"table-{table}-*"):
        if other.name.split("-")[2] != state:
            shutil.rmtree(other, ignore_errors=True)
    for other in cache.glob(f".table-*@{_host()}.*.tmp"):
        if not psutil.pid_exists(int(other.suffixes[-2][1:])):
            shutil.rmtree(other, ignore_errors=True)


def _host() -> str:
    """Name this machine: others that share the cache have processes of the same numbers."""
    return platform.node().replace(".", "-")


def _convert(files: Files, keys: Keys, place: Path) -> None:
    beside = place.with_name(f".{place.name}@{_host()}.{os.getpid()}.tmp")
    try:
        create_folder(beside)
        # A cell of a text takes two bytes at least and becomes eight, but most take more: room for
        # the files themselves is asked for, and a disk that fills up later says so, too.
        needed, free = _size(files), shutil.disk_usage(beside).free
        if free < needed:
            raise EnvironmentFaultError(
                f"the cache {place.parent} has {free / 2**30:.1f} GiB left, and this table needs "
                f"about {needed / 2**30:.1f}; make room, or choose another place with "
                "XDG_CACHE_HOME"
            )
        _write(files, keys, beside)
        try:
            beside.rename(place)
        except OSError:
            if not (place / FACTS).exists():  # else another process was first
                raise
    except PermissionError as error:
        raise EnvironmentFaultError(
            f"the cache {place.parent} can't be written; choose another with XDG_CACHE_HOME"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write(files: Files, keys: Keys, folder: Path) -> None:
    """Write what the files hold into a folder, and say what takes so long."""
    import pyarrow as pa

    size, started_at = sum(path.stat().st_size for path, _ in files.paths), perf_counter()
    announce(
        f"converting {files.training} ({size / 2**20:,.0f} MiB) once; later runs map it from the "
        f"cache {folder.parent}"
    )
    samples = read_samples(files, keys, folder=folder)
    for name in ARRAYS:
        array = getattr(samples, name)
        if array is not None and not isinstance(array, np.memmap):
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
    kept = ("task", "classes", "features", "units", "label", "strict", "notes")
    facts = {
        **{name: getattr(samples, name) for name in kept},
        "columns": [(column.name, column.levels) for column in samples.columns],
        "reading": dict(samples.reading),
    }
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    pa.default_memory_pool().release_unused()  # else training keeps what reading needed
    announce(f"converted {len(samples.targets):,} rows in {duration(perf_counter() - started_at)}")


def _load(place: Path) -> Samples:
    facts: dict[str, Any] = json.loads((place / FACTS).read_text(encoding="utf-8"))
    columns = tuple(Column(name=name, levels=tuple(levels)) for name, levels in facts["columns"])
    lists = {name: tuple(facts[name]) for name in ("classes", "features", "notes")}
    arrays = {
        name: np.load(file, mmap_mode="r" if name in ("inputs", "ids") else None)
        for name in ARRAYS
        if (file := place / f"{name}.npy").exists()
    }
    return Samples(**{**facts, **lists, **arrays, "columns": columns})
