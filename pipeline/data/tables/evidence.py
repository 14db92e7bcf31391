"""What a pass over a column shows: numbers or categories, which ones, and what is suspicious."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.data.source import Array, Column
from pipeline.data.tables.cells import (
    are_numbers,
    infinite_problem,
    numbers_or_none,
    present,
    word_problem,
)
from pipeline.data.tables.location import Place
from pipeline.data.tables.suspicion import Sequenced, date_problem, free_text

if TYPE_CHECKING:
    import pyarrow as pa

MOST_LEVELS = 100_000
"""Categories of one column that are kept; with more it is free text."""
EXACT = 2**53
"""Whole numbers up to it are exact as float64."""

Wanted = Literal["numeric", "categorical"] | None


@dataclass(slots=True)
class Evidence:
    """What the cells of one column have shown so far.

    Args:
        name: Of the column.
        wanted: What the user says it is; None = to be found.
    """

    name: str
    wanted: Wanted
    rows: int = 0
    missing: int = 0
    numbers: int = 0
    words: int = 0
    first_word: str | None = None
    problem: str | None = None
    inexact: bool = False
    levels: Counter[str] = field(default_factory=Counter)
    sequence: Sequenced = field(default_factory=Sequenced)

    def add(self, cells: pa.Array, place: Place) -> None:
        """Look at the next batch of cells."""
        self.rows += len(cells)
        values = None if self._are_words() else numbers_or_none(cells)
        if values is not None:
            self._add_numbers(values, cells, place)
            return
        texts = present(cells)
        self.missing += texts.null_count
        if self.wanted == "numeric":
            self.problem = self.problem or word_problem(texts, self.name, place)
        else:
            self._add_words(texts, place)

    def _are_words(self) -> bool:
        """Tell whether the cells so far leave no hope for numbers."""
        return self.wanted == "categorical" or (
            self.wanted is None and self.words > 0 and not self.numbers
        )

    def _add_numbers(self, values: Array, texts: pa.Array, place: Place) -> None:
        import pyarrow.compute as pc

        missing = int(np.isnan(values).sum())
        self.missing += missing
        self.numbers += len(values) - missing
        self.problem = self.problem or infinite_problem(values, texts, self.name, place)
        self.sequence.add(values)
        if not self.inexact and (np.abs(values) >= EXACT).any():
            # 1e20 is a measurement, 12345678901234567890 a name
            self.inexact = bool(pc.any(pc.match_substring_regex(texts, r"^[+-]?\d+$")).as_py())

    def _add_words(self, texts: pa.Array, place: Place) -> None:
        import pyarrow.compute as pc

        counted = pc.value_counts(texts.drop_null())
        names, counts = counted.field("values"), counted.field("counts").to_numpy()
        if self.wanted is None:
            as_numbers = are_numbers(names)
            self.numbers += int(counts[as_numbers].sum())
            self.words += int(counts[~as_numbers].sum())
        if self.words and self.first_word is None:
            self.first_word = word_problem(texts, self.name, place)
        if len(self.levels) <= MOST_LEVELS:
            self.levels.update(dict(zip(names.to_pylist(), counts.tolist(), strict=True)))

    def problems(self) -> Iterator[str]:
        """Yield what makes the column no feature as it stands."""
        if self.problem is not None:
            yield self.problem
        elif self.numbers and self.words and self.first_word is not None:
            yield (
                f"{self.first_word}. The column has {self.numbers} "
                f"number{'s' * (self.numbers != 1)} beside {self.words} other "
                f"cell{'s' * (self.words != 1)}"
            )
        elif self.is_category:
            yield from self._problems_of_levels()

    def _problems_of_levels(self) -> Iterator[str]:
        found = self.wanted is None
        if found and (problem := date_problem(self.name, self.levels)):
            yield problem
        elif (found or len(self.levels) > MOST_LEVELS) and (
            words := free_text(self.levels, most=MOST_LEVELS)
        ):
            yield (
                f"column {self.name!r} {words}: free text or names, which are no feature; leave "
                f"it out: data.drop=[{self.name}], or name the rows by it: data.id={self.name}"
            )

    @property
    def is_category(self) -> bool:
        """Whether the cells are categories."""
        return self.wanted == "categorical" or (self.words > 0 and not self.numbers)

    def notes(self) -> Iterator[str]:
        """Yield what is suspicious about the column and no reason to refuse it."""
        if self.missing == self.rows:
            yield f"column {self.name!r} is empty: it says nothing; data.drop=[{self.name}]"
        elif self.inexact:
            yield (
                f"column {self.name!r} has numbers above 2^53, which are rounded; it looks like "
                f"an id: data.drop=[{self.name}], or data.id={self.name} to name the rows by it"
            )
        elif not self.is_category and self.sequence.counts_rows(self.rows):
            yield (
                f"column {self.name!r} counts the rows, as an index does; if it is one, leave it "
                f"out: data.drop=[{self.name}], or data.id={self.name} to name the rows by it"
            )

    def column(self) -> Column:
        """Return the column with its categories in the order of their names."""
        return Column(name=self.name, levels=tuple(sorted(self.levels)) if self.is_category else ())
