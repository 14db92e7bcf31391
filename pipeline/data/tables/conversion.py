"""All rows of a table as arrays, in one pass, with what was left out on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.labels import Outcome, TargetCells
from pipeline.data.scale import UNKNOWN
from pipeline.data.source import Array, Column, Indices, Samples
from pipeline.data.tables.cells import (
    TEST,
    TRAIN,
    VALIDATION,
    are_missing,
    encoded,
    instants,
    parts,
    raw_rows,
)
from pipeline.data.tables.columns import FeatureCells, Keys, Roles, roles_of
from pipeline.data.tables.file import Place, batches, column_names, require_columns
from pipeline.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of one table.

    Args:
        paths: Each with the part that its rows belong to, the training file first.
        sep: What parts the cells of a CSV file; None = found.
    """

    paths: tuple[tuple[Path, int], ...]
    sep: str | None

    @property
    def training(self) -> Path:
        """The file whose rows train, and that says what the columns mean."""
        return self.paths[0][0]

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[pa.RecordBatch, Place, int]]:
        """Yield all rows with where they stand and their part."""
        for path, part in self.paths:
            for first_row, batch in batches(path, sep=self.sep, columns=columns):
                yield batch, Place(file=str(path), first_row=first_row, sep=self.sep), part


def read_samples(files: Files, keys: Keys, *, folder: Path | None = None) -> Samples:
    """Read all rows of all files.

    Args:
        files: The files.
        keys: What the user says about them.
        folder: An empty folder that takes the rows; None = they are kept in memory.

    Raises:
        ConfigError: A key can't apply to this table.
        DataError: The table can't be learned from as it stands.
    """
    names = column_names(files.training, sep=files.sep)
    roles = roles_of(files.training, names, keys)
    ignored = _check_further(files, names, roles)
    outcome, columns, notes = _learned(files, roles, keys)
    rows = _gathered(roles, files, folder)
    conversion = _Conversion(roles, keys, outcome, columns)
    for batch, place, part in files.batches(roles.read):
        for name, block in conversion.converted(batch, place, part).items():
            rows[name].append(block)
    conversion.require_whole()
    leaks = conversion.leaks()
    if leaks and keys.strict:
        raise DataError(*(f"{files.training}: {line}" for line in leaks))
    arrays = {
        name: np.concatenate(one) if isinstance(one, list) else one.finished()
        for name, one in rows.items()
    }
    in_parts, times = arrays.pop("parts"), arrays.pop("times", None)
    return Samples(
        **arrays,
        task=outcome.task,
        classes=outcome.classes,
        features=tuple(column.name for column in columns),
        units=keys.units,
        test=_in_part(in_parts, TEST),
        validation=_in_part(in_parts, VALIDATION),
        columns=columns,
        label=outcome.name,
        order=None if times is None else np.argsort(times, kind="stable"),
        reading={
            "kind": "table",
            "target": outcome.name,
            "id": roles.beside.get("id"),
            "sep": files.sep,
        },
        strict=keys.strict,
        notes=(*notes, *ignored, *leaks, *conversion.notes()),
    )


def _check_further(files: Files, names: Sequence[str], roles: Roles) -> list[str]:
    """Find the columns of the training file in the others; say what else is in them."""
    notes = []
    for path, _ in files.paths[1:]:
        there = column_names(path, sep=files.sep)
        require_columns(path, there, roles.read)
        if further := [name for name in there if name not in names]:
            notes.append(f"{path}: ignored, as the training file has no {', '.join(further)}")
    return notes


def _learned(
    files: Files, roles: Roles, keys: Keys
) -> tuple[Outcome, tuple[Column, ...], list[str]]:
    """Look at every feature and the target of the training file; return what they mean, and notes.

    Raises:
        ConfigError: `positive` names no class.
        DataError: All columns that are no features as they stand, or a target that is none.
    """
    path = files.training
    features = [FeatureCells(name, wanted) for name, wanted in roles.features.items()]
    target = TargetCells(roles.target)
    read = tuple(dict.fromkeys((*roles.features, roles.target)))
    for batch, place, _ in replace(files, paths=files.paths[:1]).batches(read):
        for one in features:
            one.add(batch.column(one.name), place)
        target.add(batch.column(target.name), place)
    if not target.rows:
        raise DataError(f"{path} has a header and no rows (0 rows); expected at least one a part")
    if problems := [line for one in features for line in one.problems()]:
        begin = str(path)
        raise DataError(*(p if p.startswith(begin) else f"{begin}: {p}" for p in problems))
    outcome, told = target.outcome(keys)
    last = f"target: {roles.target!r}, the last column; another with data.target=COLUMN"
    notes = [last] if keys.target is None else []
    notes += [*told, *(note for one in features for note in one.notes())]
    return outcome, tuple(one.column() for one in features), notes


class _Conversion:
    """Turns batches of cells into rows, and counts what was left out or is odd."""

    def __init__(
        self, roles: Roles, keys: Keys, outcome: Outcome, columns: tuple[Column, ...]
    ) -> None:
        self._roles, self._outcome, self._columns = roles, outcome, columns
        self._missing = keys.missing
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
        """Convert the next batch of texts, which belong to `part` unless a column says so.

        Returns:
            `inputs`, `targets` and `parts`, and `ids`, `groups`, `times` where a column gives them.

        Raises:
            DataError: A cell can't be what its column is: says where and which.
        """
        rows = self._beside(batch, place, part)
        rows["inputs"] = raw_rows(batch, self._columns, place)
        for column, cells in zip(self._columns, rows["inputs"].T, strict=True):
            if column.levels:
                self._unknown[column.name] += int((cells == UNKNOWN).sum())
            self._count_holes(column.name, np.isnan(cells), place)
        target = batch.column(self._roles.target)
        rows["targets"], empty = self._outcome.targets(target, place)
        self._count_holes(self._roles.target, empty, place)
        if self._missing == "drop":
            kept = ~empty & ~np.isnan(rows["inputs"]).any(1)
            rows = {name: block[kept] for name, block in rows.items()}
            self._left_out += int((~kept).sum())
        self._kept += len(rows["targets"])
        if part == TRAIN:
            self._bound_features(rows["inputs"], rows["targets"])
        return rows

    def _beside(self, batch: pa.RecordBatch, place: Place, part: int) -> dict[str, Array]:
        rows: dict[str, Array] = {"parts": np.full(batch.num_rows, part, dtype=np.int8)}
        for key, column in self._roles.beside.items():
            cells = batch.column(column)
            if key == "split":
                rows["parts"] = parts(cells, column=column, place=place)
            elif key == "time":
                rows["times"] = instants(cells, column=column, place=place)
            elif key == "id":
                rows["ids"] = np.array(cells.fill_null("").to_pylist(), dtype=np.str_)
            else:
                rows["groups"] = self._group_numbers(cells, column, place)
        return rows

    def _group_numbers(self, cells: pa.Array, column: str, place: Place) -> Array:
        if cells.null_count:
            position = int(are_missing(cells).argmax())
            raise DataError(
                f"{place.cell(position, column)}: the cell is empty; expected the group that the "
                "row belongs to"
            )
        names, places = encoded(cells)
        found = [self._groups.setdefault(name, len(self._groups)) for name in names[:-1]]
        groups: Array = np.array(found)[places]
        return groups

    def _count_holes(self, column: str, empty: Array, place: Place) -> None:
        if empty.any():
            self._holes[column] += int(empty.sum())
            self._first_holes.setdefault(column, (place, int(empty.argmax())))

    def require_whole(self) -> None:
        """Refuse empty cells that nothing fills in.

        Raises:
            DataError: Each column with the first row and the count; or no row is left.
        """
        refused = [self._roles.target] if self._missing != "drop" else []
        if self._missing == "refuse":
            refused += [column.name for column in self._columns]
        problems = [self._hole_problem(name) for name in refused if self._holes[name]]
        if problems:
            raise DataError(*problems)
        if not self._kept:
            raise DataError(
                f"data.missing=drop leaves none of {self._left_out} rows: each has an empty cell "
                f"({_counted(self._holes)}); leave out a column with data.drop=[COLUMN]"
            )

    def _hole_problem(self, name: str) -> str:
        place, position = self._first_holes[name]
        is_target = name == self._roles.target
        what = "the target" if is_target else "a cell"
        fix = "" if is_target else ", data.missing=mean fills them in"
        return (
            f"{place.cell(position, name)}: {what} is empty, as in {self._holes[name]} rows in "
            f"all; fill it in{fix}, or leave these rows out: data.missing=drop"
        )

    def _bound_features(self, inputs: Array, targets: Array) -> None:
        self._whole &= ~np.isnan(inputs).any(0)
        groups: Iterable[Array]
        if self._outcome.classes:
            groups = (inputs[targets == label] for label in range(len(self._low)))
        else:
            groups = [inputs - targets[:, None]]
        for group, values in enumerate(groups):
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
        names = [self._columns[index].name for index in np.flatnonzero(told)]
        return [
            f"column {name!r} tells the target {self._roles.target!r} in every row: if it is not "
            f"known before the answer is, leave it out: data.drop=[{name}]"
            for name in names
        ]

    def notes(self) -> Iterator[str]:
        """Yield which rows were left out and which categories training never saw."""
        if self._left_out:
            yield f"left out {self._left_out} rows with an empty cell: {_counted(self._holes)}"
        if unknown := +self._unknown:
            yield (
                "categories that the training file does not have count as other: "
                f"{_counted(unknown)}"
            )


def _counted(cells: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in cells.items())


def _in_part(in_parts: Array, part: int) -> Indices | None:
    """Return the rows that the files put into a part; None where they leave that open."""
    rows = np.flatnonzero(in_parts == part)
    return rows if len(rows) else None


class _OnDisk:
    """Writes blocks of rows behind each other into an `.npy` file.

    They are written and not mapped while they come: a full disk is an error then, and not the end
    of the process.

    Args:
        path: The file to make.
        dtype: Of the rows.
        row_shape: Of one row.
    """

    def __init__(self, path: Path, dtype: str, row_shape: tuple[int, ...]) -> None:
        self._path, self._dtype, self._row_shape = path, np.dtype(dtype), row_shape
        self._rows = 0
        self._file = path.open("wb")
        self._write_header()

    def _write_header(self) -> None:
        """Write a header, which numpy makes of one size whatever the number of rows."""
        described = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows, *self._row_shape),
        }
        np.lib.format.write_array_header_1_0(self._file, described)

    def append(self, block: Array) -> None:
        """Write the next rows (rows, …)."""
        self._rows += len(block)
        self._file.write(np.ascontiguousarray(block, dtype=self._dtype).tobytes())

    def finished(self) -> Array:
        """Return all rows, mapped and read-only."""
        self._file.seek(0)
        self._write_header()
        self._file.close()
        rows: Array = np.load(self._path, mmap_mode="r", allow_pickle=False)
        return rows


def _gathered(roles: Roles, files: Files, folder: Path | None) -> dict[str, list[Array] | _OnDisk]:
    """Return what takes the rows of each name: a list of blocks, or a file of a folder."""
    beside = [f"{key}s" for key in roles.beside if key != "split"]
    names = ("inputs", "targets", "parts", *beside)
    rows: dict[str, list[Array] | _OnDisk] = {name: [] for name in names}
    if folder is not None:
        rows["inputs"] = _OnDisk(folder / "inputs.npy", "<f8", (len(roles.features),))
        if "id" in roles.beside:
            width = _longest(files, roles.beside["id"])
            rows["ids"] = _OnDisk(folder / "ids.npy", f"<U{width}", ())
    return rows


def _longest(files: Files, column: str) -> int:
    """Return the letters of the longest cell of a column."""
    import pyarrow.compute as pc

    texts = (batch.column(column) for batch, _, _ in files.batches([column]))
    return max((pc.max(pc.utf8_length(one)).as_py() or 1 for one in texts), default=1)
