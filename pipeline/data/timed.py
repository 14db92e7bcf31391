"""Values in time: cut into windows, split by time and measured."""

from dataclasses import replace

import numpy as np

from pipeline.config.options import DataOptions
from pipeline.data.checks import (
    check_finite,
    check_reach,
    check_told_apart,
    constant_columns,
    largest_by_column,
)
from pipeline.data.content import Content, refuse_disorder
from pipeline.data.scale import Scaler, fit, statistics
from pipeline.data.schema import Schema
from pipeline.data.series_file.holes import filled
from pipeline.data.source import Series
from pipeline.data.split import Split, split_times
from pipeline.data.windows import cut_windows, split_windows


def timed(series: Series, options: DataOptions, *, what: str = "the series") -> Content:
    """Cut, split and measure a series; its scalers see the training times alone.

    Args:
        series: The values in time.
        options: What happens to them.
        what: Name of the data in messages.

    Raises:
        ConfigError: An option can't apply to a series.
        DataError: The series is too short, or has holes.
    """
    refuse_disorder(options)
    times = split_times(len(series.values), series.test_from, options)
    series = _filled(series, times)
    check_finite(series.values, "the series")
    windows = cut_windows(series, options)
    split = split_windows(windows, times, options)
    trained = np.arange(len(times.train) - (options.difference or 0))
    measured = statistics(windows.changes, trained)
    schema = _schema(series, fit(measured, options.scale), options)
    check_reach(schema, largest_by_column(windows.changes), windows.targets, what=what)
    check_told_apart(schema.input_scaler, measured, schema.features, what=what)
    return Content(
        inputs=windows.inputs,
        targets=windows.targets,
        offsets=windows.offsets,
        numbers=windows.first,
        split=split,
        schema=schema,
        notes=(*series.notes, *_unread(options)),
        constant=constant_columns(measured, schema),
    )


def _filled(series: Series, times: Split) -> Series:
    """Fill what the source has left open because it does not know where the parts end."""
    if series.reading.get("missing") != "linear":
        return series
    borders = [int(end) for part in times.parts().values() for end in (part[0], part[-1] + 1)]
    return replace(series, values=filled(series.values, "linear", borders=borders))


def _unread(options: DataOptions) -> list[str]:
    if not options.split_seed:
        return []
    return [
        f"data.split_seed={options.split_seed} changes nothing: a series is split in time, the "
        "test last, since a random split would train on what comes after the test"
    ]


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
