"""The cells of a DataFrame as those of a file: texts, a missing one null, numbers in full."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def as_texts(
    frame: "pd.DataFrame", levels: Mapping[str, tuple[str, ...]], *, what: str
) -> "pa.RecordBatch":
    """Return the columns of a frame as a file that was just read.

    Args:
        frame: Its columns have different names.
        levels: Categories of the columns that have some.
        what: Name of the rows in messages.

    Raises:
        DataError: A column holds what no file does.
    """
    import pyarrow as pa

    names = [str(name).strip() for name in frame.columns]
    columns = []
    for position, name in enumerate(names):
        column = frame.iloc[:, position]
        try:
            plain = _plain(column, levels.get(name, ()))
            columns.append(pa.array(plain, from_pandas=True).cast(pa.string()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise DataError(
                f"{what}'s column {name!r} of type {column.dtype} can't be read; expected numbers "
                "or texts"
            ) from error
    return pa.RecordBatch.from_arrays(columns, names=names)


def _plain(column: "pd.Series[Any]", levels: tuple[str, ...]) -> "pd.Series[Any]":
    """Return a column whose cells read as a file's do."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(column):  # written as the training wrote true and false
        known = {level.casefold(): level for level in levels}
        words = {value: known.get(str(value).casefold(), str(value)) for value in (True, False)}
        return column.map(words)
    if pd.api.types.is_float_dtype(column):
        return column.astype("float64")  # a float32 has a shorter text, which is another number
    return column.map(_text, na_action="ignore") if column.dtype == object else column


def _text(value: object) -> str:
    """Return one cell of a mixed column as a text; a whole number has no point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
