"""Array files of a user: finding and checking them, and reading them or leaving them on disk."""

import gzip
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import ConfigError, DataError, EnvironmentFaultError, did_you_mean
from pipeline.base.paths import place_problem, url_problem
from pipeline.base.regular_files import stream_kind
from pipeline.data.parsing.cells.texts import exceeds_float32
from pipeline.data.parsing.row_blocks import blocks, fingerprints
from pipeline.data.source import Array, Indices, OnDemand

#: Most bytes of arrays or decoded pictures in memory; larger ones stay in their files.
IN_MEMORY_BYTES = 512 * 2**20
#: Above this size a single array stays on disk; the system can reclaim its pages.
MAPPED_FROM_BYTES = 64 * 2**20
#: Most bytes of a compressed array once unpacked, since it is unpacked in memory.
LARGEST_PACKED = 8 * 2**30
#: Highest compression ratio of a member, or of a Parquet file, that unpacks to more than
#: `RATIO_FROM` bytes.
MOST_RATIO = 200
RATIO_FROM = 2**30

NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK"
GZIP_MAGIC = b"\x1f\x8b"
#: Name of the array of a single `.npy` or idx file.
ONLY = ""
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")

IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MOST_DIMENSIONS = 4
BLOCK_BYTES = 16 * 2**20

PartName = Literal["train", "validation", "test"]
#: The part that a word in the name of an array or a folder stands for.
PARTS: Mapping[str, PartName] = {
    "train": "train",
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    "test": "test",
}


#: An array by its name, or a file.
Entry = TypeVar("Entry")


def complete_pairs(
    entries: Mapping[tuple[PartName, str], Entry | None],
    roles: tuple[str, str],
    place: str,
    hint: str,
) -> dict[PartName, tuple[Entry, Entry]]:
    """Return the inputs and the targets of each part that has them.

    Args:
        entries: Inputs and targets by part and role.
        roles: What the inputs and the targets are called.
        place: File or folder with the entries, for messages.
        hint: What was found, or is expected, for messages.

    Raises:
        DataError: One of a pair is missing, or there is no training part.
    """
    pairs: dict[PartName, tuple[Entry, Entry]] = {}
    for part in dict.fromkeys(PARTS.values()):
        inputs, targets = (entries.get((part, role)) for role in roles)
        if inputs and targets:
            pairs[part] = (inputs, targets)
        elif inputs or targets:
            missing = roles[1] if inputs else roles[0]
            raise DataError(f"{place} has {inputs or targets} but no {missing}; {hint}")
    if "train" not in pairs:
        raise DataError(f"{place} has no {roles[0]} to train on; {hint}")
    return pairs


def readable(path: str | Path, *, key: str = "data.path") -> Path:
    """Return the file or folder at `path`, the value of the option `key`, if it is readable.

    Raises:
        ConfigError: The path is a URL or malformed.
        DataError: The path does not exist, or is a pipe or a device.
        EnvironmentFaultError: Permission is denied.
    """
    if problem := url_problem(key, str(path)):
        raise ConfigError(problem)
    place = Path(path).expanduser()
    if problem := place_problem(key, str(place)):
        raise ConfigError(problem)
    try:
        exists = place.exists()
        is_readable = _is_readable(place)
    except OSError:
        exists = True
        is_readable = False
    if not exists:
        raise DataError(f"{key}={str(path)!r} does not exist{_hint_on_missing(place)}")
    if (kind := stream_kind(place)) is not None:
        raise DataError(
            f"{key}={str(path)!r} is {kind}; expected a file or folder. Save its content in a file "
            "first"
        )
    if not is_readable:
        raise EnvironmentFaultError(
            f"{key}={str(place)!r} can't be read: permission denied. Ask its owner for read access"
        )
    return place


def _is_readable(place: Path) -> bool:
    mode = os.R_OK
    if place.is_dir():
        mode |= os.X_OK
    return os.access(place, mode)


def _hint_on_missing(place: Path) -> str:
    folder = place.parent
    if not folder.is_dir():
        return f"; the folder {str(folder)!r} does not exist either. Check the path"
    searched = f"looked in {str(folder.resolve())!r}"
    nearest = did_you_mean(place.name, [file.name for file in folder.iterdir()])
    return f" ({searched}).{nearest}" if nearest else f"; {searched}. Check the name"


def require_content(file: Path) -> None:
    """Raise DataError if a file is empty."""
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty (0 bytes); expected data. Copy it again")


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder in sorted order, without hidden ones."""
    files = [path for path in folder.iterdir() if path.is_file()]
    return sorted(file for file in files if not file.name.startswith("."))


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array in a file, known by its header; its values are read or mapped on request.

    Args:
        path: File that holds the array.
        member: Member of an archive that holds the array; None = the file is the array.
        label: Name of the array in messages, such as `x.npz: x_train`.
        shape: Shape of the array.
        dtype: Type of its values.
        order: F = the first index varies fastest, C = the last one.
        header_bytes: Bytes before the values in the array's own file or member.
        offset: Byte of the file at which the values begin; None = they are compressed.
        is_exact: Whether nothing may follow the values, as in an idx file.
    """

    path: Path
    member: zipfile.ZipInfo | None
    label: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    order: Literal["F", "C"]
    header_bytes: int
    offset: int | None
    is_exact: bool = False

    def read(self) -> Array:
        """Return the array: memory-mapped if it is large and not compressed, else in memory."""
        self.refuse_objects()
        self.require_stored_size()
        size = size_of(self.shape, self.dtype)
        if self.offset is not None and size > MAPPED_FROM_BYTES:
            return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)
        if self.offset is None:
            self._require_unpackable(size)
        content = bytearray()
        with _damage_as_data_error(self.label), _opened(self.path, self.member) as file:
            file.read(self.header_bytes)
            # Read in blocks, so that a header with wrong sizes allocates no memory.
            while block := file.read(min(BLOCK_BYTES, size + 1 - len(content))):
                content += block
            self._require_size(len(content))
            values: Array = np.ndarray(self.shape, self.dtype, content, order=self.order)
        return values.astype(self.dtype.newbyteorder("="), copy=False)

    def require_stored_size(self) -> None:
        """Compare the size in the header with the bytes that the file holds, before it is read.

        A file that is compressed as a whole, as with gzip, does not say its size and is compared
        when it is read.

        Raises:
            DataError: The file or the member has fewer bytes, or an idx file more.
        """
        if self.offset is not None:
            self._require_size(self.path.stat().st_size - self.offset)
        elif self.member is not None:
            self._require_size(self.member.file_size - self.header_bytes)

    def _require_size(self, stored: int) -> None:
        size = size_of(self.shape, self.dtype)
        if stored < size:
            raise DataError(
                f"{self.label} is incomplete: its header says {self.shape}, {size} bytes, but it "
                f"has {stored}; copy the file again"
            )
        if stored > size and self.is_exact:
            raise DataError(
                f"{self.label} is larger than its header says ({size} bytes, shape {self.shape}); "
                "copy it again"
            )

    def _require_unpackable(self, size: int) -> None:
        """Raise DataError if compressed values would take too much memory once unpacked."""
        if self.member is None:
            packed = self.path.stat().st_size
            unpacked = size
            remedy = "Unpack it first (gunzip)"
        else:
            packed = self.member.compress_size
            unpacked = self.member.file_size
            remedy = "Save it uncompressed with numpy.savez"
        most = most_unpacked(packed)
        if unpacked > most:
            raise DataError(
                f"{self.label} would unpack from {packed} to {unpacked} bytes; expected at most "
                f"{most}. {remedy}: it is then read from disk as needed"
            )

    def refuse_objects(self) -> None:
        """Raise DataError if the array holds Python objects, which are never unpickled."""
        if self.dtype.hasobject:
            raise DataError(
                f"{self.label} holds pickled Python objects, which can run code; expected numbers "
                "or words. Save it as x.astype(float) or "
                "y.astype(str), with rows of one length"
            )


def arrays_at(place: Path) -> Mapping[str, StoredArray]:
    """Return the arrays of an `.npz`, or of a folder of `.npy`, by name.

    The array of a single `.npy` or idx file is called `ONLY`.
    """
    if place.is_dir():
        files = [file for file in files_in(place) if file.suffix.lower() == ".npy"]
        if not files:
            raise DataError(
                f"{place} has no .npy file; expected x_train.npy, y_train.npy and so on, or "
                "the path of one .npz file"
            )
        return {file.stem: _npy_array(file, f"{place.name}/{file.name}") for file in files}
    magic = first_bytes(place)
    if magic == NPY_MAGIC:
        return {ONLY: _npy_array(place, place.name)}
    if magic.startswith(ZIP_MAGIC):
        return _archive_arrays(place)
    if is_idx(place):
        return {ONLY: idx_array(place)}
    raise DataError(
        f"{place} is not a .npz, .npy or idx file: it begins with {magic!r}; expected one that "
        "numpy.savez or numpy.save wrote"
    )


def first_bytes(file: Path) -> bytes:
    """Return the first bytes of a file, as many as `NPY_MAGIC` has; raise DataError if empty."""
    require_content(file)
    with file.open("rb") as opened:
        return opened.read(len(NPY_MAGIC))


def _npy_array(path: Path, label: str) -> StoredArray:
    require_content(path)
    with path.open("rb") as file:
        return _array_at(file, path, label)


def _archive_arrays(path: Path) -> Mapping[str, StoredArray]:
    arrays: dict[str, StoredArray] = {}
    with _damage_as_data_error(path.name), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name != member.filename:
                with archive.open(member) as file:
                    arrays[name] = _array_at(file, path, f"{path.name}: {name}", member)
    if not arrays:
        raise DataError(f"{path} has no array; expected x_train, y_train and so on")
    return arrays


def _array_at(
    file: IO[bytes], path: Path, label: str, member: zipfile.ZipInfo | None = None
) -> StoredArray:
    """Return an array from the header of a `.npy` file or of a member of an archive."""
    with _damage_as_data_error(label):
        version = np.lib.format.read_magic(file)
        read_header = getattr(np.lib.format, "read_array_header_{}_{}".format(*version), None)
        if read_header is None:
            raise ValueError(f".npy format {version} is for structured arrays")
        shape, is_fortran, dtype = read_header(file)
        if min(shape, default=0) < 0:
            raise ValueError(f"its shape is {shape}")
    header_bytes = file.tell()
    offset: int | None = header_bytes
    if member is not None and member.compress_type != zipfile.ZIP_STORED:
        offset = None
    elif member is not None:  # it follows a header, a name and an extra field
        with path.open("rb") as archive:
            archive.seek(member.header_offset)
            *_, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(archive.read(_LOCAL_HEADER.size))
            offset = archive.tell() + name_bytes + extra_bytes + header_bytes
    order: Literal["F", "C"] = "F" if is_fortran else "C"
    return StoredArray(path, member, label, shape, dtype, order, header_bytes, offset)


def size_of(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> int:
    """Return the bytes of the values of an array, without overflow."""
    return int(np.prod(shape, dtype=object)) * dtype.itemsize


def most_unpacked(packed: int) -> int:
    """Return the most bytes that are read into memory from compressed ones."""
    return min(LARGEST_PACKED, max(RATIO_FROM, MOST_RATIO * packed))


@contextmanager
def _opened(path: Path, member: zipfile.ZipInfo | None = None) -> Iterator[IO[bytes]]:
    """Open a file, a gzip file or a member of an archive to read its unpacked bytes."""
    if member is not None:
        with zipfile.ZipFile(path) as archive, archive.open(member) as unpacked:
            yield unpacked
    elif _is_gzip(path):
        with gzip.open(path, "rb") as unpacked:
            yield cast("IO[bytes]", unpacked)
    else:
        with path.open("rb") as file:
            yield file


def _is_gzip(path: Path) -> bool:
    return first_bytes(path).startswith(GZIP_MAGIC)


@contextmanager
def _damage_as_data_error(label: str) -> Iterator[None]:
    """Turn errors of NumPy, zipfile and gzip about a damaged file into a DataError of one line."""
    try:
        yield
    except (
        ValueError,
        EOFError,
        KeyError,
        gzip.BadGzipFile,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{label} is damaged or incomplete ({reason}); copy or save the file again"
        ) from error


def is_idx(file: Path) -> bool:
    """Return whether a file, once unpacked, begins with an idx header."""
    try:
        with _opened(file) as opened:
            start = opened.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    if len(start) < 4:
        return False
    type_code = start[2]
    dimensions = start[3]
    return start.startswith(b"\0\0") and type_code in IDX_TYPES and dimensions > 0


def idx_array(path: Path) -> StoredArray:
    """Return the array of an idx file, packed or not, from its header (sizes are big-endian).

    Raises:
        DataError: The header is not one of an idx file, or is incomplete.
    """
    label = str(path)
    with _damage_as_data_error(label), _opened(path) as file:
        start = file.read(4)
        if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in IDX_TYPES:
            raise DataError(
                f"{path} is not an idx file: it begins with {start!r}; expected two zero bytes, a "
                f"type ({', '.join(map(str, IDX_TYPES))}) and the number of dimensions"
            )
        dimensions = start[3]
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            raise DataError(f"{path} has {dimensions} dimensions; expected 1 to {MOST_DIMENSIONS}")
        sizes = file.read(4 * dimensions)
        if len(sizes) < 4 * dimensions:
            raise EOFError("its header ends early")
    shape = struct.unpack(f">{dimensions}I", sizes)
    dtype = np.dtype(IDX_TYPES[start[2]])
    header_bytes = len(start) + len(sizes)
    offset = None if _is_gzip(path) else header_bytes
    return StoredArray(path, None, label, shape, dtype, "C", header_bytes, offset, is_exact=True)


class JoinedArrays(OnDemand):
    """Concatenated arrays on disk, (rows, *row_shape) each, read by rows and converted to `dtype`.

    `dtype=None` stands for a type that holds the values of all arrays.
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
        """Fingerprint of each row, (rows,); equal rows have equal ones."""
        return np.concatenate([fingerprints(part, np.arange(len(part))) for part in self.parts])

    def __getitem__(self, rows: slice | Indices) -> Array:
        """Return the given rows, (rows, *row_shape)."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        values = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        part_of_row = np.searchsorted(self.starts, rows, side="right") - 1
        for number, part in enumerate(self.parts):
            in_part = part_of_row == number
            if in_part.any():
                values[in_part] = part[rows[in_part] - self.starts[number]]
        return values


def join(parts: Sequence[Array | OnDemand]) -> Array | OnDemand:
    """Return the concatenation of `parts` (rows, *row_shape); it is a copy if it is small."""
    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if not isinstance(part, OnDemand)]
    if len(arrays) == len(parts) and sum(part.nbytes for part in arrays) <= IN_MEMORY_BYTES:
        return np.concatenate(arrays)
    return JoinedArrays(parts)


def require_numbers(values: Array, label: str) -> None:
    """Raise DataError if (rows, …) hold NaN, infinity or values that exceed float32."""
    if values.dtype.kind != "f" or not len(values):
        return
    invalid_blocks = []
    for block in blocks(values):
        invalid_blocks.append(_is_invalid(block).reshape(len(block), -1).any(1))
    invalid_rows = np.flatnonzero(np.concatenate(invalid_blocks))
    if len(invalid_rows):
        row = int(invalid_rows[0])
        index = (row, *np.argwhere(_is_invalid(values[row]))[0].tolist())
        value = "missing (NaN)" if np.isnan(values[index]) else f"{values[index]}"
        raise DataError(
            f"{label}[{', '.join(map(str, index))}] is {value} ({len(invalid_rows)} of "
            f"{len(values)} rows have such values); expected finite numbers up to 3.4e38. Fill or "
            "drop them"
        )


def _is_invalid(values: Array) -> NDArray[np.bool_]:
    return exceeds_float32(values) | np.isnan(values)


def largest(values: Array) -> float:
    """Return the largest value of an array, read in blocks; 0 if it has no rows."""
    return max((float(block.max()) for block in blocks(values)), default=0.0)
