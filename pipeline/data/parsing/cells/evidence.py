"""What the cells of a column show, gathered in one pass over the training file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BeforeValidator

from pipeline.base.errors import typed_pairs
from pipeline.data.parsing.cells.texts import (
    DATE,
    MISSING,
    Cells,
    Mark,
    Numbers,
    all_numbers,
    are_missing,
    are_numbers,
    exceeds_float32,
    filled,
    numbers_or_none,
    shown,
    truths,
)
from pipeline.data.parsing.cells.written import (
    MARKS,
    AlikeCells,
    AmountFit,
    MarkKeys,
    NumberShape,
    Thousands,
    Writing,
    amount_fit,
    explained,
    two_ways,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

#: Returns whether each of some texts is chosen.
Choice = Callable[[Sequence[str]], Sequence[bool]]
KeyOfKind = Literal["numeric", "categorical"]
#: Whole numbers below this one are exact in float64.
EXACT = 2**53
#: Numbers of a batch that are looked at first for one that has clear decimals.
FIRST_NUMBERS = 1_000
#: Most distinct texts of a column that are counted; with more it is free text.
MOST_TEXTS = 100_000
#: Up to this number, distinct words are categories, however few rows there are.
FEW = 20
#: Share of distinct words among the cells above which a column is free text.
FREE = 0.5
#: Most whole numbers of one column of which it is checked that all are different.
MOST_DIFFERENT = 2**20
#: Share of distinct whole numbers, of at least SOME, from which they look like identifiers, if
#: their range is less than SPARSE times their number: that of amounts is mostly wider.
UNIQUE = 0.95
SOME = 50
SPARSE = 10
#: A code rather than a number, unlike months or hours such as 09.
PADDED = r"^0\d{4,}$"


def _pairs(value: object) -> object:
    """Return a mapping for texts such as `größe: comma`, which need no plain name."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(": " in str(text) for text in texts):
        return value
    return dict(str(text).rsplit(": ", 1) for text in texts)


DecimalName = Literal["comma", "point"]
#: Sign before the decimals of all columns, or of each column that is named; None = by the cells.
Decimals = Annotated[DecimalName | dict[str, DecimalName] | None, BeforeValidator(_pairs)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellKeys:
    """What the user says of how the cells of columns are written; None = to be found.

    Args:
        kind: The kind that the column must be of.
        decimal: Sign before the decimals of numbers, of all columns or by column.
        thousands: Sign between groups of three digits.
        dates: Whether dates are left out or become their parts.
        dayfirst: Whether 1/2/2024 is the first of February.
    """

    kind: KeyOfKind | None = None
    decimal: Decimals = None
    thousands: Thousands | None = None
    dates: Literal["drop", "parts"] = "drop"
    dayfirst: bool | None = None

    def marks(self, column: str) -> MarkKeys:
        """Return the signs in the numbers of a column."""
        name = self.decimal
        if isinstance(name, Mapping):
            name = name.get(column)
        return MarkKeys(None if name is None else MARKS[name], self.thousands)

    def deciding(self, column: str, mark: DecimalName) -> str:
        """Return the override that says which sign stands before the decimals of a column."""
        other_columns = self.decimal if isinstance(self.decimal, Mapping) else {}
        return typed_pairs("data.decimal", {**other_columns, column: mark})


@dataclass(slots=True)
class NumberEvidence:
    """What the plain numbers of a column show."""

    is_infinite: bool = False
    is_inexact: bool = False
    are_whole: bool = True
    are_padded: bool = False
    count_rows: bool = True
    start: float | None = None  # of a count of the rows
    # The distinct numbers so far, while they are whole and hardly repeat; None = they are not.
    different: Numbers | None = field(default_factory=lambda: np.empty(0))

    def add(self, values: Numbers, cells: Cells, *, first_row: int, numbers: int) -> None:
        """Add a batch of numbers (rows,), the first of which is that of row `first_row`.

        `numbers` is how many the column has, with those of this batch.
        """
        present = values[~np.isnan(values)]
        self.is_infinite = self.is_infinite or bool(exceeds_float32(present).any())
        are_exact = np.abs(present) < EXACT
        if not self.is_inexact and not are_exact.all():
            # 1e20 is a measurement, 12345678901234567890 is an id
            self.is_inexact = _any(cells, r"^[+-]?\d+$")
        self.are_whole = self.are_whole and bool((are_exact & (present == np.floor(present))).all())
        if self.count_rows and len(values):
            starts = values - np.arange(first_row, first_row + len(values))
            if self.start is None:
                self.start = float(starts[0])
            self.count_rows = self.are_whole and bool((starts == self.start).all())
        if not self.are_whole:
            self.different = None
            return
        self.are_padded = self.are_padded or _any(cells, PADDED)
        if self.different is not None:
            joined = np.unique(np.concatenate([self.different, present]))
            are_many = UNIQUE * numbers <= len(joined) <= MOST_DIFFERENT
            self.different = joined if are_many else None

    def doubt(self, numbers: int) -> str:
        """Return why a column of so many numbers may be useless; empty = it may not."""
        if self.is_inexact:
            return "whole numbers above 2^53, which are rounded"
        if not self.are_whole:
            return ""
        different = np.empty(0) if self.different is None else self.different
        if len(different) == numbers > 2:
            return "whole numbers, all unique"
        if self.are_padded:
            return "whole numbers with leading zeros"
        are_dense = len(different) > 0 and np.ptp(different) < SPARSE * len(different)
        return "whole numbers, nearly all unique" if numbers >= SOME and are_dense else ""


class ColumnEvidence:
    """What the cells of one column show.

    Args:
        name: Name of the column.
        keys: What the user says of it.
        batches: Returns the cells of the column once more, to find one for a message.
    """

    def __init__(
        self, name: str, keys: CellKeys, batches: Callable[[str], Iterable[Cells]]
    ) -> None:
        self.name = name
        self.keys = keys
        self.marks = keys.marks(name)
        self._batches = batches
        self.rows = 0
        self.missing = 0
        self.numbers = 0  # cells that are plain numbers
        self.words = 0  # other cells
        self.texts: Counter[str] = Counter()  # distinct texts of the batches with words
        self.values = NumberEvidence()
        self.amounts = AmountFit()
        self._writings: dict[Writing, AlikeCells] = {}
        self._has_unread_decimals = False
        self._has_commas: bool | None = False

    def add(self, cells: Cells) -> None:
        """Add the next batch of cells."""
        first_row = self.rows
        self.rows += len(cells.texts)
        # A column with words and no numbers so far is not tried as numbers again.
        are_categories = self.keys.kind == "categorical" or (self.words and not self.numbers)
        values = None if are_categories else numbers_or_none(cells)
        if values is None:
            self._add_words(cells.present())
            return
        missing = int(np.isnan(values).sum())
        self.missing += missing
        self.numbers += len(values) - missing
        self._add_numbers(cells)
        self.values.add(values, cells, first_row=first_row, numbers=self.numbers)

    def _add_words(self, cells: Cells) -> None:
        self.missing += cells.texts.null_count
        counted = cells.texts.drop_null().value_counts()
        if self.keys.kind != "categorical":
            cells_of = filled(counted.field("counts"), 0)
            as_numbers = are_numbers(counted.field("values"))
            self.numbers += int(cells_of[as_numbers].sum())
            self.words += int(cells_of[~as_numbers].sum())
        self.count(counted)

    def count(self, counted: pa.StructArray) -> None:
        """Count distinct texts, until there are too many, and how they are written."""
        import pyarrow.compute as pc

        texts = counted.field("values")
        cells = filled(counted.field("counts"), 0)
        if not self.has_too_many_texts:
            self.texts.update(dict(zip(texts.to_pylist(), cells.tolist(), strict=True)))
        if self.keys.kind != "categorical":
            present = pc.invert(are_missing(texts))
            self._note(texts.filter(present), cells[truths(present)])

    def _add_numbers(self, cells: Cells) -> None:
        """Note how plain numbers are written, which decimal commas of the file may call in doubt.

        Where one shows that a point stands before decimals, no others are looked at.
        """
        import pyarrow.compute as pc

        numbers = cells.texts.drop_null()
        content = numbers.buffers()[2]
        if content is None or b"." not in content.to_pybytes():
            self._count(Writing(NumberShape.WHOLE, is_plain=True), numbers, len(numbers))
            return
        pointed = pc.filter(numbers, pc.match_substring(numbers, "."))
        self._count(Writing(NumberShape.WHOLE, is_plain=True), numbers, len(numbers) - len(pointed))
        for start, length in ((0, FIRST_NUMBERS), (FIRST_NUMBERS, None)):
            if any(writing.shape is NumberShape.POINT for writing in self._writings):
                unread = pointed.slice(start)
                self._has_unread_decimals = self._has_unread_decimals or len(unread) > 0
                self._count(Writing(NumberShape.POINT, is_plain=True), unread, len(unread))
                return
            part = pointed.slice(start, length)
            self._note(part, np.ones(len(part), dtype=np.int64))

    def _count(self, writing: Writing, texts: pa.Array, cells: int) -> None:
        """Count cells that are written alike; the first of the texts is an example."""
        if cells:
            alike = self._writings.setdefault(writing, AlikeCells(texts[0].as_py()))
            alike.cells += cells

    def _note(self, texts: pa.Array, cells: NDArray[np.int64]) -> None:
        """Note how texts are written, given the cells of each, (rows,)."""
        writings, indices = self.marks.writings(texts)
        _, first = np.unique(indices, return_index=True)
        counts = np.bincount(indices, weights=cells, minlength=len(writings))
        for index in np.argsort(first).tolist():
            self._count(writings[index], texts.slice(int(first[index]), 1), int(counts[index]))

    def settle(self, *, commas: bool | None) -> None:
        """Find the form of amounts, after all batches; `commas` as in `amount_fit`."""
        self._has_commas = commas
        if self.keys.kind == "categorical":
            return
        self.amounts = amount_fit(self._writings, self.marks, commas=commas)
        if self.amounts.odd and self.keys.kind is None and self.words and not self.numbers:
            amounts = sum(self.are_amounts())
            if not self.free_text() or 2 * amounts <= len(self.texts):
                self.amounts = AmountFit()  # '10 %' and 'none', or one '$5' among free text
        form = self.amounts.form
        if form is None or form.decimal == "," or not self._has_unread_decimals:
            return
        if any(_any(cells, r"\.\d{3}") for cells in self._batches(self.name)):
            self.amounts = AmountFit(form=replace(form, has_three_decimals=True))

    def are_amounts(self) -> list[bool]:
        """Return whether each distinct text is an amount."""
        import pyarrow as pa

        writings, indices = self.marks.writings(pa.array(self.texts, pa.string()))
        return [writings[index].is_amount for index in indices.tolist()]

    @property
    def is_words(self) -> bool:
        """Whether all cells are words, and no amounts."""
        has_amounts = self.amounts.form is not None or self.amounts.odd
        return self.words > 0 and not self.numbers and not has_amounts

    @property
    def holds_dates(self) -> bool:
        """Whether all cells are dates."""
        are_words = self.keys.kind is None and self.words > 0 and not self.numbers
        return are_words and len(self.texts) > 0 and all(map(DATE.fullmatch, self.texts))

    @property
    def has_too_many_texts(self) -> bool:
        """Whether there are more distinct texts than are counted."""
        return len(self.texts) > MOST_TEXTS

    @property
    def file_decimal(self) -> Mark:
        """Sign before the decimals in numbers that the column does not have yet."""
        return "," if self._has_commas and "," in self.marks.marks else "."

    def free_text(self) -> str | None:
        """Return why texts that hardly repeat are free text; None = they are categories."""
        cells = self.texts.total()
        if len(self.texts) <= max(FEW, FREE * cells) and not self.has_too_many_texts:
            return None
        count = f"over {MOST_TEXTS:,}" if self.has_too_many_texts else f"{len(self.texts):,}"
        return f"{count} unique values in {cells:,} cells, such as {shown(min(self.texts))}"

    def oddity(self) -> str:
        """Return a message on the first cell that is not written like the others."""
        if self.amounts.is_open:
            return self._open_number()
        if self.amounts.like:
            count = sum(self._writings[writing].cells for writing in self.amounts.odd)
            return self.unlike(self.amounts.like, self.are_odd, count=count)
        counted = self._counted(self.words) if self.numbers else ""
        for cells in self._batches(self.name):
            if not are_numbers(cells.present().texts).all():
                return explained(cells, counted=counted)
        raise AssertionError("a column that is refused has a cell that is not a number")

    def unlike(self, like: str, are_odd: Choice, *, count: int, noun: str = "number") -> str:
        """Return a message on the first of `count` cells that are not written like an example."""
        where, text = self._first(are_odd)
        return (
            f"{where}: {shown(text)} is not a {noun} written like {shown(like)}"
            f"{self._counted(count)}; write it the same way or leave it empty"
        )

    def _open_number(self) -> str:
        where, text = self._first(self.are_odd)
        decimals, thousands = two_ways(text).split(" or ")
        readings: dict[DecimalName, str] = {"point": decimals, "comma": thousands}
        if "," in text:
            readings = {"point": thousands, "comma": decimals}
        remedies = []
        for mark, number in readings.items():
            remedies.append(f"{self.keys.deciding(self.name, mark)} reads {number}")
        return f"{where}: {shown(text)} may be {decimals} or {thousands}; {' and '.join(remedies)}"

    def open_date(self) -> str:
        """Return a message on the first date, whose day and month can't be told apart."""
        where, text = self._first(lambda texts: [text not in MISSING for text in texts])
        return (
            f"{where}: {shown(text)} is ambiguous (day/month?), since no day of the column is "
            "above 12; set data.dayfirst=true or data.dayfirst=false"
        )

    def _first(self, are_sought: Choice) -> tuple[str, str]:
        """Return place and text of the first cell whose text is chosen."""
        for cells in self._batches(self.name):
            texts, places = cells.encoded()
            *present, _ = texts
            chosen = np.array([*are_sought([text or "" for text in present]), False])[places]
            if chosen.any():
                position = int(chosen.argmax())
                return cells.where(position), cells.texts[position].as_py()
        raise AssertionError("the column has such a cell")

    def first_infinite(self) -> str:
        """Return a message on the first number that is infinite in single precision."""
        for cells in self._batches(self.name):
            values = numbers_or_none(cells)
            problem = None if values is None else cells.infinite_problem(values)
            if problem is not None:
                return problem
        raise AssertionError("the column has an infinite number")

    def are_odd(self, texts: Sequence[str]) -> list[bool]:
        """Return whether each text is written in another way than most, or may be two numbers."""
        import pyarrow as pa

        writings, indices = self.marks.writings(pa.array(texts, pa.string()))
        are_odd = []
        for text, index in zip(texts, indices.tolist(), strict=True):
            are_odd.append(text not in MISSING and writings[index] in self.amounts.odd)
        return are_odd

    def _counted(self, odd: int) -> str:
        verb = "is" if odd == 1 else "are"
        return f" ({odd} of {self.rows - self.missing} cells {verb} not)"

    def reading(self) -> str:
        """Return how amounts are read, with the first one."""
        form = self.amounts.form
        assert form is not None
        whole_last = sorted(self._writings, key=lambda writing: writing.shape is NumberShape.WHOLE)
        examples = [self._writings[writing].example for writing in whole_last]
        texts = [text for text in (*self.texts, *examples) if text not in MISSING]
        if not texts:  # whole numbers alone, after a cell that is missing
            return self.name
        first = next((text for text in texts if not all_numbers([text])), texts[0])
        commas = "decimal commas: " if form.decimal == "," else ""
        return f"{self.name} ({commas}{shown(first)} as {form.value(first):.15g})"


def settle(columns: Sequence[ColumnEvidence], *, sep: str | None, are_texts: bool) -> None:
    """Find the forms of the amounts of a file.

    What the cells of a column leave open is decided by the decimal commas of other columns.

    Args:
        columns: All columns of the file that are read.
        sep: Separator of its cells; None = it has none.
        are_texts: Whether the file has numbers as texts.
    """
    may_have_commas = None if sep == ";" else False
    for column in columns:
        column.settle(commas=may_have_commas)
    forms = [column.amounts.form for column in columns]
    if are_texts and any(form and form.decimal == "," for form in forms):
        for column in columns:
            column.settle(commas=True)


def _any(cells: Cells, pattern: str) -> bool:
    """Return whether the pattern matches in a cell."""
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring_regex(cells.texts, pattern)).as_py())
