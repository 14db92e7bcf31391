"""Values of a series as a table file or a DataFrame has them: columns, cells and order of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.base.errors import DataError, did_you_mean, typed
from pipeline.data.parsing import times as timing
from pipeline.data.parsing.cells.evidence import CellKeys, ColumnEvidence, settle
from pipeline.data.parsing.cells.kind import Grammar, Refused, decide
from pipeline.data.parsing.cells.kinds.number import PLAIN
from pipeline.data.parsing.cells.texts import Cells
from pipeline.data.parsing.tables.file import CellLocation, CsvOptions, TableFile, form_of
from pipeline.data.parsing.tables.rows import FileRows
from pipeline.data.preparation.prepare import Filling, Values, filled
from pipeline.data.source import Array, Indices

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Texts = Sequence[str | None]

#: Number of first rows that show what a column holds.
LOOKED_AT = 1000
#: Names in messages: of the column of times if there is none, and of a DataFrame.
ROW = "row"
FRAME = "the frame"
MIDNIGHT = " 00:00:00"
#: How empty cells are filled, in words.
FILLED_BY = {
    "previous": "are filled with the previous value (data.missing=previous)",
    "linear": "are interpolated linearly within each part (data.missing=linear), using later "
    "values of that part",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesLayout:
    """Columns of a series: its times, its values in channel order, and the targets among them.

    Without a column of times, each row is a step. `grammars` says how the cells of each value are
    read, and `order` that of times such as 31/01/2020; empty = to be found.
    """

    time: str | None
    values: tuple[str, ...]
    targets: tuple[str, ...]
    grammars: Mapping[str, Grammar] = field(default_factory=dict)
    order: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        return self.values if self.time is None else (self.time, *self.values)


def find_layout(
    path: Path, requested: SeriesLayout, options: CsvOptions, rows: FileRows | None = None
) -> SeriesLayout:
    """Return the columns of a table file that hold times, values and targets.

    `rows` are the rows of the file, if they have been read.

    What `requested` leaves open is filled in: `time` is detected, `values` are all other columns
    and `targets` all values.

    Raises:
        DataError: A column does not exist or is named twice.
    """
    names = form_of(path, options).names
    _require_valid_columns(path, names, requested)
    rows = rows or FileRows(path, options, None, keep=False)
    _, batch = next(iter(rows), (None, None))
    first_cells: dict[str, Texts] = {}
    for name in names:
        first_cells[name] = batch.column(name)[:LOOKED_AT].to_pylist() if batch else []
    time = requested.time
    if not time:
        time = timing.find_column(first_cells, (*requested.values, *requested.targets))
    values = requested.values or tuple(name for name in names if name != time)
    if not values:
        raise DataError(f"{path} has only the time column {time!r}; expected a column of values")
    if time in values:
        raise DataError(f"{time!r} is both data.time and one of data.columns; expected one of them")
    for name in requested.targets:
        if name not in values:
            raise DataError(
                f"data.targets={name} is not among the values {', '.join(values)}; expected one "
                "of them"
            )
    return replace(requested, time=time, values=values, targets=requested.targets or values)


def _require_valid_columns(path: Path, names: Sequence[str], requested: SeriesLayout) -> None:
    times = () if requested.time is None else (requested.time,)
    keys = {"time": times, "columns": requested.values, "targets": requested.targets}
    problems = []
    for key, columns in keys.items():
        for name in dict.fromkeys(columns):
            if name not in names:
                problems.append(
                    f"data.{key}={name} is not a column of {path}; its columns are "
                    f"{', '.join(names)}.{did_you_mean(name, names)}"
                )
            elif columns.count(name) > 1:
                problems.append(f"data.{key} names {name!r} twice; expected each column once")
    if problems:
        raise DataError(*problems)


def find_grammars(
    table: TableFile, rows: FileRows, layout: SeriesLayout, keys: CellKeys, *, are_named: bool
) -> tuple[Mapping[str, Grammar], list[str]]:
    """Return how the cells of the value columns are read, and the columns that hold amounts.

    `are_named` says whether the user has named the value columns.

    Raises:
        DataError: A column holds other words than amounts of one form.
    """
    columns = [ColumnEvidence(name, keys, rows.cells) for name in layout.values]
    for location, batch in rows:
        for column in columns:
            column.add(Cells(batch.column(column.name), column.name, location))
    settle(columns, sep=table.sep, are_texts=not table.format.has_typed_cells)
    fits = {column.name: decide(column) for column in columns}
    for fit in fits.values():
        if isinstance(fit, Refused):
            numeric = [name for name in fits if not isinstance(fits[name], Refused)]
            problem = fit.problem
            if not (are_named or fit.is_final):
                if numeric:
                    columns_option = typed("data.columns", numeric)
                    problem += f", or name only the value columns: {columns_option}"
                if layout.time is None:
                    problem += ", or name the column of times: data.time=NAME"
            raise DataError(problem)
    amounts = [column.reading() for column in columns if column.amounts.form is not None]
    grammars = {name: fit[0] for name, fit in fits.items() if isinstance(fit, list)}
    return grammars, amounts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesValues:
    """Values of a series as they were read, (time, channels), oldest first, NaN = missing.

    `location` is where they come from; `rows` (time,) are the positions of its rows there, from 0.
    """

    location: CellLocation
    layout: SeriesLayout
    times: timing.Times
    values: Values
    rows: Indices

    def without_holes(self, missing: Filling, *, remedies: str = "") -> tuple[Values, list[str]]:
        """Return values (time, channels) with missing ones filled in, and notes about that.

        `linear` leaves them for `filled`, which knows where the parts end. `remedies` are what the
        refusal of a missing value suggests besides filling it in.

        Raises:
            DataError: A missing value is refused, or no value comes before it.
        """
        is_empty = np.isnan(self.values)
        if not is_empty.any():
            return self.values, []
        names = self.layout.values
        if missing == "refuse":
            index, channel = np.argwhere(is_empty)[0]
            count = int(is_empty.sum())
            total = f", one of {count} such cells" if count > 1 else ""
            raise DataError(
                f"{self.location.cell(int(self.rows[index]), names[channel])} is empty{total}; "
                f"expected a number. Fill it in{remedies}"
            )
        if is_empty[0].any():
            channel = int(is_empty[0].argmax())
            leading = "this column"
            if not is_empty[:, channel].all():
                leading = f"the {is_empty[:, channel].argmin()} rows before its first value"
            raise DataError(
                f"{self.location.cell(int(self.rows[0]), names[channel])} is empty and has no "
                f"previous value to fill it; leave out {leading}"
            )
        notes = []
        for channel in np.flatnonzero(is_empty.any(0)):
            count = is_empty[:, channel].sum()
            first_time = self.times.labels[is_empty[:, channel].argmax()]
            notes.append(
                f"{self.location.file}: empty cells of column {names[channel]!r} "
                f"({count}, the first at {first_time}) {FILLED_BY[missing]}"
            )
        if missing == "linear":
            return self.values, notes
        return filled(self.values, missing, borders=()), notes


def read_file(
    path: Path,
    layout: SeriesLayout,
    options: CsvOptions,
    *,
    sort: bool,
    rows: FileRows | None = None,
) -> SeriesValues:
    """Read the columns of a layout from a table file; `sort` puts rows in order.

    `rows` are the rows of the file, if they have been read.

    Raises:
        DataError: A row can't be used, or rows are not in order and `sort` is false.
    """
    labels: list[str | None] = []
    blocks: dict[str, list[Array]] = {name: [np.empty(0)] for name in layout.values}
    rows = rows or FileRows(path, options, layout.columns, keep=False)
    for location, batch in rows.taken():
        if layout.time is not None:
            labels += batch.column(layout.time).to_pylist()
        for name, column_blocks in blocks.items():
            column_blocks.append(_numbers(batch, name, location, layout))
    values = [np.concatenate(column_blocks) for column_blocks in blocks.values()]
    return _ordered_values(
        CellLocation(file=str(path), csv=options), layout, labels, values, sort=sort
    )


def read_frame(frame: pd.DataFrame, layout: SeriesLayout, *, sort: bool) -> SeriesValues:
    """Read the columns of a layout from a DataFrame, as `read_file` does from a file."""
    import pyarrow as pa

    location = CellLocation(file=FRAME)
    cells = frame[[*layout.columns]].astype(object)
    cells = cells.where(cells.notna(), None)
    labels: list[str | None] = []
    if layout.time is not None:
        labels = [_label(cell) for cell in cells[layout.time].tolist()]
        if all(label is None or label.endswith(MIDNIGHT) for label in labels):
            labels = [label and label.removesuffix(MIDNIGHT) for label in labels]
    texts = {}
    for name in layout.values:
        column = [_text(cell) for cell in cells[name].tolist()]
        texts[name] = pa.array(column, pa.string())
    batch = pa.RecordBatch.from_pydict(texts)
    values = [_numbers(batch, name, location, layout) for name in layout.values]
    return _ordered_values(location, layout, labels, values, sort=sort)


def _numbers(
    batch: pa.RecordBatch, name: str, location: CellLocation, layout: SeriesLayout
) -> Array:
    grammar = layout.grammars.get(name, PLAIN)
    return grammar.read(Cells(batch.column(name), name, location))


def _text(cell: Any) -> str | None:
    """Return the cell of a value, with whatever Python takes as a number in its exact form."""
    with suppress(TypeError, ValueError):
        return repr(float(cell))
    return None if cell is None else str(cell).strip()


def _label(cell: Any) -> str | None:
    if cell is None:
        return None
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    if isinstance(cell, date):
        return cell.isoformat()
    return str(cell).strip()


def _ordered_values(
    location: CellLocation,
    layout: SeriesLayout,
    labels: Texts,
    values: Sequence[Array],
    *,
    sort: bool,
) -> SeriesValues:
    """Put rows in order and check them; without a column of times, they are numbered from 1."""
    table = np.column_stack(values)
    if not len(table):
        raise DataError(f"{location.file} has 0 rows; expected one row per time, oldest first")
    column = layout.time or ROW
    if layout.time is None:
        labels = [str(row) for row in range(1, len(table) + 1)]
    times = timing.read_times(labels, location, column, order=layout.order)
    order = timing.in_order(times, location, column, sort=sort)
    ordered = tuple(times.labels[index] for index in order)
    return SeriesValues(
        location=location,
        layout=layout,
        times=replace(times, labels=ordered, positions=times.positions[order]),
        values=table[order],
        rows=order,
    )
