"""Plain numbers, such as `12`, `-0.5` or `1e6`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from pipeline.base.errors import DataError
from pipeline.data.parsing.cells.evidence import ColumnEvidence
from pipeline.data.parsing.cells.kind import CellKind, Fit, Grammar
from pipeline.data.parsing.cells.kinds.amount import Amount
from pipeline.data.parsing.cells.texts import Cells, Mark, Numbers, numbers_or_none
from pipeline.data.parsing.cells.written import explained


@dataclass(frozen=True, slots=True, kw_only=True)
class Number(Grammar):
    """Plain numbers.

    Args:
        decimal: Sign before the decimals in other columns of the file. With a comma, `1,5` is
            read, too, and `1.234` is refused, since it may be a thousand.
    """

    type: ClassVar[Literal["double", "string"]] = "double"
    decimal: Mark = "."

    def read(self, cells: Cells) -> Numbers:
        """Return the numbers, float64 (rows,), NaN = missing."""
        if self.decimal == ",":
            return Amount(decimal=",").read(cells)
        values = numbers_or_none(cells)
        if values is None:
            raise DataError(explained(cells))
        if problem := cells.infinite_problem(values):
            raise DataError(problem)
        return values

    def write(self, values: Sequence[float]) -> float | None:
        """Return the number; None if it is missing."""
        (value,) = values
        return None if np.isnan(value) else float(value)


#: Plain numbers of a file that has decimal points.
PLAIN = Number()


def _fits(column: ColumnEvidence) -> Fit:
    if column.words or column.amounts.odd:
        return None
    return [Number(decimal=column.file_decimal)]


KIND = CellKind(name="number", rank=60, fits=_fits, grammar=Number, key="numeric")
