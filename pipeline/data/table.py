"""Data source for a user's table, one sample per row; reader of any table's rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from math import isqrt, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data import reader
from pipeline.data.cells.class_names import ClassNames
from pipeline.data.cells.kind import UNKNOWN, Grammar, from_plain
from pipeline.data.cells.kinds.date_part import PARTS as DATE_PARTS
from pipeline.data.cells.kinds.number import Number
from pipeline.data.cells.texts import Cells, shown
from pipeline.data.checks import check_reach, largest_by_column
from pipeline.data.content import Content, Part
from pipeline.data.reader import Block, NewRows, Rules
from pipeline.data.schema import Code, Schema
from pipeline.data.source import Array, Samples, Series, Source, local_file
from pipeline.data.tables import store
from pipeline.data.tables.beside import TEST, TRAIN, VALIDATION
from pipeline.data.tables.conversion import raw_rows, read_samples, without_target
from pipeline.data.tables.file import CsvOptions, Place, batches, form_of, require_columns
from pipeline.data.tables.frames import frame_texts
from pipeline.data.tables.roles import Keys
from pipeline.data.tables.target import TargetColumn
from pipeline.errors import ConfigError, DataError, did_you_mean, some, typed

if TYPE_CHECKING:
    import pyarrow as pa

#: Most columns in a note before '…'.
NAMED = 5
#: Rows that are looked at for pixels, and fewest pixels along a side.
PIXEL_ROWS, FEWEST_PIXELS = 100, 8
OF_MODEL = "the model was trained on"


class Table(Keys, Source):
    """Columns of a file as features, and one of them as the target."""

    def read(self) -> Samples:
        """Read the table, (rows, columns); a large one is memory-mapped from the cache."""
        by_file = [key for key in ("test_path", "validation_path") if getattr(self, key)]
        by_column = [key for key in ("time", "split") if getattr(self, key) not in (None, "")]
        if by_file and by_column:
            raise ConfigError(
                f"data.{by_file[0]} and data.{by_column[0]} both split the rows; expected "
                "one of them"
            )
        parts = {"path": TRAIN, "validation_path": VALIDATION, "test_path": TEST}
        paths = tuple(
            (local_file(getattr(self, key), key=f"data.{key}"), part)
            for key, part in parts.items()
            if getattr(self, key) is not None
        )
        is_large = store.size_of(paths, self) >= store.LARGE_BYTES
        samples = (store.stored if is_large else read_samples)(paths, self)
        if self.image_shape is not None:
            return _as_images(samples, self)
        return replace(samples, notes=(*samples.notes, *_note_on_pixels(samples)))


def _note_on_pixels(samples: Samples) -> Iterator[str]:
    """Yield a note if the columns look like the pixels of a square image."""
    side, first = isqrt(len(samples.columns)), np.asarray(samples.inputs[:PIXEL_ROWS])
    is_square = side >= FEWEST_PIXELS and side**2 == len(samples.columns)
    if is_square and not any(column.levels for column in samples.columns):
        are_bytes = ((first >= 0) & (first <= 255) & (first == np.floor(first))).all()
        if are_bytes and first.max(initial=0) > 1:
            yield (
                f"the {side**2} columns look like pixels but are scaled one by one; "
                f"{typed('data.image_shape', [str(side)] * 2)} reads them as images"
            )


def _as_images(samples: Samples, keys: Keys) -> Samples:
    """Return the pixels of a table as images (rows, channels, height, width)."""
    shape = (1, *(keys.image_shape or ()))[-3:]
    words = [column.name for column in samples.columns if column.levels]
    names = tuple(column.name for column in samples.columns)
    if words or len(names) != prod(shape):
        told = f"; column {words[0]!r} holds words" if words else ""
        raise DataError(
            f"data.image_shape={list(keys.image_shape or ())} is {prod(shape)} pixels, but "
            f"{keys.path} has {len(names)} feature columns{told}; expected one numeric column per "
            "pixel. Drop others with data.drop=[COLUMN], or name the target with "
            "data.target=COLUMN"
        )
    return replace(
        samples,
        inputs=samples.inputs[:].reshape(-1, *shape),
        features=(),
        columns=(),
        reading={**samples.reading, "pixels": names},
    )


class TableReader(reader.Reader):
    """Reader of table rows: columns are found by name, categories and classes as in training."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema)
        self.target: str | None = schema.reading.get("target")
        self.csv = CsvOptions.of(schema.reading)
        self._id: str | None = schema.reading.get("id")
        # The columns of a table of images are its pixels.
        names = schema.reading.get("pixels", schema.features)
        plain = tuple(Code(name=name) for name in names)
        self.codes = schema.encoder.codes if schema.encoder else plain
        self._names = tuple(dict.fromkeys(code.in_file for code in self.codes))
        # The target is not an input, so new rows may contain it and it is ignored.
        self._answer = {schema.label, self.target} - {*self._names}

    def inputs(self) -> Any:
        """Describe the columns."""
        kinds = {code.in_file: code.grammar.type for code in self.codes}
        return [{"name": name, "type": kind} for name, kind in kinds.items()]

    def example(self, raw: Samples | Series, content: Content) -> Any:
        """Return the cells of the first training rows."""
        assert isinstance(raw, Samples)

        rows = []
        first = reader.first_rows(raw, content).astype(np.float64)
        for row in first.reshape(len(first), -1).tolist():
            pairs = zip(self.codes, row, strict=True)
            cells: dict[str, str | float | None] = {}
            for name, group in groupby(pairs, key=lambda pair: pair[0].in_file):
                codes, values = zip(*group, strict=True)
                cells[name] = codes[0].grammar.write(values)
            rows.append(cells)
        return rows

    def open(self, path: Path, rules: Rules, *, size: int) -> NewRows:
        """Open a table file. Raises DataError at once if a column is missing."""
        columns, given = form_of(path, self.csv).names, rules.id
        if given is not None and given not in columns:
            raise DataError(
                f"id={given} is not a column of {path}; it has "
                f"{', '.join(columns)}.{did_you_mean(given, columns)}"
            )
        heading = given or (self._id if self._id in columns else None)
        new = NewRows(heading=heading, ignored=self._ignored(columns, heading))
        self._require(str(path), columns)
        wanted = [name for name in columns if name in {heading, *self._names}]
        fill = "missing=impute fills it in" if self.schema.encoder else "fill it in"

        def pieces() -> Iterator[Block]:
            for place, batch in batches(path, self.csv, columns=wanted):
                names = None
                if heading is not None:
                    names = [text or "" for text in batch.column(heading).to_pylist()]
                yield Block(raw=self.rows(batch, place, rules, new, fill=fill), names=names)

        new.blocks = reader.regrouped(pieces(), size=size)
        return new

    def _ignored(self, columns: Sequence[str], beside: str | None) -> tuple[str, ...]:
        known = {*self._names, *self._answer, self._id, beside}
        return tuple(name for name in columns if name not in known)

    def _require(self, what: str, columns: Sequence[str]) -> None:
        there = [name for name in columns if name not in self._answer]
        require_columns(what, there, self._names, needed=OF_MODEL)

    def rows(
        self,
        batch: pa.RecordBatch,
        place: Place,
        rules: Rules,
        new: NewRows,
        *,
        fill: str = "fill it in",
    ) -> Array:
        """Return a batch as raw rows (rows, *raw_shape); count unknown and missing cells in `new`.

        `fill` is the remedy that the message on an empty cell suggests.

        Raises:
            DataError: A cell can't be used; the message says where it is and what it holds.
        """
        raw = raw_rows(batch, self.codes, place)
        for code, values in zip(self.codes, raw.T, strict=True):
            cells = Cells(batch.column(code.in_file), code.in_file, place)
            unknown, holes = values == UNKNOWN, np.isnan(values)
            if code.is_category and unknown.any():
                if rules.unknown == "refuse":
                    text = cells.texts[int(unknown.argmax())].as_py()
                    told = f"{shown(text)} is not a category of the training table; unknown=other"
                    near = did_you_mean(text, code.levels)
                    raise cells.fault(unknown, f"{told} counts it as other.{near}")
                new.unknown[code.name] += int(unknown.sum())
            if holes.any():
                may_be = code.has_holes or rules.missing == "impute"
                if self.schema.encoder is None or not may_be:
                    raise cells.fault(holes, f"the cell is empty, unlike in training; {fill}")
                new.missing[code.in_file] += int(holes.sum()) * (code.part in ("", DATE_PARTS[0]))
        return raw.reshape(len(raw), *self.schema.raw_shape)

    def apply(self, held: Any, *, what: str, missing: reader.Missing = "refuse") -> Block:
        """Return the rows of a DataFrame, whose cells are read like those of a file."""
        frame = self.required_frame(held)
        names = [str(name).strip() for name in frame.columns]
        if repeated := sorted({repr(name) for name in names if names.count(name) > 1}):
            raise DataError(
                f"{what} has several columns called {', '.join(repeated)}; name each differently"
            )
        batch = frame_texts(frame, {code.name: code.levels for code in self.codes}, what=what)
        self._require(what, names)
        place, rules = Place(file=what), Rules(missing=missing)
        return Block(raw=self.rows(batch, place, rules, NewRows(heading=None)))

    def evaluated(self, source: Source, *, budget: int) -> tuple[Samples | Series, Content, Part]:
        """Read all rows of a file with the columns of the training file, including the target.

        Unknown categories count as other; empty cells are filled in as in training, and rows
        without a target are left out.
        """
        if self.target is None or not isinstance(source, Table):
            return super().evaluated(source, budget=budget)
        path = local_file(source.path, key="data.path")
        columns = form_of(path, source.csv).names
        require_columns(path, columns, [self.target], needed="is the target")
        group = None if source.group is None else str(source.group)
        new = NewRows(heading=None, ignored=self._ignored(columns, group))
        schema, truth = self.schema, self._truth(self.target)
        raw, targets, numbers, groups = [], [], [], []
        numbered: dict[str | None, int] = {}  # rows without a group form one group
        rows = 0
        for place, batch in batches(path, source.csv):
            require_columns(path, columns, self._names, needed=OF_MODEL)
            found, empty = truth.read(Cells(batch.column(self.target), self.target, place))
            known = np.flatnonzero(~empty)
            raw.append(self.rows(batch, place, Rules(missing="impute"), new)[known])
            targets.append((found if schema.classes else found.reshape(-1, 1))[known])
            numbers.append(known + place.first_row - 1)
            named = batch.column(group).take(known).to_pylist() if group in columns else []
            groups += [numbered.setdefault(name, len(numbered)) for name in named]
            rows += len(empty)
        if not sum(map(len, raw)):
            raise DataError(
                f"{path} has {rows:,} rows, none with a target {self.target!r}; expected at least "
                "one"
            )
        inputs, true = np.concatenate(raw), np.concatenate(targets)
        check_reach(schema, largest_by_column(inputs), true, what=str(path))
        content = reader.content_of_test(
            inputs,
            true,
            schema,
            notes=(
                *_notes(new, group, columns),
                *without_target(rows - len(true), rows, self.target),
            ),
            numbers=np.concatenate(numbers),
            groups=np.array(groups, dtype=np.int64) if groups else None,
        )
        kept = {name: getattr(schema, name) for name in ("task", "classes", "features")}
        samples = Samples(inputs=inputs, targets=true, **kept)
        return samples, content, content.part(content.split.test, budget=budget)

    def _truth(self, target: str) -> TargetColumn:
        schema = self.schema
        grammar: Grammar = Number()
        if schema.classes:
            grammar = ClassNames.of_model(schema.classes)
        elif "values" in schema.reading:
            grammar = from_plain(schema.reading["values"])
        return TargetColumn(target, schema.task, grammar)


READER = TableReader


def _notes(new: NewRows, group: str | None, columns: Sequence[str]) -> Iterator[str]:
    if new.unknown:
        words = [f"{count} in {name!r}" for name, count in new.unknown.items()]
        yield (
            f"{new.unknown.total()} cells with categories not seen in training count as other: "
            f"{some(words, most=NAMED)}"
        )
    if new.ignored:
        told = some(new.ignored, most=NAMED)
        yield f"ignored columns (not used in training): {told}"
    if group is not None and group not in columns:
        yield f"no column {group!r}: all rows count as independent"
