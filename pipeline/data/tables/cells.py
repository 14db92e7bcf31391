"""Cells of a column as numbers, categories, classes, times or parts, each fault with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.schema import UNKNOWN, Code
from pipeline.data.source import Array, Column
from pipeline.data.tables.file import Place, shown
from pipeline.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: Words that mean an empty cell of a feature; a class may have such a name.
MISSING = frozenset({"", "NA", "N/A", "nan", "NaN", "null", "NULL", "None", "?"})
NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)$"
TRAINED = "as the model was trained on numbers there"
LARGEST = float(np.finfo(np.float32).max)
DATED = r"^\d{4}-\d{2}(-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?)?$"
NO_CLASS = -1
TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = {"train": TRAIN, "training": TRAIN, "test": TEST} | dict.fromkeys(
    ("val", "valid", "validation"), VALIDATION
)


def raw_rows(batch: pa.RecordBatch, columns: Sequence[Column | Code], place: Place) -> Array:
    """Return the cells of some columns as float64 (rows, columns).

    NaN is a missing cell; a category is the index of its level, or `UNKNOWN`.

    Raises:
        DataError: A cell is no number, or infinite in single precision: says where and which.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    raw = np.empty((batch.num_rows, len(columns)))
    for index, column in enumerate(columns):
        cells = batch.column(column.name)
        if column.levels:
            texts = present(cells)
            found = pc.index_in(texts, value_set=pa.array(column.levels, type=pa.string()))
            codes = found.cast(pa.float64()).fill_null(UNKNOWN).to_numpy(zero_copy_only=False)
            raw[:, index] = np.where(are_missing(texts), np.nan, codes)
        else:
            raw[:, index] = numbers(cells, column=column.name, place=place)
    return raw


def present(cells: pa.Array) -> pa.Array:
    """Return the cells with null for every word that means a missing one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.is_in(cells, value_set=pa.array(sorted(MISSING))), None, cells)


def are_missing(cells: pa.Array) -> NDArray[np.bool_]:
    """Tell which cells are null, bool (rows,)."""
    missing: NDArray[np.bool_] = cells.is_null().to_numpy(zero_copy_only=False)
    return missing


def encoded(cells: pa.Array) -> tuple[list[str | None], NDArray[np.int64]]:
    """Return the different texts of some cells, and which of them each cell is, (rows,).

    A null is the last of the texts, `None`, whether there is one or not.
    """
    found = cells.dictionary_encode()
    texts = found.dictionary.to_pylist()
    places = found.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
    return [*texts, None], places.astype(np.int64)


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
    """Return the numbers of a column as `numbers` does; None = it has other words."""
    import pyarrow as pa

    for reads in (None, present):
        try:
            values = (reads(cells) if reads else cells).cast(pa.float64())
        except pa.ArrowInvalid:
            continue
        return np.array(values.to_numpy(zero_copy_only=False), dtype=np.float64)
    return None


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
    bare = text.strip("$€£¥% \u00a0").replace("\u00a0", "").replace("'", "")
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", bare):
        bare = bare.replace(",", "")
    elif re.fullmatch(r"[+-]?\d+,\d+", bare):
        bare = bare.replace(",", ".")
    help_ = otherwise or f"or take the column as categories: data.categorical=[{column}]"
    way = f"write {bare}" if all_numbers([bare]) else f"write a number or leave it empty, {help_}"
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


def are_numbers(texts: pa.Array) -> Array:
    """Tell which cells are numbers or missing, bool (rows,)."""
    import pyarrow.compute as pc

    matched = pc.match_substring_regex(texts, NUMBER).fill_null(fill_value=True)
    return np.asarray(matched.to_numpy(zero_copy_only=False), dtype=np.bool_)


def all_numbers(texts: Sequence[str]) -> bool:
    """Tell whether every text is a number."""
    return all(re.match(NUMBER, text) for text in texts)


def class_index(text: str, classes: Sequence[str]) -> int | None:
    """Return the class that a cell names: `1.0` is the class `1`, `TRUE` the class `True`.

    None = there is no such class.
    """
    sought: str | float = text
    known: list[str | float] = [*classes]
    if text not in classes and all_numbers((text, *classes)):
        sought, known = float(text), [*map(float, classes)]
    elif text not in classes and all(name.lower() in ("true", "false") for name in classes):
        sought, known = text.lower(), [name.lower() for name in classes]
    return known.index(sought) if sought in known else None


def class_indices(
    cells: pa.Array, classes: Sequence[str], *, column: str, place: Place
) -> NDArray[np.int64]:
    """Return the class of each cell, int64 (rows,); `NO_CLASS` where a cell is empty.

    Raises:
        DataError: A cell names no class: says where and which.
    """
    names, places = encoded(cells)
    found = [NO_CLASS if name is None else class_index(name, classes) for name in names]
    unknown = np.isin(places, [index for index, known in enumerate(found) if known is None])
    if unknown.any():
        name = str(names[places[unknown.argmax()]])
        known = ", ".join(map(repr, classes))
        told = f"{shown(name)} is no class; expected {known}.{did_you_mean(name, classes)}"
        raise place.fault(unknown, column, told)
    return np.array(found, dtype=np.int64)[places]


def parts(cells: pa.Array, *, column: str, place: Place) -> NDArray[np.int8]:
    """Return the part of each row that a column of words says, int8 (rows,).

    Raises:
        DataError: A cell is empty or another word: says where and which.
    """
    words, places = encoded(cells)
    numbered = np.array([PARTS.get((word or "").lower(), -1) for word in words], dtype=np.int8)
    found: NDArray[np.int8] = numbered[places]
    if (found < 0).any():
        word = words[places[(found < 0).argmax()]] or ""
        told = f"{shown(word)} is no part; expected train, validation or test."
        raise place.fault(found < 0, column, f"{told}{did_you_mean(word.lower(), PARTS)}")
    return found


def instants(cells: pa.Array, *, column: str, place: Place) -> Array:
    """Return times as float64 (rows,): numbers as they are, dates as microseconds since 1970.

    Raises:
        DataError: A cell is empty or no time: says where and which.
    """
    values = numbers_or_none(cells)
    if values is None:
        values = _dates(present(cells), column, place)
    if (empty := np.isnan(values)).any():
        raise place.fault(empty, column, "the cell is empty; expected a time in every row")
    return values


def _dates(texts: pa.Array, column: str, place: Place) -> Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    dated = pc.match_substring_regex(texts, DATED).fill_null(fill_value=True)
    odd = ~dated.to_numpy(zero_copy_only=False)
    if odd.any():
        told = "is no time; expected numbers, or dates such as 2024-05-31 or 2024-05-31 10:00"
        raise place.fault(odd, column, f"{shown(texts[int(odd.argmax())].as_py())} {told}")
    months = pc.binary_join_element_wise(texts, pa.scalar("01"), "-")
    whole = pc.if_else(pc.equal(pc.utf8_length(texts), 7), months, texts)
    zoned = pc.any(pc.match_substring_regex(whole, r"(Z|:\d{2}[+-]\d{2}:?\d{2})$")).as_py()
    try:
        ticks = whole.cast(pa.timestamp("us", "UTC" if zoned else None)).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{place.file}, column {column!r}: {' '.join(str(error).split())}; expected dates "
            "such as 2024-05-31, all with a time zone or all without"
        ) from error
    return np.array(ticks.to_numpy(zero_copy_only=False), dtype=np.float64)


def frame_texts(
    frame: pd.DataFrame, levels: Mapping[str, tuple[str, ...]], *, what: str
) -> pa.RecordBatch:
    """Return the columns of a frame as a file's: texts, a missing one null, numbers in full.

    Args:
        frame: Its columns have different names.
        levels: Categories of the columns that have some.
        what: Name of the rows in messages.

    Raises:
        DataError: A column holds what no file does.
    """
    import pandas as pd
    import pyarrow as pa

    names = [str(name).strip() for name in frame.columns]
    columns = []
    for position, name in enumerate(names):
        column = plain = frame.iloc[:, position]
        if pd.api.types.is_bool_dtype(column):  # written as the training wrote true and false
            known = {level.casefold(): level for level in levels.get(name, ())}
            plain = column.map({b: known.get(str(b).casefold(), str(b)) for b in (True, False)})
        elif pd.api.types.is_float_dtype(column):
            plain = column.astype("float64")  # a float32 has a shorter text, another number
        elif column.dtype == object:
            plain = column.map(_in_words, na_action="ignore")
        try:
            columns.append(pa.array(plain, from_pandas=True).cast(pa.string()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise DataError(
                f"{what}'s column {name!r} of type {column.dtype} can't be read; expected numbers "
                "or texts"
            ) from error
    return pa.RecordBatch.from_arrays(columns, names=names)


def _in_words(value: object) -> str:
    """Return one cell of a mixed column as a text; a whole number has no point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
