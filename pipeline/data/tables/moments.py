"""Times in a column as numbers that put the rows in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.source import Array
from pipeline.data.tables.cells import numbers_or_none, present
from pipeline.data.tables.location import Place
from pipeline.data.tables.records import shown
from pipeline.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

DATED = r"^\d{4}-\d{2}(-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?)?$"


def moments(cells: pa.Array, *, column: str, place: Place) -> Array:
    """Return float64 (rows,): numbers as they are, dates as microseconds since 1970.

    Raises:
        DataError: A cell is empty or no time: says where and which.
    """
    texts = present(cells)
    values = numbers_or_none(cells)
    if values is None:
        values = _dated(texts, column, place)
    if np.isnan(values).any():
        raise DataError(
            f"{place.cell(int(np.isnan(values).argmax()), column)}: the cell is empty; expected "
            "a time in every row"
        )
    return values


def _dated(texts: pa.Array, column: str, place: Place) -> Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    dated = pc.match_substring_regex(texts, DATED).fill_null(fill_value=True)
    if not pc.all(dated).as_py():
        position = int(np.argmin(dated.to_numpy(zero_copy_only=False)))
        raise DataError(
            f"{place.cell(position, column)}: {shown(texts[position].as_py())} is no time; "
            "expected numbers, or dates such as 2024-05-31 or 2024-05-31 10:00"
        )
    whole = pc.if_else(
        pc.equal(pc.utf8_length(texts), 7),
        pc.binary_join_element_wise(texts, pa.scalar("01"), "-"),
        texts,
    )
    try:
        zoned = pc.match_substring_regex(whole, r"(Z|:\d{2}[+-]\d{2}:?\d{2})$")
        kind = pa.timestamp("us", "UTC") if pc.any(zoned).as_py() else pa.timestamp("us")
        ticks = whole.cast(kind).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{place.file}, column {column!r}: {' '.join(str(error).split())}; expected dates "
            "such as 2024-05-31, all with a time zone or all without"
        ) from error
    return np.array(ticks.to_numpy(zero_copy_only=False), dtype=np.float64)
