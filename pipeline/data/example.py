"""A few raw rows of the data, as JSON can hold them: what a model is shown to be asked."""

import base64
import io
from typing import Any

import numpy as np

from pipeline.data.content import Content
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Samples, Series

ROWS = 3


def example_of(raw: Samples | Series, content: Content) -> Any:
    """Return raw training rows in the form in which a model gets new ones.

    Returns:
        A table's or a series' rows as `[{column: cell}, …]`, pictures as `[{"image": base64}, …]`,
        an array's rows as nested lists. Of a series it is as much of its end as a forecast needs.
    """
    if isinstance(raw, Series):
        return _past(raw, content.schema)
    rows = np.asarray(raw.inputs[_whole_rows(raw, content)])
    kind = content.schema.reading["kind"]
    if kind == "images":
        return [{"image": _as_png(row)} for row in rows]
    if kind == "table":
        return [_cells(row, content.schema) for row in rows]
    return rows.tolist()


def _whole_rows(raw: Samples, content: Content) -> Array:
    """Choose the first training rows, those without a hole where there are such."""
    first = content.split.train[: 100 * ROWS]
    if raw.columns:
        holes = np.isnan(np.asarray(raw.inputs[first], dtype=np.float64)).any(1)
        first = first[~holes] if (~holes).any() else first
    return first[:ROWS]


def _cells(row: Array, schema: Schema) -> dict[str, Any]:
    if schema.encoder is None:
        return dict(zip(schema.features, map(float, row), strict=True))
    cells: dict[str, Any] = {}
    for cell, code in zip(row, schema.encoder.codes, strict=True):
        shown = code.levels[int(cell)] if code.is_category and cell >= 0 else float(cell)
        cells[code.name] = None if cell != cell else shown  # noqa: PLR0124 - NaN alone is unequal
    return cells


def _past(series: Series, schema: Schema) -> list[dict[str, Any]]:
    steps = (schema.window or 0) + (schema.difference or 0)
    time = schema.reading.get("time")
    rows: list[dict[str, Any]] = []
    for label, values in zip(series.times[-steps:], series.values[-steps:], strict=True):
        cells = [None if np.isnan(value) else float(value) for value in values]
        named = dict(zip(series.names, cells, strict=True))
        rows.append({time: label, **named} if time else named)
    return rows


def _as_png(row: Array) -> str:
    """Return a picture (channels, height, width) as the base64 text of a PNG file."""
    from PIL import Image

    pixels = np.moveaxis(row.astype(np.uint8), 0, -1)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
