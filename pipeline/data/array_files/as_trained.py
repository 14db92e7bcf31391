"""New arrays with the axes and the meaning that the arrays of the training had."""

import math
from pathlib import Path

import numpy as np

from pipeline.data.array_files.layout import arranged
from pipeline.data.array_files.values import largest, require_numbers
from pipeline.data.schema import Schema
from pipeline.data.source import Array
from pipeline.errors import DataError


def as_trained(values: Array, schema: Schema, label: str) -> Array:
    """Return new values as (rows, *raw_shape).

    Args:
        values: With the axes of the training's file, of the network, or flattened
            (rows, numbers).
        schema: Of the training.
        label: Their name in messages.

    Raises:
        DataError: The shape is another one, a value is no finite number, or pictures of 0 to 255
            are given as 0 to 1.
    """
    if values.dtype.kind not in "biuf":
        raise DataError(f"{label} has values of type {values.dtype}; expected numbers")
    require_numbers(values, label)
    _check_range(values, schema, label)
    shaped = _shaped(values, schema)
    if shaped is None:
        raise DataError(
            f"{label} has shape {values.shape}; the model was trained on {schema.raw_shape} a row; "
            f"expected {_expected(schema)}"
        )
    return shaped.astype(np.float32) if shaped.dtype.kind == "b" else shaped


def _shaped(values: Array, schema: Schema) -> Array | None:
    shape, reading = schema.raw_shape, schema.reading
    if "layout" in reading and values.ndim == reading["axes"]:
        moved = arranged(values, reading["layout"])
        if moved.shape[1:] == shape:
            return moved
    if values.shape[1:] == shape:
        return values
    if values.ndim == 2 and values.shape[1] == math.prod(shape):
        return values.reshape(len(values), *shape)
    return None


def _check_range(values: Array, schema: Schema, label: str) -> None:
    if schema.reading.get("dtype") != "uint8" or values.dtype == np.uint8 or not len(values):
        return
    top = largest(values)
    if top > 255 or (values.dtype.kind == "f" and 0 < top <= 1):
        raise DataError(
            f"{label} has values up to {top:g}; the model was trained on pictures of type uint8, 0 "
            f"to 255, and scales them itself{'; multiply by 255' if top <= 1 else ''}"
        )


def _expected(schema: Schema) -> str:
    shape = ", ".join(map(str, schema.raw_shape))
    return f"(rows, {shape}), as in training, or (rows, {math.prod(schema.raw_shape)})"


def series_as_trained(values: Array, schema: Schema, file: Path) -> Array:
    """Return series (rows, steps, channels) as (rows, *raw_shape).

    Raises:
        DataError: They have other steps or channels; names both.
    """
    if values.shape[1:] == schema.raw_shape:
        return values
    if values.shape[2] == 1 and values.shape[1:2] == schema.raw_shape:
        return values[:, :, 0]
    steps, channels = values.shape[1:]
    raise DataError(
        f"{file} has series of {steps} steps and {channels} channels; the model was trained on "
        f"{schema.raw_shape} a row (steps, channels)"
    )
