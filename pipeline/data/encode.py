"""Cells of a table as numbers: holes filled in, categories one-hot, both learned in training."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.source import Array, Column, Indices

MOST_LEVELS = 20
"""Categories of a column that get a feature each; rarer ones share the feature `other`."""
OTHER = "other"
UNKNOWN = -1.0
"""Stands in a cell for a category that no training row had."""

BLOCK_ROWS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """How one column is encoded.

    Args:
        name: Of the column.
        levels: All categories of the column, in the order of their indices; empty = numbers.
        kept: Indices of the levels that have a feature each, the most frequent first.
        other: Whether a feature counts all further levels.
        fill: What a missing cell becomes: the mean, or the index of the most frequent level.
        has_holes: Whether training rows had missing cells.
    """

    name: str
    levels: tuple[str, ...]
    kept: tuple[int, ...]
    other: bool
    fill: float
    has_holes: bool

    @property
    def is_category(self) -> bool:
        """Whether the column holds categories."""
        return bool(self.levels)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that the column becomes."""
        if not self.is_category:
            return (self.name,)
        named = tuple(f"{self.name}={self.levels[index]}" for index in self.kept)
        return (*named, f"{self.name}={OTHER}") if self.other else named

    def encoded(self, cells: Array) -> NDArray[np.float64]:
        """Encode raw cells (rows,) as (rows, features)."""
        filled: NDArray[np.float64] = np.where(np.isnan(cells), self.fill, cells)
        if not self.is_category:
            return filled.reshape(-1, 1)
        ones = filled[:, None] == np.asarray(self.kept, dtype=np.float64)
        if self.other:
            ones = np.column_stack([ones, ~ones.any(1)])
        return np.asarray(ones, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Turns the raw cells of a table into numbers; all it knows comes from the training part.

    Args:
        codes: One a column, in the order of the columns.
    """

    codes: tuple[Code, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the encoded features."""
        return tuple(name for code in self.codes for name in code.features)

    @property
    def one_hot(self) -> NDArray[np.bool_]:
        """Which features are 0 or 1 for a category, (features,)."""
        flags = [code.is_category for code in self.codes for _ in code.features]
        return np.asarray(flags, dtype=np.bool_)

    def encoded(self, raw: Array) -> NDArray[np.float64]:
        """Encode raw rows (rows, columns) as (rows, features)."""
        parts = [code.encoded(raw[:, index]) for index, code in enumerate(self.codes)]
        return np.concatenate(parts, axis=1)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Encoder":
        """Build the encoder whose dataclass was written as plain values."""
        codes: list[dict[str, Any]] = [
            {key: tuple(value) if isinstance(value, list) else value for key, value in code.items()}
            for code in plain["codes"]
        ]
        return cls(codes=tuple(Code(**code) for code in codes))


def fit_encoder(raw: Array, columns: tuple[Column, ...], rows: Indices) -> Encoder:
    """Learn from the training rows what fills holes and which categories are frequent.

    Args:
        raw: (all rows, columns); NaN is a missing cell, a category its index.
        columns: What they are.
        rows: The training rows.
    """
    counts = [np.zeros(len(column.levels), dtype=np.int64) for column in columns]
    totals, known = np.zeros(len(columns)), np.zeros(len(columns), dtype=np.int64)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = np.asarray(raw[rows[start : start + BLOCK_ROWS]], dtype=np.float64)
        present = ~np.isnan(block)
        known += present.sum(0)
        for index, column in enumerate(columns):
            cells = block[present[:, index], index]
            if column.levels:
                counts[index] += np.bincount(cells.astype(np.int64), minlength=len(column.levels))
            else:
                totals[index] += cells.sum()
    codes = []
    for column, count, total, filled in zip(columns, counts, totals, known, strict=True):
        frequent = [int(index) for index in np.argsort(-count, kind="stable") if count[index]]
        mean = float(total / filled) if filled else 0.0
        most = float(frequent[0]) if frequent else UNKNOWN
        code = Code(
            name=column.name,
            levels=column.levels,
            kept=tuple(frequent[:MOST_LEVELS]),
            other=len(frequent) > MOST_LEVELS,
            fill=most if column.levels else mean,
            has_holes=bool(filled < len(rows)),
        )
        codes.append(code)
    return Encoder(codes=tuple(codes))
