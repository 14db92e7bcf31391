"""Pictures in MNIST's idx format: a folder with images and labels of two parts, gzipped or not."""

import gzip
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np

from pipeline.data.array_files import (
    LARGEST_PACKED,
    arranged,
    files_in,
    layout_of,
    readable,
    require_content,
    require_numbers,
)
from pipeline.data.labels import (
    Asked,
    PartName,
    Word,
    joined_target,
    labelled_samples,
    part_notes,
)
from pipeline.data.on_demand import IN_MEMORY_BYTES, join
from pipeline.data.source import Array, Samples, Source
from pipeline.errors import DataError

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"
MOST_DIMENSIONS = 4
BLOCK_BYTES = 16 * 2**20
EXPECTED = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte (each may end in .gz)"
)
_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<part>train|t10k|test)[-_](?P<role>images|labels)"
    r"(?:[-._]idx\d)?(?:[-._]ubyte)?(?:\.idx)?(?P<gz>\.gz)?",
    re.IGNORECASE,
)


class _Pair(NamedTuple):
    """The two files of a part."""

    images: Path
    labels: Path


class Idx(Source):
    """Pictures with a class each; the files' own split is kept.

    Args:
        path: The folder, or the file of its training images.
        classes: Names of the classes in the order of their labels; empty = the labels.
        positive: The positive one of two classes; None = the rarer.
    """

    def __init__(self, *, path: str, classes: list[Word], positive: Word | None) -> None:
        self.path = path
        self.asked = Asked(classes=classes, positive=positive, always_classes=True)

    def read(self) -> Samples:
        """Read the pictures, (rows, channels, height, width), the training part first."""
        pairs = _pairs(readable(self.path))
        images = {part: read_idx(pair.images) for part, pair in pairs.items()}
        labels = {part: read_idx(pair.labels) for part, pair in pairs.items()}
        _check(pairs, images, labels)
        first = images["train"]
        layout = layout_of(first.shape, first.dtype, "images" if first.ndim == 3 else None)
        sizes = {part: len(array) for part, array in images.items()}
        named = [(pairs[part].labels.name, array) for part, array in labels.items()]
        target = joined_target(named, self.asked)
        return labelled_samples(
            join([arranged(array, layout) for array in images.values()]),
            target,
            sizes,
            reading={
                "kind": "array",
                "format": "idx",
                "layout": layout,
                "axes": first.ndim,
                "dtype": first.dtype.name,
            },
            notes=part_notes(sizes),
        )


def _check(
    pairs: Mapping[PartName, _Pair],
    images: Mapping[PartName, Array],
    labels: Mapping[PartName, Array],
) -> None:
    """Refuse counts that differ, labels of another rank, and parts of different sizes."""
    train = pairs["train"].images
    for part, pair in pairs.items():
        pictures, numbers = images[part], labels[part]
        if numbers.ndim != 1 or len(numbers) != len(pictures):
            raise DataError(
                f"{pair.images} has shape {pictures.shape} and {pair.labels} has shape "
                f"{numbers.shape}; expected as many labels as images"
            )
        if len(pictures) == 0:
            raise DataError(f"{pair.images} has 0 images; expected at least one")
        if pictures.shape[1:] != images["train"].shape[1:]:
            raise DataError(
                f"{train} has shape {images['train'].shape} and {pair.images} has shape "
                f"{pictures.shape}; expected one height and width"
            )
        require_numbers(pictures, str(pair.images))


def _pairs(place: Path) -> dict[PartName, _Pair]:
    """Find the files from their folder, or from one of them.

    Raises:
        DataError: Files are missing, or several data sets lie there.
    """
    folder = place if place.is_dir() else place.parent
    sets = _sets(folder)
    if place.is_dir():
        if not sets:
            raise DataError(f"{place} has no idx files; expected {EXPECTED}")
        prefix, *others = sets
        if others:
            raise DataError(
                f"{place} has {len(sets)} data sets, beginning with "
                f"{', '.join(map(repr, sets))}; say which: data.path={place}/FILE, the images to "
                "train on"
            )
    elif match := _NAME.fullmatch(place.name):
        prefix = match["prefix"]
    else:
        raise DataError(f"{place} is not named as a file of MNIST's; expected {EXPECTED}")
    roles = sets[prefix]
    found: dict[PartName, _Pair] = {}
    parts: tuple[PartName, ...] = ("train", "test")
    for part in parts:
        images, labels = (roles.get((part, role)) for role in ("images", "labels"))
        if images and labels:
            found[part] = _Pair(images, labels)
        elif there := images or labels:
            raise DataError(
                f"{there} has no {'labels' if images else 'images'} beside it; expected {EXPECTED}"
            )
    if "train" not in found:
        raise DataError(f"{folder} has no images to train on; expected {EXPECTED}")
    for pair in found.values():
        require_content(pair.images)
        require_content(pair.labels)
    return found


def _sets(folder: Path) -> dict[str, dict[tuple[str, str], Path]]:
    """Return the files by prefix, such as `emnist-letters-`, part and role."""
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    for file in files_in(folder):
        match = _NAME.fullmatch(file.name)
        if match is not None:
            part = "train" if match["part"].lower() == "train" else "test"
            # What is unpacked comes first in sorted order and is read.
            sets.setdefault(match["prefix"], {}).setdefault((part, match["role"].lower()), file)
    return sets


def is_idx(file: Path) -> bool:
    """Return whether a file, once unpacked, begins as idx does."""
    try:
        with _opened(file) as opened:
            start = opened.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in TYPES and start[3] > 0


def read_idx(file: Path) -> Array:
    """Read a file: a header of big-endian sizes, then the values; a large one stays on disk.

    Raises:
        DataError: It is no idx file, is cut short, or holds more than its header says.
    """
    try:
        with _opened(file) as opened:
            dtype, shape = _header(opened, file)
            offset = opened.tell()
            size = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if not _is_packed(file) and size > IN_MEMORY_BYTES:
                _check_length(file, shape, size, file.stat().st_size - offset)
                return np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape)
            if size > LARGEST_PACKED:
                raise DataError(
                    f"{file} would unpack to {size} bytes; expected at most {LARGEST_PACKED}. "
                    "Unpack it first (gunzip): it is then read from disk as needed"
                )
            content = _read(opened, size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file} is cut short or damaged ({error}); copy the file again") from error
    _check_length(file, shape, size, len(content))
    values = np.frombuffer(content, dtype=dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _opened(file: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(file, "rb")) if _is_packed(file) else file.open("rb")


def _is_packed(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(2) == GZIP_MAGIC


def _header(opened: IO[bytes], file: Path) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
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
    return np.dtype(TYPES[start[2]]), struct.unpack(f">{dimensions}I", sizes)


def _read(opened: IO[bytes], most: int) -> bytearray:
    """Read at most so many bytes, in blocks, so that a false header asks for no memory."""
    content = bytearray()
    while block := opened.read(min(BLOCK_BYTES, most - len(content))):
        content += block
    return content


def _check_length(file: Path, shape: tuple[int, ...], size: int, found: int) -> None:
    if found < size:
        raise DataError(
            f"{file} is cut short: its header says {shape}, {size} bytes, but "
            f"{found} are there; copy the file again"
        )
    if found > size:
        raise DataError(
            f"{file} goes on behind the {size} bytes that its header says, "
            f"{shape}; expected none. Copy the file again"
        )
