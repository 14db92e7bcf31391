"""All rows of a table as arrays, read in one pass; those of a large one lie in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from pipeline.data.schema import UNKNOWN
from pipeline.data.source import Array, Column, Samples
from pipeline.data.tables.cells import TEST, TRAIN, VALIDATION, Cells, Outcome, raw_rows
from pipeline.data.tables.columns import FeatureCells, Keys, Roles, TargetCells, roles_of
from pipeline.data.tables.file import Place, batches, form_of, require_columns
from pipeline.errors import DataError, EnvironmentFaultError
from pipeline.paths import cache_folder, create_folder
from pipeline.terminal import announce, duration

if TYPE_CHECKING:
    import pyarrow as pa

#: Size of a file, or of its cells as numbers, from which it is converted and mapped.
LARGE_BYTES = 2**28
#: Of what the cache holds; another one is converted anew.
VERSION = 2
#: Keys that say which files are read; the others say how.
PLACES = ("path", "test_path", "validation_path", "sep", "allow_url")
ARRAYS = ("targets", "test", "validation", "groups", "order")
PLAIN = ("task", "classes", "features", "units", "label", "strict", "notes", "reading")
FACTS = "facts.json"
#: The files of a table, each with the part of its rows; the first one trains.
Paths = Sequence[tuple[Path, int]]


def rows_of(
    paths: Paths, keys: Keys, columns: Sequence[str]
) -> Iterator[tuple[pa.RecordBatch, Place, int]]:
    """Yield all rows of some files with where they stand and their part."""
    for path, part in paths:
        for place, batch in batches(path, sep=keys.sep, columns=columns):
            yield batch, place, part


def size_of(paths: Paths) -> int:
    """Return the bytes of the files, or of their cells as numbers where they say how many."""
    import pyarrow.parquet as pq

    total = 0
    for path, _ in paths:
        is_text = form_of(path).sep is not None  # refuses what can't be read, before its size
        size, shape = path.stat().st_size, None if is_text else pq.read_metadata(path)
        total += max(size, 8 * shape.num_rows * shape.num_columns) if shape else size
    return total


def read_samples(paths: Paths, keys: Keys, *, folder: Path | None = None) -> Samples:
    """Read all rows of all files, into an empty folder where one is given.

    A ConfigError or DataError says why they can't be learned from as they stand.
    """
    training = paths[0][0]
    names = form_of(training, sep=keys.sep).names
    roles = roles_of(training, names, keys)
    ignored = []
    for path, _ in paths[1:]:
        there = form_of(path, sep=keys.sep).names
        require_columns(path, there, roles.read)
        if further := [name for name in there if name not in names]:
            ignored.append(f"{path}: ignored, as the training file has no {', '.join(further)}")
    outcome, columns, notes = _learned(paths[:1], roles, keys)
    conversion = _Conversion(roles, keys, outcome, columns)
    arrays = _gathered(conversion, paths, folder)
    conversion.require_whole()
    leaks = conversion.leaks()
    if leaks and keys.strict:
        raise DataError(*(f"{training}: {line}" for line in leaks))
    in_parts, times = arrays.pop("parts"), arrays.pop("times", None)
    test, validation = (np.flatnonzero(in_parts == part) for part in (TEST, VALIDATION))
    return Samples(
        **arrays,
        task=outcome.task,
        classes=outcome.classes,
        features=tuple(column.name for column in columns),
        units=keys.units,
        test=test if len(test) else None,
        validation=validation if len(validation) else None,
        columns=columns,
        label=outcome.name,
        order=None if times is None else np.argsort(times, kind="stable"),
        reading={
            "kind": "table",
            "target": outcome.name,
            "id": roles.beside.get("id"),
            "sep": keys.sep,
        },
        strict=keys.strict,
        notes=(*notes, *ignored, *leaks, *conversion.notes()),
    )


def _learned(
    paths: Paths, roles: Roles, keys: Keys
) -> tuple[Outcome, tuple[Column, ...], list[str]]:
    """Return what the features and the target of the training file mean, and notes."""
    path = paths[0][0]
    features = [FeatureCells(name, wanted=wanted) for name, wanted in roles.features.items()]
    target = TargetCells(roles.target)
    read = tuple(dict.fromkeys((*roles.features, roles.target)))
    for batch, place, _ in rows_of(paths, keys, read):
        looked_at: tuple[FeatureCells | TargetCells, ...] = (*features, target)
        for one in looked_at:
            one.add(Cells(batch.column(one.name), one.name, place))
    if not target.rows:
        raise DataError(f"{path} has a header and no rows (0 rows); expected at least one a part")
    if problems := [line for one in features for line in one.problems()]:
        begin = str(path)
        raise DataError(*(p if p.startswith(begin) else f"{begin}: {p}" for p in problems))
    outcome, told = target.outcome(keys)
    last = f"target: {roles.target!r}, the last column; another with data.target=COLUMN"
    notes = [last] if keys.target is None else []
    notes += [*told, *(note for one in features for note in one.notes())]
    levels = [tuple(sorted(one.levels)) if one.is_category else () for one in features]
    columns = [Column(name=one.name, levels=x) for one, x in zip(features, levels, strict=True)]
    return outcome, tuple(columns), notes


class _Conversion:
    """Turns batches of cells into rows, and counts what was left out or is odd."""

    def __init__(
        self, roles: Roles, keys: Keys, outcome: Outcome, columns: tuple[Column, ...]
    ) -> None:
        self.roles, self.columns = roles, columns
        self._outcome, self.keys = outcome, keys
        self._groups: dict[str | None, int] = {}
        self._holes: Counter[str] = Counter()
        self._first_holes: dict[str, tuple[Place, int]] = {}
        self._unknown: Counter[str] = Counter()
        self._left_out = self._kept = 0
        # Bounds of each feature for each class, or of its distance to the target's value.
        shape = (max(1, len(outcome.classes)), len(columns))
        self._low, self._high = np.full(shape, np.inf), np.full(shape, -np.inf)
        self._whole = np.ones(len(columns), dtype=np.bool_)

    def converted(self, batch: pa.RecordBatch, place: Place, part: int) -> dict[str, Array]:
        """Convert the next batch, whose rows are of `part` unless a column says so.

        Returns `inputs`, `targets`, `parts`, and `ids`, `groups`, `times` where a column has them.
        """
        rows: dict[str, Array] = {"parts": np.full(batch.num_rows, part, dtype=np.int8)}
        for key, column in self.roles.beside.items():
            cells = Cells(batch.column(column), column, place)
            if key == "split":
                rows["parts"] = cells.parts()
            elif key == "time":
                rows["times"] = cells.instants()
            elif key == "id":
                rows["ids"] = np.array(cells.texts.fill_null("").to_pylist(), dtype=np.str_)
            else:
                rows["groups"] = self._group_numbers(cells)
        rows["inputs"] = raw_rows(batch, self.columns, place)
        target = self.roles.target
        rows["targets"], empty = self._outcome.targets(Cells(batch.column(target), target, place))
        holes = np.isnan(rows["inputs"])
        for index, one in enumerate(self.columns):
            if one.levels:
                self._unknown[one.name] += int((rows["inputs"][:, index] == UNKNOWN).sum())
            self._count_holes(one.name, holes[:, index], place)
        self._count_holes(target, empty, place)
        if self.keys.missing == "drop":
            kept = ~(empty | holes.any(1))
            rows = {name: block[kept] for name, block in rows.items()}
            self._left_out += int((~kept).sum())
        self._kept += len(rows["targets"])
        if part == TRAIN:
            self._bound_features(rows["inputs"], rows["targets"])
        return rows

    def _group_numbers(self, cells: Cells) -> Array:
        names, places = cells.encoded()
        if cells.texts.null_count:
            told = "the cell is empty; expected the group that the row belongs to"
            raise cells.fault(places == len(names) - 1, told)
        found = [self._groups.setdefault(name, len(self._groups)) for name in names[:-1]]
        groups: Array = np.array(found)[places]
        return groups

    def _count_holes(self, column: str, empty: Array, place: Place) -> None:
        if empty.any():
            self._holes[column] += int(empty.sum())
            self._first_holes.setdefault(column, (place, int(empty.argmax())))

    def require_whole(self) -> None:
        """Refuse empty cells that nothing fills in, by column, and a table with no row left."""
        target, problems = self.roles.target, []
        refused = [(target, "the target", "")] if self.keys.missing != "drop" else []
        if self.keys.missing == "refuse":
            fix = ", data.missing=mean fills them in"
            refused += [(column.name, "a cell", fix) for column in self.columns]
        for name, what, fix in refused:
            if self._holes[name]:
                place, position = self._first_holes[name]
                problems.append(
                    f"{place.cell(position, name)}: {what} is empty, as in {self._holes[name]} "
                    f"rows in all; fill it in{fix}, or leave these rows out: data.missing=drop"
                )
        if not self._kept and not problems:
            problems.append(
                f"data.missing=drop leaves none of {self._left_out} rows: each has an empty cell "
                f"({_counted(self._holes)}); leave out a column with data.drop=[COLUMN]"
            )
        if problems:
            raise DataError(*problems)

    def _bound_features(self, inputs: Array, targets: Array) -> None:
        self._whole &= ~np.isnan(inputs).any(0)
        labels = range(len(self._low))
        groups = [inputs[targets == label] for label in labels] if self._outcome.classes else None
        for group, values in enumerate(groups or [inputs - targets[:, None]]):
            if len(values):
                self._low[group] = np.fmin(self._low[group], values.min(0))
                self._high[group] = np.fmax(self._high[group], values.max(0))

    def leaks(self) -> list[str]:
        """Say which features are the target under another name: equal, or one value a class."""
        told = self._whole & (self._low == self._high).all(0)
        if self._outcome.classes:
            ordered = np.sort(self._low, axis=0)
            told &= (ordered[1:] != ordered[:-1]).all(0)
        else:
            told &= self._low[0] == 0
        return [
            f"column {self.columns[index].name!r} tells the target {self.roles.target!r} in every "
            "row: if it is not known before the answer is, leave it out: "
            f"data.drop=[{self.columns[index].name}]"
            for index in np.flatnonzero(told)
        ]

    def notes(self) -> Iterator[str]:
        """Yield which rows were left out and which categories training never saw."""
        if self._left_out:
            yield f"left out {self._left_out} rows with an empty cell: {_counted(self._holes)}"
        if unknown := +self._unknown:
            told = _counted(unknown)
            yield f"categories that the training file does not have count as other: {told}"


def _counted(cells: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in cells.items())


def _gathered(conversion: _Conversion, paths: Paths, folder: Path | None) -> dict[str, Array]:
    """Convert all rows; return them by name, inputs and ids mapped where a folder takes them.

    These are written while they come, so that a full disk is an error and not the end.
    """
    import pyarrow.compute as pc

    keys, roles, name = conversion.keys, conversion.roles, conversion.roles.beside.get("id")
    kinds = {} if folder is None else {"inputs": "<f8"}
    if folder is not None and name:
        found = rows_of(paths, keys, [name])
        longest = [pc.max(pc.utf8_length(batch[0])).as_py() or 1 for batch, *_ in found]
        kinds["ids"] = f"<U{max(longest, default=1)}"
    rows: dict[str, list[Array]] = defaultdict(list)
    with ExitStack() as opened:
        place = folder or Path()
        written = {name: opened.enter_context((place / name).open("wb")) for name in kinds}
        for batch, at, part in rows_of(paths, keys, roles.read):
            for name, block in conversion.converted(batch, at, part).items():
                if name in written:
                    written[name].write(np.ascontiguousarray(block, dtype=kinds[name]).tobytes())
                else:
                    rows[name].append(block)
    whole = {name: np.concatenate(blocks) for name, blocks in rows.items()}
    if folder is not None:
        whole |= _mapped(folder, len(whole["targets"]), len(roles.features))
    return whole


def _mapped(folder: Path, rows: int, columns: int) -> dict[str, Array]:
    """Return the inputs and ids that lie in a folder as bytes, mapped and read-only."""
    inputs, ids = folder / "inputs", folder / "ids"
    if not rows:
        return {}
    arrays: dict[str, Array] = {
        "inputs": np.memmap(inputs, dtype="<f8", mode="r").reshape(rows, columns)
    }
    if ids.exists():
        arrays["ids"] = np.memmap(ids, dtype=f"<U{ids.stat().st_size // (4 * rows)}", mode="r")
    return arrays


def stored(paths: Paths, keys: Keys) -> Samples:
    """Return a table from the user's cache, converted first where it does not lie there.

    It is known by path, size, time of change and keys. Any number of processes may do this at once:
    each writes a folder of its own, and the first one to be done keeps it. Errors are those of
    `read_samples`, and an EnvironmentFaultError for a cache without room.
    """
    places = [str(path.resolve()) for path, _ in paths]
    states = [(path.stat().st_size, path.stat().st_mtime_ns) for path, _ in paths]
    told = sorted(item for item in asdict(keys).items() if item[0] not in PLACES)
    how = (VERSION, [part for _, part in paths], keys.sep, told)
    table, state, read = (
        hashlib.sha256(repr(words).encode()).hexdigest()[:16] for words in (places, states, how)
    )
    place = cache_folder() / f"table-{table}-{state}-{read}"
    if not (place / FACTS).exists():
        # What an earlier state of the file left; a process that has it mapped keeps what it has.
        for other in place.parent.glob(f"table-{table}-*"):
            if other.name.split("-")[2] != state:
                shutil.rmtree(other, ignore_errors=True)
        _convert(paths, keys, place)
    facts: dict[str, Any] = json.loads((place / FACTS).read_text(encoding="utf-8"))
    columns = tuple(Column(name=name, levels=tuple(levels)) for name, levels in facts["columns"])
    lists = {name: tuple(facts[name]) for name in ("classes", "features", "notes")}
    kept = {name: place / f"{name}.npy" for name in ARRAYS}
    arrays = {name: np.load(file) for name, file in kept.items() if file.exists()}
    mapped = _mapped(place, len(arrays["targets"]), len(columns))
    return Samples(**{**facts, **lists, **arrays, **mapped, "columns": columns})


def _convert(paths: Paths, keys: Keys, place: Path) -> None:
    # Other machines that share the cache have processes of the same numbers.
    host = platform.node().replace(".", "-")
    for left in place.parent.glob(f".table-*@{host}.*.tmp"):
        if not psutil.pid_exists(int(left.suffixes[-2][1:])):
            shutil.rmtree(left, ignore_errors=True)
    beside = place.with_name(f".{place.name}@{host}.{os.getpid()}.tmp")
    try:
        create_folder(beside)
        # A cell of a text takes two bytes at least and becomes eight, but most take more: room for
        # the files themselves is asked for, and a disk that fills up later says so, too.
        needed, free = size_of(paths), shutil.disk_usage(beside).free
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
            if not (place / FACTS).exists():  # else another process was first
                raise
    except PermissionError as error:
        raise EnvironmentFaultError(
            f"the cache {place.parent} can't be written; choose another with XDG_CACHE_HOME"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write(paths: Paths, keys: Keys, folder: Path) -> None:
    """Write what the files hold into a folder, and say what takes so long."""
    import pyarrow as pa

    size, started_at = sum(path.stat().st_size for path, _ in paths), perf_counter()
    announce(
        f"converting {paths[0][0]} ({size / 2**20:,.0f} MiB) once; later runs map it from the "
        f"cache {folder.parent}"
    )
    samples = read_samples(paths, keys, folder=folder)
    for name in ARRAYS:
        if (array := getattr(samples, name)) is not None:
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
    facts = {name: getattr(samples, name) for name in PLAIN}
    facts["columns"] = [(column.name, column.levels) for column in samples.columns]
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    pa.default_memory_pool().release_unused()  # else training keeps what reading needed
    announce(f"converted {len(samples.targets):,} rows in {duration(perf_counter() - started_at)}")
