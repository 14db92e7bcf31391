"""A series past its end: the known past in, the next `horizon` steps out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pipeline.data.schema import Schema
from pipeline.data.series_file.again import as_trained
from pipeline.data.series_file.columns import Layout
from pipeline.data.series_file.file import recorded_in
from pipeline.data.series_file.frame import WHAT, recorded_in_frame, with_times
from pipeline.data.series_file.recorded import Recorded, missing_told
from pipeline.data.series_file.steps import IRREGULAR, Step, labels_after, step_of
from pipeline.data.series_file.times import TimeColumn, Times, read_times
from pipeline.data.source import Array
from pipeline.data.tables.delimited import column_names, require_columns
from pipeline.data.windows import differenced
from pipeline.errors import DataError
from pipeline.serving.interface import HIGH, LOW
from pipeline.serving.model import Model

if TYPE_CHECKING:
    import pandas as pd

Past = tuple[Array, tuple[str, ...]]
Columns = dict[str, list[str] | list[float]]


def forecast(model: Model, past: Array, times: Sequence[str]) -> Columns:
    """Predict the steps that follow the past.

    Args:
        model: Of a series.
        past: (time, channels) in units, the channels in the order of the schema. What comes before
            the last window and its difference is not needed.
        times: (time,) their labels, in rising order.

    Returns:
        By column `horizon` values: the labels of the following times, where the series has some;
        each target, and the ends of its interval where the model knows them.

    Raises:
        DataError: The past is too short.
    """
    schema = model.schema
    outputs = _following(model, past)
    columns: Columns = {}
    if (time := schema.reading.get("time")) is not None:
        columns[time] = list(labels_after(_read(times, time), _step(schema), schema.horizon))
    for index, target in enumerate(schema.targets):
        own = slice(index, None, len(schema.targets))  # outputs go step by step, target by target
        columns[target] = outputs[own]
        if intervals := model.decision.intervals[own]:
            pairs = list(zip(outputs[own], intervals, strict=True))
            columns[f"{target} {LOW}"] = [value + low for value, (low, _) in pairs]
            columns[f"{target} {HIGH}"] = [value + high for value, (_, high) in pairs]
    return columns


def past_of(path: Path, schema: Schema) -> Past:
    """Read the past of a forecast from a file, as the training read its own.

    Args:
        path: CSV or Parquet; its columns are found by name, others are ignored.
        schema: Of the trained model.

    Returns:
        Values (time, channels), the channels in the order of the schema, and labels (time,).

    Raises:
        DataError: A column is missing, a cell can't be used, the step is another one, or there are
            fewer rows than a window and its difference need.
    """
    layout, sep = _layout(schema), schema.reading.get("sep")
    require_columns(path, column_names(path, sep=sep), layout.columns)
    return _past(recorded_in(path, layout, sep=sep, sort=_sorts(schema)), schema)


def past_of_frame(frame: "pd.DataFrame", schema: Schema) -> Past:
    """Read the past of a forecast from a DataFrame, as `past_of` does; times may be its index."""
    layout = _layout(schema)
    frame = with_times(frame, layout.time)
    require_columns(WHAT, [str(name) for name in frame.columns], layout.columns)
    return _past(recorded_in_frame(frame, layout, sort=_sorts(schema)), schema)


def gaps_told(times: Sequence[str], schema: Schema) -> list[str]:
    """Say where steps are missing among the times (time,) of a past."""
    time, step = schema.reading.get("time"), _step(schema)
    if time is None or step is None:
        return []
    return missing_told(_read(times, time), step)


def newest_window(past: Array, schema: Schema) -> Array:
    """Return what the network sees of a past (time, channels): (1, window, channels)."""
    changes = differenced(past, schema.difference or 0)
    return changes[None, -(schema.window or 0) :]


def _following(model: Model, past: Array) -> list[float]:
    """Return the next values in units, step by step, target by target."""
    schema = model.schema
    lag = schema.difference or 0
    _require_enough("the past", len(past), schema)
    known = np.asarray(past, dtype=np.float64)[-_needed(schema) :]
    outputs: Tensor = model.outputs(newest_window(known, schema))[0]
    if lag:
        columns = [schema.features.index(name) for name in schema.targets]
        before = known[len(known) - lag :][: schema.horizon, columns]
        outputs = outputs + torch.from_numpy(before.reshape(-1)).to(outputs)
    values: list[float] = outputs.tolist()
    return values


def _past(found: Recorded, schema: Schema) -> Past:
    _require_enough(found.file, len(found.values), schema)
    values = as_trained(found, schema)
    lost = schema.beyond_single(schema.to_inputs(newest_window(values, schema)))
    if lost is not None:
        raise DataError(
            f"{found.file}: column {lost[1]!r} has a value in its last {_needed(schema)} rows that "
            "is infinite in single precision once it is scaled as in training; expected values of "
            "about the size of the training rows"
        )
    return values, found.times.labels


def _require_enough(what: str, length: int, schema: Schema) -> None:
    if length < _needed(schema):
        difference = f" and a difference of {schema.difference}" if schema.difference else ""
        raise DataError(
            f"{what} has {length} rows; expected at least {_needed(schema)}: the forecast needs a "
            f"window of {schema.window}{difference}"
        )


def _needed(schema: Schema) -> int:
    return (schema.window or 0) + (schema.difference or 0)


def _layout(schema: Schema) -> Layout:
    time = schema.reading.get("time")
    return Layout(time=time, values=schema.features, targets=schema.targets)


def _sorts(schema: Schema) -> bool:
    return bool(schema.reading.get("sort", False))


def _step(schema: Schema) -> Step | None:
    return step_of(schema.reading.get("step", IRREGULAR))


def _read(times: Sequence[str], time: str) -> Times:
    return read_times(times, TimeColumn(file="the past", column=time))
