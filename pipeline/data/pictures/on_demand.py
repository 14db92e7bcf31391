"""Pictures that are decoded when their rows are taken, or all at once."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.pictures.decoding import Mode, Size, decode
from pipeline.data.source import Array, Indices, OnDemand

IN_MEMORY_BYTES = 512 * 2**20
"""What decoded pictures may take before they are decoded when they are needed."""
AT_ONCE = 256
"""Pictures handed to the threads at a time."""


class Pictures(OnDemand):
    """Files of pictures as rows (rows, channels, height, width).

    Args:
        files: One a row.
        mode: L = grey, RGB = colour.
        size: Height and width of each row.
    """

    def __init__(self, files: Sequence[Path], *, mode: Mode, size: Size) -> None:
        self.files = tuple(files)
        self.mode = mode
        self.size = size
        self.shape = (len(self.files), 1 if mode == "L" else 3, *size)
        self.dtype = np.dtype(np.uint8)

    @cached_property
    def fingerprints(self) -> NDArray[np.uint64]:  # type: ignore[override] # made when asked for
        """(rows,) equal for equal files."""
        return np.array([_hashed(file) for file in self.files], dtype=np.uint64)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, once decoded."""
        return int(np.prod(self.shape))

    def __getitem__(self, rows: slice | Indices) -> Array:
        """Decode rows, uint8 (rows, channels, height, width)."""
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows
        made = np.empty((len(chosen), *self.shape[1:]), dtype=self.dtype)
        for place, row in enumerate(chosen):
            made[place] = self.picture(int(row))
        return made

    def picture(self, row: int) -> NDArray[np.uint8]:
        """Decode one row, (channels, height, width)."""
        file = self.files[row]
        return decode(file.read_bytes(), mode=self.mode, size=self.size, name=str(file))


def judged(pictures: Pictures) -> Array | Pictures:
    """Decode each picture once: kept in one array if that is small, else looked at and let go.

    Raises:
        DataError: One can't be decoded; names it.
    """
    kept = pictures.nbytes <= IN_MEMORY_BYTES
    made = np.empty(pictures.shape if kept else (0,), dtype=np.uint8)

    def take(row: int) -> None:
        pixels = pictures.picture(row)
        if kept:
            made[row] = pixels

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # Pillow decodes beside Python
        for start in range(0, len(pictures), AT_ONCE):
            rows = range(start, min(start + AT_ONCE, len(pictures)))
            for _ in threads.map(take, rows):
                pass
    return made if kept else pictures


def _hashed(file: Path) -> int:
    digest = hashlib.blake2b(file.read_bytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
