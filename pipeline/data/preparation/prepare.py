"""Preparation of a source's raw content into training, validation and test parts.

Series are cut into windows here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline.base.errors import ConfigError, DataError
from pipeline.config.options import DataOptions
from pipeline.data.parsing.times import season_of
from pipeline.data.preparation import checks
from pipeline.data.preparation.content import FOR_ROWS, Content, Part, independent, refuse_options
from pipeline.data.preparation.reader import reader_of
from pipeline.data.preparation.report import DataReport, data_report
from pipeline.data.preparation.report_text import warnings
from pipeline.data.preparation.schema import Scaler, Schema, fit, statistics
from pipeline.data.preparation.split import Split, check_sizes, split_times
from pipeline.data.source import Array, Indices, Samples, Series, Source

Filling = Literal["refuse", "previous", "linear"]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """Prepared data of a run.

    Args:
        schema: Meaning of inputs and outputs.
        train: Part that the network learns from and on which all scaling is fitted.
        validation: Part that decides which epoch is best; None = there is none.
        test: Part that the trained network is tested on.
        content_hash: SHA-256 of the content and its split.
        notes: Notes for the user.
        example: A few raw rows, in the form in which a model takes new rows.
        is_turned: See `Samples`.
        report: Data report; `None` = not requested.
    """

    schema: Schema
    train: Part
    validation: Part | None
    test: Part
    content_hash: str
    notes: tuple[str, ...]
    example: Any
    is_turned: bool = False
    report: DataReport | None = None

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows of each part that exists."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: len(part) for name, part in parts.items() if part is not None}

    def class_weights(self, setting: Sequence[float] | str | None) -> Sequence[float] | None:
        """Return the weight of each class; `None` = equal weights.

        `setting` is the value of `loss.class_weights`: weights, or `balanced` for weights with
        which all classes count equally among the training rows.
        """
        if setting != "balanced":
            assert not isinstance(setting, str)
            return setting
        counts = torch.bincount(self.train.targets, minlength=len(self.schema.classes))
        weights: list[float] = (counts.sum() / (len(counts) * counts.clamp(min=1))).tolist()
        return weights

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the data, one line each."""
        return () if self.report is None else tuple(warnings(self.report))


def prepare(source: Source, options: DataOptions, *, reports: bool = True) -> Prepared:
    """Read, split, scale, window and hash the data of a source; with `reports`, report on them.

    Raises:
        ConfigError: An option does not apply to the data.
        DataError: The data can't be split or learned from.
    """
    raw = source.read()
    content = content_of(raw, options, what=source.place)
    parts = {
        name: content.part(rows, budget=options.memory_budget)
        for name, rows in content.split.parts().items()
    }
    notes = content.notes
    train_rows = len(parts["train"])
    if options.batch_size > train_rows:
        note = (
            f"data.batch_size={options.batch_size} is larger than the training part of "
            f"{train_rows} rows: an epoch is one step"
        )
        notes = (*notes, note)
    return Prepared(
        schema=content.schema,
        train=parts["train"],
        validation=parts.get("validation"),
        test=parts["test"],
        content_hash=content.digest(),
        notes=notes,
        example=reader_of(content.schema).example(raw, content),
        is_turned=isinstance(raw, Samples) and raw.is_turned,
        report=data_report(raw, content) if reports else None,
    )


def content_of(raw: Samples | Series, options: DataOptions, *, what: str = "the data") -> Content:
    """Split and measure raw data as `prepare` does; `what` names the data in messages."""
    if isinstance(raw, Samples):
        return independent(raw, options, what=what)
    return timed(raw, options, what=what)


def cut_windows(
    series: Series, options: DataOptions | Schema, *, what: str
) -> tuple[Array, dict[str, Any]]:
    """Cut all windows of a series, one per row, oldest first; `what` names it in messages.

    Returns the (differenced) values that they are cut from, (time - difference, channels), and
    fields of `Content`: `inputs` (rows, window, channels), a view that takes no memory; `targets`,
    `offsets`, `seasonal` and `actual` (rows, horizon * targets), ordered by step, then by channel;
    and `numbers` (rows,), the time of the first step to predict.

    Raises:
        ConfigError: The window is missing, or the horizon is longer than the difference.
        DataError: The series is too short.
    """
    _check_window(what, len(series.values), options)
    window = options.window or 0
    horizon = options.horizon
    lag = options.difference or 0
    values = np.asarray(series.values, dtype=np.float64)
    changes = differenced(values, lag)
    columns = [series.names.index(name) for name in series.targets]
    inputs = sliding_window_view(changes[:-horizon], window, axis=0)  # (rows, channels, window)
    numbers = np.arange(len(inputs)) + window + lag
    fields = {
        "inputs": np.moveaxis(inputs, -1, 1),  # (rows, window, channels)
        "targets": _ahead(changes[window:, columns], horizon),
        "offsets": None,
        "actual": None,
        "seasonal": None,
        "numbers": numbers,
    }
    if lag:
        fields["offsets"] = _ahead(values[window : len(values) - lag, columns], horizon)
        fields["actual"] = _ahead(values[window + lag :, columns], horizon)
    season = season_of(series.reading)
    if season is not None and season != options.difference:
        fields["seasonal"] = _seasonal(values[:, columns], numbers, horizon, season)
    return changes, fields


def _seasonal(values: Array, numbers: Indices, horizon: int, season: int) -> Values:
    """Return the last known values of the same season, NaN before the first one.

    Takes values (time, targets) and the first time of each row to predict, and returns values
    (rows, horizon * targets).
    """
    steps = np.arange(horizon)
    times = numbers[:, None] + steps - season * (steps // season + 1)
    seasonal = np.where(times[..., None] < 0, np.nan, values[np.maximum(times, 0)])
    return seasonal.reshape(len(numbers), -1)


def filled(values: Array, missing: Filling, *, borders: Sequence[int]) -> Values:
    """Return values (time, channels) with missing ones (NaN) filled in, except leading ones.

    `refuse` changes nothing; `previous` repeats the value before; `linear` interpolates up to the
    next value before a border, or repeats the value before if there is none. `borders` are the
    times at which parts begin.
    """
    import pandas as pd

    result = np.array(values, dtype=np.float64)
    if missing == "refuse":
        return result
    if missing == "previous":
        return pd.DataFrame(result).ffill().to_numpy()
    inner_borders = {border for border in borders if 0 < border < len(result)}
    start = 0
    for end in sorted({*inner_borders, len(result)}):
        result[start:end] = pd.DataFrame(values[:end]).interpolate().to_numpy()[start:end]
        start = end
    return result


def differenced(values: Array, lag: int) -> Array:
    """Return x(t) - x(t - lag) of values (time, channels), (time - lag, channels); lag 0 = x(t)."""
    return values[lag:] - values[: len(values) - lag] if lag else values


def _ahead(values: Array, horizon: int) -> Array:
    steps = sliding_window_view(values, horizon, axis=0)  # (rows, targets, horizon)
    return np.moveaxis(steps, -1, 1).reshape(len(steps), -1)


def _check_window(what: str, length: int, options: DataOptions | Schema) -> None:
    """Raise the errors of `cut_windows` for a number of steps."""
    if options.window is None:
        raise ConfigError(
            "data.window=null, but this data is a series; expected a number of steps, such as 12"
        )
    if options.difference is not None and options.horizon > options.difference:
        raise ConfigError(
            f"data.horizon={options.horizon} is longer than data.difference={options.difference}; "
            "expected at most that: undoing it would need future values"
        )
    other_steps = options.horizon + (options.difference or 0)
    if length < options.window + other_steps:
        problem = (
            f"{what} has {length} steps; expected at least {options.window + other_steps} for "
            f"data.window={options.window}, horizon {options.horizon}"
        )
        if options.difference:
            problem += f", difference {options.difference}"
        if isinstance(options, DataOptions) and length > other_steps:
            largest = length - other_steps
            problem += f". Choose a smaller window: data.window={largest}, or less"
        raise DataError(problem)


def timed(series: Series, options: DataOptions, *, what: str = "the series") -> Content:
    """Cut, split and measure a series; its scalers are fitted on the training times only.

    Raises:
        ConfigError: An option does not apply to series.
        DataError: The series is too short, or can't be split or learned from.
    """
    refuse_options(options, FOR_ROWS)
    times = split_times(len(series.values), series.test_from, options)
    # The source leaves these values missing, since it does not know where the parts end.
    if series.reading.get("missing") == "linear":
        borders: list[int] = []
        for part in times.parts().values():
            borders += (int(part[0]), int(part[-1]) + 1)
        series = replace(series, values=filled(series.values, "linear", borders=borders))
    checks.check_finite(series.values, "the series")
    _check_window(f"the training part of {what}", len(times.train), options)
    changes, windows = cut_windows(series, options, what=what)
    # Each window belongs to the part that holds all its steps to predict. Its inputs may reach
    # back into the previous part, which is known by then.
    first_step = windows["numbers"]
    last_step = windows["numbers"] + options.horizon - 1
    rows = {}
    for name, part in times.parts().items():
        is_inside = (first_step >= part[0]) & (last_step <= part[-1])
        rows[name] = np.flatnonzero(is_inside)[:: options.stride]
    split = Split(**rows)
    check_sizes(split, options)
    measured = statistics(changes, np.arange(len(times.train) - (options.difference or 0)))
    schema = _schema(series, fit(measured, options.scale), options)
    checks.check_reach(schema, checks.largest_by_column(changes), windows["targets"], what=what)
    checks.check_told_apart(schema.input_scaler, measured, schema.features, what=what)
    notes = series.notes
    if options.split_seed:
        note = (
            f"data.split_seed={options.split_seed} has no effect: a series is split by time, test "
            "rows last"
        )
        notes = (*notes, note)
    return Content(
        **windows,
        split=split,
        schema=schema,
        notes=notes,
        constant=checks.constant_columns(measured, schema),
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
        features=series.names,
        targets=series.targets,
        units=series.units,
        window=options.window,
        horizon=options.horizon,
        stride=options.stride,
        difference=options.difference,
        input_scaler=scaler,
        target_scaler=target_scaler,
        label=", ".join(series.targets),
        reading={"kind": "series", **series.reading},
    )
