import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data.picture_files import PictureHeader, decode, read_header
from pipeline.errors import DataError

HEIGHT, WIDTH = 6, 8
RAMP = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) * 5
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def grey(content: bytes, size: tuple[int, int] = (HEIGHT, WIDTH)) -> list[list[int]]:
    pixels: list[list[int]] = decode(content, mode="L", size=size, name="a")[0].tolist()
    return pixels


def seen(content: bytes) -> PictureHeader:
    path = Path("a.png")
    path.write_bytes(content)
    return read_header(path)


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "TIFF"])
def test_a_grey_picture_keeps_its_values_in_every_lossless_format(form: str) -> None:
    content = encoded(Image.fromarray(RAMP), form)
    assert grey(content) == RAMP.tolist()
    assert seen(content) == PictureHeader(size=(HEIGHT, WIDTH), grey=True, transparent=False)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP"])
def test_a_colour_picture_keeps_its_values_channels_first(form: str) -> None:
    content = encoded(Image.fromarray(COLOUR), form, lossless=True)
    pixels = decode(content, mode="RGB", size=(HEIGHT, WIDTH), name="a")
    assert (pixels == COLOUR.transpose(2, 0, 1)).all()
    assert pixels.flags.c_contiguous
    assert not seen(content).grey


def test_a_jpeg_is_near_what_was_saved() -> None:
    smooth = np.full((16, 16), 90, dtype=np.uint8)
    assert abs(np.array(grey(encoded(Image.fromarray(smooth), "JPEG"), (16, 16))) - 90).max() <= 1


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_become_their_upper_eight(form: str) -> None:
    deep = RAMP.astype(np.uint16) * 256 + 77
    content = encoded(Image.fromarray(deep), form)
    assert grey(content) == RAMP.tolist()
    assert seen(content).grey


def test_black_and_white_is_0_and_255() -> None:
    content = encoded(Image.fromarray(RAMP > 100))
    assert grey(content) == ((RAMP > 100) * 255).tolist()


def test_a_palette_is_looked_up_and_counts_as_grey_if_all_its_colours_are() -> None:
    shades = Image.fromarray(RAMP % 4)
    shades.putpalette([10, 10, 10, 99, 99, 99, 5, 5, 5, 200, 200, 200])
    assert grey(encoded(shades)) == np.array([10, 99, 5, 200])[RAMP % 4].tolist()
    assert seen(encoded(shades)).grey
    colours = Image.fromarray(RAMP % 2)
    colours.putpalette([255, 0, 0, 0, 0, 255])
    pixels = decode(encoded(colours), mode="RGB", size=(HEIGHT, WIDTH), name="a")
    assert (pixels[2] == RAMP % 2 * 255).all()
    assert not seen(encoded(colours)).grey


def test_a_half_transparent_shade_is_mixed_with_white() -> None:
    pixels = np.stack([RAMP, np.full_like(RAMP, 51)], axis=-1)  # 51 of 255 is a fifth
    content = encoded(Image.fromarray(pixels, "LA"))
    expected = RAMP * 0.2 + 255 * 0.8
    assert abs(np.array(grey(content)) - expected).max() <= 1
    assert seen(content).transparent


def test_the_index_that_a_gif_calls_transparent_lies_on_white() -> None:
    image = Image.fromarray(RAMP % 2)
    image.putpalette([0, 0, 0, 40, 40, 40])
    content = encoded(image, "GIF", transparency=0)
    assert grey(content) == np.where(RAMP % 2, 40, 255).tolist()


def test_the_first_picture_of_a_telephones_pair_is_read() -> None:
    first, second = (Image.new("L", (16, 16), shade) for shade in (200, 20))
    content = encoded(first, "MPO", save_all=True, append_images=[second])
    assert abs(np.array(grey(content, (16, 16))) - 200).max() <= 2


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_a_printers_colours_become_light(form: str) -> None:
    content = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), form)
    pixels = decode(content, mode="RGB", size=(16, 16), name="a")
    assert abs(pixels[:, 8, 8].astype(int) - [255, 0, 0]).max() <= 3


TURNS = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).T,
    8: lambda upright: np.rot90(upright, -1),
}
"""How a camera stores an upright picture under each EXIF orientation."""


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_a_turned_photograph_comes_out_upright(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = Image.fromarray(np.ascontiguousarray(TURNS[orientation](RAMP)))
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(turned, form, exif=exif, **options)
    assert grey(content) == RAMP.tolist()
    assert seen(content).size == (HEIGHT, WIDTH)


def test_a_turned_jpeg_comes_out_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    halves = np.zeros((16, 32), dtype=np.uint8)
    halves[:, 16:] = 240
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(halves)))
    pixels = np.array(grey(encoded(turned, "JPEG", exif=exif), (16, 32)))
    assert pixels[:, :14].max() < 20
    assert pixels[:, 18:].min() > 220


def test_another_size_is_reached_by_resizing_without_keeping_the_shape() -> None:
    content = encoded(Image.new("L", (30, 10), 123))
    assert grey(content, (4, 7)) == [[123] * 7] * 4


def test_averages_survive_shrinking() -> None:
    checks = np.indices((64, 64)).sum(0) % 2 * 200
    shrunk = np.array(grey(encoded(Image.fromarray(checks.astype(np.uint8))), (8, 8)))
    assert abs(shrunk - 100).max() <= 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", r"a is empty \(0 bytes\); copy it again"),
        (b"%!PS-Adobe-3.0 EPSF", r"a is no picture: it begins with b'%!PS-Ado'; expected PNG"),
        (b"\x89PNG\r\n\x1a\n", "a is no picture"),
    ],
    ids=["empty", "a program for printers", "a signature alone"],
)
def test_what_is_no_picture_of_a_known_format_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        grey(content)
