"""The cells of all files of a table as arrays, in one pass, with what was left out on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.encode import UNKNOWN
from pipeline.data.source import Array
from pipeline.data.tables.cells import raw_rows
from pipeline.data.tables.gather import Gathered
from pipeline.data.tables.leaks import Leaks
from pipeline.data.tables.location import Place
from pipeline.data.tables.meaning import Meaning
from pipeline.data.tables.moments import moments
from pipeline.data.tables.parts import TRAIN, parts_of
from pipeline.data.tables.roles import Keys, Roles
from pipeline.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


class Conversion:
    """Turns batches of cells into rows and puts them together.

    Args:
        roles: What the columns are for.
        keys: What the user says about them.
        meaning: What the training file has shown.
        into: Takes the rows: `inputs`, `targets`, `parts`, and `ids`, `groups`, `times` where a
            column gives them.
    """

    def __init__(
        self, roles: Roles, keys: Keys, meaning: Meaning, into: Mapping[str, Gathered]
    ) -> None:
        self._roles, self._keys, self._meaning, self._into = roles, keys, meaning, into
        self._groups: dict[str, int] = {}
        self._holes: Counter[str] = Counter()
        self._first_holes: dict[str, tuple[Place, int]] = {}
        self._unknown: Counter[str] = Counter()
        self._left_out = 0
        self._kept = 0
        self._leaks = Leaks(columns=len(meaning.columns), classes=len(meaning.outcome.classes))

    def add(self, batch: pa.RecordBatch, place: Place, part: int) -> None:
        """Convert the next batch.

        Args:
            batch: Its cells are texts.
            place: Where they come from.
            part: Where they belong, unless a column says so.

        Raises:
            DataError: A cell can't be what its column is: says where and which.
        """
        rows = dict(self._beside(batch, place, part))
        rows["inputs"] = self._inputs(batch, place)
        rows["targets"], empty = self._meaning.outcome.targets(
            batch.column(self._roles.target), place
        )
        self._count_holes(self._roles.target, empty, place)
        if self._keys.missing == "drop":
            kept = ~empty & ~np.isnan(rows["inputs"]).any(1)
            rows = {name: block[kept] for name, block in rows.items()}
            self._left_out += int((~kept).sum())
        self._kept += len(rows["targets"])
        if part == TRAIN:
            self._leaks.add(rows["inputs"], rows["targets"])
        for name, gathered in self._into.items():
            gathered.add(rows[name])

    def _inputs(self, batch: pa.RecordBatch, place: Place) -> Array:
        columns = self._meaning.columns
        inputs = raw_rows(batch, columns, place)
        for column, cells in zip(columns, inputs.T, strict=True):
            if column.levels:
                self._unknown[column.name] += int((cells == UNKNOWN).sum())
            self._count_holes(column.name, np.isnan(cells), place)
        return inputs

    def _beside(
        self, batch: pa.RecordBatch, place: Place, part: int
    ) -> Iterator[tuple[str, Array]]:
        keys = self._keys
        parts = np.full(batch.num_rows, part, dtype=np.int8)
        if keys.split is not None:
            parts = parts_of(batch.column(keys.split), column=keys.split, place=place)
        yield "parts", parts
        if keys.time is not None:
            yield "times", moments(batch.column(keys.time), column=keys.time, place=place)
        if keys.id is not None:
            texts = batch.column(keys.id).fill_null("").to_pylist()
            yield "ids", np.array(texts, dtype=np.str_)
        if keys.group is not None:
            yield "groups", self._group_numbers(batch, keys.group, place)

    def _group_numbers(self, batch: pa.RecordBatch, column: str, place: Place) -> Array:
        import pyarrow.compute as pc

        cells = batch.column(column)
        if cells.null_count:
            position = int(cells.is_null().to_numpy(zero_copy_only=False).argmax())
            raise DataError(
                f"{place.cell(position, column)}: the cell is empty; expected the group that the "
                "row belongs to"
            )
        encoded = pc.dictionary_encode(cells)
        names = encoded.dictionary.to_pylist()
        found = [self._groups.setdefault(name, len(self._groups)) for name in names]
        groups: Array = np.array(found)[encoded.indices.to_numpy(zero_copy_only=False)]
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
        refused = [self._roles.target] if self._keys.missing != "drop" else []
        if self._keys.missing == "refuse":
            refused += [column.name for column in self._meaning.columns]
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
        what = "the target" if name == self._roles.target else "a cell"
        fix = "" if name == self._roles.target else ", data.missing=mean fills them in"
        return (
            f"{place.cell(position, name)}: {what} is empty, as in {self._holes[name]} rows in "
            f"all; fill it in{fix}, or leave these rows out: data.missing=drop"
        )

    def leaks(self) -> list[str]:
        """Say which features are the target under another name."""
        names = [self._meaning.columns[index].name for index in self._leaks.found()]
        target = self._roles.target
        return [
            f"column {name!r} tells the target {target!r} in every row: if it is not known before "
            f"the answer is, leave it out: data.drop=[{name}]"
            for name in names
        ]

    def notes(self) -> Iterator[str]:
        """Yield which rows were left out and which categories training never saw."""
        if self._left_out:
            yield (f"left out {self._left_out} rows with an empty cell: {_counted(self._holes)}")
        if unknown := +self._unknown:
            yield (
                "categories that the training file does not have count as other: "
                f"{_counted(unknown)}"
            )


def _counted(cells: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in cells.items())
