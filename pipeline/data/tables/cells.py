"""Cells of a column as numbers, categories, classes, times or parts, each fault with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.schema import UNKNOWN, Code
from pipeline.data.source import Array, Column, Task
from pipeline.data.tables.file import Place, shown
from pipeline.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: Words that mean an empty cell of a feature; a class may have such a name.
MISSING = frozenset({"", "NA", "N/A", "nan", "NaN", "null", "NULL", "None", "?"})
NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)$"
HELP_OF_NUMBERS = "as the model was trained on numbers there"
AS_CLASSES = "or take its words as classes: data.task=multiclass"
LARGEST = float(np.finfo(np.float32).max)
DATED = r"^\d{4}-\d{2}(-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?)?$"
TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = {"train": TRAIN, "training": TRAIN, "test": TEST} | dict.fromkeys(
    ("val", "valid", "validation"), VALIDATION
)


@dataclass(frozen=True, slots=True)
class Cells:
    """Texts (rows,) of one column of a batch, null = empty, and where the batch comes from."""

    texts: pa.Array
    column: str
    place: Place

    def where(self, position: int) -> str:
        """Name a cell by its position, counted from 0."""
        return self.place.cell(position, self.column)

    def fault(self, found: NDArray[np.bool_], words: str) -> DataError:
        """Return the error that says what is wrong with the first of the cells found, (rows,)."""
        return DataError(f"{self.where(int(found.argmax()))}: {words}")

    def present(self) -> Cells:
        """Return the cells with null for every word that means a missing one."""
        import pyarrow as pa
        import pyarrow.compute as pc

        is_missing = pc.is_in(self.texts, value_set=pa.array(sorted(MISSING)))
        return replace(self, texts=pc.if_else(is_missing, None, self.texts))

    def encoded(self) -> tuple[list[str | None], NDArray[np.int64]]:
        """Return the different texts of the cells, `None` the last, and which each is, (rows,)."""
        found = self.texts.dictionary_encode()
        texts = found.dictionary.to_pylist()
        places = found.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
        return [*texts, None], places.astype(np.int64)

    def levels(self, levels: Sequence[str]) -> Array:
        """Return the index of each cell's level, float64 (rows,): `UNKNOWN`, or NaN = missing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = self.present().texts
        found = pc.index_in(texts, value_set=pa.array(levels, type=pa.string()))
        codes = found.cast(pa.float64()).fill_null(UNKNOWN).to_numpy(zero_copy_only=False)
        return np.where(texts.is_null().to_numpy(zero_copy_only=False), np.nan, codes)

    def numbers(self, *, otherwise: str = HELP_OF_NUMBERS) -> Array:
        """Return the numbers of a column, float64 (rows,), NaN where a cell is missing.

        A DataError names a cell that is no number or infinite in single precision, and what helps:
        `otherwise`.
        """
        values = self.numbers_or_none()
        if values is None:
            raise DataError(self.word_problem(otherwise=otherwise))
        if problem := self.infinite_problem(values):
            raise DataError(problem)
        return values

    def numbers_or_none(self) -> Array | None:
        """Return the numbers of a column as `numbers` does; None = it has other words."""
        import pyarrow as pa

        for reads in (None, Cells.present):
            try:
                values = (reads(self) if reads else self).texts.cast(pa.float64())
            except pa.ArrowInvalid:
                continue
            return np.array(values.to_numpy(zero_copy_only=False), dtype=np.float64)
        return None

    def word_problem(self, *, otherwise: str = "") -> str:
        """Say which is the first cell that is no number, and what helps; empty = categories."""
        texts = self.present().texts
        position = int(np.argmin(are_numbers(texts)))
        text = texts[position].as_py()
        bare = text.strip("$€£¥% \u00a0").replace("\u00a0", "").replace("'", "")
        if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", bare):
            bare = bare.replace(",", "")
        elif re.fullmatch(r"[+-]?\d+,\d+", bare):
            bare = bare.replace(",", ".")
        way = f"write {bare}"
        if not all_numbers([bare]):
            help_ = f"or take the column as categories: data.categorical=[{self.column}]"
            way = f"write a number or leave it empty, {otherwise or help_}"
        return f"{self.where(position)}: {shown(text)} is no number; {way}"

    def infinite_problem(self, values: Array) -> str | None:
        """Say which is the first of the cells' numbers that a network would take for infinite."""
        too_large = np.abs(values) > LARGEST
        if not too_large.any():
            return None
        position = int(too_large.argmax())
        return (
            f"{self.where(position)}: {shown(self.texts[position].as_py())} is infinite in single "
            f"precision; expected a number between ±{LARGEST:.2g}. Leave the cell empty where it "
            "is not known"
        )

    def classes(self, classes: Sequence[str]) -> NDArray[np.int64]:
        """Return the class of each cell, int64 (rows,), -1 = empty; unknown ones are an error."""
        names, places = self.encoded()
        found = [-1 if name is None else class_index(name, classes) for name in names]
        unknown = np.isin(places, [index for index, known in enumerate(found) if known is None])
        if unknown.any():
            name = str(names[places[unknown.argmax()]])
            known = ", ".join(map(repr, classes))
            near = did_you_mean(name, classes)
            raise self.fault(unknown, f"{shown(name)} is no class; expected {known}.{near}")
        return np.array(found, dtype=np.int64)[places]

    def parts(self) -> NDArray[np.int8]:
        """Return the part of each row, int8 (rows,); a DataError names a cell that says none."""
        words, places = self.encoded()
        numbered = np.array([PARTS.get((word or "").lower(), -1) for word in words], dtype=np.int8)
        found: NDArray[np.int8] = numbered[places]
        if (found < 0).any():
            word = words[places[(found < 0).argmax()]] or ""
            told = f"{shown(word)} is no part; expected train, validation or test."
            raise self.fault(found < 0, f"{told}{did_you_mean(word.lower(), PARTS)}")
        return found

    def instants(self) -> Array:
        """Return times as float64 (rows,): numbers as they are, dates as microseconds since 1970.

        A DataError names a cell that is empty or no time.
        """
        values = self.numbers_or_none()
        if values is None:
            values = self.present()._dates()
        if (empty := np.isnan(values)).any():
            raise self.fault(empty, "the cell is empty; expected a time in every row")
        return values

    def _dates(self) -> Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = self.texts
        dated = pc.match_substring_regex(texts, DATED).fill_null(fill_value=True)
        odd = ~dated.to_numpy(zero_copy_only=False)
        if odd.any():
            told = "is no time; expected numbers, or dates such as 2024-05-31 or 2024-05-31 10:00"
            raise self.fault(odd, f"{shown(texts[int(odd.argmax())].as_py())} {told}")
        months = pc.binary_join_element_wise(texts, pa.scalar("01"), "-")
        whole = pc.if_else(pc.equal(pc.utf8_length(texts), 7), months, texts)
        zoned = pc.any(pc.match_substring_regex(whole, r"(Z|:\d{2}[+-]\d{2}:?\d{2})$")).as_py()
        try:
            ticks = whole.cast(pa.timestamp("us", "UTC" if zoned else None)).cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{self.place.file}, column {self.column!r}: {' '.join(str(error).split())}; "
                "expected dates such as 2024-05-31, all with a time zone or all without"
            ) from error
        return np.array(ticks.to_numpy(zero_copy_only=False), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the target column means.

    Args:
        name: Of the column.
        task: What is to be predicted.
        classes: Their names, the positive one at index 1 of a binary task; empty for a regression.
        are_words: Whether a class may be called `NA`, since the others are words as well.
        otherwise: What else helps where a value is no number.
    """

    name: str
    task: Task
    classes: tuple[str, ...] = ()
    are_words: bool = False
    otherwise: str = AS_CLASSES

    def targets(self, cells: Cells) -> tuple[Array, Array]:
        """Return targets (rows,) and whether each cell is empty, bool (rows,)."""
        known = cells if self.are_words else cells.present()
        if self.classes:
            found = known.classes(self.classes)
            return found, found < 0
        values = known.numbers(otherwise=self.otherwise)
        return values, np.isnan(values)


def raw_rows(batch: pa.RecordBatch, columns: Sequence[Column | Code], place: Place) -> Array:
    """Return the cells of some columns as float64 (rows, columns).

    NaN is a missing cell; a category is the index of its level, or `UNKNOWN`. Errors are those of
    `Cells.numbers`.
    """
    raw = np.empty((batch.num_rows, len(columns)))
    for index, column in enumerate(columns):
        cells = Cells(batch.column(column.name), column.name, place)
        raw[:, index] = cells.levels(column.levels) if column.levels else cells.numbers()
    return raw


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


def frame_texts(
    frame: pd.DataFrame, levels: Mapping[str, tuple[str, ...]], *, what: str
) -> pa.RecordBatch:
    """Return the columns of a frame as a file's: texts, a missing one null, numbers in full.

    `levels` are the categories of columns that have some. A DataError names a column that can't be
    read so.
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
