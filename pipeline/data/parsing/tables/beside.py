"""Columns of a table that are read beside the features: the part of each row, and its time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError, did_you_mean
from pipeline.data.parsing.cells.texts import Cells, numbers_or_none, shown
from pipeline.data.source import Array

DATED = r"^\d{4}-\d{2}(-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?)?$"
TRAIN = 0
VALIDATION = 1
TEST = 2
PARTS = {
    "train": TRAIN,
    "training": TRAIN,
    "test": TEST,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
}


def parts_of(cells: Cells) -> NDArray[np.int8]:
    """Return the part of each row, int8 (rows,). Raises DataError if a cell names none."""
    words, places = cells.encoded()
    numbers = np.array([PARTS.get((word or "").lower(), -1) for word in words], dtype=np.int8)
    parts: NDArray[np.int8] = numbers[places]
    are_odd = parts < 0
    if are_odd.any():
        word = words[places[are_odd.argmax()]] or ""
        near = did_you_mean(word.lower(), PARTS)
        problem = f"{shown(word)} is not a part; expected train, validation or test.{near}"
        raise cells.fault(are_odd, problem)
    return parts


def instants(cells: Cells) -> Array:
    """Return times, float64 (rows,): numbers unchanged, dates in microseconds since 1970.

    Raises:
        DataError: A cell is empty or not a time.
    """
    values = numbers_or_none(cells)
    if values is None:
        values = _dates(cells.present())
    empty = np.isnan(values)
    if empty.any():
        raise cells.fault(empty, "the cell is empty; expected a time in every row")
    return values


def _dates(cells: Cells) -> Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = cells.texts
    dated = pc.match_substring_regex(texts, DATED).fill_null(fill_value=True)
    odd = ~dated.to_numpy(zero_copy_only=False)
    if odd.any():
        text = shown(texts[int(odd.argmax())].as_py())
        expected = "numbers, or dates such as 2024-05-31 or 2024-05-31 10:00"
        raise cells.fault(odd, f"{text} is not a time; expected {expected}")
    months = pc.binary_join_element_wise(texts, pa.scalar("01"), "-")
    dates = pc.if_else(pc.equal(pc.utf8_length(texts), 7), months, texts)
    zoned = pc.any(pc.match_substring_regex(dates, r"(Z|:\d{2}[+-]\d{2}:?\d{2})$")).as_py()
    try:
        ticks = dates.cast(pa.timestamp("us", "UTC" if zoned else None)).cast(pa.int64())
    except pa.ArrowInvalid as error:
        cause = " ".join(str(error).split())
        raise DataError(
            f"{cells.place.file}, column {cells.column!r}: {cause}; "
            "expected dates such as 2024-05-31, all with a time zone or all without"
        ) from error
    return np.array(ticks.to_numpy(zero_copy_only=False), dtype=np.float64)
