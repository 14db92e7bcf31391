"""All rows of a table as arrays; those of a large table are memory-mapped from the cache."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil

from pipeline.base.errors import EnvironmentFaultError
from pipeline.base.paths import cache_folder, create_folder
from pipeline.base.terminal import announce, duration
from pipeline.data.parsing.cells.kind import from_plain, to_plain
from pipeline.data.parsing.tables.conversion import Paths, mapped, read_samples
from pipeline.data.parsing.tables.file import form_of
from pipeline.data.parsing.tables.roles import Keys
from pipeline.data.source import Column, Samples

#: Bytes of a file, or of its cells as numbers, from which it is converted and mapped.
LARGE_BYTES = 2**28
#: Version of the cached tables; tables of another version are converted again.
VERSION = 10
#: Keys that say where files are and how they are parsed; the others say how rows are made.
PLACES = ("path", "test_path", "validation_path", "sep", "image_shape")
ARRAYS = ("targets", "test", "validation", "groups", "order", "numbers")
PLAIN = (
    *("task", "classes", "is_turned", "features", "units", "label", "left_out"),
    *("strict", "notes", "reading"),
)
FACTS = "facts.json"


def size_of(paths: Paths, keys: Keys) -> int:
    """Return the bytes of all files, at least those of the cells as numbers that they state."""
    size = 0
    for path, _ in paths:
        cells = form_of(path, keys.csv).count()  # names what is wrong with a file
        size += max(path.stat().st_size, 8 * cells)
    return size


def stored(paths: Paths, keys: Keys) -> Samples:
    """Return a table from the user's cache; it is converted first if it is not there.

    It is identified by path, size, modification time and keys. Processes may call this at the same
    time: each writes a folder of its own, and that of the first to finish is kept.

    Raises:
        EnvironmentFaultError: The cache has no room or can't be written. See also `read_samples`.
    """
    places = [str(path.resolve()) for path, _ in paths]
    states = [(path.stat().st_size, path.stat().st_mtime_ns) for path, _ in paths]
    options = sorted(item for item in asdict(keys).items() if item[0] not in PLACES)
    reading = (VERSION, [part for _, part in paths], keys.sep, options)
    table = _fingerprint(places)
    state = _fingerprint(states)
    place = cache_folder() / f"table-{table}-{state}-{_fingerprint(reading)}"
    if not (place / FACTS).exists():
        # Delete tables of earlier states of the file; processes that have mapped them go on.
        for other in place.parent.glob(f"table-{table}-*"):
            if other.name.split("-")[2] != state:
                shutil.rmtree(other, ignore_errors=True)
        _convert(paths, keys, place)
    facts: dict[str, Any] = json.loads((place / FACTS).read_text(encoding="utf-8"))
    columns = tuple(
        Column(name=name, grammar=from_plain(plain)) for name, plain in facts["columns"]
    )
    lists = {name: tuple(facts[name]) for name in ("classes", "features", "notes")}
    files = {name: place / f"{name}.npy" for name in ARRAYS}
    arrays = {name: np.load(file) for name, file in files.items() if file.exists()}
    inputs = mapped(place, len(arrays["targets"]), len(columns))
    return Samples(**{**facts, **lists, **arrays, **inputs, "columns": columns})


def _fingerprint(words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()[:16]


def _convert(paths: Paths, keys: Keys, place: Path) -> None:
    # Machines that share the cache may have equal process ids, so names contain the host.
    host = platform.node().replace(".", "-")
    for unfinished in place.parent.glob(f".table-*@{host}.*.tmp"):
        if not psutil.pid_exists(int(unfinished.suffixes[-2][1:])):
            shutil.rmtree(unfinished, ignore_errors=True)
    beside = place.with_name(f".{place.name}@{host}.{os.getpid()}.tmp")
    try:
        create_folder(beside)
        # A text cell of two bytes or more becomes eight, but most have more than two. The size of
        # the files is asked for as room; a disk that fills up later raises an error as well.
        needed = size_of(paths, keys)
        free = shutil.disk_usage(beside).free
        if free < needed:
            raise EnvironmentFaultError(
                f"the cache {place.parent} has {free / 2**30:.1f} GiB left, and this table needs "
                f"about {needed / 2**30:.1f}; make room, or choose another place with "
                "XDG_CACHE_HOME"
            )
        _write(paths, keys, beside)
        try:
            beside.rename(place)
        except OSError:
            if not (place / FACTS).exists():  # otherwise another process was first
                raise
    except PermissionError as error:
        raise EnvironmentFaultError(
            f"the cache {place.parent} can't be written; choose another with XDG_CACHE_HOME"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write(paths: Paths, keys: Keys, folder: Path) -> None:
    """Convert the files into a folder, and announce it, since it takes long."""
    import pyarrow as pa

    started_at = perf_counter()
    size = sum(path.stat().st_size for path, _ in paths)
    announce(
        f"converting {paths[0][0]} ({size / 2**20:,.0f} MiB) once; later runs map it from the "
        f"cache {folder.parent}"
    )
    samples = read_samples(paths, keys, folder=folder)
    for name in ARRAYS:
        if (array := getattr(samples, name)) is not None:
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
    facts = {name: getattr(samples, name) for name in PLAIN}
    facts["columns"] = [(column.name, to_plain(column.grammar)) for column in samples.columns]
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    pa.default_memory_pool().release_unused()  # otherwise training keeps the memory of reading
    announce(f"converted {len(samples.targets):,} rows in {duration(perf_counter() - started_at)}")
