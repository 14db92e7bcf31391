"""The words of a column that says in which part a row belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.tables.location import Place
from pipeline.data.tables.records import shown
from pipeline.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

TRAIN, VALIDATION, TEST = 0, 1, 2
WORDS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
}


def parts_of(cells: pa.Array, *, column: str, place: Place) -> NDArray[np.int8]:
    """Return the part of each row, int8 (rows,).

    Raises:
        DataError: A cell is empty or another word: says where and which.
    """
    import pyarrow.compute as pc

    encoded = pc.dictionary_encode(cells.fill_null(""))
    words = encoded.dictionary.to_pylist()
    numbers = np.array([WORDS.get(word.lower(), -1) for word in words], dtype=np.int8)
    parts: NDArray[np.int8] = numbers[encoded.indices.to_numpy(zero_copy_only=False)]
    if (parts < 0).any():
        position = int((parts < 0).argmax())
        word = cells[position].as_py() or ""
        raise DataError(
            f"{place.cell(position, column)}: {shown(word)} is no part; expected train, "
            f"validation or test.{did_you_mean(word.lower(), WORDS)}"
        )
    return parts
