"""Cells of some rows, few enough to be measured in a moment and many enough to speak for all."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.data.column_report import filling
from pipeline.data.content import Content
from pipeline.data.encode import Code
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Indices, OnDemand, Samples, Series

MOST_ROWS = 100_000
MOST_CELLS = 4_000_000
MOST_COLUMNS = 1_000
MOST_UNNAMED = 100
"""Columns without a name, more of which are pixels or steps rather than variables."""
MOST_VALUES = 100_000
"""Values of a channel."""
FEW_ROWS = 50
COSTLY_ROWS = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """What is measured.

    Args:
        names: Of the columns or channels.
        values: float64 (values, columns); NaN = missing.
        rows: How many rows they come from.
        are_channels: A row has several values of each.
        codes: How columns of a table are encoded, by name.
        filled: What takes the place of a missing value, by name.
        unlisted: Further columns.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    rows: int
    are_channels: bool
    codes: Mapping[str, Code] = field(default_factory=dict)
    filled: Mapping[str, str] = field(default_factory=dict)
    unlisted: int = 0


def measured_cells(raw: Samples | Series, content: Content, rows: Indices) -> Cells:
    """Take cells of the given rows of content, evenly spaced where there are many.

    Args:
        raw: What the content was made of.
        content: Its inputs, or the times of its windows, are measured.
        rows: Positions in `content.inputs`.
    """
    if isinstance(raw, Series):
        return _times(raw, content, rows)
    schema, inputs = content.schema, content.inputs
    names = column_names(schema)
    if inputs.ndim == 2 and (schema.features or len(names) <= MOST_UNNAMED):
        return _columns(inputs, rows, names, schema)
    return _channels(inputs, rows, schema)


def column_names(schema: Schema) -> tuple[str, ...]:
    """Return the names of raw columns or channels; those without one are numbered."""
    axis = 0 if len(schema.raw_shape) == 3 else -1
    count = schema.raw_shape[axis]
    return schema.columns or tuple(f"number {index}" for index in range(count))


def evenly_spaced(rows: Indices, most: int) -> Indices:
    """Return at most so many of the rows."""
    if len(rows) <= most:
        return rows
    chosen: Indices = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    return chosen


def _columns(
    inputs: Array | OnDemand, rows: Indices, names: tuple[str, ...], schema: Schema
) -> Cells:
    listed = names[:MOST_COLUMNS]
    most = COSTLY_ROWS if _is_costly(inputs) else min(MOST_ROWS, MOST_CELLS // len(names))
    rows = evenly_spaced(rows, max(FEW_ROWS, most))
    codes = {} if schema.encoder is None else {code.name: code for code in schema.encoder.codes}
    return Cells(
        names=listed,
        values=np.asarray(inputs[rows][:, : len(listed)], dtype=np.float64),
        rows=len(rows),
        are_channels=False,
        codes=codes,
        filled={name: filling(code) for name, code in codes.items()},
        unlisted=len(names) - len(listed),
    )


def _channels(inputs: Array | OnDemand, rows: Indices, schema: Schema) -> Cells:
    width = int(np.prod(inputs.shape[1:]))
    most = COSTLY_ROWS if _is_costly(inputs) else min(MOST_ROWS, MOST_CELLS // width)
    rows = evenly_spaced(rows, max(FEW_ROWS, most))
    block = np.asarray(inputs[rows])
    if block.ndim == 2:  # pixels or steps in a row, without names
        names: tuple[str, ...] = ("all columns",)
        values = block.reshape(-1, 1)
    else:
        names = column_names(schema)
        last = np.moveaxis(block, 1, -1) if block.ndim == 4 else block
        values = last.reshape(-1, last.shape[-1])
    if len(values) > MOST_VALUES:
        values = values[np.random.default_rng(0).integers(0, len(values), MOST_VALUES)]
    return Cells(
        names=names,
        values=values.astype(np.float64),
        rows=len(rows),
        are_channels=True,
    )


def _times(series: Series, content: Content, rows: Indices) -> Cells:
    """Take the times of a series that the windows see or predict."""
    schema = content.schema
    end = int(content.numbers[rows[-1]]) + schema.horizon
    start = int(content.numbers[rows[0]]) if rows[0] else 0
    times = evenly_spaced(np.arange(start, end), MOST_ROWS)
    missing = str(series.reading.get("missing", ""))
    columns = [series.names.index(name) for name in schema.features]
    return Cells(
        names=schema.features,
        values=np.asarray(series.values[times][:, columns], dtype=np.float64),
        rows=len(times),
        are_channels=True,
        filled=dict.fromkeys(schema.features, missing),
    )


def _is_costly(inputs: Array | OnDemand) -> bool:
    return isinstance(inputs, OnDemand) and inputs.costly
