"""Amounts: numbers with a currency or percent sign, groups of thousands or a decimal comma."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pipeline.base.errors import DataError
from pipeline.data.parsing.cells.evidence import ColumnEvidence
from pipeline.data.parsing.cells.kind import CellKind, Fit, Grammar
from pipeline.data.parsing.cells.texts import NUMBER, Cells, Numbers, numbers_or_none
from pipeline.data.parsing.cells.written import GROUPED, SHARE, AmountForm, explained


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount(AmountForm, Grammar):
    """Amounts of one currency or of none; plain numbers are read, too."""

    def read(self, cells: Cells) -> Numbers:
        """Return the numbers, float64 (rows,), NaN = missing.

        Raises:
            DataError: A cell is not such an amount, or may mean two numbers.
        """
        # With points between groups, `1.234` in a CSV is not a plain number.
        has_points = self.thousands == "point" and not cells.place.has_typed_cells
        values = None if has_points else numbers_or_none(cells)
        if values is None:
            values = numbers_or_none(self.plain(cells))
        if values is None:
            raise DataError(explained(cells, self))
        if problem := cells.infinite_problem(values):
            raise DataError(problem)
        for pattern, why in self._unclear():
            self._refuse(pattern, why, cells)
        return values

    def write(self, values: Sequence[float]) -> str | None:
        """Return the number as an amount; None if it is missing."""
        (value,) = values
        if np.isnan(value):
            return None
        space = " " if self.sign[:1].isalpha() else ""
        number = np.format_float_positional(value, trim="-").replace(".", self.decimal)
        return f"{self.sign}{space}{number}"

    def _unclear(self) -> Iterator[tuple[str, str]]:
        """Yield the patterns of cells that may mean two numbers, and why."""
        if self.decimal == "," and self.thousands is None:
            yield GROUPED, "among decimal commas"
        if self.sign == "%":
            yield SHARE, "among percentages"
        if not self.has_three_decimals and self.thousands is None:
            mark = self.decimal
            yield rf"^[^\d.,]*[1-9]\d{{0,2}}[{mark}]\d{{3}}[^\d.,]*$", "(decimals or thousands?)"

    def _refuse(self, pattern: str, why: str, cells: Cells) -> None:
        """Raise DataError if a cell has this pattern and was a text in the file, not a number."""
        import pyarrow.compute as pc

        matched = pc.match_substring_regex(cells.texts, pattern)
        if cells.place.has_typed_cells:
            matched = pc.and_(matched, pc.invert(pc.match_substring_regex(cells.texts, NUMBER)))
        if not pc.any(matched).as_py():
            return
        are_unclear = matched.fill_null(fill_value=False).to_numpy(zero_copy_only=False)
        text = cells.texts[int(are_unclear.argmax())].as_py()
        readings = self.two_readings(text)
        if pattern == SHARE:
            readings = f"{text}% or {100 * float(text):.15g}%"
        raise cells.fault(are_unclear, f"{text!r} is ambiguous {why}; write {readings}")


def _fits(column: ColumnEvidence) -> Fit:
    form = column.amounts.form
    return None if form is None else [Amount(**asdict(form))]


KIND = CellKind(name="amount", rank=30, fits=_fits, grammar=Amount, key="numeric")
