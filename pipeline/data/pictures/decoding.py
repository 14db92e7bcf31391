"""One picture as an array, by fixed rules for every mode, orientation and size."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.pictures.opened import opened
from pipeline.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Mode = Literal["L", "RGB"]
Size = tuple[int, int]
"""Height and width in pixels."""

GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112  # the EXIF tag
_TURNED = (5, 6, 7, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a picture's header says.

    Args:
        size: Once it stands upright.
        grey: Whether it has no colour.
        transparent: Whether pixels may be transparent.
    """

    size: Size
    grey: bool
    transparent: bool


def look(file: Path, name: str) -> Look:
    """Read the header of a picture.

    Raises:
        DataError: As `opened`.
    """
    with opened(file, name) as image:
        width, height = image.size
        turned = _orientation(image) in _TURNED
        return Look(
            size=(width, height) if turned else (height, width),
            grey=_is_grey(image),
            transparent=_is_transparent(image),
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

    with opened(content, name) as image:
        orientation = _orientation(image)
        converted = _converted(image, mode, name)
        upright = _upright(converted, orientation)
        if upright.size != (size[1], size[0]):
            upright = upright.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        pixels = np.asarray(upright, dtype=np.uint8)
    return pixels[None] if mode == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _converted(image: "Image", mode: Mode, name: str) -> "Image":
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bits(image, name)
    elif _is_transparent(image):
        drawn = image.convert("RGBA")
        white = Image.new("RGBA", drawn.size, "white")
        image = Image.alpha_composite(white, drawn)
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: "Image", name: str) -> "Image":
    from PIL import Image

    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65_535:
        raise DataError(
            f"{name} has values of 32 bits, whose range is not known; expected 8 or 16 bits. Save "
            "it with 8 bits, or bring the pictures as arrays: data=arrays"
        )
    return Image.fromarray((values >> 8).astype(np.uint8))


def _is_grey(image: "Image") -> bool:
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette() or [0, 0, 0]).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in GREY


def _is_transparent(image: "Image") -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


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
