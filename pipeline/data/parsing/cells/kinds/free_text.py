"""Texts that hardly repeat, such as notes, and names that mix words and numbers."""

from __future__ import annotations

from pipeline.data.parsing.cells.evidence import ColumnEvidence
from pipeline.data.parsing.cells.kind import CellKind, Fit, LeftOut


def _fits(column: ColumnEvidence) -> Fit:
    words = column.free_text() if column.is_words else None
    return None if words is None else LeftOut(f"text: {words}")


KIND = CellKind(name="free text", rank=80, fits=_fits)
