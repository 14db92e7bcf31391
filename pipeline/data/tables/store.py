"""Large tables, converted once and mapped from the user's cache ever after."""

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

from pipeline.data.source import Column, Samples
from pipeline.data.tables.delimited import rows_times_columns
from pipeline.data.tables.reading import Files, read_samples
from pipeline.data.tables.roles import Keys
from pipeline.errors import EnvironmentFaultError
from pipeline.paths import cache_folder, create_folder
from pipeline.terminal import announce, duration

LARGE_BYTES = 2**28
"""Size of a file, or of its cells as numbers, from which it is converted and mapped."""
VERSION = 1
"""Of what the cache holds; another one is converted anew."""
ARRAYS = ("inputs", "targets", "test", "validation", "groups", "order", "ids")
FACTS = "facts.json"


def is_large(files: Files) -> bool:
    """Tell whether the rows of a table are better not kept in memory."""
    return _size(files) >= LARGE_BYTES


def stored(files: Files, keys: Keys) -> Samples:
    """Return a table from the cache, converted first where it does not lie there.

    It is known by path, size, time of change and keys. Any number of processes may do this at
    once: each writes a folder of its own, and the first one to be done keeps it.

    Raises:
        ConfigError: A key can't apply to this table.
        DataError: The table can't be learned from as it stands.
        EnvironmentFaultError: The cache has no room or can't be written.
    """
    place = _place(files, keys)
    if not (place / FACTS).exists():
        _forget_older(place)
        _convert(files, keys, place)
    return _load(place)


def _size(files: Files) -> int:
    return sum(max(8 * rows_times_columns(path), path.stat().st_size) for path, _ in files.paths)


def _place(files: Files, keys: Keys) -> Path:
    """Name the folder: what file, in which state, read how."""
    paths = [str(path.resolve()) for path, _ in files.paths]
    states = [(path.stat().st_size, path.stat().st_mtime_ns) for path, _ in files.paths]
    how = (VERSION, [part for _, part in files.paths], files.sep, sorted(asdict(keys).items()))
    words = (_digest(paths), _digest(states), _digest(how))
    return cache_folder() / f"table-{'-'.join(words)}"


def _digest(content: object) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def _forget_older(place: Path) -> None:
    """Remove what an earlier state of the file or a killed process left.

    A process that has it mapped keeps what it has.
    """
    table, state = place.name.split("-")[1:3]
    for other in place.parent.glob(f"table-{table}-*"):
        if other.name.split("-")[2] != state:
            shutil.rmtree(other, ignore_errors=True)
    for other in place.parent.glob(f".table-*@{_host()}.*.tmp"):
        if not psutil.pid_exists(int(other.suffixes[-2][1:])):
            shutil.rmtree(other, ignore_errors=True)


def _host() -> str:
    """Name this machine: others that share the cache have processes of the same numbers."""
    return platform.node().replace(".", "-")


def _convert(files: Files, keys: Keys, place: Path) -> None:
    beside = place.with_name(f".{place.name}@{_host()}.{os.getpid()}.tmp")
    try:
        create_folder(beside)
        _require_room(files, beside)
        _announced(files, keys, beside)
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


def _announced(files: Files, keys: Keys, folder: Path) -> None:
    """Write what the files hold into a folder, and say what takes so long."""
    import pyarrow as pa

    size, started_at = sum(path.stat().st_size for path, _ in files.paths), perf_counter()
    announce(
        f"converting {files.training} ({size / 2**20:,.0f} MiB) once; later runs map it from the "
        f"cache {folder.parent}"
    )
    samples = read_samples(files, keys, folder=folder)
    _save(samples, folder)
    pa.default_memory_pool().release_unused()  # else training keeps what reading needed
    announce(f"converted {len(samples.targets):,} rows in {duration(perf_counter() - started_at)}")


def _require_room(files: Files, folder: Path) -> None:
    """Refuse a cache that can't hold the numbers.

    A cell of a text takes two bytes at least and becomes eight, but most take more: the size of
    the files themselves is what is asked for here, and a disk that fills up later says so, too.
    """
    needed = _size(files)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EnvironmentFaultError(
            f"the cache {folder.parent} has {free / 2**30:.1f} GiB left, and this table needs "
            f"about {needed / 2**30:.1f}; make room, or choose another place with XDG_CACHE_HOME"
        )


def _save(samples: Samples, folder: Path) -> None:
    for name in ARRAYS:
        array = getattr(samples, name)
        if array is not None and not isinstance(array, np.memmap):
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
    facts = {
        "task": samples.task,
        "classes": samples.classes,
        "features": samples.features,
        "units": samples.units,
        "label": samples.label,
        "columns": [(column.name, column.levels) for column in samples.columns],
        "reading": dict(samples.reading),
        "strict": samples.strict,
        "notes": samples.notes,
    }
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")


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
