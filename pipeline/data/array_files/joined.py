"""Arrays that lie apart, as one: copied together where they are small, else left where they lie."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks import fingerprints
from pipeline.data.source import Array, Indices, OnDemand

IN_MEMORY_BYTES = 512 * 2**20
"""What an array may take before it stays on disk."""


class Joined(OnDemand):
    """Arrays on disk that follow one another, taken row by row.

    Args:
        parts: (rows, *row_shape) each, with one row shape.
    """

    costly = False

    def __init__(self, parts: Sequence[Array]) -> None:
        self.parts = tuple(parts)
        self.starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])
        self.dtype = np.result_type(*parts)

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


def join(parts: Sequence[Array]) -> Array | OnDemand:
    """Return the parts behind one another as one array (rows, *row_shape)."""
    if len(parts) == 1:
        return parts[0]
    if sum(part.nbytes for part in parts) <= IN_MEMORY_BYTES:
        return np.concatenate(parts)
    return Joined(parts)
