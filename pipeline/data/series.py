"""Data source for a user's series in a file, and the reader of the past for a forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.base.errors import DataError, did_you_mean, typed
from pipeline.data.parsing import times as timing
from pipeline.data.parsing.cells.evidence import CellKeys, ColumnEvidence, Decimals, settle
from pipeline.data.parsing.cells.kind import Grammar, Refused, decide, from_plain, to_plain
from pipeline.data.parsing.cells.kinds.number import PLAIN
from pipeline.data.parsing.cells.texts import Cells
from pipeline.data.parsing.cells.written import Thousands
from pipeline.data.parsing.tables.file import (
    CellLocation,
    CsvOptions,
    TableFile,
    form_of,
    require_columns,
)
from pipeline.data.parsing.tables.rows import FileRows
from pipeline.data.preparation.checks import check_reach, largest_by_column
from pipeline.data.preparation.content import Content, Part
from pipeline.data.preparation.prepare import Filling, Values, cut_windows, differenced, filled
from pipeline.data.preparation.reader import Block, NewRows, Reader, Rules, content_of_test
from pipeline.data.preparation.schema import Schema
from pipeline.data.source import Array, ColumnNames, Indices, Samples, Series, Source, local_file

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
class Layout:
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


def layout_of(
    path: Path, requested: Layout, options: CsvOptions, rows: FileRows | None = None
) -> Layout:
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
    first_cells: dict[str, Texts] = {
        name: batch.column(name)[:LOOKED_AT].to_pylist() if batch else [] for name in names
    }
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


def _require_valid_columns(path: Path, names: Sequence[str], requested: Layout) -> None:
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


def _find_grammars(
    table: TableFile, rows: FileRows, layout: Layout, keys: CellKeys, *, are_named: bool
) -> tuple[Mapping[str, Grammar], list[str]]:
    """Return how the cells of the value columns are read, and the columns that hold amounts.

    `are_named` says whether the user has named the value columns.

    Raises:
        DataError: A column holds other words than amounts of one form.
    """
    columns = [ColumnEvidence(name, keys, rows.cells) for name in layout.values]
    for place, batch in rows:
        for column in columns:
            column.add(Cells(batch.column(column.name), column.name, place))
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

    `place` is where they come from; `rows` (time,) are the positions of its rows there, from 0.
    """

    place: CellLocation
    layout: Layout
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
                f"{self.place.cell(int(self.rows[index]), names[channel])} is empty{total}; "
                f"expected a number. Fill it in{remedies}"
            )
        if is_empty[0].any():
            channel = int(is_empty[0].argmax())
            leading = "this column"
            if not is_empty[:, channel].all():
                leading = f"the {is_empty[:, channel].argmin()} rows before its first value"
            raise DataError(
                f"{self.place.cell(int(self.rows[0]), names[channel])} is empty and has no "
                f"previous value to fill it; leave out {leading}"
            )
        notes = []
        for channel in np.flatnonzero(is_empty.any(0)):
            count = is_empty[:, channel].sum()
            first_time = self.times.labels[is_empty[:, channel].argmax()]
            notes.append(
                f"{self.place.file}: empty cells of column {names[channel]!r} "
                f"({count}, the first at {first_time}) {FILLED_BY[missing]}"
            )
        if missing == "linear":
            return self.values, notes
        return filled(self.values, missing, borders=()), notes


def read_file(
    path: Path, layout: Layout, options: CsvOptions, *, sort: bool, rows: FileRows | None = None
) -> SeriesValues:
    """Read the columns of a layout from a table file; `sort` puts rows in order.

    `rows` are the rows of the file, if they have been read.

    Raises:
        DataError: A row can't be used, or rows are not in order and `sort` is false.
    """
    labels: list[str | None] = []
    blocks: dict[str, list[Array]] = {name: [np.empty(0)] for name in layout.values}
    rows = rows or FileRows(path, options, layout.columns, keep=False)
    for place, batch in rows.taken():
        if layout.time is not None:
            labels += batch.column(layout.time).to_pylist()
        for name, column_blocks in blocks.items():
            column_blocks.append(_numbers(batch, name, place, layout))
    values = [np.concatenate(column_blocks) for column_blocks in blocks.values()]
    return _checked(CellLocation(file=str(path), csv=options), layout, labels, values, sort=sort)


def read_frame(frame: pd.DataFrame, layout: Layout, *, sort: bool) -> SeriesValues:
    """Read the columns of a layout from a DataFrame, as `read_file` does from a file."""
    import pyarrow as pa

    place = CellLocation(file=FRAME)
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
    values = [_numbers(batch, name, place, layout) for name in layout.values]
    return _checked(place, layout, labels, values, sort=sort)


def _numbers(batch: pa.RecordBatch, name: str, place: CellLocation, layout: Layout) -> Array:
    grammar = layout.grammars.get(name, PLAIN)
    return grammar.read(Cells(batch.column(name), name, place))


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


def _checked(
    place: CellLocation, layout: Layout, labels: Texts, values: Sequence[Array], *, sort: bool
) -> SeriesValues:
    """Put rows in order and check them; without a column of times, they are numbered from 1."""
    table = np.column_stack(values)
    if not len(table):
        raise DataError(f"{place.file} has 0 rows; expected one row per time, oldest first")
    column = layout.time or ROW
    if layout.time is None:
        labels = [str(row) for row in range(1, len(table) + 1)]
    times = timing.read_times(labels, place, column, order=layout.order)
    order = timing.in_order(times, place, column, sort=sort)
    ordered = tuple(times.labels[index] for index in order)
    return SeriesValues(
        place=place,
        layout=layout,
        times=replace(times, labels=ordered, positions=times.positions[order]),
        values=table[order],
        rows=order,
    )


@dataclass(frozen=True, kw_only=True)
class SeriesFile(Source):
    """Columns of a file as channels of one series.

    Args:
        path: The file.
        time: Column of the times; None = found by name or content, else each row is a step.
        columns: Columns of values; empty = all but the times.
        targets: Columns of values that are predicted; empty = all.
        sort: Whether to put rows in order; if false, rows out of order are refused.
        test_from: First test time, as written in the file; None = the last share of the times.
        units: Unit of the values to predict; empty = none.
        sep: Separator of the cells of a CSV; None = detected.
        header: Whether the first line of a CSV has the names of the columns; None = it has, and
            values there are refused.
        decimal: Sign before the decimals of numbers, of all columns or by column; None = by the
            cells.
        thousands: Sign between groups of three digits; None = by the cells.
        dayfirst: Whether 1/2/2024 is the first of February; None = by the cells.
        missing: How to treat empty cells.
        strict: Whether missing steps and irregular times are errors rather than notes.
    """

    path: str
    time: str | int | None
    columns: ColumnNames
    targets: ColumnNames
    sort: bool
    test_from: str | int | None
    units: str
    sep: str | None
    header: bool | None
    # Runs of earlier versions, which can be resumed and evaluated, lack these three.
    decimal: Decimals = None
    thousands: Thousands | None = None
    dayfirst: bool | None = None
    missing: Filling
    strict: bool

    def read(self, trained: Layout | None = None) -> Series:
        """Read the values, (time, channels); `trained` says how a trained model reads cells."""
        path = local_file(self.path, key="data.path")
        options = CsvOptions(self.sep, self.header)
        orders = {True: "dmy", False: "mdy", None: ""}
        requested = Layout(
            time=None if self.time is None else str(self.time),
            values=tuple(map(str, self.columns)),
            targets=tuple(map(str, self.targets)),
            order=orders[self.dayfirst],
        )
        rows = FileRows(path, options, None, keep=True)
        layout = layout_of(path, requested, options, rows)
        notes = []
        if trained is None:
            keys = CellKeys(kind="numeric", decimal=self.decimal, thousands=self.thousands)
            are_named = len(requested.values) > 0
            table = form_of(path, options)
            grammars, amounts = _find_grammars(table, rows, layout, keys, are_named=are_named)
            layout = replace(layout, grammars=grammars)
            if amounts:
                notes.append(f"read as numbers: {', '.join(amounts)}")
        else:
            grammars = {name: trained.grammars.get(name, PLAIN) for name in layout.values}
            layout = replace(layout, grammars=grammars, order=trained.order)
        series = read_file(path, layout, options, sort=self.sort, rows=rows)
        values, filling_notes = series.without_holes(
            self.missing,
            remedies=", or set data.missing=previous (last value) or data.missing=linear "
            "(interpolation)",
        )
        times = series.times
        step = timing.find_step(times)
        notes += [*self._notes_on_steps(path, layout, times, step), *filling_notes]
        reading = {
            "time": layout.time,
            "step": str(step or timing.IRREGULAR),
            "order": times.form.order if layout.time and times.form.is_slashed else "",
            "values": {name: to_plain(layout.grammars[name]) for name in layout.values},
        }
        return Series(
            values=values,
            times=times.labels,
            names=layout.values,
            targets=layout.targets,
            units=self.units,
            test_from=_test_index(times, self.test_from),
            reading={**reading, "missing": self.missing, "sort": self.sort, **options._asdict()},
            notes=(_summary(layout, times, step), *notes),
        )

    def _notes_on_steps(
        self, path: Path, layout: Layout, times: timing.Times, step: timing.Step | None
    ) -> list[str]:
        """Return notes on missing steps. Raises DataError if there are some and `strict` is set."""
        problems = timing.missing_told(times, step)
        if step is None:
            problems = [
                f"the times of column {layout.time!r} have no common step; a window counts rows, "
                "and forecast rows are numbered +1, +2"
            ]
        notes = [f"{path}: {problem}" for problem in problems]
        if notes and self.strict:
            raise DataError(*(f"{note}. data.strict=false trains anyway" for note in notes))
        return notes


def _summary(layout: Layout, times: timing.Times, step: timing.Step | None) -> str:
    """Return the note on the times and columns of a series."""
    distance = "one per row"
    if layout.time:
        distance = f"step {step}" if step else timing.IRREGULAR
        distance += f" (column {layout.time!r})"
    summary = (
        f"{len(times.labels)} times from {times.labels[0]} to {times.labels[-1]}, {distance}; "
        f"targets: {', '.join(layout.targets)}"
    )
    inputs_only = [name for name in layout.values if name not in layout.targets]
    return f"{summary}; other inputs: {', '.join(inputs_only)}" if inputs_only else summary


def _test_index(times: timing.Times, test_from: str | int | None) -> int | None:
    """Return the index of the first time at or after the label `test_from`."""
    if test_from is None:
        return None
    label = str(test_from)
    parsed = timing.form_and_position(label, only=times.form.kind, order=times.form.order)
    if parsed is not None:
        _, position = parsed
        if times.positions[0] < position <= times.positions[-1]:
            return int((times.positions >= position).argmax())
    raise DataError(
        f"data.test_from={label} is not a time of the series; expected one after "
        f"{times.labels[0]} and up to {times.labels[-1]}.{did_you_mean(label, times.labels)}"
    )


class SeriesReader(Reader):
    """Reader of the past for a forecast, or of a series to evaluate, by the training's channels.

    A row is the newest window of the past; its answer is the steps that follow.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema)
        reading = schema.reading
        self._time: str | None = reading.get("time")
        self._step = timing.step_of(reading.get("step", timing.IRREGULAR))
        self._missing: Filling = reading.get("missing", "refuse")
        self._sorts = bool(reading.get("sort", False))
        stored = reading.get("values", {})
        self._layout = Layout(
            time=self._time,
            values=schema.features,
            targets=schema.targets,
            grammars={name: from_plain(stored.get(name, PLAIN)) for name in schema.features},
            order=reading.get("order", ""),
        )
        self._lag = schema.difference or 0
        self._needed_steps = (schema.window or 0) + self._lag

    def inputs(self) -> Any:
        """Describe the column of times and the channels."""
        columns = []
        if self._time:
            columns.append({"name": self._time, "type": "string"})
        for name in self.schema.features:
            columns.append({"name": name, "type": self._layout.grammars[name].type})
        return columns

    def example(self, raw: Samples | Series, content: Content) -> Any:
        """Return the end of a series, with as many steps as a forecast needs."""
        del content
        assert isinstance(raw, Series)
        count = self._needed_steps
        rows = []
        for label, values in zip(raw.times[-count:], raw.values[-count:], strict=True):
            cells: dict[str, Any] = {self._time: label} if self._time else {}
            for name, value in zip(raw.names, values, strict=True):
                cells[name] = self._layout.grammars[name].write([value])
            rows.append(cells)
        return rows

    def open(self, path: Path, rules: Rules, *, size: int) -> NewRows:
        """Read the past from a table file."""
        del size
        self.refuse_id(rules)
        options = CsvOptions.of(self.schema.reading)
        require_columns(path, form_of(path, options).names, self._layout.columns)
        series = read_file(path, self._layout, options, sort=self._sorts)
        newest = self._newest(series)
        gaps = [] if self._time is None else timing.missing_told(series.times, self._step)
        return NewRows(
            heading=self._time,
            blocks=iter([newest]),
            gaps=tuple(gaps),
            total=self.schema.horizon,
        )

    def apply(self, rows: Any, *, what: str, missing: str = "refuse") -> Block:
        """Read the past from a DataFrame, whose index may be the times."""
        del what, missing
        frame = self.required_frame(rows)
        index_has_times = frame.index.name == self._time or frame.index.dtype.kind == "M"
        if self._time is not None and self._time not in frame.columns and index_has_times:
            frame = frame.rename_axis(self._time).reset_index()
        require_columns(FRAME, [str(name) for name in frame.columns], self._layout.columns)
        return self._newest(read_frame(frame, self._layout, sort=self._sorts))

    def evaluated(self, source: Source, *, budget: int) -> tuple[Samples | Series, Content, Part]:
        """Read a series, with the amounts of a file as in training."""
        if not isinstance(source, SeriesFile):
            return super().evaluated(source, budget=budget)
        series = source.read(self._layout)
        return series, *self.evaluated_series(series, what=source.place)

    def evaluated_series(self, series: Series, *, what: str) -> tuple[Content, Part]:
        """Cut a series into windows as in training; content and part hold scaled values."""
        schema = self.schema
        require_columns("the series", series.names, schema.features)
        if self._time is not None:
            place = CellLocation(file="the series")
            times = timing.read_times(series.times, place, self._time, order=self._layout.order)
            self._require_same_step("the series", times)
        columns = [series.names.index(name) for name in schema.features]
        inputs = replace(
            series,
            values=filled(series.values[:, columns], self._missing, borders=()),
            names=schema.features,
            targets=schema.targets,
            reading=schema.reading,  # its step has the season
        )
        changes, windows = cut_windows(inputs, schema, what=what)
        for key, values in windows.items():
            if values is not None:
                windows[key] = values[:: schema.stride]
        check_reach(schema, largest_by_column(changes), windows["targets"], what=what)
        tensors: dict[str, Any] = {
            "inputs": schema.to_inputs(windows["inputs"]),
            "targets": schema.target_scaler.scaled(windows["targets"]),
        }
        scaled = {key: values.numpy() for key, values in tensors.items()}
        content = content_of_test(schema=schema, notes=series.notes, **{**windows, **scaled})
        for key in ("offsets", "seasonal"):
            tensors[key] = None if windows[key] is None else torch.tensor(windows[key])
        actual = windows["targets"] if windows["actual"] is None else windows["actual"]
        return content, Part(rows=windows["numbers"], actual=torch.tensor(actual), **tensors)

    def _newest(self, series: SeriesValues) -> Block:
        """Return the newest window, filled in as in training, with the labels of the next times."""
        schema = self.schema
        file = series.place.file
        count = self._needed_steps
        if len(series.values) < count:
            difference = f" and a difference of {self._lag}" if self._lag else ""
            raise DataError(
                f"{file} has {len(series.values)} rows; expected at least {count}: the "
                f"forecast needs a window of {schema.window}{difference}"
            )
        next_times = None
        if self._time is not None:
            self._require_same_step(file, series.times)
            next_times = list(timing.labels_after(series.times, self._step, schema.horizon))
        values, _ = series.without_holes(self._missing)
        newest = filled(values, self._missing, borders=())[-count:]
        window = differenced(newest, self._lag)[None, -(schema.window or 0) :]
        infinite = schema.beyond_single(schema.to_inputs(window))
        if infinite is not None:
            _, column = infinite
            raise DataError(
                f"{file}: column {column!r} has a value in its last {count} rows that is "
                "infinite in float32 after scaling; expected values of the size of the training "
                "rows"
            )
        offsets = None
        if self._lag:
            targets = [schema.features.index(name) for name in schema.targets]
            offsets = newest[-self._lag :][: schema.horizon, targets].reshape(1, -1)
        return Block(raw=window, names=next_times, offsets=offsets)

    def _require_same_step(self, file: str, times: timing.Times) -> None:
        if self._step is not None and not timing.fits(times, self._step):
            step = timing.find_step(times) or timing.IRREGULAR
            raise DataError(
                f"{file}: the times have step {step}; expected {self._step}, as in training"
            )


READER = SeriesReader
