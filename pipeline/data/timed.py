"""Values in time: cut into windows, split by time and measured."""

import numpy as np

from pipeline.config.options import DataOptions
from pipeline.data.checks import check_finite, constant_note
from pipeline.data.content import Content
from pipeline.data.scale import Scaler, fit, statistics
from pipeline.data.schema import Schema
from pipeline.data.source import Series
from pipeline.data.split import split_times
from pipeline.data.windows import cut_windows, split_windows


def timed(series: Series, options: DataOptions) -> Content:
    """Cut, split and measure a series; its scalers see the training times alone.

    Raises:
        ConfigError: An option can't apply to a series.
        DataError: The series is too short, or has holes.
    """
    check_finite(series.values, "the series")
    windows = cut_windows(series, options)
    times = split_times(len(series.values), series.test_from, options)
    split = split_windows(windows, times, options)
    trained = np.arange(len(times.train) - (options.difference or 0))
    measured = statistics(windows.changes, trained)
    return Content(
        inputs=windows.inputs,
        targets=windows.targets,
        offsets=windows.offsets,
        numbers=windows.first,
        split=split,
        schema=_schema(series, fit(measured, options.scale), options),
        notes=(*series.notes, *constant_note(measured, series.names)),
    )


def _schema(series: Series, scaler: Scaler, options: DataOptions) -> Schema:
    columns = [series.names.index(name) for name in series.targets]
    target_scaler = Scaler(
        shift=tuple(scaler.shift[column] for column in columns) * options.horizon,
        spread=tuple(scaler.spread[column] for column in columns) * options.horizon,
    )
    return Schema(
        task="regression",
        input_shape=(options.window or 0, len(series.names)),
        outputs=len(target_scaler.shift),
        classes=(),
        features=series.names,
        targets=series.targets,
        units=series.units,
        window=options.window,
        horizon=options.horizon,
        difference=options.difference,
        input_scaler=scaler,
        target_scaler=target_scaler,
        label=", ".join(series.targets),
        reading={"kind": "series", **series.reading},
    )
