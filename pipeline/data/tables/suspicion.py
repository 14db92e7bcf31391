"""Columns that are no features as they stand: dates, free text, numbers of the rows."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from pipeline.data.source import Array
from pipeline.data.tables.records import shown

DATE = re.compile(
    r"\d{4}-\d{1,2}(-\d{1,2}([T ]\d{1,2}:\d{2}.*)?)?"  # 2024-05-31, 2024-05-31 10:00
    r"|\d{1,4}[./]\d{1,2}[./]\d{1,4}( \d{1,2}:\d{2}.*)?"  # 31.5.2024, 5/31/24, 2024/05/31
)
FEW = 20
"""So many different words are categories, however few rows there are."""
FREE = 0.5
"""Share of the cells that differ from all others from which on they are free text."""
COUNTED = 2.0**53
"""From here on a float skips whole numbers, so that none of them counts rows."""


@dataclass(slots=True)
class Sequenced:
    """Sums that tell whether a column holds each whole number of a range once, in any order."""

    count: int = 0
    minimum: float = np.inf
    maximum: float = -np.inf
    total: float = 0.0
    squares: float = 0.0
    whole: bool = True

    def add(self, values: Array) -> None:
        """Look at the next values (rows,)."""
        if not self.whole:
            return
        whole = (values == np.floor(values)) & (np.abs(values) < COUNTED)  # NaN is neither
        self.whole = bool(whole.all())
        if self.whole and len(values):
            self.count += len(values)
            self.minimum = min(self.minimum, float(values.min()))
            self.maximum = max(self.maximum, float(values.max()))
            self.total += float(values.sum())
            self.squares += float((values**2).sum())

    def counts_rows(self, rows: int) -> bool:
        """Tell whether all rows together hold each number from the least to the largest once."""
        if not self.whole or self.count != rows or rows < 3:
            return False
        if self.maximum - self.minimum != rows - 1:
            return False
        middle = (self.minimum + self.maximum) / 2
        squares = rows * (middle**2 + (rows**2 - 1) / 12)
        return bool(
            np.isclose(self.total, rows * middle, rtol=1e-12, atol=1e-6)
            and np.isclose(self.squares, squares, rtol=1e-9)
        )


def date_problem(name: str, levels: Counter[str]) -> str | None:
    """Say that a column holds dates, if all its cells do."""
    if not levels or not all(DATE.fullmatch(text) for text in levels):
        return None
    return (
        f"column {name!r} holds dates, such as {shown(min(levels))}, which are no feature as they "
        f"stand; leave it out: data.drop=[{name}], or order the rows by it: data.time={name}, or "
        "write what matters of it, such as the month or the days since a day, as a number"
    )


def free_text(levels: Counter[str], *, most: int) -> str | None:
    """Describe cells that hardly repeat, so that they are no categories; None = they are some."""
    cells = levels.total()
    if len(levels) <= max(FEW, FREE * cells) and len(levels) <= most:
        return None
    found = f"over {most}" if len(levels) > most else str(len(levels))
    return f"has {found} different words in {cells} cells, such as {shown(min(levels))}"
