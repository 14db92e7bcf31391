"""Rows of a DataFrame as texts, as if they were read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.base.errors import DataError
from pipeline.data.parsing.tables.file import trimmed

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def frame_texts(
    frame: pd.DataFrame, levels: Mapping[str, tuple[str, ...]], *, what: str
) -> pa.RecordBatch:
    """Return the columns of a DataFrame as texts, as if read from a file; missing = null.

    `levels` maps columns to their categories; `what` names the frame in messages.

    Raises:
        DataError: A column can't be converted to texts.
    """
    import pandas as pd
    import pyarrow as pa

    names = [str(name).strip() for name in frame.columns]
    columns = []
    for position, name in enumerate(names):
        column = plain = frame.iloc[:, position]
        if pd.api.types.is_bool_dtype(column):  # spelled as in training
            spellings = {level.casefold(): level for level in levels.get(name, ())}
            plain = column.map({b: spellings.get(str(b).casefold(), str(b)) for b in (True, False)})
        elif pd.api.types.is_float_dtype(column):
            plain = column.astype("float64")  # the short text of a float32 is another number
        elif column.dtype == object:
            plain = column.map(_in_words, na_action="ignore")
        try:
            columns.append(pa.array(plain, from_pandas=True).cast(pa.string()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise DataError(
                f"{what}'s column {name!r} has type {column.dtype}; expected numbers or strings"
            ) from error
    return trimmed(pa.RecordBatch.from_arrays(columns, names=names))


def _in_words(value: object) -> str:
    """Return one cell of a mixed column as a text; whole numbers get no decimal point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
