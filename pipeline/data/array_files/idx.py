"""Arrays in MNIST's idx format, gzipped or not: a header of big-endian sizes, then the values."""

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from pipeline.data.array_files.joined import IN_MEMORY_BYTES
from pipeline.data.array_files.stored import LARGEST_PACKED
from pipeline.data.source import Array
from pipeline.errors import DataError

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"
MOST_DIMENSIONS = 4
BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def is_idx(file: Path) -> bool:
    """Return whether a file, once unpacked, begins as idx does."""
    try:
        with _opened(file) as opened:
            start = opened.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in TYPES and start[3] > 0


def read_idx(file: Path) -> Array:
    """Read a file; a large one that is not gzipped stays on disk.

    Raises:
        DataError: It is no idx file, is cut short, or holds more than its header says.
    """
    try:
        with _opened(file) as opened:
            header = _header(opened, file)
            if not _is_packed(file) and header.nbytes > IN_MEMORY_BYTES:
                return _mapped(file, header)
            _refuse_bomb(file, header)
            content = _read(opened, header.nbytes + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file} is cut short or damaged ({error}); copy the file again") from error
    _check_length(file, header, len(content))
    values = np.frombuffer(content, dtype=header.dtype).reshape(header.shape)
    return values.astype(header.dtype.newbyteorder("="), copy=False)


def _read(opened: IO[bytes], most: int) -> bytearray:
    """Read at most so many bytes, in blocks, so that a false header asks for no memory."""
    content = bytearray()
    while block := opened.read(min(BLOCK_BYTES, most - len(content))):
        content += block
    return content


def _opened(file: Path) -> IO[bytes]:
    if _is_packed(file):
        return cast("IO[bytes]", gzip.open(file, "rb"))
    return file.open("rb")


def _is_packed(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(2) == GZIP_MAGIC


def _header(opened: IO[bytes], file: Path) -> _Header:
    start = opened.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES:
        raise DataError(
            f"{file} is no idx file: it begins with {start!r}; expected two zero bytes, a type "
            f"({', '.join(map(str, TYPES))}) and the number of dimensions"
        )
    dimensions = start[3]
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise DataError(f"{file} has {dimensions} dimensions; expected 1 to {MOST_DIMENSIONS}")
    sizes = opened.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(f"{file} is cut short within its header; copy the file again")
    return _Header(
        dtype=np.dtype(TYPES[start[2]]),
        shape=struct.unpack(f">{dimensions}I", sizes),
        offset=4 + len(sizes),
    )


def _mapped(file: Path, header: _Header) -> Array:
    _check_length(file, header, file.stat().st_size - header.offset)
    mapped: Array = np.memmap(
        file, dtype=header.dtype, mode="r", offset=header.offset, shape=header.shape
    )
    return mapped


def _refuse_bomb(file: Path, header: _Header) -> None:
    if header.nbytes > LARGEST_PACKED:
        raise DataError(
            f"{file} would unpack to {header.nbytes} bytes; expected at most {LARGEST_PACKED}. "
            "Unpack it first (gunzip): it is then read from disk as needed"
        )


def _check_length(file: Path, header: _Header, found: int) -> None:
    if found < header.nbytes:
        raise DataError(
            f"{file} is cut short: its header says {header.shape}, {header.nbytes} bytes, but "
            f"{found} are there; copy the file again"
        )
    if found > header.nbytes:
        raise DataError(
            f"{file} goes on behind the {header.nbytes} bytes that its header says, "
            f"{header.shape}; expected none. Copy the file again"
        )
