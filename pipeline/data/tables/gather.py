"""Blocks of rows put together: in memory, or in a file that is mapped where they are many."""

from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.data.source import Array

HEADER_BYTES = 128


class Gathered(Protocol):
    """Takes blocks of rows and gives them back as one array."""

    def add(self, block: Array) -> None:
        """Take the next rows (rows, …)."""

    def finished(self) -> Array:
        """Return all rows; none may be added afterwards."""


class InMemory:
    """Keeps the blocks."""

    def __init__(self) -> None:
        self._blocks: list[Array] = []

    def add(self, block: Array) -> None:
        """Take the next rows (rows, …)."""
        self._blocks.append(block)

    def finished(self) -> Array:
        """Return all rows."""
        return np.concatenate(self._blocks)


class OnDisk:
    """Writes the blocks behind each other into an `.npy` file.

    They are written and not mapped while they come: a full disk is an error then, and not the end
    of the process.

    Args:
        path: The file to make.
        dtype: Of the rows.
        row_shape: Of one row.
    """

    def __init__(
        self, path: Path, *, dtype: np.dtype[np.generic], row_shape: tuple[int, ...]
    ) -> None:
        self._path, self._dtype, self._row_shape = path, dtype, row_shape
        self._rows = 0
        self._file = path.open("wb")
        self._write_header()

    def _write_header(self) -> None:
        """Write a header of one size, whatever number of rows it tells."""
        described = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows, *self._row_shape),
        }
        text = repr(described).encode("latin1")
        magic = np.lib.format.magic(1, 0)
        room = HEADER_BYTES - len(magic) - 2
        self._file.seek(0)
        self._file.write(magic + room.to_bytes(2, "little") + text.ljust(room - 1) + b"\n")

    def add(self, block: Array) -> None:
        """Write the next rows (rows, …)."""
        self._rows += len(block)
        self._file.write(np.ascontiguousarray(block, dtype=self._dtype).tobytes())

    def finished(self) -> Array:
        """Return all rows, mapped and read-only."""
        self._write_header()
        self._file.close()
        rows: Array = np.load(self._path, mmap_mode="r", allow_pickle=False)
        return rows
