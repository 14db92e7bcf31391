"""Arrays that lie apart, as one: copied together where they are small, else left where they lie."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks import fingerprints
from pipeline.data.source import Array, Indices, OnDemand

IN_MEMORY_BYTES = 512 * 2**20
"""What an array may take before it stays on disk."""
FLOAT = np.dtype(np.float32)


class Joined(OnDemand):
    """Arrays on disk that follow one another, taken row by row.

    Args:
        parts: (rows, *row_shape) each, with one row shape.
        dtype: That rows are given in; None = the one that holds those of all parts.
    """

    costly = False

    def __init__(
        self, parts: Sequence[Array | OnDemand], *, dtype: np.dtype[np.generic] | None = None
    ) -> None:
        self.parts = tuple(parts)
        self.starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])
        self.dtype = dtype or np.result_type(*(part.dtype for part in parts))

    @cached_property
    def fingerprints(self) -> NDArray[np.uint64]:  # type: ignore[override] # made when asked for
        """(rows,) equal for equal content."""
        return np.concatenate([fingerprints(part, np.arange(len(part))) for part in self.parts])

    def __getitem__(self, rows: slice | Indices) -> Array:
        """Read rows, (rows, *row_shape)."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        made = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        for number, part in enumerate(self.parts):
            mine = owner == number
            if mine.any():
                made[mine] = part[rows[mine] - self.starts[number]]
        return made


def join(parts: Sequence[Array | OnDemand]) -> Array | OnDemand:
    """Return the parts behind one another as one array (rows, *row_shape)."""
    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if not isinstance(part, OnDemand)]
    if len(arrays) == len(parts) and sum(part.nbytes for part in arrays) <= IN_MEMORY_BYTES:
        return np.concatenate(arrays)
    return Joined(parts)


def as_floats(values: Array) -> Array | OnDemand:
    """Return float32 of the same values: a copy where that is small, else made row by row."""
    if values.size * FLOAT.itemsize <= IN_MEMORY_BYTES:
        return values.astype(FLOAT)
    return Joined([values], dtype=FLOAT)
