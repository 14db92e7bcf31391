"""A user's values in time, from a CSV or Parquet file; and the past of a forecast."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.data.checks import check_reach, largest_by_column
from pipeline.data.content import Content, Part
from pipeline.data.prepare import cut_windows, differenced
from pipeline.data.reader import Block, Found, NewRows, Reader, Rules, content_of_test
from pipeline.data.recorded_series import (
    Filling,
    Layout,
    Recorded,
    described,
    filled,
    irregularities,
    layout_of,
    missing_told,
    recorded_in,
    recorded_in_frame,
    with_times,
    without_holes,
)
from pipeline.data.schema import Schema
from pipeline.data.source import Samples, Series, Source
from pipeline.data.tables.file import Place, column_names, require_columns
from pipeline.data.tables.store import local_file
from pipeline.data.times import (
    IRREGULAR,
    Times,
    find_step,
    fits,
    form_and_position,
    labels_after,
    read_times,
    step_of,
)
from pipeline.errors import DataError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class SeriesFile(Source):
    """Columns of a file as channels of one series.

    Args:
        path: The file.
        time: Column of the times; None = found by name or content, else each row is a step.
        columns: Columns of values; empty = all but the times.
        targets: Those of them to predict; empty = all.
        sort: Whether rows may be put in order.
        test_from: First time of the test, as the file writes it; None = the last share of them.
        units: Unit of the values to predict; empty = none.
        sep: Sign between the cells of a CSV; None = found.
        missing: What happens to empty cells.
        strict: Refuse missing steps and irregular times instead of telling them.
        allow_url: Whether the path may be a URL.
    """

    path: str
    time: str | int | None
    columns: tuple[str | int, ...]
    targets: tuple[str | int, ...]
    sort: bool
    test_from: str | int | None
    units: str
    sep: str | None
    missing: Filling
    strict: bool
    allow_url: bool

    def read(self) -> Series:
        """Read the values, (times, columns of values)."""
        path = local_file(self.path, key="data.path", allow_url=self.allow_url)
        wanted = Layout(
            time=None if self.time is None else str(self.time),
            values=tuple(map(str, self.columns)),
            targets=tuple(map(str, self.targets)),
        )
        layout = layout_of(path, wanted, sep=self.sep)
        series = recorded_in(path, layout, sep=self.sep, sort=self.sort)
        values, filling = without_holes(series, self.missing)
        told = irregularities(series)
        if told and self.strict:
            raise DataError(*(f"{line}. data.strict=false trains all the same" for line in told))
        seen = [name for name in layout.values if name not in layout.targets]
        beside = f"; the network also sees {', '.join(seen)}" if seen else ""
        found = f"{described(series)}; to predict: {', '.join(layout.targets)}{beside}"
        return Series(
            values=values,
            times=series.times.labels,
            names=layout.values,
            targets=layout.targets,
            units=self.units,
            test_from=_position(series.times, self.test_from),
            reading={
                "time": layout.time,
                "step": str(series.step or IRREGULAR),
                "missing": self.missing,
                "sort": self.sort,
                "sep": self.sep,
            },
            notes=(found, *told, *filling),
        )


def _position(times: Times, test_from: str | int | None) -> int | None:
    """Return the index of the first time at or after a label."""
    if test_from is None:
        return None
    label = str(test_from)
    read = form_and_position(label, only=times.form.kind)
    after = None if read is None else (times.positions >= read[1]).argmax()
    if read is None or not times.positions[0] < read[1] <= times.positions[-1]:
        raise DataError(
            f"data.test_from={label} is no time within the series; expected one after "
            f"{times.labels[0]} and up to {times.labels[-1]}.{did_you_mean(label, times.labels)}"
        )
    return int(after or 0)


class SeriesReader(Reader):
    """Reads the past of a forecast, or a series to evaluate, with the training's channels and step.

    A row is the newest window of the past; its answer is the steps that follow.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema)
        reading = schema.reading
        self._time: str | None = reading.get("time")
        self._step = step_of(reading.get("step", IRREGULAR))
        self._missing: Filling = reading.get("missing", "refuse")
        self._sorts = bool(reading.get("sort", False))
        self._layout = Layout(time=self._time, values=schema.features, targets=schema.targets)
        self._lag = schema.difference or 0
        self._needed = (schema.window or 0) + self._lag

    def inputs(self) -> Any:
        """Describe the column of times and the channels."""
        named = [{"name": name, "type": "double"} for name in self.schema.features]
        return [{"name": self._time, "type": "string"}, *named] if self._time else named

    def example(self, raw: Samples | Series, content: Content) -> Any:
        """Return as much of the end of a series as a forecast needs."""
        del content
        assert isinstance(raw, Series)
        rows: list[dict[str, Any]] = []
        for label, values in zip(
            raw.times[-self._needed :], raw.values[-self._needed :], strict=True
        ):
            cells = [None if np.isnan(value) else float(value) for value in values]
            named = dict(zip(raw.names, cells, strict=True))
            rows.append({self._time: label, **named} if self._time else named)
        return rows

    def open(self, path: Path, rules: Rules, *, size: int) -> NewRows:
        """Read the past from a CSV or Parquet file."""
        del size
        self.refuse_id(rules)
        sep = self.schema.reading.get("sep")
        require_columns(path, column_names(path, sep=sep), self._layout.columns)
        series = recorded_in(path, self._layout, sep=sep, sort=self._sorts)
        newest, gaps = self._newest(series), []
        if self._time is not None and self._step is not None:
            gaps = missing_told(series.times, self._step)
        return NewRows(
            heading=self._time,
            blocks=iter([newest]),
            found=Found(gaps=tuple(gaps)),
            total=self.schema.horizon,
        )

    def apply(self, held: Any, *, what: str, missing: str = "refuse") -> Block:
        """Read the past from a DataFrame, whose index may be the times."""
        del what, missing
        frame = with_times(self.required_frame(held), self._time)
        require_columns("the frame", [str(name) for name in frame.columns], self._layout.columns)
        return self._newest(recorded_in_frame(frame, self._layout, sort=self._sorts))

    def evaluated_series(self, series: Series, *, what: str) -> tuple[Content, Part]:
        """Cut a series into windows as in training; content and part hold them scaled."""
        schema = self.schema
        require_columns("the series", series.names, schema.features)
        if self._time is not None:
            times = read_times(series.times, Place(file="the series"), self._time)
            self._require_same_step("the series", times)
        columns = [series.names.index(name) for name in schema.features]
        chosen = Series(
            values=filled(series.values[:, columns], self._missing, borders=()),
            times=series.times,
            names=schema.features,
            targets=schema.targets,
        )
        windows = cut_windows(chosen, schema)
        check_reach(schema, largest_by_column(windows.changes), windows.targets, what=what)
        inputs = schema.to_inputs(windows.inputs)
        part = Part(
            inputs=inputs,
            targets=schema.target_scaler.scaled(windows.targets),
            offsets=None if windows.offsets is None else torch.tensor(windows.offsets),
            rows=windows.first,
        )
        content = content_of_test(
            inputs.numpy(),
            part.targets.numpy(),
            schema,
            notes=series.notes,
            offsets=windows.offsets,
            numbers=windows.first,
        )
        return content, part

    def _newest(self, series: Recorded) -> Block:
        """Return the newest window of a past, holes filled as in training, and what follows it."""
        schema = self.schema
        if len(series.values) < self._needed:
            difference = f" and a difference of {self._lag}" if self._lag else ""
            raise DataError(
                f"{series.place.file} has {len(series.values)} rows; expected at least "
                f"{self._needed}: the forecast needs a window of {schema.window}{difference}"
            )
        if self._time is not None:
            self._require_same_step(series.place.file, series.times)
        values, _ = without_holes(series, self._missing)
        known = filled(values, self._missing, borders=())[-self._needed :]
        window = differenced(known, self._lag)[None, -(schema.window or 0) :]
        lost = schema.beyond_single(schema.to_inputs(window))
        if lost is not None:
            raise DataError(
                f"{series.place.file}: column {lost[1]!r} has a value in its last {self._needed} "
                "rows that is infinite in single precision once it is scaled as in training; "
                "expected values of about the size of the training rows"
            )
        offsets = None
        if self._lag:
            targets = [schema.features.index(name) for name in schema.targets]
            before = known[len(known) - self._lag :][: schema.horizon, targets]
            offsets = before.reshape(1, -1)
        following = None
        if self._time is not None:
            following = list(labels_after(series.times, self._step, schema.horizon))
        return Block(raw=window, names=following, offsets=offsets)

    def _require_same_step(self, file: str, times: Times) -> None:
        if self._step is not None and not fits(times, self._step):
            raise DataError(
                f"{file}: the times have step {find_step(times) or IRREGULAR}, those of the "
                f"training had {self._step}; expected the same step"
            )


READER = SeriesReader
