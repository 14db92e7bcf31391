"""Cells of a column as numbers, categories, classes, times or parts, with messages on bad cells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.schema import UNKNOWN, Code
from pipeline.data.source import Array, Column, Task
from pipeline.data.tables.file import Place, shown, trimmed
from pipeline.data.tables.written import (
    GROUPED,
    MISSING,
    NUMBER,
    SHARE,
    all_numbers,
    amount_marks,
    amount_pattern,
    date_of,
    two_ways,
)
from pipeline.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

HELP_OF_NUMBERS = "as the model was trained on numbers there"
AS_CLASSES = "or take its words as classes: data.task=multiclass"
#: Most distinct words of one column that are counted; with more it is free text.
MOST_LEVELS = 100_000
#: Up to this number, distinct words are categories, however few rows there are.
FEW = 20
#: Share of distinct words among the cells above which a column is free text.
FREE = 0.5
LARGEST = float(np.finfo(np.float32).max)
DATED = r"^\d{4}-\d{2}(-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?)?$"
TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = {"train": TRAIN, "training": TRAIN, "test": TEST} | dict.fromkeys(
    ("val", "valid", "validation"), VALIDATION
)


@dataclass(frozen=True, slots=True)
class Cells:
    """Texts (rows,) of one column of a batch, null = empty, and the place of the batch.

    `form` is the form of amounts among them, as `amount_form` finds it; empty = plain numbers.
    """

    texts: pa.Array
    column: str
    place: Place
    form: str = ""

    def where(self, position: int) -> str:
        """Return the name of a cell for messages; `position` counts from 0."""
        return self.place.cell(position, self.column)

    def fault(self, found: NDArray[np.bool_], words: str) -> DataError:
        """Return a DataError with `words` about the first cell where `found` (rows,) is true."""
        return DataError(f"{self.where(int(found.argmax()))}: {words}")

    def present(self) -> Cells:
        """Return the cells with null for every word that marks a missing value."""
        import pyarrow as pa
        import pyarrow.compute as pc

        is_missing = pc.is_in(self.texts, value_set=pa.array(sorted(MISSING)))
        return replace(self, texts=pc.if_else(is_missing, None, self.texts))

    def encoded(self) -> tuple[list[str | None], NDArray[np.int64]]:
        """Return the distinct texts, `None` last, and the index of each cell's text, (rows,)."""
        found = self.texts.dictionary_encode()
        texts = found.dictionary.to_pylist()
        return [*texts, None], filled(found.indices, len(texts)).astype(np.int64)

    def levels(self, levels: Sequence[str]) -> Array:
        """Return the level index of each cell, float64 (rows,); `UNKNOWN`, or NaN if missing.

        A whole number that is no level means its other writing: `2.0` is the level `2`.
        """
        indices: dict[str | None, float] = {name: index for index, name in enumerate(levels)}
        indices |= dict.fromkeys((*MISSING, None), np.nan)
        names, places = self.encoded()
        for name in names:
            if name and name not in indices and re.fullmatch(r"[+-]?\d+(\.0)?", name):
                other = name.removesuffix(".0") if "." in name else f"{name}.0"
                indices[name] = indices.get(other, UNKNOWN)
        return np.array([indices.get(name, UNKNOWN) for name in names], dtype=np.float64)[places]

    def numbers(self, *, otherwise: str = HELP_OF_NUMBERS) -> Array:
        """Return the cells as numbers, float64 (rows,), NaN = missing.

        Raises:
            DataError: A cell is not a number or is infinite in single precision. `otherwise` is a
                remedy that the message suggests.
        """
        values = self.numbers_or_none()
        if values is None:
            raise DataError(self.word_problem(otherwise=otherwise))
        if problem := self.infinite_problem(values):
            raise DataError(problem)
        if self.form:
            self._refuse_unclear()
        return values

    def _refuse_unclear(self) -> None:
        """Raise DataError if a number may have groups, or a plain one of a CSV be a share of 1."""
        import pyarrow.compute as pc

        mark = self.form[-1]
        are_usual = self.form.count(mark) > 1
        checks = [(GROUPED, "among decimal commas")] * (mark == ",")
        checks += [(SHARE, "among percentages")] * ("%" in self.form)
        decimals = rf"^[^\d.,]*[1-9]\d{{0,2}}[{mark}]\d{{3}}[^\d.,]*$"
        checks += [(decimals, "(decimals or thousands?)")] * (not are_usual)
        for pattern, why in checks:
            found = pc.match_substring_regex(self.texts, pattern)
            if self.place.has_typed_cells:  # a number that is no text has one meaning
                found = pc.and_(found, pc.invert(pc.match_substring_regex(self.texts, NUMBER)))
            if pc.any(found).as_py():
                are_unclear = found.fill_null(fill_value=False).to_numpy(zero_copy_only=False)
                text = self.texts[int(are_unclear.argmax())].as_py()
                ways = two_ways(text, mark, "0" * (not are_usual))
                if pattern == SHARE:
                    ways = f"{text}% or {100 * float(text):.15g}%"
                raise self.fault(are_unclear, f"{text!r} is ambiguous {why}; write {ways}")

    def numbers_or_none(self) -> Array | None:
        """Return the cells as numbers, also infinite ones, or None if a cell is another word."""
        import pyarrow as pa

        for reads in (None, Cells.present, *([Cells._plain] if self.form else [])):
            try:
                values = (reads(self) if reads else self).texts.cast(pa.float64())
            except pa.ArrowInvalid:
                continue
            return filled(values, np.nan)
        return None

    def _plain(self) -> Cells:
        """Return the cells with plain numbers in place of amounts."""
        import pyarrow.compute as pc

        cells = self.present()
        is_plain = pc.match_substring_regex(cells.texts, NUMBER)
        is_amount = pc.match_substring_regex(cells.texts, f"^({amount_pattern(self.form)})$")
        bare = pc.replace_substring_regex(cells.texts, amount_marks(self.form), "")
        bare = pc.replace_substring(bare, ",", ".")
        convert = pc.and_(is_amount, pc.invert(is_plain))
        return replace(cells, texts=pc.if_else(convert, bare, cells.texts))

    def date_parts(self, order: str, part: str) -> Array:
        """Return a part of each date, float64 (rows,), NaN = missing; weekdays count from 0.

        Raises:
            DataError: A cell is not a date of this order.
        """
        texts, places = self.present().encoded()
        dates = [None if text is None else date_of(text, order) for text in texts]
        odd = [index for index, text in enumerate(texts) if text and dates[index] is None]
        if odd:
            words = ", ".join({"y": "year", "m": "month", "d": "day"}[sign] for sign in order)
            told = f"{shown(texts[odd[0]] or '')} is not a date; expected {words}, as in training"
            raise self.fault(places == odd[0], told)
        values = [
            np.nan if date is None else date.weekday() if part == "weekday" else getattr(date, part)
            for date in dates
        ]
        return np.array(values, dtype=np.float64)[places]

    def word_problem(self, *, otherwise: str = "") -> str:
        """Return a message on the first cell that is not a number.

        `otherwise` is a remedy that it suggests where it can't tell the number; empty = none.
        """
        plain = self._plain() if self.form else self.present()
        position = int(np.argmin(are_numbers(plain.texts)))
        text = self.texts[position].as_py()
        bare = text.strip("$€£¥% \u00a0").replace("\u00a0", "").replace("'", "")
        if re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?", bare):
            bare = bare.replace(",", "")
        elif re.fullmatch(r"[+-]?\d+,\d+", bare):
            bare = bare.replace(",", ".")
        mark = self.form[-1:] or "."
        # A zero behind three decimals tells them from a group where they are not usual.
        way = two_ways(text, mark, "0" * (self.form.count(mark) == 1))
        way = way or bare * all_numbers([bare])
        if way == bare and "%" in self.form:
            way = bare.replace(".", mark) + "%"
        elif way == bare and "%" in text:  # beside percentages or shares of 1
            way += f" or {float(bare) / 100:.15g}"
        if not way:
            way = "a number or leave it empty" + f", {otherwise}" * bool(otherwise)
        return f"{self.where(position)}: {shown(text)} is not a number; write {way}"

    def infinite_problem(self, values: Array) -> str | None:
        """Return a message on the first number that is infinite in single precision, or None."""
        too_large = np.abs(values) > LARGEST
        if not too_large.any():
            return None
        position = int(too_large.argmax())
        return (
            f"{self.where(position)}: {shown(self.texts[position].as_py())} is infinite in "
            f"float32; expected a number between ±{LARGEST:.2g}. Leave the cell empty if it is "
            "unknown"
        )

    def classes(self, classes: Sequence[str]) -> NDArray[np.int64]:
        """Return each cell's class, int64 (rows,), -1 = empty. Raises DataError if unknown."""
        names, places = self.encoded()
        found = [-1 if name is None else class_index(name, classes) for name in names]
        unknown = np.isin(places, [index for index, known in enumerate(found) if known is None])
        if unknown.any():
            name = str(names[places[unknown.argmax()]])
            known = ", ".join(map(repr, classes))
            near = did_you_mean(name, classes)
            raise self.fault(unknown, f"{shown(name)} is not a class; expected {known}.{near}")
        return np.array(found, dtype=np.int64)[places]

    def parts(self) -> NDArray[np.int8]:
        """Return the part of each row, int8 (rows,). Raises DataError if a cell names none."""
        words, places = self.encoded()
        numbered = np.array([PARTS.get((word or "").lower(), -1) for word in words], dtype=np.int8)
        found: NDArray[np.int8] = numbered[places]
        if (found < 0).any():
            word = words[places[(found < 0).argmax()]] or ""
            told = f"{shown(word)} is not a part; expected train, validation or test."
            raise self.fault(found < 0, f"{told}{did_you_mean(word.lower(), PARTS)}")
        return found

    def instants(self) -> Array:
        """Return times, float64 (rows,): numbers unchanged, dates in microseconds since 1970.

        Raises:
            DataError: A cell is empty or not a time.
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
            told = (
                "is not a time; expected numbers, or dates such as 2024-05-31 or 2024-05-31 10:00"
            )
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
    """Meaning of the target column.

    Args:
        name: Name of the column.
        task: binary, multiclass or regression.
        classes: Names of the classes, the positive one at index 1 of a binary task; empty for a
            regression.
        are_words: Whether classes are words, so that one of them may be called `NA`.
        otherwise: Remedy that the message on a value that is not a number suggests.
        form: Form of amounts among the values; empty = plain numbers.
        is_turned: See `Samples`.
        counts: Rows of each class in the training file, in the order of names or numbers.
    """

    name: str
    task: Task
    classes: tuple[str, ...] = ()
    are_words: bool = False
    otherwise: str = AS_CLASSES
    form: str = ""
    is_turned: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)

    def targets(self, cells: Cells) -> tuple[Array, Array]:
        """Return targets (rows,) and whether each cell is empty, bool (rows,)."""
        known = cells if self.are_words else cells.present()
        if self.classes:
            found = known.classes(self.classes)
            return found, found < 0
        values = replace(known, form=self.form).numbers(otherwise=self.otherwise)
        return values, np.isnan(values)


def without_target(count: int, rows: int, target: str) -> list[str]:
    """Return a note, in a list, on rows that are left out for an empty target; empty = none are."""
    told = f"{count:,} of {rows:,} rows are left out, since their target {target!r} is empty"
    return [told] * bool(count)


def filled(values: pa.Array, missing: float) -> Array:
    """Return numbers (rows,) with `missing` in place of null.

    Arrow's own conversion loads pandas, which takes a tenth of the time of a short command.
    """
    import pyarrow as pa

    present = pa.Array.from_buffers(
        values.type, len(values), [None, values.buffers()[1]], offset=values.offset
    )
    found: Array = np.from_dlpack(present).copy()
    if values.null_count:
        found[np.from_dlpack(values.is_null().cast(pa.uint8())).view(np.bool_)] = missing
    return found


def raw_rows(batch: pa.RecordBatch, columns: Sequence[Column | Code], place: Place) -> Array:
    """Return the cells of some columns as float64 (rows, columns).

    NaN is a missing cell; a category is the index of its level, or `UNKNOWN`.

    Raises:
        DataError: A cell is not a finite number; see `Cells.numbers`.
    """
    raw = np.empty((batch.num_rows, len(columns)))
    commas = "," * any(column.form.endswith(",") for column in columns)
    for index, column in enumerate(columns):
        cells = Cells(batch.column(column.in_file), column.in_file, place, column.form or commas)
        if column.part:
            raw[:, index] = cells.date_parts(column.form.partition(" ")[0], column.part)
        else:
            raw[:, index] = cells.levels(column.levels) if column.levels else cells.numbers()
    return raw


def are_numbers(texts: pa.Array) -> Array:
    """Return whether each cell is a number or missing, bool (rows,)."""
    import pyarrow.compute as pc

    matched = pc.match_substring_regex(texts, NUMBER).fill_null(fill_value=True)
    return np.asarray(matched.to_numpy(zero_copy_only=False), dtype=np.bool_)


def free_text(levels: Counter[str]) -> str | None:
    """Return why cells that hardly repeat are free text; None = they are categories."""
    cells, too_many = levels.total(), len(levels) > MOST_LEVELS
    if len(levels) <= max(FEW, FREE * cells) and not too_many:
        return None
    found = f"over {MOST_LEVELS:,}" if too_many else f"{len(levels):,}"
    return f"{found} unique values in {cells:,} cells, such as {shown(min(levels))}"


def class_index(text: str, classes: Sequence[str]) -> int | None:
    """Return the index of the class that a cell names, or None if there is no such class.

    `1.0` names the class `1`, and `TRUE` the class `True`.
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
    """Return the columns of a DataFrame as texts, as if read from a file; missing = null.

    `levels` maps columns to their categories; `what` names the frame in messages.

    Raises:
        DataError: A column can't be converted to texts.
    """
    import pandas as pd
    import pyarrow as pa

    names = [str(name).strip() for name in frame.columns]
    columns = []
    for position, name in enumerate(names):
        column = plain = frame.iloc[:, position]
        if pd.api.types.is_bool_dtype(column):  # spelled as in training
            known = {level.casefold(): level for level in levels.get(name, ())}
            plain = column.map({b: known.get(str(b).casefold(), str(b)) for b in (True, False)})
        elif pd.api.types.is_float_dtype(column):
            plain = column.astype("float64")  # the short text of a float32 is another number
        elif column.dtype == object:
            plain = column.map(_in_words, na_action="ignore")
        try:
            columns.append(pa.array(plain, from_pandas=True).cast(pa.string()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise DataError(
                f"{what}'s column {name!r} has type {column.dtype}; expected numbers or strings"
            ) from error
    return trimmed(pa.RecordBatch.from_arrays(columns, names=names))


def _in_words(value: object) -> str:
    """Return one cell of a mixed column as a text; whole numbers get no decimal point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
