"""Dates that are left out, since the user does not ask for their parts."""

from __future__ import annotations

from pipeline.data.parsing.cells.evidence import ColumnEvidence
from pipeline.data.parsing.cells.kind import CellKind, Fit, LeftOut
from pipeline.data.parsing.cells.texts import shown


def _fits(column: ColumnEvidence) -> Fit:
    if not column.holds_dates:
        return None
    return LeftOut(f"dates such as {shown(min(column.texts))}: data.dates=parts reads them")


KIND = CellKind(name="date", rank=70, fits=_fits)
