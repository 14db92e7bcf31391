"""Predictions for rows in memory, such as a model server passes them.

Models recorded in MLflow import `predict_frame` from here.
"""

from typing import TYPE_CHECKING, Any

from pipeline.base.errors import ConfigError, DataError
from pipeline.data.preparation.reader import reader_of
from pipeline.data.source import Array
from pipeline.serving.model import Model
from pipeline.serving.predictions import answered, interface

if TYPE_CHECKING:
    import pandas as pd

#: Name of the rows in messages.
WHAT = "the input"


class RowsError(DataError, ValueError):
    """Rows in memory can't be used; a `ValueError` for callers outside this package."""


def predict_frame(model: Model, rows: "pd.DataFrame | Array | list[Any]") -> "pd.DataFrame":
    """Return the predictions that `pipeline predict` makes for the same rows in a file.

    Args:
        model: Model that predicts.
        rows: A DataFrame with a table's columns, with the past of a series, or with pictures in
            the column `image` (the content of a file, as bytes or base64); or numbers
            (rows, *schema.raw_shape) as an array or nested lists.

    Returns the output columns of `interface`, with one row per input row and the same index; for
    a series, one row per step after its end.

    Raises:
        RowsError: The rows can't be used; there is one line per problem.
    """
    import pandas as pd

    outputs = interface(model.schema, model.decision)["outputs"]
    try:
        block = reader_of(model.schema).apply(rows, what=WHAT)
        columns = answered(model, block, what=WHAT)
    except (ConfigError, DataError) as error:
        raise RowsError(*error.problems) from error
    if block.names is not None:
        columns = {outputs[0]["name"]: block.names, **columns}
    is_series = model.schema.window is not None
    index = rows.index if isinstance(rows, pd.DataFrame) and not is_series else None
    # Without rows, the types of the columns can't be inferred.
    types = {}
    for output in outputs:
        types[output["name"]] = "str" if output["type"] == "string" else "float64"
    return pd.DataFrame(columns, index=index).astype(types)
