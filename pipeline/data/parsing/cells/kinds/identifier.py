"""Identifiers: numbers of rows, whole numbers named id, names such as `A/5 21171`."""

from __future__ import annotations

import re

from pipeline.data.parsing.cells.evidence import ColumnEvidence
from pipeline.data.parsing.cells.kind import CellKind, Fit, LeftOut
from pipeline.data.parsing.cells.texts import all_numbers, shown

ROW_NUMBERS = "row numbers"
#: Names of columns that say id, such as `id`, `customer_id` or `PassengerId`.
ID = re.compile(r"(?i:id|.*[\W_]id|id[\W_].*)|.*[a-z](Id|ID)")
#: Fewest distinct words beside numbers that may be names.
FEWEST_NAMES = 21


def _fits(column: ColumnEvidence) -> Fit:
    if column.amounts.odd:
        return None
    is_named_id = ID.fullmatch(column.name) is not None
    if column.words:
        return _mixed_names(column, is_named_id=is_named_id) if column.numbers else None
    if is_named_id and column.numbers and column.values.are_whole:
        return LeftOut("whole numbers named id")
    counts_rows = column.values.count_rows and column.rows > 2 and column.numbers > 0
    return LeftOut(ROW_NUMBERS) if counts_rows else None


def _mixed_names(column: ColumnEvidence, *, is_named_id: bool) -> Fit:
    words = [text for text in column.texts if not all_numbers([text])]
    are_names = len(words) >= FEWEST_NAMES and all(text[0].isalpha() for text in words)
    if words and (is_named_id or are_names):
        return LeftOut(f"numbers and text, such as {shown(min(words))}")
    return None


KIND = CellKind(name="identifier", rank=50, fits=_fits)
