"""The few raw rows that a model was left with, read again, or made up where there are none."""

import json

import numpy as np

from pipeline.data.encode import UNKNOWN, Code
from pipeline.data.reader import reader_of
from pipeline.data.schema import Schema
from pipeline.data.source import Array
from pipeline.serving.files import EXAMPLE
from pipeline.serving.model import Model

MADE_UP = 3
"""Rows that take the place of an example."""


def example_rows(model: Model) -> Array:
    """Return raw rows (rows, *raw_shape): those beside the model, else some of like size."""
    file = model.file.with_name(EXAMPLE)
    if not file.is_file():
        return _made_up(model.schema)
    example = json.loads(file.read_text(encoding="utf-8"))
    if example and isinstance(example[0], dict):
        import pandas as pd

        example = pd.DataFrame(example)
    return reader_of(model.schema).apply(example, what=EXAMPLE, missing="impute").raw


def _made_up(schema: Schema) -> Array:
    if schema.encoder is not None:
        cells = [_cells(code) for code in schema.encoder.codes]
        return np.column_stack(cells)
    generator = np.random.default_rng(0)
    scaler = schema.input_scaler
    drawn = np.moveaxis(generator.normal(size=(MADE_UP, *schema.input_shape)), _axis(schema), -1)
    return np.moveaxis(drawn * scaler.spread + scaler.shift, -1, _axis(schema))


def _axis(schema: Schema) -> int:
    return 1 if schema.kind == "images" else -1


def _cells(code: Code) -> list[float]:
    """Return the cells of a column: its mean and more, or its most frequent levels."""
    if not code.is_category:
        return [code.fill + row for row in range(MADE_UP)]
    levels = code.kept or (UNKNOWN,)
    return [float(levels[row % len(levels)]) for row in range(MADE_UP)]
