"""Answers for rows that lie in memory, as a server of the model hands them over.

Models that MLflow has recorded import `predict_frame` from here.
"""

from typing import TYPE_CHECKING, Any

from pipeline.data.reader import reader_of
from pipeline.data.source import Array
from pipeline.errors import ConfigError, DataError
from pipeline.serving.model import Model
from pipeline.serving.predictions import answered, interface

if TYPE_CHECKING:
    import pandas as pd

#: Name of the rows in messages.
WHAT = "the input"


class RowsError(DataError, ValueError):
    """Rows in memory can't be used; a `ValueError` for whoever knows nothing of this program."""


def predict_frame(model: Model, rows: "pd.DataFrame | Array | list[Any]") -> "pd.DataFrame":
    """Answer as `python -m pipeline.predict` does for the same rows in a file.

    Args:
        model: That answers.
        rows: A DataFrame with a table's columns, with the past of a series, or with pictures in
            the column `image` (a file's bytes, or those as base64); or numbers
            (rows, *schema.raw_shape) as an array or nested lists.

    Returns the columns of `interface`, a row each with the label that the input's row has; of a
    series the steps past its end.

    Raises:
        RowsError: The rows can't be used; one line a problem.
    """
    import pandas as pd

    described = interface(model.schema, model.decision)["outputs"]
    try:
        block = reader_of(model.schema).apply(rows, what=WHAT)
        columns = answered(model, block, what=WHAT)
    except (ConfigError, DataError) as error:
        raise RowsError(*error.problems) from error
    if block.names is not None:
        columns = {described[0]["name"]: block.names, **columns}
    is_series = model.schema.window is not None
    index = rows.index if isinstance(rows, pd.DataFrame) and not is_series else None
    # Where there is no row, nothing else says what a column holds.
    kinds = {one["name"]: "str" if one["type"] == "string" else "float64" for one in described}
    return pd.DataFrame(columns, index=index).astype(kinds)
