"""Cells of a column as numbers or as indices of categories, each fault with its row and value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipeline.data.encode import UNKNOWN
from pipeline.data.source import Array
from pipeline.data.tables.location import Place
from pipeline.data.tables.records import shown
from pipeline.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

MISSING = frozenset({"", "NA", "N/A", "nan", "NaN", "null", "NULL", "None", "?"})
"""Words that mean an empty cell of a feature; a class may have such a name."""

NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)$"
TRAINED = "as the model was trained on numbers there"
LARGEST = float(np.finfo(np.float32).max)


class Levelled(Protocol):
    """A column that knows its categories."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def levels(self) -> tuple[str, ...]:
        """All categories, in the order of their indices."""


def present(cells: pa.Array) -> pa.Array:
    """Return the cells with null for every word that means a missing one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.is_in(cells, value_set=pa.array(sorted(MISSING))), None, cells)


def raw_rows(batch: pa.RecordBatch, columns: Sequence[Levelled], place: Place) -> Array:
    """Return the cells of some columns as float64 (rows, columns).

    NaN is a missing cell; a category is the index of its level, or `UNKNOWN`.

    Raises:
        DataError: A cell is no number, or infinite in single precision: says where and which.
    """
    raw = np.empty((batch.num_rows, len(columns)))
    for index, column in enumerate(columns):
        cells = batch.column(column.name)
        if column.levels:
            raw[:, index] = codes(cells, column)
        else:
            raw[:, index] = numbers(cells, column=column.name, place=place)
    return raw


def numbers(cells: pa.Array, *, column: str, place: Place, otherwise: str = TRAINED) -> Array:
    """Return the numbers of a column, float64 (rows,), NaN where a cell is missing.

    Args:
        cells: Texts.
        column: Its name.
        place: Where the cells come from.
        otherwise: What else helps where one is no number.

    Raises:
        DataError: A cell is no number, or infinite in single precision: says where and which.
    """
    values = numbers_or_none(cells)
    if values is None:
        raise DataError(word_problem(present(cells), column, place, otherwise=otherwise))
    if problem := infinite_problem(values, cells, column, place):
        raise DataError(problem)
    return values


def numbers_or_none(cells: pa.Array) -> Array | None:
    """Return the numbers of a column, float64 (rows,), NaN where a cell is missing.

    None = it has other words.
    """
    import pyarrow as pa

    try:
        values = cells.cast(pa.float64())
    except pa.ArrowInvalid:
        try:
            values = present(cells).cast(pa.float64())
        except pa.ArrowInvalid:
            return None
    return np.array(values.to_numpy(zero_copy_only=False), dtype=np.float64)


def word_problem(texts: pa.Array, column: str, place: Place, *, otherwise: str = "") -> str:
    """Say which is the first cell that is no number, and how to mend it.

    Args:
        texts: Cells, one of which is no number.
        column: Name of the column.
        place: Where the cells come from.
        otherwise: What else helps; empty = to take the column as categories.
    """
    position = int(np.argmin(are_numbers(texts)))
    text = texts[position].as_py()
    help_ = otherwise or f"or take the column as categories: data.categorical=[{column}]"
    mended = _mended(text)
    way = f"write {mended}" if mended else f"write a number or leave it empty, {help_}"
    return f"{place.cell(position, column)}: {shown(text)} is no number; {way}"


def infinite_problem(values: Array, texts: pa.Array, column: str, place: Place) -> str | None:
    """Say which is the first number that a network would take for infinite."""
    too_large = np.abs(values) > LARGEST
    if not too_large.any():
        return None
    position = int(too_large.argmax())
    return (
        f"{place.cell(position, column)}: {shown(texts[position].as_py())} is infinite in single "
        f"precision; expected a number between ±{LARGEST:.2g}. Leave the cell empty where it is "
        "not known"
    )


def codes(cells: pa.Array, code: Levelled) -> Array:
    """Return the index of each cell's category, float64 (rows,).

    NaN is a missing cell, `UNKNOWN` a category that the column does not know.

    Args:
        cells: Texts.
        code: Its `levels` are the categories.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = present(cells)
    found = pc.index_in(texts, value_set=pa.array(code.levels, type=pa.string()))
    indices = found.cast(pa.float64()).to_numpy(zero_copy_only=False)
    known = np.where(np.isnan(indices), UNKNOWN, indices)
    return np.where(_nulls(texts), np.nan, known)


def are_numbers(texts: pa.Array) -> Array:
    """Tell which cells are numbers or missing, bool (rows,)."""
    import pyarrow.compute as pc

    matched = pc.match_substring_regex(texts, NUMBER).fill_null(fill_value=True)
    return np.asarray(matched.to_numpy(zero_copy_only=False), dtype=np.bool_)


def all_numbers(texts: Sequence[str]) -> bool:
    """Tell whether every text is a number."""
    return all(re.match(NUMBER, text) for text in texts)


def _nulls(texts: pa.Array) -> Array:
    nulls: Array = texts.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _mended(cell: str) -> str | None:
    """Return the number that a cell means to people; None = it means none."""
    bare = cell.strip("$€£¥% \u00a0").replace("\u00a0", "").replace("'", "")
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", bare):
        bare = bare.replace(",", "")
    elif re.fullmatch(r"[+-]?\d+,\d+", bare):
        bare = bare.replace(",", ".")
    return bare if re.match(NUMBER, bare) else None
