"""Data source for a user's series in a file, and the reader of the past for a forecast."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pipeline.base.errors import DataError, did_you_mean
from pipeline.data.parsing import times as timing
from pipeline.data.parsing.cells.evidence import CellKeys, Decimals
from pipeline.data.parsing.cells.kind import from_plain, to_plain
from pipeline.data.parsing.cells.kinds.number import PLAIN
from pipeline.data.parsing.cells.written import Thousands
from pipeline.data.parsing.tables.file import CellLocation, CsvOptions, form_of, require_columns
from pipeline.data.parsing.tables.rows import FileRows
from pipeline.data.preparation.checks import check_reach, largest_by_column
from pipeline.data.preparation.content import Content, Part
from pipeline.data.preparation.prepare import Filling, cut_windows, differenced, filled
from pipeline.data.preparation.reader import Block, NewRows, Reader, Rules, content_of_test
from pipeline.data.preparation.schema import Schema
from pipeline.data.series_values import (
    FRAME,
    SeriesLayout,
    SeriesValues,
    find_grammars,
    find_layout,
    read_file,
    read_frame,
)
from pipeline.data.source import ColumnNames, Samples, Series, Source, local_file


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

    def read(self, trained: SeriesLayout | None = None) -> Series:
        """Read the values, (time, channels); `trained` says how a trained model reads cells."""
        path = local_file(self.path, key="data.path")
        options = CsvOptions(self.sep, self.header)
        orders = {True: "dmy", False: "mdy", None: ""}
        requested = SeriesLayout(
            time=None if self.time is None else str(self.time),
            values=tuple(map(str, self.columns)),
            targets=tuple(map(str, self.targets)),
            order=orders[self.dayfirst],
        )
        rows = FileRows(path, options, None, keep=True)
        layout = find_layout(path, requested, options, rows)
        notes = []
        if trained is None:
            keys = CellKeys(kind="numeric", decimal=self.decimal, thousands=self.thousands)
            are_named = len(requested.values) > 0
            table = form_of(path, options)
            grammars, amounts = find_grammars(table, rows, layout, keys, are_named=are_named)
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
        self, path: Path, layout: SeriesLayout, times: timing.Times, step: timing.Step | None
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


def _summary(layout: SeriesLayout, times: timing.Times, step: timing.Step | None) -> str:
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
        self._layout = SeriesLayout(
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
            location = CellLocation(file="the series")
            times = timing.read_times(series.times, location, self._time, order=self._layout.order)
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
        file = series.location.file
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
