"""An array as it lies in a file: its shape known from the header, read or mapped when wanted."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.data.source import Array
from pipeline.errors import DataError

IN_MEMORY_BYTES = 64 * 2**20
"""What an array may take before it stays on disk; its pages are then the system's to take back."""
LARGEST_PACKED = 8 * 2**30
"""Bytes that a compressed member may have when unpacked, which happens in memory."""
MOST_RATIO, RATIO_FROM = 200, 2**30
"""Above so many bytes a member may not be packed more tightly than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An array in a file.

    Args:
        path: The file.
        member: Its name in an archive, with `.npy`; None = the file is the array.
        label: Its name in messages, such as `x.npz: x_train`.
        shape: Of the array.
        dtype: Of its values.
        fortran: Whether the first index moves fastest.
        offset: Byte of the file where the values begin; None = they are compressed.
    """

    path: Path
    member: str | None
    label: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran: bool
    offset: int | None

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def read(self) -> Array:
        """Return the array: in memory, or left on disk where it is large and not compressed.

        Raises:
            DataError: The file is cut short, damaged, would unpack to too much, or holds objects.
        """
        self.refuse_objects()
        if self.offset is not None and self.nbytes > IN_MEMORY_BYTES:
            return self._mapped(self.offset)
        if self.member is not None:
            self._refuse_bomb()
        with telling_damage(self.label):
            loaded = np.load(self.path, allow_pickle=False)
            if self.member is None:
                whole: Array = loaded
                return whole
            with loaded:
                member: Array = loaded[self.member.removesuffix(".npy")]
                return member

    def refuse_objects(self) -> None:
        """Refuse Python objects, which are never unpickled.

        Raises:
            DataError: The array has such.
        """
        if self.dtype.hasobject:
            raise DataError(
                f"{self.label} holds Python objects, which only a pickle can read and a pickle can "
                "run code; expected numbers or words. Save it anew as x.astype(float) or "
                "y.astype(str), with rows of one length"
            )

    def _mapped(self, offset: int) -> Array:
        if self.path.stat().st_size < offset + self.nbytes:
            raise DataError(
                f"{self.label} is cut short: {self.path.stat().st_size - offset} of "
                f"{self.nbytes} bytes are there; copy the file again"
            )
        mapped: Array = np.memmap(
            self.path,
            dtype=self.dtype,
            mode="r",
            offset=offset,
            shape=self.shape,
            order="F" if self.fortran else "C",
        )
        return mapped

    def _refuse_bomb(self) -> None:
        with telling_damage(self.label), zipfile.ZipFile(self.path) as archive:
            info = archive.getinfo(str(self.member))
        unpacked = max(info.file_size, self.nbytes)
        ratio = unpacked / max(1, info.compress_size)
        if unpacked > LARGEST_PACKED or (unpacked > RATIO_FROM and ratio > MOST_RATIO):
            raise DataError(
                f"{self.label} would unpack from {info.compress_size} to {unpacked} bytes; "
                "expected less. Save it with numpy.savez, which does not compress: it is then "
                "read from disk as needed"
            )


@contextmanager
def telling_damage(label: str) -> Iterator[None]:
    """Turn what numpy and zipfile say of a damaged file into one line.

    Raises:
        DataError: The file is damaged or cut short.
    """
    try:
        yield
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        words = " ".join(str(error).split())
        raise DataError(
            f"{label} is damaged or cut short ({words}); copy or save the file again"
        ) from error


def header_of(file: IO[bytes], label: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read the header of a `.npy`: shape, whether it is Fortran's order, type of the values.

    Raises:
        DataError: It is damaged.
    """
    with telling_damage(label):
        version = np.lib.format.read_magic(file)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if reader is None:
            raise ValueError(f"format {version} of .npy is for tables of named fields")
        shape, fortran, dtype = reader(file)
    return shape, fortran, dtype
