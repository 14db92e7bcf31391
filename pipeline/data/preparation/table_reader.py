"""The reader of table rows: columns are found by name, cells are read as in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.base.errors import DataError, did_you_mean, some
from pipeline.data.parsing.cells.class_names import ClassNames
from pipeline.data.parsing.cells.kind import UNKNOWN, Grammar, from_plain
from pipeline.data.parsing.cells.kinds.date_part import PARTS as DATE_PARTS
from pipeline.data.parsing.cells.kinds.number import Number
from pipeline.data.parsing.cells.texts import Cells, shown
from pipeline.data.parsing.tables.conversion import raw_rows, without_target
from pipeline.data.parsing.tables.file import (
    CellLocation,
    CsvOptions,
    batches,
    form_of,
    require_columns,
)
from pipeline.data.parsing.tables.frames import frame_texts
from pipeline.data.parsing.tables.roles import Keys
from pipeline.data.parsing.tables.target import TargetColumn
from pipeline.data.preparation.checks import check_reach, largest_by_column
from pipeline.data.preparation.content import Content, Part
from pipeline.data.preparation.reader import (
    Block,
    Missing,
    NewRows,
    Reader,
    Rules,
    content_of_test,
    first_rows,
    regrouped,
)
from pipeline.data.preparation.schema import Code, Schema
from pipeline.data.source import Array, Samples, Series, Source, local_file

if TYPE_CHECKING:
    import pyarrow as pa

#: Most columns in a note before '…'.
NAMED = 5

OF_MODEL = "the model was trained on"


class TableReader(Reader):
    """Reader of table rows: columns are found by name, categories and classes as in training."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema)
        self.target: str | None = schema.reading.get("target")
        self.csv = CsvOptions.of(schema.reading)
        self._id: str | None = schema.reading.get("id")
        # The columns of a table of images are its pixels.
        names = schema.reading.get("pixels", schema.features)
        numeric = tuple(Code(name=name) for name in names)
        self.codes = schema.encoder.codes if schema.encoder else numeric
        self._names = tuple(dict.fromkeys(code.in_file for code in self.codes))
        # The target is not an input, so new rows may contain it and it is ignored.
        self._target_names = {schema.label, self.target} - {*self._names}

    def inputs(self) -> Any:
        """Describe the columns."""
        types = {code.in_file: code.grammar.type for code in self.codes}
        return [{"name": name, "type": type_} for name, type_ in types.items()]

    def example(self, raw: Samples | Series, content: Content) -> Any:
        """Return the cells of the first training rows."""
        assert isinstance(raw, Samples)

        examples = []
        rows = first_rows(raw, content).astype(np.float64)
        for row in rows.reshape(len(rows), -1).tolist():
            codes_with_values = zip(self.codes, row, strict=True)
            cells: dict[str, str | float | None] = {}
            # The cell of a date becomes several numbers, with a code each.
            for name, group in groupby(codes_with_values, key=lambda pair: pair[0].in_file):
                codes, values = zip(*group, strict=True)
                cells[name] = codes[0].grammar.write(values)
            examples.append(cells)
        return examples

    def open(self, path: Path, rules: Rules, *, size: int) -> NewRows:
        """Open a table file. Raises DataError at once if a column is missing."""
        columns = form_of(path, self.csv).names
        if rules.id is not None and rules.id not in columns:
            raise DataError(
                f"id={rules.id} is not a column of {path}; it has "
                f"{', '.join(columns)}.{did_you_mean(rules.id, columns)}"
            )
        heading = rules.id
        if not heading and self._id in columns:
            heading = self._id
        new = NewRows(heading=heading, ignored=self._ignored(columns, heading))
        self._require_inputs(str(path), columns)
        used_columns = [name for name in columns if name in {heading, *self._names}]
        new.blocks = regrouped(self._blocks(path, used_columns, rules, new), size=size)
        return new

    def _blocks(
        self, path: Path, columns: Sequence[str], rules: Rules, new: NewRows
    ) -> Iterator[Block]:
        """Yield the rows of a file in blocks of the size that the file is read in."""
        fill = "missing=impute fills it in" if self.schema.encoder else "fill it in"
        for place, batch in batches(path, self.csv, columns=columns):
            names = None
            if new.heading is not None:
                names = [text or "" for text in batch.column(new.heading).to_pylist()]
            yield Block(raw=self.rows(batch, place, rules, new, fill=fill), names=names)

    def _ignored(self, columns: Sequence[str], extra: str | None) -> tuple[str, ...]:
        """Return the columns that are neither inputs, target nor id, nor the column `extra`."""
        used = {*self._names, *self._target_names, self._id, extra}
        return tuple(name for name in columns if name not in used)

    def _require_inputs(self, what: str, columns: Sequence[str]) -> None:
        candidates = [name for name in columns if name not in self._target_names]
        require_columns(what, candidates, self._names, needed=OF_MODEL)

    def rows(
        self,
        batch: pa.RecordBatch,
        place: CellLocation,
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
            is_unknown = values == UNKNOWN
            if code.is_category and is_unknown.any():
                if rules.unknown == "refuse":
                    text = cells.texts[int(is_unknown.argmax())].as_py()
                    problem = f"{shown(text)} is not a category of the training table"
                    near = did_you_mean(text, code.levels)
                    remedy = f"unknown=other counts it as other.{near}"
                    raise cells.fault(is_unknown, f"{problem}; {remedy}")
                new.unknown[code.name] += int(is_unknown.sum())
            is_empty = np.isnan(values)
            if is_empty.any():
                may_be_empty = code.has_holes or rules.missing == "impute"
                if self.schema.encoder is None or not may_be_empty:
                    raise cells.fault(is_empty, f"the cell is empty, unlike in training; {fill}")
                # All parts of an empty date are missing, but it is one cell.
                if code.part in ("", DATE_PARTS[0]):
                    new.missing[code.in_file] += int(is_empty.sum())
        return raw.reshape(len(raw), *self.schema.raw_shape)

    def apply(self, rows: Any, *, what: str, missing: Missing = "refuse") -> Block:
        """Return the rows of a DataFrame, whose cells are read like those of a file."""
        frame = self.required_frame(rows)
        names = [str(name).strip() for name in frame.columns]
        repeated = sorted({repr(name) for name in names if names.count(name) > 1})
        if repeated:
            raise DataError(
                f"{what} has several columns called {', '.join(repeated)}; name each differently"
            )
        batch = frame_texts(frame, {code.name: code.levels for code in self.codes}, what=what)
        self._require_inputs(what, names)
        new = NewRows(heading=None)
        return Block(raw=self.rows(batch, CellLocation(file=what), Rules(missing=missing), new))

    def evaluated(self, source: Source, *, budget: int) -> tuple[Samples | Series, Content, Part]:
        """Read all rows of a file with the columns of the training file, including the target.

        Unknown categories count as other; empty cells are filled in as in training, and rows
        without a target are left out.
        """
        if self.target is None or not isinstance(source, Keys):
            return super().evaluated(source, budget=budget)
        path = local_file(source.path, key="data.path")
        columns = form_of(path, source.csv).names
        require_columns(path, columns, [self.target], needed="is the target")
        group = None if source.group is None else str(source.group)
        new = NewRows(heading=None, ignored=self._ignored(columns, group))
        schema = self.schema
        target_column = self._target_column(self.target)
        input_blocks = []
        target_blocks = []
        numbers = []
        groups: list[int] = []
        group_numbers: dict[str | None, int] = {}  # rows without a group form one group
        row_count = 0
        for place, batch in batches(path, source.csv):
            require_columns(path, columns, self._names, needed=OF_MODEL)
            cells = Cells(batch.column(self.target), self.target, place)
            values, is_empty = target_column.read(cells)
            if not schema.classes:
                values = values.reshape(-1, 1)
            rows = np.flatnonzero(~is_empty)
            input_blocks.append(self.rows(batch, place, Rules(missing="impute"), new)[rows])
            target_blocks.append(values[rows])
            numbers.append(rows + place.first_row - 1)
            if group in columns:
                for name in batch.column(group).take(rows).to_pylist():
                    groups.append(group_numbers.setdefault(name, len(group_numbers)))
            row_count += len(is_empty)
        if not sum(map(len, input_blocks)):
            raise DataError(
                f"{path} has {row_count:,} rows, none with a target {self.target!r}; expected at "
                "least one"
            )
        inputs = np.concatenate(input_blocks)
        targets = np.concatenate(target_blocks)
        check_reach(schema, largest_by_column(inputs), targets, what=str(path))
        left_out = without_target(row_count - len(targets), row_count, self.target)
        content = content_of_test(
            inputs,
            targets,
            schema,
            notes=(*_notes(new, group, columns), *left_out),
            numbers=np.concatenate(numbers),
            groups=np.array(groups, dtype=np.int64) if groups else None,
        )
        samples = Samples(
            inputs=inputs,
            targets=targets,
            task=schema.task,
            classes=schema.classes,
            features=schema.features,
        )
        return samples, content, content.part(content.split.test, budget=budget)

    def _target_column(self, target: str) -> TargetColumn:
        schema = self.schema
        grammar: Grammar = Number()
        if schema.classes:
            grammar = ClassNames.of_model(schema.classes)
        elif "values" in schema.reading:
            grammar = from_plain(schema.reading["values"])
        return TargetColumn(target, schema.task, grammar)


def _notes(new: NewRows, group: str | None, columns: Sequence[str]) -> Iterator[str]:
    if new.unknown:
        counts = [f"{count} in {name!r}" for name, count in new.unknown.items()]
        yield (
            f"{new.unknown.total()} cells with categories not seen in training count as other: "
            f"{some(counts, most=NAMED)}"
        )
    if new.ignored:
        yield f"ignored columns (not used in training): {some(new.ignored, most=NAMED)}"
    if group is not None and group not in columns:
        yield f"no column {group!r}: all rows count as independent"
