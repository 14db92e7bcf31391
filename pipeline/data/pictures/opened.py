"""A picture's file, opened by its header, or one line about why it can't be."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
MOST_PIXELS = 80_000_000
"""Pixels of a picture; a small file can claim more than memory holds."""
MOST_BYTES = 256 * 2**20
"""Bytes of a picture's file."""


@contextmanager
def opened(source: Path | bytes, name: str) -> Iterator["Image"]:
    """Open a picture; its pixels are decoded when they are first asked for.

    Args:
        source: The file, or what is in it.
        name: Its name in messages.

    Raises:
        DataError: It is no picture of a known format, damaged, huge, or several in one.
    """
    from PIL import Image, UnidentifiedImageError

    # Above Pillow's own limit it warns; sizes are judged here, below that limit.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    _check_bytes(source, name)
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=FORMATS) as image:
            _check(image, name)
            yield image
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name} is no picture: it begins with {_start(source)!r}; expected PNG, JPEG, BMP, "
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


def _check_bytes(source: Path | bytes, name: str) -> None:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size == 0:
        raise DataError(f"{name} is empty (0 bytes); copy it again or take it away")
    if size > MOST_BYTES:
        raise DataError(
            f"{name} has {size} bytes; expected a picture of at most {MOST_BYTES}. Make it smaller"
        )


def _check(image: "Image", name: str) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise _too_large(name, f"{height}×{width} pixels")
    # A photograph of a telephone may hold a second one (MPO), which is no animation.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise DataError(
            f"{name} holds several pictures (animated or with pages); expected one. Save one of "
            "them as a file of its own"
        )


def _too_large(name: str, size: str) -> DataError:
    return DataError(
        f"{name} has {size}; expected at most {MOST_PIXELS:,} pixels (height × width). Make it "
        "smaller or take it away"
    )


def _start(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:8]
    with source.open("rb") as file:
        return file.read(8)
