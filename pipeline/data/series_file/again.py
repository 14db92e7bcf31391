"""A new series for a trained model: its channels, steps and windows as in training."""

import torch
from torch import Tensor

from pipeline.data.checks import check_reach, largest_by_column
from pipeline.data.schema import Schema
from pipeline.data.series_file.holes import Missing, filled, without_holes
from pipeline.data.series_file.recorded import Recorded
from pipeline.data.series_file.steps import IRREGULAR, find_step, fits, step_of
from pipeline.data.series_file.times import TimeColumn, Times, read_times
from pipeline.data.source import Array, Indices, Series
from pipeline.data.tables.delimited import require_columns
from pipeline.data.windows import cut_windows
from pipeline.errors import DataError

WHAT = "the series"
Windowed = tuple[Tensor, Tensor, Tensor | None, Indices]


def windows_for(series: Series, schema: Schema, *, what: str = WHAT) -> Windowed:
    """Cut a new series as training did, scaled by what training learned.

    Args:
        series: Its channels are found by name; others are ignored.
        schema: Of the trained model.
        what: Name of the series in messages.

    Returns:
        Inputs (rows, window, channels), targets (rows, outputs), both scaled, offsets
        (rows, outputs) that undo the difference, `None` where there is none, and (rows,) the times
        of the first steps to predict.

    Raises:
        DataError: A channel is missing, the step is another one, or the series is too short.
    """
    require_columns(WHAT, series.names, schema.features)
    if (time := schema.reading.get("time")) is not None:
        times = read_times(series.times, TimeColumn(file=WHAT, column=time))
        _require_same_step(WHAT, times, schema)
    columns = [series.names.index(name) for name in schema.features]
    chosen = Series(
        values=filled(series.values[:, columns], _missing(schema), borders=()),
        times=series.times,
        names=schema.features,
        targets=schema.targets,
    )
    windows = cut_windows(chosen, schema)
    check_reach(schema, largest_by_column(windows.changes), windows.targets, what=what)
    offsets = windows.offsets
    return (
        schema.to_inputs(windows.inputs),
        schema.target_scaler.scaled(windows.targets),
        None if offsets is None else torch.tensor(offsets),
        windows.first,
    )


def as_trained(series: Recorded, schema: Schema) -> Array:
    """Return the values (time, channels) of a new recording, holes filled as in training.

    Raises:
        DataError: The step is another one, or a hole can't be filled.
    """
    if series.time is not None:
        _require_same_step(series.file, series.times, schema)
    missing = _missing(schema)
    return filled(without_holes(series, missing)[0].values, missing, borders=())


def _missing(schema: Schema) -> Missing:
    missing: Missing = schema.reading.get("missing", "refuse")
    return missing


def _require_same_step(file: str, times: Times, schema: Schema) -> None:
    trained = step_of(schema.reading.get("step", IRREGULAR))
    if trained is not None and not fits(times, trained):
        raise DataError(
            f"{file}: the times have step {find_step(times) or IRREGULAR}, those of the training "
            f"had {trained}; expected the same step"
        )
