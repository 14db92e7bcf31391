"""All rows of a table as arrays; those of a large table are memory-mapped from the cache."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from pipeline.data.schema import UNKNOWN
from pipeline.data.source import Array, Column, Samples
from pipeline.data.tables.cells import (
    TEST,
    TRAIN,
    VALIDATION,
    Cells,
    Outcome,
    raw_rows,
    without_target,
)
from pipeline.data.tables.columns import (
    COUNTS,
    EMPTY,
    FeatureCells,
    TargetCells,
    class_note,
    summarize,
)
from pipeline.data.tables.file import Place, batches, form_of, require_columns
from pipeline.data.tables.roles import Keys, Roles, roles_of
from pipeline.data.tables.written import DATE_PARTS, ORDERS
from pipeline.errors import DataError, EnvironmentFaultError
from pipeline.paths import cache_folder, create_folder
from pipeline.terminal import announce, duration

if TYPE_CHECKING:
    import pyarrow as pa

#: Bytes of a file, or of its cells as numbers, from which it is converted and mapped.
LARGE_BYTES = 2**28
#: Version of the cached tables; tables of another version are converted again.
VERSION = 9
#: Keys that say where files are and how they are parsed; the others say how rows are made.
PLACES = ("path", "test_path", "validation_path", "sep", "image_shape")
ARRAYS = ("targets", "test", "validation", "groups", "order", "numbers")
PLAIN = (
    *("task", "classes", "is_turned", "features", "units", "label", "left_out"),
    *("strict", "notes", "reading"),
)
FACTS = "facts.json"
INPUTS = "inputs"
#: The files of a table, each with the part of its rows; the first one is for training.
Paths = Sequence[tuple[Path, int]]


def size_of(paths: Paths, keys: Keys) -> int:
    """Return the bytes of all files, at least those of the cells as numbers that they state."""
    return sum(max(path.stat().st_size, 8 * form_of(path, keys.csv).count()) for path, _ in paths)


def read_samples(paths: Paths, keys: Keys, *, folder: Path | None = None) -> Samples:
    """Read all rows of all files; large arrays are mapped from `folder` (empty) if it is given.

    Raises:
        ConfigError: A key does not suit the table.
        DataError: The rows can't be read, or learned from as they stand.
    """
    training = paths[0][0]
    names = form_of(training, keys.csv).names
    outcome, columns, roles, notes = _learned(training, roles_of(training, names, keys), keys)
    ignored = [line for path, _ in paths[1:] for line in _ignored(path, names, roles, keys)]
    conversion = _Conversion(roles, keys, outcome, columns)
    arrays = _gathered(conversion, paths, folder)
    conversion.require_whole()
    leaks = conversion.leaks()
    if leaks and keys.strict:
        raise DataError(*(f"{training}: {line}" for line in leaks))
    in_parts, times = arrays.pop("parts"), arrays.pop("times", None)
    whole = "without empty cells" if keys.missing == "drop" else f"with a target {roles.target!r}"
    for path, part in paths[1:]:
        if part not in in_parts:
            raise DataError(f"{path} has no row {whole}; expected at least one")
    if not conversion.left_out:
        del arrays["numbers"]
    last = f"target: {roles.target!r}, the last column; change with data.target=COLUMN"
    told = [last] if keys.target is None else []
    if outcome.classes:
        rows = (in_parts == TRAIN).sum() if paths[1:] else None
        told.append(class_note(outcome, keys, arrays["targets"][:rows]))
    test, validation = (np.flatnonzero(in_parts == part) for part in (TEST, VALIDATION))
    return Samples(
        **arrays,
        task=outcome.task,
        classes=outcome.classes,
        is_turned=outcome.is_turned,
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
            "form": outcome.form,
            "id": roles.beside.get("id"),
            **keys.csv._asdict(),
        },
        left_out=conversion.left_out,
        strict=keys.strict,
        notes=(*told, *notes, *ignored, *leaks, *conversion.notes()),
    )


def _ignored(path: Path, names: Sequence[str], roles: Roles, keys: Keys) -> Iterator[str]:
    """Yield a note on columns that a training file with these names lacks, if there are any."""
    there = form_of(path, keys.csv).names
    require_columns(path, there, roles.read)
    if further := [name for name in there if name not in names]:
        yield f"{path}: ignored columns (not in training): {', '.join(further)}"


def _learned(
    path: Path, roles: Roles, keys: Keys
) -> tuple[Outcome, tuple[Column, ...], Roles, list[str]]:
    """Return the meaning of the training file's target and features, their roles, and notes."""
    features = [
        FeatureCells(name, keys=keys, wanted=wanted) for name, wanted in roles.features.items()
    ]
    target = TargetCells(roles.target)
    summarize(path, keys.csv, (*features, target))
    if not target.rows:
        raise DataError(f"{path} has a header and no rows (0 rows); expected at least one per part")
    roles, left_out = _kept_roles(path, roles, features, keys)
    outcome, told = target.outcome(keys)
    columns = [c for one in features if one.name in roles.features for c in one.columns()]
    return outcome, tuple(columns), roles, [*told, *left_out]


def _kept_roles(
    path: Path, roles: Roles, features: Sequence[FeatureCells], keys: Keys
) -> tuple[Roles, list[str]]:
    """Return the roles without columns that can't be features, and notes on what looks useless.

    Raises:
        DataError: A column can't be read, none is left, or `strict` refuses to leave columns out.
    """
    unfit = {one.name: one.unfit for one in features if one.unfit}
    if len(unfit) == len(features):  # a column that counts the rows may be the x of a curve
        unfit = {name: why for name, why in unfit.items() if why != COUNTS}
    problems = [line for one in features for line in one.problems()]
    problems += _name_clashes([one for one in features if one.name not in unfit])
    told, begin = _with_reasons(unfit), str(path)
    has_numbers = any(one.name in unfit and one.numbers and not one.words for one in features)
    keeps = "; " + "'data.numeric=[COLUMN]' (whole numbers) or " * has_numbers
    keeps = (keeps + "'data.categorical=[COLUMN]' keeps one") * ({*unfit.values()} != {EMPTY})
    if unfit and keys.strict:
        problems.append(f"columns that can't be features: {told}: {keys.dropping(unfit)}")
    elif len(unfit) == len(features):
        problems.append(
            f"no column is left to predict {roles.target!r} from; left out: {told}{keeps}"
        )
    if problems:
        raise DataError(*(p if p.startswith(begin) else f"{begin}: {p}" for p in problems))
    amounts = [one.reading() for one in features if one.form]
    notes = [f"read as numbers: {', '.join(amounts)}"] if amounts else []
    notes += [f"columns that can't be features are left out: {told}{keeps}"] if unfit else []
    doubtful = {one.name: one.doubt for one in features if one.name not in unfit and one.doubt}
    told = _with_reasons(doubtful)
    notes += [f"possibly useless columns: {told}: {keys.dropping(doubtful)}"] if doubtful else []
    kept = {name: kind for name, kind in roles.features.items() if name not in unfit}
    return replace(roles, features=kept), notes


def _name_clashes(features: Sequence[FeatureCells]) -> Iterator[str]:
    """Yield a message on each part of dates that has the name of another column."""
    names = {one.name for one in features}
    for one in features:
        for part in one.columns() if one.form in ORDERS else ():
            if part.name in names:
                yield (
                    f"column {part.name!r} has the name of a part of the dates in {one.name!r}; "
                    f"rename it, or leave one of them out: {one.keys.dropping([part.name])}"
                )


def _with_reasons(columns: Mapping[str, str]) -> str:
    names: dict[str, list[str]] = {}
    for name, why in columns.items():
        names.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(those)} ({why})" for why, those in names.items())


class _Conversion:
    """Converter of batches of cells into rows; counts rows left out, and empty or unknown cells."""

    def __init__(
        self, roles: Roles, keys: Keys, outcome: Outcome, columns: tuple[Column, ...]
    ) -> None:
        self.roles, self.columns = roles, columns
        self._outcome, self.keys = outcome, keys
        self._groups: dict[str | None, int] = {}
        self._holes: Counter[str] = Counter()
        self._first_holes: dict[str, tuple[Place, int]] = {}
        self._unknown: Counter[str] = Counter()
        self.left_out = self._kept = 0
        # Bounds of each feature within each class, or of its difference from the target.
        shape = (max(1, len(outcome.classes)), len(columns))
        self._low, self._high = np.full(shape, np.inf), np.full(shape, -np.inf)
        self._whole = np.ones(len(columns), dtype=np.bool_)

    def converted(self, batch: pa.RecordBatch, place: Place, part: int) -> dict[str, Array]:
        """Convert the next batch; its rows are of `part` unless a split column says otherwise.

        Returns `inputs`, `targets`, `parts`, `numbers`, and `groups`, `times` if a column has them.
        """
        first = self._kept + self.left_out
        rows: dict[str, Array] = {
            "parts": np.full(batch.num_rows, part, dtype=np.int8),
            "numbers": np.arange(first, first + batch.num_rows),
        }
        for key, column in self.roles.beside.items():
            cells = Cells(batch.column(column), column, place)
            if key == "split":
                rows["parts"] = cells.parts()
            elif key == "time":
                rows["times"] = cells.instants()
            elif key == "group":
                rows["groups"] = self._group_numbers(cells)
        rows["inputs"] = raw_rows(batch, self.columns, place)
        target = self.roles.target
        rows["targets"], empty = self._outcome.targets(Cells(batch.column(target), target, place))
        holes = np.isnan(rows["inputs"])
        for index, one in enumerate(self.columns):
            if one.levels:
                self._unknown[one.name] += int((rows["inputs"][:, index] == UNKNOWN).sum())
            if one.part in ("", DATE_PARTS[0]):
                self._count_holes(one.in_file, holes[:, index], place)
        self._count_holes(target, empty, place)
        left_out = empty | holes.any(1) if self.keys.missing == "drop" else empty
        if left_out.any():
            rows = {name: block[~left_out] for name, block in rows.items()}
            self.left_out += int(left_out.sum())
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
        """Raise DataError if nothing fills in an empty cell, or if no row is left."""
        problems = []
        if self.keys.missing == "refuse":
            whats = {self.roles.target: "the target", **{c.in_file: "a cell" for c in self.columns}}
            for name, what in whats.items():
                if count := self._holes[name]:
                    place, position = self._first_holes[name]
                    fill = "fill it in" if what == "the target" else "set data.missing=mean"
                    problems.append(
                        f"{place.cell(position, name)}: {what} is empty ({count} rows in total); "
                        f"{fill}, or drop these rows: data.missing=drop"
                    )
        if not self._kept and self.keys.missing != "drop" and not problems:
            problems.append(
                f"{self.keys.path}: the target {self.roles.target!r} has only empty cells; set "
                "data.target=COLUMN"
            )
        elif not self._kept and not problems:
            problems.append(
                f"data.missing=drop removes all {self.left_out} rows: each has an empty cell "
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
        """Return a message, in a list, on features that reveal the target: equal or one a class."""
        told = self._whole & (self._low == self._high).all(0)
        if self._outcome.classes:
            ordered = np.sort(self._low, axis=0)
            told &= (ordered[1:] != ordered[:-1]).all(0)
        else:
            told &= self._low[0] == 0
        names = [*dict.fromkeys(self.columns[index].in_file for index in np.flatnonzero(told))]
        listed, are_many = ", ".join(map(repr, names)), len(names) > 1
        line = (
            f"column{'s' * are_many} {listed} determine{'s' * (not are_many)} the target "
            f"{self.roles.target!r}; unless known before it, drop: "
            f"{self.keys.dropping(names)}"
        )
        return [line] * bool(names)

    def notes(self) -> Iterator[str]:
        """Yield notes on rows that were left out and on categories that training never saw."""
        rows = self._kept + self.left_out
        if self.left_out and self.keys.missing == "drop":
            cells = _counted(self._holes)
            yield f"data.missing=drop: rows {rows:,} → {self._kept:,}; empty cells: {cells}"
        else:
            yield from without_target(self.left_out, rows, self.roles.target)
        if unknown := +self._unknown:
            told = _counted(unknown)
            yield f"categories not in the training file count as 'other': {told}"


def _counted(cells: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in cells.items())


def _gathered(conversion: _Conversion, paths: Paths, folder: Path | None) -> dict[str, Array]:
    """Convert all rows and return them by name; with a folder, inputs are mapped.

    Mapped arrays are written batch by batch, since a full disk then raises an error; writing to a
    mapping would kill the process.
    """
    keys, roles = conversion.keys, conversion.roles
    rows: dict[str, list[Array]] = defaultdict(list)
    with nullcontext() if folder is None else (folder / INPUTS).open("wb") as file:
        blocks = (
            block
            for path, part in paths
            for place, batch in batches(path, keys.csv, columns=roles.read)
            for block in conversion.converted(batch, place, part).items()
        )
        for name, block in blocks:
            if file is not None and name == INPUTS:
                file.write(np.ascontiguousarray(block, dtype="<f8").tobytes())
            else:
                rows[name].append(block)
    whole = {name: np.concatenate(parts) for name, parts in rows.items()}
    if folder is not None:
        whole |= _mapped(folder, len(whole["targets"]), len(conversion.columns))
    return whole


def _mapped(folder: Path, rows: int, columns: int) -> dict[str, Array]:
    """Return the inputs that a folder holds as bytes, memory-mapped and read-only."""
    if not rows:
        return {}
    return {INPUTS: np.memmap(folder / INPUTS, dtype="<f8", mode="r").reshape(rows, columns)}


def stored(paths: Paths, keys: Keys) -> Samples:
    """Return a table from the user's cache; it is converted first if it is not there.

    It is identified by path, size, modification time and keys. Processes may call this at the same
    time: each writes a folder of its own, and that of the first to finish is kept.

    Raises:
        EnvironmentFaultError: The cache has no room or can't be written. See also `read_samples`.
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
        # Delete tables of earlier states of the file; processes that have mapped them go on.
        for other in place.parent.glob(f"table-{table}-*"):
            if other.name.split("-")[2] != state:
                shutil.rmtree(other, ignore_errors=True)
        _convert(paths, keys, place)
    facts: dict[str, Any] = json.loads((place / FACTS).read_text(encoding="utf-8"))
    columns = tuple(Column(name=n, levels=tuple(x), form=f) for n, x, f in facts["columns"])
    lists = {name: tuple(facts[name]) for name in ("classes", "features", "notes")}
    kept = {name: place / f"{name}.npy" for name in ARRAYS}
    arrays = {name: np.load(file) for name, file in kept.items() if file.exists()}
    mapped = _mapped(place, len(arrays["targets"]), len(columns))
    return Samples(**{**facts, **lists, **arrays, **mapped, "columns": columns})


def _convert(paths: Paths, keys: Keys, place: Path) -> None:
    # Machines that share the cache may have equal process ids, so names contain the host.
    host = platform.node().replace(".", "-")
    for left in place.parent.glob(f".table-*@{host}.*.tmp"):
        if not psutil.pid_exists(int(left.suffixes[-2][1:])):
            shutil.rmtree(left, ignore_errors=True)
    beside = place.with_name(f".{place.name}@{host}.{os.getpid()}.tmp")
    try:
        create_folder(beside)
        # A text cell of two bytes or more becomes eight, but most have more than two. The size of
        # the files is asked for as room; a disk that fills up later raises an error as well.
        needed, free = size_of(paths, keys), shutil.disk_usage(beside).free
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
    facts["columns"] = [(column.name, column.levels, column.form) for column in samples.columns]
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    pa.default_memory_pool().release_unused()  # otherwise training keeps the memory of reading
    announce(f"converted {len(samples.targets):,} rows in {duration(perf_counter() - started_at)}")
