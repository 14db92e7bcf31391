"""The cells of a DataFrame as those of a file: texts, a missing one null, numbers in full."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.data.schema import Schema
from pipeline.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def as_cells(frame: "pd.DataFrame", schema: Schema) -> "pa.RecordBatch":
    """Return the columns of a frame as a file that was just read.

    Raises:
        DataError: Two columns have one name, or a column holds what no file does.
    """
    import pyarrow as pa

    names = [str(name).strip() for name in frame.columns]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"the input has several columns called {', '.join(map(repr, repeated))}; "
            "name each differently"
        )
    levels = {} if schema.encoder is None else {c.name: c.levels for c in schema.encoder.codes}
    columns = [
        _texts(name, frame.iloc[:, place], levels.get(name, ())) for place, name in enumerate(names)
    ]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _texts(name: str, column: "pd.Series[Any]", levels: tuple[str, ...]) -> "pa.Array":
    import pyarrow as pa

    try:
        return pa.array(_plain(column, levels), from_pandas=True).cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise DataError(
            f"the input's column {name!r} of type {column.dtype} can't be read; expected numbers "
            "or texts"
        ) from error


def _plain(column: "pd.Series[Any]", levels: tuple[str, ...]) -> "pd.Series[Any]":
    """Return a column whose cells read as a file's do."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(column):
        return column.map(_words_for(levels))
    if pd.api.types.is_float_dtype(column):
        return column.astype("float64")  # a float32 has a shorter text, which is another number
    return column.map(_text, na_action="ignore") if column.dtype == object else column


def _text(value: object) -> str:
    """Return one cell of a mixed column as a text; a whole number has no point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _words_for(levels: tuple[str, ...]) -> Mapping[bool, str]:
    """Return how the training wrote true and false."""
    known = {level.casefold(): level for level in levels}
    return {value: known.get(str(value).casefold(), str(value)) for value in (True, False)}
