"""Independent rows: split, checked and measured."""

from dataclasses import replace

import numpy as np

from pipeline.config.options import DataOptions
from pipeline.data.checks import (
    check_apart,
    check_classes,
    check_finite,
    check_reach,
    check_rows,
    check_targets,
    check_told_apart,
    constant_columns,
    feature_names,
)
from pipeline.data.content import Content
from pipeline.data.disorder import disorder_notes, permutation_of, with_shuffled_labels
from pipeline.data.encode import Encoder, fit_encoder
from pipeline.data.scale import Scaler, Statistics, fit, identity, statistics
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Indices, Reading, Samples
from pipeline.data.split import split_rows
from pipeline.errors import ConfigError


def independent(samples: Samples, options: DataOptions, *, what: str = "the data") -> Content:
    """Split and measure independent rows.

    Args:
        samples: The rows.
        options: What happens to them.
        what: Name of the data in messages.

    Raises:
        ConfigError: An option for series is set.
        DataError: The rows can't be learned from as they stand.
    """
    _refuse_series_options(options)
    check_rows(samples)
    reach = check_finite(samples.inputs, "the data", holes_too=not samples.columns)
    split = split_rows(samples, options)
    if samples.task != "regression":
        check_classes(samples, split)
    if samples.strict:
        check_apart(samples.inputs, split)
    encoder = _encoder(samples, split.train)
    measured = statistics(samples.inputs, split.train, encoder)
    targets = with_shuffled_labels(_targets(samples), split.train, options)
    measured_targets = statistics(targets, split.train) if samples.task == "regression" else None
    schema = _schema(
        samples,
        encoder,
        _input_scaler(samples, measured, encoder, options),
        _target_scaler(samples, measured_targets, options),
    )
    check_reach(schema, reach, targets, what=what)
    if samples.inputs.dtype.itemsize > 4:
        check_told_apart(schema.input_scaler, measured, feature_names(schema), what=what)
    if measured_targets is not None:
        check_targets(schema, measured_targets, what=what)
    return Content(
        inputs=samples.inputs,
        targets=targets,
        offsets=None,
        numbers=np.arange(len(targets)),
        split=split,
        schema=replace(schema, permutation=permutation_of(samples, options)),
        notes=(*samples.notes, *disorder_notes(options)),
        groups=samples.group_numbers,
        constant=constant_columns(measured, schema),
    )


def _encoder(samples: Samples, rows: Indices) -> Encoder | None:
    if not samples.columns:
        return None
    return fit_encoder(np.asarray(samples.inputs), samples.columns, rows)


def _schema(
    samples: Samples, encoder: Encoder | None, input_scaler: Scaler, target_scaler: Scaler
) -> Schema:
    return Schema(
        task=samples.task,
        input_shape=samples.input_shape if encoder is None else (len(encoder.features),),
        outputs=len(target_scaler.shift),
        classes=samples.classes,
        features=samples.features if encoder is None else encoder.features,
        targets=(),
        units=samples.units,
        window=None,
        horizon=1,
        difference=None,
        input_scaler=input_scaler,
        target_scaler=target_scaler,
        encoder=encoder,
        label=samples.label,
        reading=_reading(samples),
    )


def _reading(samples: Samples) -> Reading:
    """Say how new rows come: by the names of their columns where they have some, else as arrays."""
    named = len(samples.inputs.shape) == 2 and bool(samples.columns or samples.features)
    return {"kind": "table" if named else "array", **samples.reading}


def _targets(samples: Samples) -> Array:
    if samples.task != "regression":
        return samples.targets.astype(np.int64, copy=False)
    values = np.asarray(samples.targets, dtype=np.float64).reshape(len(samples.targets), -1)
    check_finite(values, "the target")
    return values  # (rows, outputs)


def _input_scaler(
    samples: Samples, measured: Statistics, encoder: Encoder | None, options: DataOptions
) -> Scaler:
    if samples.inputs.dtype == np.uint8 and options.scale == "none":
        return identity(len(measured.mean), spread=255.0)
    return fit(measured, options.scale, kept=None if encoder is None else encoder.one_hot)


def _target_scaler(samples: Samples, measured: Statistics | None, options: DataOptions) -> Scaler:
    if measured is not None:
        return fit(measured, options.scale)
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
