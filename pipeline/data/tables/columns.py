"""Contents of the columns of a training table, found in one pass over it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.labels import unknown_positive, usual_positive
from pipeline.data.source import MOST_CLASSES, Array, Column, Task
from pipeline.data.tables.cells import (
    AS_CLASSES,
    FEW,
    MOST_LEVELS,
    Cells,
    Outcome,
    are_numbers,
    class_index,
    free_text,
)
from pipeline.data.tables.file import CsvOptions, batches, form_of, shown
from pipeline.data.tables.roles import Keys, Wanted
from pipeline.data.tables.written import (
    AMOUNTS,
    DATE,
    DATE_PARTS,
    MISSING,
    ORDERS,
    all_numbers,
    amount,
    amount_form,
    amount_forms,
    date_of,
    two_ways,
)
from pipeline.errors import ConfigError, DataError, some, typed

if TYPE_CHECKING:
    import pyarrow as pa

#: Whole numbers below this one are exact in float64.
EXACT = 2**53
COUNTS, EMPTY = "row numbers", "empty"
#: Most whole numbers of one column of which it is checked that all are different.
MOST_DIFFERENT = 2**20
#: Share of distinct whole numbers, of at least SOME, from which they look like identifiers, if
#: their range is less than SPARSE times their number: that of amounts is mostly wider.
UNIQUE, SOME, SPARSE = 0.95, 50, 10
#: A code rather than a number, unlike months or hours such as 09.
PADDED = r"^0\d{4,}$"
#: Share of numbers among the cells of a target above which its words are mistakes, not classes.
NUMERIC = 0.2
#: Names of columns that say id, such as `id`, `customer_id` or `PassengerId`.
ID = re.compile(r"(?i:id|.*[\W_]id|id[\W_].*)|.*[a-z](Id|ID)")


@dataclass(slots=True)
class ColumnCells:
    """Summary of the cells of one column, batch by batch.

    `wanted` is the kind that the user requires, if any.
    """

    name: str
    wanted: Wanted | None = None
    rows: int = 0
    missing: int = 0
    numbers: int = 0
    words: int = 0
    first_word: str | None = None  # message about the first cell that is not a number, or is odd
    levels: Counter[str] = field(default_factory=Counter)
    form: str = ""  # of amounts, which are then read as numbers
    clash: tuple[str, ...] = ()  # odd texts after an example or sign, as of `amount_form`

    def add(self, cells: Cells) -> None:
        """Add the next batch of cells."""
        self.rows += len(cells.texts)
        # A column with words and no numbers so far is not tried as numbers again.
        values = None if self.is_category else cells.numbers_or_none()
        if values is None:
            self._add_words(cells.present())
        else:
            self._add_numbers(values, cells)

    def _add_numbers(self, values: Array, cells: Cells) -> None:
        del cells
        missing = int(np.isnan(values).sum())
        self.missing += missing
        self.numbers += len(values) - missing

    def _add_words(self, cells: Cells) -> None:
        self.missing += cells.texts.null_count
        found = cells.texts.drop_null().value_counts()
        words, counts = found.field("values"), found.field("counts").to_numpy()
        if self.wanted != "categorical":
            as_numbers = are_numbers(words)
            self.numbers += int(counts[as_numbers].sum())
            self.words += int(counts[~as_numbers].sum())
        if self.words and self.first_word is None:
            self.first_word = cells.word_problem()
        self.count(cells.texts)

    @property
    def is_category(self) -> bool:
        """Whether the cells are categories."""
        if self.wanted is not None:
            return self.wanted == "categorical"
        return self.words > 0 and not self.numbers and not self.form

    def odd_cells(self) -> str:
        """Return the message on the first word, with the number of words among numbers."""
        if any(self.clash[:1]) or not self.numbers:
            return self.first_word or ""
        cell, not_one, way = (self.first_word or "").rpartition(" is not a number")
        return f"{cell}{not_one}{self._counted(self.words)}{way}"

    def _counted(self, words: int) -> str:
        return f" ({words} of {self.rows - self.missing} cells {'is' if words == 1 else 'are'} not)"

    def find_form(self, *, commas: bool | None) -> None:
        """Find the form of amounts, after all batches; `commas` as in `amount_form`."""
        self.form, self.clash = amount_form(self.levels, commas=commas)
        if any(re.search(rf"[{self.form[-1]}]\d{{3}}", text) for text in self.form and self.levels):
            self.form = self.form[-1] + self.form  # three decimals are usual

    def find_odd(self, path: Path, options: CsvOptions) -> None:
        """Describe the first cell that is not written like most amounts or dates."""
        like, *odd = self.clash
        kind = "date" if DATE.fullmatch(like) else "number"
        for place, batch in batches(path, options, columns=[self.name]):
            texts = batch.column(self.name).to_pylist()
            if first := next((text for text in texts if text in odd), None):
                cell = Cells(batch.column(self.name), self.name, place).where(texts.index(first))
                if like in AMOUNTS:
                    why = "among decimal commas" if like == "," else "(decimals or thousands?)"
                    # A zero more shows that all dots of the column are before decimals.
                    zero = "0" * (like == "." and like in first)
                    ways = two_ways(first, like, zero)
                    self.first_word = f"{cell}: {shown(first)} is ambiguous {why}; write {ways}"
                    return
                self.first_word = (
                    f"{cell}: {shown(first)} is not a {kind} written like {shown(like)}"
                    f"{self._counted(sum(self.levels[text] for text in odd))}; write it the same "
                    "way or leave it empty"
                )
                return

    def reading(self) -> str:
        """Return how amounts are read, with the first one."""
        if self.form in ORDERS:
            return f"{self.name} (parts of dates)"
        known = [text for text in self.levels if text not in MISSING]
        first = next((text for text in known if not all_numbers([text])), known[0])
        commas = "decimal commas: " * (self.form[-1] == ",")
        return f"{self.name} ({commas}{shown(first)} as {amount(first, self.form):.15g})"

    def count(self, texts: pa.Array) -> None:
        """Count the texts that are not null; stop after more than MOST_LEVELS distinct ones."""
        if len(self.levels) <= MOST_LEVELS:
            found = texts.drop_null().value_counts()
            names, counts = (found.field(name).to_pylist() for name in ("values", "counts"))
            self.levels.update(dict(zip(names, counts, strict=True)))


def summarize(path: Path, options: CsvOptions, columns: Sequence[ColumnCells]) -> None:
    """Add all cells of a file to the summaries of its columns, and find the forms of amounts."""
    import pyarrow.compute as pc

    for place, batch in batches(path, options, columns=[column.name for column in columns]):
        for column in columns:
            column.add(Cells(batch.column(column.name), column.name, place))
    table = form_of(path, options)
    commas = None if table.sep == ";" else False
    for column in columns:
        column.find_form(commas=commas)
    are_texts = not table.format.has_typed_cells
    commas = (are_texts and any(one.form.endswith(",") for one in columns)) or commas
    # Numbers of batches without words have not been counted; here they may matter.
    again = [column for column in columns if column.numbers and (commas or column.form)]
    for column in again:
        column.levels.clear()
    names = [column.name for column in again]
    for _, batch in batches(path, options, columns=names) if again else ():
        for column in again:
            texts = batch.column(column.name)
            column.count(texts if column.words else texts.filter(pc.match_substring(texts, ".")))
    for column in columns:
        if commas or column in again:
            column.find_form(commas=commas)
        if any(column.clash[:1]):
            column.find_odd(path, options)


@dataclass(slots=True)
class FeatureCells(ColumnCells):
    """Summary of the cells of one feature."""

    keys: Keys = field(kw_only=True)
    problem: str | None = None
    inexact: bool = False
    whole: bool = True
    counts_rows: bool = True
    start: float | None = None  # of a count of the rows
    padded: bool = False
    # The distinct numbers so far, while they are whole and hardly repeat; None = they are not.
    different: Array | None = field(default_factory=lambda: np.empty(0))

    def _add_numbers(self, values: Array, cells: Cells) -> None:
        import pyarrow.compute as pc

        ColumnCells._add_numbers(self, values, cells)
        known = values[~np.isnan(values)]
        self.problem = self.problem or cells.infinite_problem(values)
        exact = np.abs(known) < EXACT
        if not self.inexact and not exact.all():
            # 1e20 is a measurement, 12345678901234567890 is an id
            matched = pc.match_substring_regex(cells.texts, r"^[+-]?\d+$")
            self.inexact = bool(pc.any(matched).as_py())
        self.whole = self.whole and bool((exact & (known == np.floor(known))).all())
        if self.counts_rows and len(values):
            starts = values - np.arange(self.rows - len(values), self.rows)
            self.start = float(starts[0]) if self.start is None else self.start
            self.counts_rows = self.whole and bool((starts == self.start).all())
        if not self.whole:
            self.different = None
            return
        if not self.padded:
            self.padded = bool(pc.any(pc.match_substring_regex(cells.texts, PADDED)).as_py())
        if self.different is not None:
            joined = np.unique(np.concatenate([self.different, known]))
            are_many = UNIQUE * self.numbers <= len(joined) <= MOST_DIFFERENT
            self.different = joined if are_many else None

    def find_form(self, *, commas: bool | None) -> None:
        """Find the form of amounts, except among categories."""
        if self.wanted != "categorical":
            ColumnCells.find_form(self, commas=commas)
        if self.keys.dates == "parts" and self.holds_dates:
            self._find_order()
        elif self.clash and self.is_category:
            amounts = sum(bool(amount_forms(text)) for text in self.levels)
            if not free_text(self.levels) or 2 * amounts <= len(self.levels):
                self.clash = ()  # such as '10 %' and 'none', or one '$5' among free text

    @property
    def holds_dates(self) -> bool:
        """Whether all cells are dates, unless they are categories for the user."""
        are_words = self.wanted is None and self.is_category and len(self.levels) > 0
        return are_words and all(DATE.fullmatch(text) for text in self.levels)

    def _find_order(self) -> None:
        read = {order: [x for x in self.levels if date_of(x, order)] for order in ORDERS}
        orders = [order for order in ORDERS if len(read[order]) == len(self.levels)]
        if len(orders) == 1 or all("." in text for text in self.levels):
            self.form = next(iter(orders), "")
        if orders and not self.form:
            cell = (self.first_word or "").rpartition(" is not a number")[0]
            self.problem = (
                f"{cell} is ambiguous (day/month?), since no day of the column is above 12; write "
                f"the dates as 2024-05-31, or leave them out: {self.keys.dropping([self.name])}"
            )
        elif not orders:
            usual = max(ORDERS, key=lambda order: sum(self.levels[x] for x in read[order]))
            # The example is a date in as few orders as possible, such as 31/01/2024.
            like = min(
                read[usual],
                key=lambda text: sum(text in those for those in read.values()),
                default="2024-05-31",
            )
            self.clash = (like, *(text for text in self.levels if not date_of(text, usual)))

    def columns(self) -> list[Column]:
        """Return the column before encoding, or one for each part of its dates."""
        if self.form in ORDERS:
            parts = DATE_PARTS if any(":" in text for text in self.levels) else DATE_PARTS[:-1]
            return [Column(name=f"{self.name}.{p}", form=f"{self.form} {p}") for p in parts]
        levels = tuple(sorted(self.levels)) if self.is_category else ()
        return [Column(name=self.name, levels=levels, form=self.form)]

    def problems(self) -> Iterator[str]:
        """Yield the reasons why the column can't be a feature as it stands."""
        if self.problem is not None:
            yield self.problem
        elif self.has_odd_cells and not self.unfit:
            way = f"take the column as categories: {self.keys.as_categories([self.name])}"
            if free_text(self.levels) or self.holds_dates or not self.words:
                way = f"leave the column out: {self.keys.dropping([self.name])}"
            yield f"{self.odd_cells()}, or {way}"
        elif self.wanted == "categorical" and len(self.levels) > MOST_LEVELS:
            yield (
                f"column {self.name!r} has {free_text(self.levels)}: too many categories; leave "
                f"it out: {self.keys.dropping([self.name])}"
            )

    @property
    def has_odd_cells(self) -> bool:
        """Whether cells among numbers are neither numbers nor amounts of one form."""
        are_odd = self.numbers > 0 or self.wanted == "numeric" or len(self.clash) > 0
        are_read = self.form or (not self.words and not self.clash)
        return are_odd and not are_read and self.wanted != "categorical"

    @property
    def unfit(self) -> str:
        """Why the column is left out: no cells, ids, free text, dates; empty = it is a feature."""
        is_given = self.wanted is not None or self.problem or self.form or self.clash
        if is_given or self.missing == self.rows:
            return "" if is_given else EMPTY
        if self.is_category:
            if self.holds_dates:
                return f"dates such as {shown(min(self.levels))}: data.dates=parts reads them"
            words = free_text(self.levels)
            return f"text: {words}" if words else ""
        if self.words:
            return self._mixed_names()
        if self.numbers and self.whole and ID.fullmatch(self.name):
            return "whole numbers named id"
        return COUNTS if self.counts_rows and self.rows > 2 and self.numbers else ""

    def _mixed_names(self) -> str:
        """Return why words beside numbers are names, such as `A/5 21171`; empty = they are not."""
        words = [text for text in self.levels if not all_numbers([text])]
        are_names = len(words) > FEW and all(text[0].isalpha() for text in words)
        if words and (ID.fullmatch(self.name) or are_names):
            return f"numbers and text, such as {shown(min(words))}"
        return ""

    @property
    def doubt(self) -> str:
        """What makes a feature that is kept look useless; empty = nothing."""
        if self.missing == self.rows:
            return EMPTY
        if self.is_category:
            return ""
        if self.inexact:
            return "whole numbers above 2^53, which are rounded"
        if self.words or not self.whole:
            return ""
        found = np.empty(0) if self.different is None else self.different
        if len(found) == self.numbers > 2:
            return "whole numbers, all unique"
        are_ids = self.numbers >= SOME and len(found) and np.ptp(found) < SPARSE * len(found)
        nearly = "whole numbers, nearly all unique" * bool(are_ids)
        return "whole numbers with leading zeros" if self.padded else nearly


@dataclass(slots=True)
class TargetCells(ColumnCells):
    """Summary of the cells of the target column."""

    first_fraction: str | None = None

    def add(self, cells: Cells) -> None:
        """Add the next batch of cells."""
        self.rows += len(cells.texts)
        known = cells.present()
        values = known.numbers_or_none()
        if values is None:
            self.first_word = self.first_word or known.word_problem(otherwise=AS_CLASSES)
        elif self.first_fraction is None:
            fractions = np.isfinite(values) & (values != np.trunc(values))
            if fractions.any():
                position = int(fractions.argmax())
                text = shown(known.texts[position].as_py())
                self.first_fraction = f"{known.where(position)}: {text}"
        self.count(cells.texts)

    def outcome(self, keys: Keys) -> tuple[Outcome, list[str]]:
        """Return the meaning of the target, and notes besides `class_note`.

        Raises:
            ConfigError: The key `positive` does not suit the target.
            DataError: The cells do not suit the task.
        """
        # Among numbers, `NA` marks an empty cell and is not a word.
        words = [text for text in self.levels if not all_numbers([text])]
        are_words = len(words) == len(self.levels) or any(word not in MISSING for word in words)
        task = keys.task or self._found_task(are_words=are_words)
        if task == "regression":
            if self.first_word is not None and not self.form:
                raise DataError(self.first_word + f", {AS_CLASSES}" * any(self.clash[:1]))
            if keys.positive is not None:
                raise ConfigError(
                    f"data.positive={keys.positive} does not apply to regression; remove it, or "
                    "set data.task=binary"
                )
            how = "" if keys.task else "; data.task=multiclass reads its numbers as classes"
            told = [f"read as numbers: {self.reading()}"] if self.form else []
            found = Outcome(self.name, task, form=self.form)
            return found, [*told, f"task: regression of {self.name!r}{how}"]
        counts = self._classes(keys, are_words=are_words)
        if keys.task is None and len(counts) == 2:
            task = "binary"
        if task == "multiclass" and keys.positive is not None:
            raise ConfigError(
                f"data.positive={keys.positive} does not apply to {len(counts)} classes; remove it"
            )
        classes = self._binary(counts, keys) if task == "binary" else tuple(counts)
        kept = [
            f"{name!r} in the target {self.name!r} is a class ({self.levels[name]} rows); if it "
            "means a missing value, empty these cells"
            for name in classes
            if name in MISSING
        ]
        is_turned = task == "binary" and classes[1] != usual_positive(counts)[0]
        found = Outcome(self.name, task, classes, are_words, is_turned=is_turned, counts=counts)
        return found, kept

    def _found_task(self, *, are_words: bool) -> Task:
        odd = 0 if self.clash and self.clash[0] in AMOUNTS else len(self.clash)
        if (self.form or self.clash) and len(self.levels) - odd > max(MOST_CLASSES, odd):
            return "regression"
        values = {float(text) for text in self.levels if all_numbers([text])}
        words = len(self.levels) - len(values)
        if are_words and not len(values) > max(MOST_CLASSES, words):
            return "multiclass"
        whole = self.first_fraction is None and all(value.is_integer() for value in values)
        return "multiclass" if whole and len(values) <= MOST_CLASSES else "regression"

    def _classes(self, keys: Keys, *, are_words: bool) -> dict[str, int]:
        """Return the number of rows of each class, in the order of their names or numbers."""
        if not are_words and self.first_fraction is not None:
            raise DataError(
                f"{self.first_fraction} is not a class; expected words or whole numbers, or "
                "data.task=regression"
            )
        if words := free_text(self.levels):
            numbers = sum(self.levels[text] for text in self.levels if all_numbers([text]))
            if keys.task is None and self.first_word and numbers > NUMERIC * self.levels.total():
                raise DataError(self.first_word.removesuffix(f", {AS_CLASSES}"))
            raise DataError(
                f"{keys.path}: the target {self.name!r} has {words}, so it has no classes; set "
                "data.target=COLUMN"
            )
        if are_words:
            counts = {name: self.levels[name] for name in sorted(self.levels)}
        else:
            by_value: dict[float, Counter[str]] = {}
            for text, count in self.levels.items():
                if text not in MISSING:
                    by_value.setdefault(float(text), Counter())[text] += count
            # A number that the file writes in several ways is named by its value.
            counts = {
                next(iter(texts)) if len(texts) == 1 else f"{value:.0f}": texts.total()
                for value, texts in sorted(by_value.items())
            }
        if len(counts) < 2:
            told = "only empty cells; set"
            for name, rows in counts.items():
                told = f"one class, {name!r}, in all {rows} rows; "
                told += "expected at least 2 classes, or another column:"
            raise DataError(f"{keys.path}: the target {self.name!r} has {told} data.target=COLUMN")
        if keys.task == "binary" and len(counts) != 2:
            raise DataError(
                f"data.task=binary, but the target {self.name!r} has {len(counts)} classes "
                f"({_listed(counts)}); expected 2, or data.task=multiclass"
            )
        return counts

    def _binary(self, counts: dict[str, int], keys: Keys) -> tuple[str, ...]:
        """Return the two classes, the positive one second."""
        names = tuple(counts)
        positive, _ = usual_positive(counts)
        if keys.positive is not None:
            index = class_index(str(keys.positive), names)
            if index is None:
                raise unknown_positive(str(keys.positive), names)
            positive = names[index]
        return names[1 - names.index(positive)], positive


def class_note(outcome: Outcome, keys: Keys, targets: Array) -> str:
    """Return a note on the classes of the training file, whose kept rows have these `targets`."""
    kept = np.bincount(targets, minlength=len(outcome.classes)).tolist()
    listed = _listed({name: kept[outcome.classes.index(name)] for name in outcome.counts})
    told = f"task: {outcome.task}, {outcome.name!r}"
    if outcome.task == "multiclass":
        may_be_values = keys.task is None and all_numbers(outcome.classes)
        how = "; data.task=regression takes numbers as values" if may_be_values else ""
        return f"{told} has {listed}{how}"
    negative, positive = outcome.classes
    _, which = usual_positive(outcome.counts)
    where = " in the file" * (which == "the rarer one" and kept[1] > kept[0])
    why = f", {which}{where}; change with {typed('data.positive', negative)}"
    told += f" is {listed}; scores are for {positive!r}"
    return told if keys.positive is not None else told + why


def _listed(counts: Mapping[str, int]) -> str:
    if len(counts) == 2:
        (first, rows), (second, others) = counts.items()
        return f"{first!r} in {rows:,} row{'s' * (rows != 1)} and {second!r} in {others:,}"
    return some([f"{name}: {count:,}" for name, count in counts.items()], most=MOST_CLASSES)
