"""Rows of a table's files as numbers: features, targets, parts, groups and times."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.base.errors import DataError
from pipeline.data.parsing.cells.evidence import ColumnEvidence, settle
from pipeline.data.parsing.cells.kind import UNKNOWN, to_plain
from pipeline.data.parsing.cells.kinds.date_part import PARTS as DATE_PARTS
from pipeline.data.parsing.cells.texts import Cells
from pipeline.data.parsing.tables.beside import TEST, TRAIN, VALIDATION, instants, parts_of
from pipeline.data.parsing.tables.features import Features, find_features
from pipeline.data.parsing.tables.file import CellLocation, form_of, require_columns
from pipeline.data.parsing.tables.roles import Keys, Roles, roles_of
from pipeline.data.parsing.tables.rows import FileRows
from pipeline.data.parsing.tables.target import TargetColumn, TargetEvidence, class_note
from pipeline.data.source import Array, ReadColumn, Samples

if TYPE_CHECKING:
    import pyarrow as pa

INPUTS = "inputs"
#: The files of a table, each with the part of its rows; the first one is for training.
Paths = Sequence[tuple[Path, int]]


def read_samples(paths: Paths, keys: Keys, *, folder: Path | None = None) -> Samples:
    """Read all rows of all files.

    Without a folder, the training file is read once, and its texts are kept until they are
    numbers. With one, it is read twice, and its numbers are mapped from the folder (empty).

    Raises:
        ConfigError: A key does not suit the table.
        DataError: The rows can't be read, or learned from as they stand.
    """
    training = paths[0][0]
    names = form_of(training, keys.csv).names
    every_role = roles_of(training, names, keys)
    rows = FileRows(training, keys.csv, every_role.read, keep=folder is None)
    features, target, notes = _learned(training, rows, every_role, keys)
    roles = features.roles
    for path, _ in paths[1:]:
        notes += _ignored(path, names, roles, keys)
    conversion = _Conversion(features, target, keys)
    files = [(rows, paths[0][1])]
    files += [(FileRows(path, keys.csv, roles.read, keep=False), part) for path, part in paths[1:]]
    arrays = _gathered(conversion, files, folder)
    conversion.require_whole()
    leaks = conversion.leaks()
    if leaks and keys.strict:
        raise DataError(*(f"{training}: {line}" for line in leaks))
    in_parts = arrays.pop("parts")
    times = arrays.pop("times", None)
    _require_rows(paths[1:], in_parts, roles.target, keys)
    if not conversion.left_out:
        del arrays["numbers"]
    first_notes = []
    if keys.target is None:
        first_notes.append(
            f"target: {roles.target!r}, the last column; change with data.target=COLUMN"
        )
    if target.classes:
        in_training = (in_parts == TRAIN).sum() if paths[1:] else None
        first_notes.append(class_note(target, keys, arrays["targets"][:in_training]))
    return Samples(
        **arrays,
        task=target.task,
        classes=target.classes,
        is_turned=target.is_turned,
        features=tuple(column.name for column in features.columns),
        units=keys.units,
        test=_rows_in(in_parts, TEST),
        validation=_rows_in(in_parts, VALIDATION),
        columns=features.columns,
        label=target.name,
        order=None if times is None else np.argsort(times, kind="stable"),
        reading=_reading(target, roles, keys),
        left_out=conversion.left_out,
        strict=keys.strict,
        notes=(*first_notes, *notes, *leaks, *conversion.notes()),
    )


def _require_rows(paths: Paths, in_parts: Array, target: str, keys: Keys) -> None:
    """Raise DataError if a file has no row that is kept."""
    complete = "without empty cells" if keys.missing == "drop" else f"with a target {target!r}"
    for path, part in paths:
        if part not in in_parts:
            raise DataError(f"{path} has no row {complete}; expected at least one")


def _reading(target: TargetColumn, roles: Roles, keys: Keys) -> dict[str, Any]:
    """Return how new rows of the table are read, besides its columns and classes."""
    reading: dict[str, Any] = {
        "kind": "table",
        "target": target.name,
        "id": roles.beside.get("id"),
        **keys.csv._asdict(),
    }
    if not target.classes:
        reading["values"] = to_plain(target.grammar)
    return reading


def _rows_in(in_parts: Array, part: int) -> Array | None:
    """Return the row numbers of a part; None if it has none."""
    rows = np.flatnonzero(in_parts == part)
    return rows if len(rows) else None


def _ignored(path: Path, names: Sequence[str], roles: Roles, keys: Keys) -> Iterator[str]:
    """Yield a note on columns that a training file with these names lacks, if there are any."""
    names_there = form_of(path, keys.csv).names
    require_columns(path, names_there, roles.read)
    if other_names := [name for name in names_there if name not in names]:
        yield f"{path}: ignored columns (not in training): {', '.join(other_names)}"


def _learned(
    path: Path, rows: FileRows, roles: Roles, keys: Keys
) -> tuple[Features, TargetColumn, list[str]]:
    """Return the meaning of the training file's features and target, and notes."""
    columns = [
        ColumnEvidence(name, keys.of_cells(kind), rows.cells)
        for name, kind in roles.features.items()
    ]
    of_target = TargetEvidence(roles.target, keys, rows)
    every_column = [*columns, of_target]
    for place, batch in rows:
        for column in every_column:
            column.add(Cells(batch.column(column.name), column.name, place))
    if not of_target.rows:
        raise DataError(f"{path} has a header and no rows (0 rows); expected at least one per part")
    table = form_of(path, keys.csv)
    settle(every_column, sep=table.sep, are_texts=not table.format.has_typed_cells)
    features = find_features(path, roles, columns, keys)
    target, notes = of_target.target()
    return features, target, [*notes, *features.notes]


def raw_rows(batch: pa.RecordBatch, columns: Sequence[ReadColumn], place: CellLocation) -> Array:
    """Return the cells of some columns as float64 (rows, columns).

    NaN is a missing cell; a category is the index of its level, or `UNKNOWN`.

    Raises:
        DataError: A cell can't be read.
    """
    raw = np.empty((batch.num_rows, len(columns)))
    for index, column in enumerate(columns):
        cells = Cells(batch.column(column.in_file), column.in_file, place)
        raw[:, index] = column.grammar.read(cells)
    return raw


def without_target(count: int, rows: int, target: str) -> list[str]:
    """Return a note, in a list, on rows that are left out for an empty target; empty = none are."""
    if not count:
        return []
    return [f"{count:,} of {rows:,} rows are left out, since their target {target!r} is empty"]


class _Conversion:
    """Converter of batches of cells into rows; counts rows left out, and empty or unknown cells."""

    def __init__(self, features: Features, target: TargetColumn, keys: Keys) -> None:
        self.roles = features.roles
        self.columns = features.columns
        self._target = target
        self.keys = keys
        self._groups: dict[str | None, int] = {}
        self._holes: Counter[str] = Counter()
        self._first_holes: dict[str, tuple[CellLocation, int]] = {}
        self._unknown: Counter[str] = Counter()
        self.left_out = 0
        self._kept = 0
        # Bounds of each feature within each class, or of its difference from the target.
        shape = (max(1, len(target.classes)), len(self.columns))
        self._low = np.full(shape, np.inf)
        self._high = np.full(shape, -np.inf)
        self._whole = np.ones(len(self.columns), dtype=np.bool_)

    def converted(self, batch: pa.RecordBatch, place: CellLocation, part: int) -> dict[str, Array]:
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
                rows["parts"] = parts_of(cells)
            elif key == "time":
                rows["times"] = instants(cells)
            elif key == "group":
                rows["groups"] = self._group_numbers(cells)
        rows["inputs"] = raw_rows(batch, self.columns, place)
        name = self._target.name
        rows["targets"], empty = self._target.read(Cells(batch.column(name), name, place))
        holes = self._counted_holes(rows["inputs"], place)
        self._count_holes(name, empty, place)
        left_out = empty | holes.any(1) if self.keys.missing == "drop" else empty
        if left_out.any():
            rows = {key: block[~left_out] for key, block in rows.items()}
            self.left_out += int(left_out.sum())
        self._kept += len(rows["targets"])
        if part == TRAIN:
            self._bound_features(rows["inputs"], rows["targets"])
        return rows

    def _group_numbers(self, cells: Cells) -> Array:
        names, places = cells.encoded()
        if cells.texts.null_count:
            problem = "the cell is empty; expected the group that the row belongs to"
            raise cells.fault(places == len(names) - 1, problem)
        numbers = [self._groups.setdefault(name, len(self._groups)) for name in names[:-1]]
        groups: Array = np.array(numbers)[places]
        return groups

    def _counted_holes(self, inputs: Array, place: CellLocation) -> Array:
        """Count unknown categories and empty cells; return whether each cell is empty."""
        holes: Array = np.isnan(inputs)
        for index, column in enumerate(self.columns):
            if column.levels:
                self._unknown[column.name] += int((inputs[:, index] == UNKNOWN).sum())
            if column.part in ("", DATE_PARTS[0]):
                self._count_holes(column.in_file, holes[:, index], place)
        return holes

    def _count_holes(self, column: str, empty: Array, place: CellLocation) -> None:
        if empty.any():
            self._holes[column] += int(empty.sum())
            self._first_holes.setdefault(column, (place, int(empty.argmax())))

    def require_whole(self) -> None:
        """Raise DataError if nothing fills in an empty cell, or if no row is left."""
        problems = list(self._empty_cells()) if self.keys.missing == "refuse" else []
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

    def _empty_cells(self) -> Iterator[str]:
        """Yield a message on the first empty cell of each column."""
        columns = dict.fromkeys([self.roles.target, *(c.in_file for c in self.columns)])
        for name in columns:
            if count := self._holes[name]:
                is_target = name == self.roles.target
                words = "the target" if is_target else "a cell"
                fill = "fill it in" if is_target else "set data.missing=mean"
                place, position = self._first_holes[name]
                yield (
                    f"{place.cell(position, name)}: {words} is empty ({count} rows in total); "
                    f"{fill}, or drop these rows: data.missing=drop"
                )

    def _bound_features(self, inputs: Array, targets: Array) -> None:
        self._whole &= ~np.isnan(inputs).any(0)
        if self._target.classes:
            groups = [inputs[targets == label] for label in range(len(self._low))]
        else:
            groups = [inputs - targets[:, None]]
        for group, values in enumerate(groups):
            if len(values):
                self._low[group] = np.fmin(self._low[group], values.min(0))
                self._high[group] = np.fmax(self._high[group], values.max(0))

    def leaks(self) -> list[str]:
        """Return a message, in a list, on features that reveal the target: equal or one a class."""
        reveal = self._whole & (self._low == self._high).all(0)
        if self._target.classes:
            ordered = np.sort(self._low, axis=0)
            reveal &= (ordered[1:] != ordered[:-1]).all(0)
        else:
            reveal &= self._low[0] == 0
        names = [*dict.fromkeys(self.columns[index].in_file for index in np.flatnonzero(reveal))]
        if not names:
            return []
        listed = ", ".join(map(repr, names))
        subject = f"columns {listed} determine" if len(names) > 1 else f"column {listed} determines"
        return [
            f"{subject} the target {self.roles.target!r}; unless known before it, drop: "
            f"{self.keys.dropping(names)}"
        ]

    def notes(self) -> Iterator[str]:
        """Yield notes on rows that were left out and on categories that training never saw."""
        rows = self._kept + self.left_out
        if self.left_out and self.keys.missing == "drop":
            cells = _counted(self._holes)
            yield f"data.missing=drop: rows {rows:,} → {self._kept:,}; empty cells: {cells}"
        else:
            yield from without_target(self.left_out, rows, self.roles.target)
        if unknown := +self._unknown:
            yield f"categories not in the training file count as 'other': {_counted(unknown)}"


def _counted(cells: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in cells.items())


def _gathered(
    conversion: _Conversion, files: Sequence[tuple[FileRows, int]], folder: Path | None
) -> dict[str, Array]:
    """Convert all rows and return them by name; with a folder, inputs are mapped.

    Mapped arrays are written batch by batch, since a full disk then raises an error; writing to a
    mapping would kill the process.
    """
    import pyarrow as pa

    rows: dict[str, list[Array]] = defaultdict(list)
    with nullcontext() if folder is None else (folder / INPUTS).open("wb") as file:
        for texts, part in files:
            for place, batch in texts.taken():
                blocks = conversion.converted(batch, place, part)
                if file is not None:
                    inputs = blocks.pop(INPUTS)
                    file.write(np.ascontiguousarray(inputs, dtype="<f8").tobytes())
                for name, block in blocks.items():
                    rows[name].append(block)
    # The pool may still hold as much memory as the texts took.
    pa.default_memory_pool().release_unused()
    # Each list of blocks is freed as soon as it is joined.
    arrays = {name: np.concatenate(rows.pop(name)) for name in [*rows]}
    if folder is not None:
        arrays |= mapped(folder, len(arrays["targets"]), len(conversion.columns))
    return arrays


def mapped(folder: Path, rows: int, columns: int) -> dict[str, Array]:
    """Return the inputs that a folder holds as bytes, memory-mapped and read-only."""
    if not rows:
        return {}
    return {INPUTS: np.memmap(folder / INPUTS, dtype="<f8", mode="r").reshape(rows, columns)}
