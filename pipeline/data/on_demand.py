"""Rows that stay in their files until they are taken: arrays on disk, pictures to decode."""

import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks import fingerprints
from pipeline.data.source import Array, Indices, OnDemand
from pipeline.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Mode = Literal["L", "RGB"]
Size = tuple[int, int]
"""Height and width in pixels."""

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
MOST_PIXELS = 80_000_000
"""Pixels of a picture; a small file can claim more than memory holds."""
MOST_BYTES = 256 * 2**20
"""Bytes of a picture's file."""
IN_MEMORY_BYTES = 512 * 2**20
"""What arrays or decoded pictures may take in memory; above it they stay in their files."""
AT_ONCE = 256
"""Pictures handed to the threads at a time."""
FLOAT = np.dtype(np.float32)
GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112  # the EXIF tag
_TURNED = (5, 6, 7, 8)


class JoinedArrays(OnDemand):
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
    """Return parts one after another as one array (rows, *row_shape), a copy if it is small."""
    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if not isinstance(part, OnDemand)]
    if len(arrays) == len(parts) and sum(part.nbytes for part in arrays) <= IN_MEMORY_BYTES:
        return np.concatenate(arrays)
    return JoinedArrays(parts)


def as_floats(values: Array) -> Array | OnDemand:
    """Return float32 of the same values: a copy where that is small, else made row by row."""
    if values.size * FLOAT.itemsize <= IN_MEMORY_BYTES:
        return values.astype(FLOAT)
    return JoinedArrays([values], dtype=FLOAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureHeader:
    """What a picture's header says.

    Args:
        size: Once it stands upright.
        grey: Whether it has no colour.
        transparent: Whether pixels may be transparent.
    """

    size: Size
    grey: bool
    transparent: bool


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
        hashes = (hashlib.blake2b(file.read_bytes(), digest_size=8) for file in self.files)
        numbers = [int.from_bytes(hashed.digest(), "little") for hashed in hashes]
        return np.array(numbers, dtype=np.uint64)

    def __getitem__(self, rows: slice | Indices) -> Array:
        """Decode rows, uint8 (rows, channels, height, width)."""
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows
        made = np.empty((len(chosen), *self.shape[1:]), dtype=self.dtype)
        for place, row in enumerate(chosen):
            made[place] = self._picture(int(row))
        return made

    def checked(self) -> "Array | Pictures":
        """Decode each picture once: kept in one array if that is small, else looked at and let go.

        Raises:
            DataError: One can't be decoded; names it.
        """
        kept = int(np.prod(self.shape)) <= IN_MEMORY_BYTES
        made = np.empty(self.shape if kept else (0,), dtype=np.uint8)

        def take(row: int) -> None:
            pixels = self._picture(row)
            if kept:
                made[row] = pixels

        with ThreadPoolExecutor(os.cpu_count()) as threads:  # Pillow decodes beside Python
            for start in range(0, len(self), AT_ONCE):
                for _ in threads.map(take, range(start, min(start + AT_ONCE, len(self)))):
                    pass
        return made if kept else self

    def _picture(self, row: int) -> NDArray[np.uint8]:
        file = self.files[row]
        return decode(file.read_bytes(), mode=self.mode, size=self.size, name=str(file))


def read_header(file: Path) -> PictureHeader:
    """Read the header of a picture.

    Raises:
        DataError: It is no picture of a known format, damaged, huge, or several in one.
    """
    with _opened(file, str(file)) as image:
        width, height = image.size
        turned = _orientation(image) in _TURNED
        return PictureHeader(
            size=(width, height) if turned else (height, width),
            grey=_is_grey(image),
            transparent=image.has_transparency_data,
        )


def decode(content: bytes, *, mode: Mode, size: Size, name: str) -> NDArray[np.uint8]:
    """Return a picture as uint8 (channels, height, width).

    It is turned upright as its EXIF says; transparent pixels lie on white; 16 bits become 8; then
    it is converted to `mode` and, where it has another size, resized (bilinear, its shape is not
    kept).

    Args:
        content: The file's bytes.
        mode: L = grey, RGB = colour.
        size: Height and width to return.
        name: Its name in messages.

    Raises:
        DataError: It can't be decoded; names it.
    """
    from PIL import Image

    with _opened(content, name) as image:
        orientation = _orientation(image)
        upright = _upright(_converted(image, mode, name), orientation)
        if upright.size != (size[1], size[0]):
            upright = upright.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        pixels = np.asarray(upright, dtype=np.uint8)
    return pixels[None] if mode == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator["Image"]:
    """Open a picture; its pixels are decoded when they are first asked for."""
    from PIL import Image, UnidentifiedImageError

    # Above Pillow's own limit it warns; sizes are judged here, below that limit.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size == 0:
        raise DataError(f"{name} is empty (0 bytes); copy it again or take it away")
    if size > MOST_BYTES:
        raise DataError(
            f"{name} has {size} bytes; expected a picture of at most {MOST_BYTES}. Make it smaller"
        )
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise _too_large(name, f"{height}×{width} pixels")
            # A photograph of a telephone may hold a second one (MPO), which is no animation.
            if image.format != "MPO" and getattr(image, "is_animated", False):
                raise DataError(
                    f"{name} holds several pictures (animated or with pages); expected one. Save "
                    "one of them as a file of its own"
                )
            yield image
    except UnidentifiedImageError as error:
        content = source if isinstance(source, bytes) else source.read_bytes()
        raise DataError(
            f"{name} is no picture: it begins with {content[:8]!r}; expected PNG, JPEG, BMP, "
            "GIF, WebP or TIFF. Replace it or take it away"
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(name, "more than Pillow opens") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, PermissionError):
            raise
        words = " ".join(str(error).split())
        raise DataError(
            f"{name} is damaged or cut short ({words}); copy it again or take it away"
        ) from error


def _too_large(name: str, size: str) -> DataError:
    return DataError(
        f"{name} has {size}; expected at most {MOST_PIXELS:,} pixels (height × width). Make it "
        "smaller or take it away"
    )


def _converted(image: "Image", mode: Mode, name: str) -> "Image":
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65_535:
            raise DataError(
                f"{name} has values of 32 bits, whose range is not known; expected 8 or 16 bits. "
                "Save it with 8 bits, or bring the pictures as arrays: data=arrays"
            )
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        drawn = image.convert("RGBA")
        white = Image.new("RGBA", drawn.size, "white")
        image = Image.alpha_composite(white, drawn)
    return image if image.mode == mode else image.convert(mode)


def _is_grey(image: "Image") -> bool:
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette() or [0, 0, 0]).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in GREY


def _orientation(image: "Image") -> int:
    """Return the EXIF orientation that is still to be applied, 1 to 8."""
    # Pillow turns a TIFF itself; of a PNG it would decode all pixels to look for EXIF behind them.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    return int(image.getexif().get(_ORIENTATION, 1))


def _upright(image: "Image", orientation: int) -> "Image":
    from PIL.Image import Transpose

    method = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation)
    return image if method is None else image.transpose(method)
