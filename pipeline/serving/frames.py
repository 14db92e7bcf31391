"""Answers for rows that lie in memory, as whoever serves the model hands them over."""

import base64
import binascii
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.schema import Schema
from pipeline.data.source import Array
from pipeline.errors import ConfigError, DataError
from pipeline.serving.answers import Column, answers, require_numbers
from pipeline.serving.interface import IMAGE, interface
from pipeline.serving.model import Model
from pipeline.serving.new_rows import Rules

if TYPE_CHECKING:
    import pandas as pd

WHAT = "the input"
"""Name of the rows in messages."""


class RowsError(DataError, ValueError):
    """Rows in memory can't be used; a `ValueError` for whoever knows nothing of this program."""


def predict_frame(model: Model, rows: "pd.DataFrame | Array | list[Any]") -> "pd.DataFrame":
    """Answer as `python -m pipeline.predict` does for the same rows in a file.

    Args:
        model: That answers.
        rows: A DataFrame with a table's columns, with the past of a series, or with pictures in
            the column `image` (a file's bytes, or those as base64); or numbers
            (rows, *schema.raw_shape) as an array or nested lists.

    Returns:
        The columns of `pipeline.serving.interface`, a row each with the label that the input's row
        has; of a series the steps past its end.

    Raises:
        RowsError: The rows can't be used; one line a problem.
    """
    try:
        return _answered(model, rows)
    except (ConfigError, DataError) as error:
        raise RowsError(*error.problems) from error


def _answered(model: Model, rows: "pd.DataFrame | Array | list[Any]") -> "pd.DataFrame":
    import pandas as pd

    kind = model.schema.reading["kind"]
    frame = rows if isinstance(rows, pd.DataFrame) else None
    if kind == "series":
        return _forecast(model, _required(frame, kind))
    if kind == "table":
        raw = table_rows(_required(frame, kind), model.schema, Rules(), what=WHAT)
    elif kind == "images" and frame is not None:
        raw = picture_rows(frame, model.schema, what=WHAT)
    else:
        raw = _numbers(rows if frame is None else frame.to_numpy(), model.schema)
    outputs = model.outputs(raw, what=WHAT)
    require_numbers(outputs, what=WHAT, first_row=1)
    return _frame(model, answers(model, outputs), index=None if frame is None else frame.index)


def _frame(model: Model, columns: dict[str, Column], *, index: "pd.Index | None") -> "pd.DataFrame":
    import pandas as pd

    described = interface(model.schema, has_intervals=bool(model.decision.intervals))["outputs"]
    kinds = {one["name"]: one["type"] for one in described}
    # Where there is no row, nothing else says what a column holds.
    typed = {
        name: pd.Series(column, dtype="str" if kinds[name] == "string" else "float64", index=index)
        for name, column in columns.items()
    }
    return pd.DataFrame(typed)


def _required(frame: "pd.DataFrame | None", kind: str) -> "pd.DataFrame":
    if frame is None:
        raise DataError(f"this model reads a {kind}; expected a DataFrame with its columns by name")
    return frame


def _forecast(model: Model, frame: "pd.DataFrame") -> "pd.DataFrame":
    from pipeline.serving.forecast import forecast, past_of_frame

    return _frame(model, forecast(model, *past_of_frame(frame, model.schema)), index=None)


def table_rows(frame: "pd.DataFrame", schema: Schema, rules: Rules, *, what: str) -> Array:
    """Return the raw rows (rows, columns) of a table in memory.

    Raises:
        DataError: A column is missing, or a cell can't be used.
    """
    from pipeline.serving.frame_cells import as_cells
    from pipeline.serving.table_rows import TableReader

    reader = TableReader(schema, rules, file=what, heading=None)
    return reader.read(as_cells(frame, schema)).raw


def picture_rows(frame: "pd.DataFrame", schema: Schema, *, what: str) -> Array:
    """Return the pictures in the column `image`, uint8 (rows, channels, height, width).

    Raises:
        DataError: There is no such column, or a cell holds no picture.
    """
    from pipeline.data.reading_arrays import decode

    if IMAGE not in frame.columns:
        raise DataError(
            f"{what} has no column {IMAGE!r}; expected the content of a picture's file in each of "
            "its cells, as bytes or base64"
        )
    height, width = schema.reading["size"]
    decoded = [
        decode(
            _content(cell, f"{what} row {row}"),
            mode=schema.reading["mode"],
            size=(height, width),
            name=f"{what} row {row}",
        )
        for row, cell in enumerate(frame[IMAGE], start=1)
    ]
    return np.stack(decoded) if decoded else np.zeros((0, *schema.raw_shape), dtype=np.uint8)


def _content(cell: object, place: str) -> bytes:
    if isinstance(cell, bytes | bytearray | memoryview):
        return bytes(cell)
    try:
        return base64.b64decode(str(cell), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(
            f"{place}, column {IMAGE!r}: neither bytes nor base64; expected the content "
            "of a picture's file"
        ) from error


def _numbers(rows: object, schema: Schema) -> Array:
    """Return numbers (rows, *raw_shape), those of a row flat or in their shape."""
    try:
        raw = np.asarray(rows)
        raw = raw if raw.dtype.kind in "biuf" else raw.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{WHAT} holds something else than numbers, or rows of several lengths"
        ) from error
    shape = schema.raw_shape
    if raw.shape[1:] != shape and (raw.ndim != 2 or raw.shape[1] != int(np.prod(shape))):
        raise DataError(
            f"{WHAT} has the shape {_words(raw.shape)}; expected rows of {_words(shape)}: "
            f"(rows, {', '.join(map(str, shape))})"
        )
    return raw.reshape(len(raw), *shape)


def _words(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "one number"
