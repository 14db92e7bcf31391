"""Rows of numbers in a CSV, each the flattened values of a sample; with a header or without."""

import csv
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.array_files.joined import IN_MEMORY_BYTES
from pipeline.data.array_files.labelled import channel
from pipeline.data.array_files.texts import lines
from pipeline.errors import DataError

SEPARATORS = ",;\t"


def read_flat(file: Path, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the rows as (rows, *shape); many rows lie in a file that is gone when they are.

    Args:
        file: Numbers parted by commas, semicolons or tabs.
        shape: Of one sample; its values stand in C order, the last axis moving fastest.

    Raises:
        DataError: A line has another number of fields, or a field is no finite number.
    """
    width = math.prod(shape)
    rows = sum(1 for _ in _rows(file))
    made = _room(rows, width)
    for index, (number, fields) in enumerate(_rows(file)):
        where = f"{file.name} line {number}"
        if len(fields) != width:
            raise DataError(
                f"{where} has {len(fields)} fields; expected {width} values, a sample of shape "
                f"{shape} in one row"
            )
        values = channel(fields, where)
        if len(values) != width:
            raise DataError(f"{where}: field {len(values) + 1} is missing; expected a number")
        made[index] = values
    return made.reshape(rows, *shape)


def _room(rows: int, width: int) -> NDArray[np.float64]:
    size = rows * width * 8
    if size <= IN_MEMORY_BYTES:
        return np.empty((rows, width))
    unnamed = tempfile.TemporaryFile()  # noqa: SIM115 - the mapping keeps it, and ends it
    return np.memmap(unnamed, dtype=np.float64, mode="w+", shape=(rows, width))


def _rows(file: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield the numbers of the lines and their fields, without a header."""
    separator = None
    for number, text in lines(file):
        first = separator is None
        separator = separator or next((one for one in SEPARATORS if one in text), ",")
        fields = next(csv.reader([text], delimiter=separator))
        if not (first and _is_header(fields)):
            yield number, fields


def _is_header(fields: Sequence[str]) -> bool:
    """Tell names of columns from numbers: none is a number, or pandas has counted them."""
    counted = [str(index) for index in range(len(fields))]
    return not any(map(_is_number, fields)) or (len(fields) > 2 and list(fields) == counted)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
