"""Categories: words, or numbers that the user takes as words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.parsing.cells.evidence import ColumnEvidence
from pipeline.data.parsing.cells.kind import UNKNOWN, CellKind, Fit, Grammar, Refused
from pipeline.data.parsing.cells.texts import MISSING, Cells, Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Category(Grammar):
    """Categories, each read as the index of its level.

    Args:
        levels: All categories, in the order of their indices.
    """

    levels: tuple[str, ...] = ()

    def read(self, cells: Cells) -> Numbers:
        """Return the index of each cell's level, float64 (rows,); `UNKNOWN`, or NaN = missing.

        A whole number that is no level means its other writing: `2.0` is the level `2`.
        """
        indices: dict[str | None, float] = {name: index for index, name in enumerate(self.levels)}
        indices |= dict.fromkeys((*MISSING, None), np.nan)
        names, places = cells.encoded()
        for name in names:
            if name and name not in indices and re.fullmatch(r"[+-]?\d+(\.0)?", name):
                other = name.removesuffix(".0") if "." in name else f"{name}.0"
                indices[name] = indices.get(other, UNKNOWN)
        return np.array([indices.get(name, UNKNOWN) for name in names], dtype=np.float64)[places]

    def write(self, values: Sequence[float]) -> str | None:
        """Return the name of the level; None if it is missing or unknown."""
        (value,) = values
        return self.levels[int(value)] if value >= 0 else None


def _fits(column: ColumnEvidence) -> Fit:
    levels = Category(levels=tuple(sorted(column.texts)))
    if column.keys.kind is None:
        return [levels] if column.is_words else None
    if column.has_too_many_texts:
        return Refused(f"column {column.name!r} has {column.free_text()}: too many categories")
    return [levels]


KIND = CellKind(name="category", rank=90, fits=_fits, grammar=Category, key="categorical")
