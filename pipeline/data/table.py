"""A user's own table: a CSV or Parquet file, a row a sample; and new rows of any table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.data.as_saved import content_of_test
from pipeline.data.checks import check_reach, largest_by_column
from pipeline.data.content import Content, Part
from pipeline.data.encode import UNKNOWN, Code
from pipeline.data.reader import (
    Block,
    Found,
    Missing,
    NewRows,
    Reader,
    Rules,
    first_rows,
    regrouped,
)
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Samples, Series, Source, Task
from pipeline.data.tables.cells import (
    NO_CLASS,
    TEST,
    TRAIN,
    VALIDATION,
    class_indices,
    frame_texts,
    numbers,
    raw_rows,
)
from pipeline.data.tables.columns import Keys
from pipeline.data.tables.conversion import Files, read_samples
from pipeline.data.tables.file import Place, batches, column_names, require_columns, shown
from pipeline.data.tables.store import is_large, local_file, stored
from pipeline.errors import ConfigError, DataError, did_you_mean, some

if TYPE_CHECKING:
    import pyarrow as pa

Named = str | int | None
NAMED = 5
"""Columns in a note before '…'."""


class Table(Source):
    """Columns of a file as features, and one of them as what is to be predicted.

    Args:
        path: The file, with a line of names.
        target: Column to predict; None = the last one.
        test_path: File of the test rows; None = they are split off.
        validation_path: File of the validation rows; None = likewise.
        task: What is to be predicted; None = found from the target.
        positive: Class that precision, recall and F1 speak of; None = the rarer one.
        numeric: Columns that must be numbers.
        categorical: Columns whose cells are categories, numbers too.
        drop: Columns that are left out.
        id: Column that names the rows; None = they have no names.
        group: Column of what must stay in one part, such as a patient; None = no groups.
        time: Column that orders the rows: the last ones test; None = rows are drawn.
        split: Column with the words train, validation and test; None = rows are drawn.
        missing: What happens to the row of an empty cell.
        sep: Sign between the cells of a CSV; None = found.
        units: Unit of a regression's target; empty = none.
        strict: Refuse a feature that tells the target, and test rows that also train.
        allow_url: Whether the path may be a URL.
    """

    def __init__(
        self,
        *,
        path: str,
        target: Named,
        test_path: str | None,
        validation_path: str | None,
        task: Task | None,
        positive: str | int | float | bool | None,
        numeric: tuple[str | int, ...],
        categorical: tuple[str | int, ...],
        drop: tuple[str | int, ...],
        id: Named,  # noqa: A002 - the key's name
        group: Named,
        time: Named,
        split: Named,
        missing: Literal["mean", "drop", "refuse"],
        sep: str | None,
        units: str,
        strict: bool,
        allow_url: bool,
    ) -> None:
        self.path, self.test_path, self.validation_path = path, test_path, validation_path
        self.sep = sep
        self.allow_url = allow_url
        self.keys = Keys(
            target=_text(target),
            task=task,
            positive=_text(positive),
            numeric=tuple(map(str, numeric)),
            categorical=tuple(map(str, categorical)),
            drop=tuple(map(str, drop)),
            id=_text(id),
            group=_text(group),
            time=_text(time),
            split=_text(split),
            missing=missing,
            units=units,
            strict=strict,
        )

    def read(self) -> Samples:
        """Read the table, (rows, columns); a large one is mapped from the cache."""
        self._refuse_two_splits()
        given = (
            ("path", self.path, TRAIN),
            ("validation_path", self.validation_path, VALIDATION),
            ("test_path", self.test_path, TEST),
        )
        paths = tuple(
            (local_file(path, key=f"data.{key}", allow_url=self.allow_url), part)
            for key, path, part in given
            if path is not None
        )
        files = Files(paths=paths, sep=self.sep)
        return stored(files, self.keys) if is_large(files) else read_samples(files, self.keys)

    def _refuse_two_splits(self) -> None:
        """Refuse files and columns that both say which rows test."""
        by_file = [key for key in ("test_path", "validation_path") if getattr(self, key)]
        by_column = [key for key in ("time", "split") if getattr(self.keys, key)]
        if by_file and by_column:
            raise ConfigError(
                f"data.{by_file[0]} and data.{by_column[0]} both say how rows are parted; "
                "expected one of them"
            )


def _text(value: str | float | None) -> str | None:
    return None if value is None else str(value)


class TableReader(Reader):
    """Finds the columns of a table by name, its categories and classes as in training."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema)
        self.target: str | None = schema.reading.get("target")
        self.sep: str | None = schema.reading.get("sep")
        self._id: str | None = schema.reading.get("id")
        plain = Code(name="", levels=(), kept=(), other=False, fill=0.0, has_holes=False)
        self.codes = (
            schema.encoder.codes
            if schema.encoder
            else tuple(replace(plain, name=name) for name in schema.features)
        )
        # What stands in the place of the answer is not read where the answer is asked for.
        self._answer = {schema.label, self.target} - {code.name for code in self.codes}

    def inputs(self) -> Any:
        """Describe the columns."""
        return [
            {"name": code.name, "type": "string" if code.is_category else "double"}
            for code in self.codes
        ]

    def example(self, raw: Samples | Series, content: Content) -> Any:
        """Return the cells of the first training rows."""
        assert isinstance(raw, Samples)
        return [self._cells(row) for row in first_rows(raw, content)]

    def _cells(self, row: Array) -> dict[str, Any]:
        cells: dict[str, Any] = {}
        for cell, code in zip(map(float, row), self.codes, strict=True):
            is_level = code.is_category and cell >= 0
            value = code.levels[int(cell)] if is_level else cell
            cells[code.name] = None if np.isnan(cell) else value
        return cells

    def open(self, path: Path, rules: Rules, *, size: int) -> NewRows:
        """Open a CSV or Parquet file; a missing column is refused before its first row is read."""
        columns = column_names(path, sep=self.sep)
        heading = self._heading(path, rules.id, columns)
        found = Found(ignored=self._ignored(columns, heading))
        self._require(str(path), columns)
        needed = {heading, *(code.name for code in self.codes)}
        wanted = [name for name in columns if name in needed]
        pieces = self._pieces(path, rules, heading, wanted, found)
        return NewRows(heading=heading, blocks=regrouped(pieces, size=size), found=found)

    def _heading(self, path: Path, given: str | None, columns: Sequence[str]) -> str | None:
        """Return the column that names the rows."""
        if given is not None and given not in columns:
            raise DataError(
                f"{path} has no column {given!r}, which id={given} asks for; it has "
                f"{', '.join(columns)}.{did_you_mean(given, columns)}"
            )
        return given or (self._id if self._id in columns else None)

    def _ignored(self, columns: Sequence[str], beside: str | None) -> tuple[str, ...]:
        known = {*(code.name for code in self.codes), *self._answer, self._id, beside}
        return tuple(name for name in columns if name not in known)

    def _require(self, what: str, columns: Sequence[str]) -> None:
        there = [name for name in columns if name not in self._answer]
        wanted = [code.name for code in self.codes]
        require_columns(what, there, wanted, needed="the model was trained on")

    def _pieces(
        self,
        path: Path,
        rules: Rules,
        heading: str | None,
        wanted: Sequence[str],
        found: Found,
    ) -> Iterator[Block]:
        for first_row, batch in batches(path, sep=self.sep, columns=wanted):
            place = Place(file=str(path), first_row=first_row, sep=self.sep)
            names = None
            if heading is not None:
                names = [text or "" for text in batch.column(heading).to_pylist()]
            yield Block(raw=self.rows(batch, place, rules, found), names=names)

    def rows(self, batch: pa.RecordBatch, place: Place, rules: Rules, found: Found) -> Array:
        """Return a batch of texts as raw rows (rows, columns), and count what was met.

        Raises:
            DataError: A cell can't be used: says where and which.
        """
        raw = raw_rows(batch, self.codes, place)
        for code, cells in zip(self.codes, raw.T, strict=True):
            unknown, holes = cells == UNKNOWN, np.isnan(cells)
            if code.is_category and unknown.any():
                if rules.unknown == "refuse":
                    position = int(unknown.argmax())
                    text = batch.column(code.name)[position].as_py()
                    raise DataError(
                        f"{place.cell(position, code.name)}: {shown(text)} is no category of the "
                        "training table; unknown=other counts it as other."
                        f"{did_you_mean(text, code.levels)}"
                    )
                found.unknown[code.name] += int(unknown.sum())
            if holes.any():
                may_be = code.has_holes or rules.missing == "impute"
                if self.schema.encoder is None or not may_be:
                    raise DataError(
                        f"{place.cell(int(holes.argmax()), code.name)}: the cell is empty, and no "
                        "training row had an empty one there; fill it in, or have it filled in as "
                        "in training: missing=impute"
                    )
                found.missing[code.name] += int(holes.sum())
        return raw

    def apply(self, held: Any, *, what: str, missing: Missing = "refuse") -> Block:
        """Return the rows of a DataFrame, whose cells are read as those of a file."""
        frame = self.required_frame(held)
        names = [str(name).strip() for name in frame.columns]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(
                f"{what} has several columns called {', '.join(map(repr, repeated))}; "
                "name each differently"
            )
        batch = frame_texts(frame, {code.name: code.levels for code in self.codes}, what=what)
        self._require(what, names)
        raw = self.rows(batch, Place(file=what, sep=self.sep), Rules(missing=missing), Found())
        return Block(raw=raw)

    def evaluated(self, source: Source, *, budget: int) -> tuple[Samples | Series, Content, Part]:
        """Read all rows of a file like that of the training, with what is to be predicted."""
        if self.target is None or not isinstance(source, Table):
            return super().evaluated(source, budget=budget)
        path = local_file(source.path, key="data.path", allow_url=source.allow_url)
        content = self._with_truth(path, self.target, source.keys.group, sep=source.sep)
        raw = Samples(
            inputs=content.inputs,
            targets=content.targets,
            task=self.schema.task,
            classes=self.schema.classes,
            features=self.schema.features,
        )
        return raw, content, content.part(content.split.test, budget=budget)

    def _with_truth(
        self, path: Path, target: str, group: str | None, *, sep: str | None
    ) -> Content:
        """Read all rows of a table; unknown categories are others, empty cells are filled in."""
        columns = column_names(path, sep=sep)
        require_columns(path, columns, [target], needed="says what is true")
        wanted = [code.name for code in self.codes]
        found, rules = Found(), Rules(missing="impute")
        raw, targets = [], []
        groups: list[int] = []
        numbered: dict[str | None, int] = {}  # rows without a name are a group together
        for first_row, batch in batches(path, sep=sep):
            require_columns(path, columns, wanted, needed="the model was trained on")
            place = Place(file=str(path), first_row=first_row, sep=self.sep)
            raw.append(self.rows(batch, place, rules, found))
            targets.append(self.truth(batch.column(target), target, place))
            named = batch.column(group).to_pylist() if group in columns else []
            groups += [numbered.setdefault(name, len(numbered)) for name in named]
        if not raw:
            raise DataError(f"{path} has a header and no rows; expected at least one")
        inputs, true = np.concatenate(raw), np.concatenate(targets)
        check_reach(self.schema, largest_by_column(inputs), true, what=str(path))
        return content_of_test(
            inputs,
            true,
            self.schema,
            notes=tuple(_notes(found, self._ignored(columns, group), group, columns)),
            groups=np.array(groups, dtype=np.int64) if groups else None,
        )

    def truth(self, cells: pa.Array, column: str, place: Place) -> Array:
        """Return what is to be predicted: int64 (rows,) classes or float64 (rows, 1) values.

        Raises:
            DataError: A cell is empty, names no class or is no number: says where and which.
        """
        classes = self.schema.classes
        if classes:
            found = class_indices(cells, classes, column=column, place=place)
            holes = found == NO_CLASS
        else:
            found = numbers(cells, column=column, place=place)
            holes = np.isnan(found)
        if holes.any():
            raise DataError(
                f"{place.cell(int(holes.argmax()), column)}: the cell is empty; expected what is "
                "true"
            )
        return found if classes else found.reshape(-1, 1)


READER = TableReader


def _notes(
    found: Found, ignored: Sequence[str], group: str | None, columns: Sequence[str]
) -> Iterator[str]:
    if found.unknown:
        words = [f"{count} in {name!r}" for name, count in found.unknown.items()]
        yield (
            f"{found.unknown.total()} cells count as other, which training never saw: "
            f"{some(words, most=NAMED)}"
        )
    if ignored:
        told = some(ignored, most=NAMED)
        yield f"columns that the model does not know are ignored: {told}"
    if group is not None and group not in columns:
        yield f"there is no column {group!r}, so each row counts as independent of the others"
