"""Columns without a value."""

from __future__ import annotations

from pipeline.data.parsing.cells.evidence import ColumnEvidence
from pipeline.data.parsing.cells.kind import CellKind, Fit, LeftOut

EMPTY = "empty"


def _fits(column: ColumnEvidence) -> Fit:
    return LeftOut(EMPTY) if column.missing == column.rows else None


KIND = CellKind(name="empty", rank=10, fits=_fits)
