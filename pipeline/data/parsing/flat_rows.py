"""CSV files with one flattened sample per line, all numbers, without a target."""

import csv
import math
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.base.errors import DataError
from pipeline.data.parsing import array_files as files
from pipeline.data.parsing.cells.written import GROUPED
from pipeline.data.parsing.tables.formats.csv import TOO_LONG, csv_records
from pipeline.data.ucr import THOUSANDS, Floats, is_number, lines_of, values_of

#: Separators of numbers; a comma may also stand before their decimals.
SEPARATORS = "\t;,"


def flat_rows(file: Path, shape: tuple[int, ...]) -> Floats:
    """Read a CSV as (rows, *shape), one sample per line in C order; a large one is memory-mapped.

    Raises:
        DataError: A line has another length, or a field is not a finite number.
    """
    width = math.prod(shape)
    form = _flat_form(file, width)
    rows = sum(1 for _ in _flat_lines(file, form))
    if rows * width * 8 <= files.IN_MEMORY_BYTES:
        values = np.empty((rows, width))
    else:
        unnamed = tempfile.TemporaryFile()  # noqa: SIM115 - the mapping keeps it, and ends it
        values = np.memmap(unnamed, dtype=np.float64, mode="w+", shape=(rows, width))
    for index, (where, fields) in enumerate(_flat_lines(file, form)):
        if len(fields) != width:
            raise DataError(
                f"{where} has {len(fields)} fields; expected {width} values, a sample of shape "
                f"{shape} in one row"
            )
        row_values = values_of(fields, where)
        if len(row_values) != width:
            raise DataError(f"{where}: field {len(row_values) + 1} is missing; expected a number")
        values[index] = row_values
    return values.reshape(rows, *shape)


class FlatForm(NamedTuple):
    """How a CSV of samples is written: `width` numbers a line, their separator and decimals."""

    width: int
    separator: str
    has_decimal_commas: bool


def _flat_form(file: Path, width: int) -> FlatForm:
    """Return the form of a CSV, whose first line has `width` fields with the right separator."""
    _, first_line = next(lines_of(file), ("", ""))
    separator = _separator_of(first_line, width)
    has_commas = separator != "," and _has_decimal_commas(file, separator)
    return FlatForm(width=width, separator=separator, has_decimal_commas=has_commas)


def _separator_of(line: str, width: int) -> str:
    """Return the separator that gives `width` fields, or else one that the line contains."""
    for separator in SEPARATORS:
        if line.count(separator) + 1 == width:
            return separator
    for separator in SEPARATORS:
        if separator in line:
            return separator
    return SEPARATORS[0]


def _has_decimal_commas(file: Path, separator: str) -> bool:
    """Return whether a number of the file has a comma that can only stand before its decimals."""
    for where, text in lines_of(file):
        if "," not in text:
            continue
        for field in _fields(text, separator, where):
            is_clear = "," in field and not THOUSANDS.fullmatch(field.strip())
            if is_clear and is_number(field.replace(",", ".")):
                return True
    return False


def _flat_lines(file: Path, form: FlatForm) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield place and fields of each line but a header: one without numbers, or 0, 1, 2, …."""
    for number, (where, text) in enumerate(lines_of(file)):
        fields = _fields(text, form.separator, where)
        if form.has_decimal_commas:
            fields = [_with_point(field, where) for field in fields]
        if number > 0 or len(fields) != form.width or not _are_names(fields):
            yield where, fields


def _are_names(fields: Sequence[str]) -> bool:
    if len(fields) > 2 and fields == [str(index) for index in range(len(fields))]:
        return True
    return not any(map(is_number, fields))


def _fields(text: str, separator: str, where: str) -> list[str]:
    try:
        return next(csv_records([text], separator))
    except csv.Error as error:
        raise DataError(f"{where}: {TOO_LONG}") from error


def _with_point(field: str, where: str) -> str:
    """Return a number of a file with decimal commas with a point; words are unchanged.

    Raises:
        DataError: A point may separate thousands or stand before the decimals.
    """
    text = field.strip()
    if re.match(GROUPED, text):
        raise DataError(
            f"{where} has {text!r} in a file with decimal commas; write {text.replace('.', ',')} "
            f"or {text.replace('.', '')}"
        )
    with_point = text.replace(",", ".")
    return with_point if is_number(with_point) else text
