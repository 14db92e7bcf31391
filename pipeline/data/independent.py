"""Independent rows: split, checked and measured."""

import numpy as np

from pipeline.config.options import DataOptions
from pipeline.data.checks import (
    check_classes,
    check_finite,
    check_rows,
    constant_note,
    repeated_note,
)
from pipeline.data.content import Content
from pipeline.data.scale import Scaler, Statistics, fit, identity, statistics
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Indices, Samples
from pipeline.data.split import split_rows
from pipeline.errors import ConfigError


def independent(samples: Samples, options: DataOptions) -> Content:
    """Split and measure independent rows.

    Raises:
        ConfigError: An option for series is set.
        DataError: The rows can't be learned from as they stand.
    """
    _refuse_series_options(options)
    check_rows(samples)
    check_finite(samples.inputs, "the data")
    split = split_rows(samples, options)
    if samples.task != "regression":
        check_classes(samples, split)
    measured = statistics(samples.inputs, split.train)
    targets = _targets(samples)
    schema = _schema(
        samples,
        _input_scaler(samples, measured, options),
        _target_scaler(samples, targets, split.train, options),
    )
    return Content(
        inputs=samples.inputs,
        targets=targets,
        offsets=None,
        numbers=np.arange(len(targets)),
        split=split,
        schema=schema,
        notes=(
            *constant_note(measured, samples.features),
            *repeated_note(samples.inputs, split),
        ),
    )


def _schema(samples: Samples, input_scaler: Scaler, target_scaler: Scaler) -> Schema:
    return Schema(
        task=samples.task,
        input_shape=samples.input_shape,
        outputs=len(target_scaler.shift),
        classes=samples.classes,
        features=samples.features,
        targets=(),
        units=samples.units,
        window=None,
        horizon=1,
        difference=None,
        input_scaler=input_scaler,
        target_scaler=target_scaler,
    )


def _targets(samples: Samples) -> Array:
    if samples.task != "regression":
        return samples.targets.astype(np.int64)
    values = np.asarray(samples.targets, dtype=np.float64).reshape(len(samples.targets), -1)
    check_finite(values, "the target")
    return values  # (rows, outputs)


def _input_scaler(samples: Samples, measured: Statistics, options: DataOptions) -> Scaler:
    if samples.inputs.dtype == np.uint8 and options.scale == "none":
        return identity(len(measured.mean), spread=255.0)
    return fit(measured, options.scale)


def _target_scaler(samples: Samples, targets: Array, rows: Indices, options: DataOptions) -> Scaler:
    if samples.task == "regression":
        return fit(statistics(targets, rows), options.scale)
    return identity(1 if samples.task == "binary" else len(samples.classes))


def _refuse_series_options(options: DataOptions) -> None:
    given = {"window": options.window, "difference": options.difference}
    if options.horizon != 1:
        given["horizon"] = options.horizon
    problems = [
        f"data.{key}={value} is for values in time, but this data has independent rows; "
        f"expected {1 if key == 'horizon' else 'null'}"
        for key, value in given.items()
        if value is not None
    ]
    if problems:
        raise ConfigError(*problems)
