"""Pictures in folders and pixels in tables as rows; pictures decoded by fixed rules."""

import io
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from data.tables.given_tables import prepared as prepared_table
from data.tables.given_tables import text
from helpers.case_tables import refusals
from helpers.file_sources import new_rows, prepared, read
from helpers.fixture_types import Capture, Train
from helpers.refused_calls import refusal
from helpers.sample_data import array_of, inputs_of
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from pipeline.base.errors import EnvironmentFaultError
from pipeline.data.images import PictureHeader, Pictures, decode, read_header
from pipeline.data.preparation.reader import reader_of
from pipeline.scoring.baseline_fits import predictions
from pipeline.scoring.baselines import Limits

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
GREYS = RANDOM.integers(0, 256, (4, 6, 5), dtype=np.uint8)


def saved(name: str, pixels: np.ndarray, **options: Any) -> Path:
    """Save a picture below `set`."""
    path = Path("set") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def pets(pixels: np.ndarray = COLOURS, prefix: str = "", copies: int = 1) -> None:
    """Two classes of two pictures each, and darker copies of them."""
    for copy in range(copies):
        for number, picture in enumerate(pixels):
            name = f"{prefix}{'cat' if number < 2 else 'dog'}/{copy or ''}{number}.png"
            saved(name, (picture // (copy + 1)).astype(np.uint8))


def test_folder_per_class_becomes_sorted_rows() -> None:
    pets()
    samples = read("images", "set")
    assert samples.inputs.dtype == np.uint8
    assert (array_of(samples) == COLOURS.transpose(0, 3, 1, 2)).all()
    assert samples.features == ("red", "green", "blue")
    assert [samples.classes[label] for label in samples.targets] == ["cat", "cat", "dog", "dog"]
    for name in ("晴れ=day, 1", "a", "10", "9", "train"):
        saved(f"{name}/x.png", COLOURS[0])
    assert read("images", "set").classes == ("10", "9", "a", "cat", "dog", "train", "晴れ=day, 1")


@pytest.mark.parametrize("validation", ["val", "valid", "Validation"])
def test_folders_of_parts_keep_the_split(validation: str) -> None:
    """A note names a class that the validation part lacks."""
    pets(prefix="train/", copies=3)
    pets(prefix="test/")
    saved(f"{validation}/cat/1.png", COLOURS[0])
    samples = read("images", "set")
    assert (array_of(samples)[samples.test] == COLOURS.transpose(0, 3, 1, 2)).all()
    assert samples.validation == np.array([12])
    assert "the files define the parts: train 12, validation 1, test 4 rows" in samples.notes
    assert "the validation part has no picture of class dog" in samples.notes


def test_images_of_several_sizes_need_image_size() -> None:
    """The note counts the resized images."""
    pets()
    saved("dog/a.png", np.full((12, 9, 3), 77, dtype=np.uint8))
    assert refusal(read, "images", "set") == (
        "cat/0.png is 6×5 and dog/a.png is 12×9 (height×width); expected one size. Resize all: "
        "'data.image_size=[6,5]'"
    )
    samples = read("images", "set", image_size=[6, 5])
    assert samples.inputs.shape == (5, 3, 6, 5)
    assert (array_of(samples)[4] == 77).all()
    assert "1 of 5 pictures are resized to 6×5 (height×width)" in samples.notes


@pytest.mark.parametrize(
    ("pixels", "asked", "channels", "told"),
    [
        (GREYS, None, 1, "all pictures are grey and read as grey; change with data.image_mode=RGB"),
        (COLOURS, None, 3, "the pictures are read in colour; change with data.image_mode=L"),
        (GREYS, "RGB", 3, None),
        (COLOURS, "L", 1, None),
    ],
)
def test_image_mode_is_inferred_or_given(
    pixels: np.ndarray, asked: str | None, channels: int, told: str | None
) -> None:
    """Grey images have one channel, all others three."""
    pets(pixels)
    samples = read("images", "set", image_mode=asked)
    assert samples.input_shape == (channels, 6, 5)
    assert (told in samples.notes) if told else not any("grey" in note for note in samples.notes)


def test_transparent_pixels_become_white_and_are_reported() -> None:
    pets(GREYS)  # one picture in colour makes all so
    pixels = np.zeros((6, 5, 4), dtype=np.uint8)
    pixels[0, 0] = [200, 100, 50, 255]
    saved("cat/a.png", pixels)
    samples = read("images", "set")
    colours = "the pictures are read in colour, 4 of 5 are grey; change with data.image_mode=L"
    assert colours in samples.notes
    drawn = array_of(samples)[2]
    assert drawn[:, 0, 0].tolist() == [200, 100, 50]
    assert (drawn[:, 1:] == 255).all()
    assert "1 of 5 pictures have an alpha channel; transparent pixels become white" in samples.notes


def test_strays_among_pictures_are_counted() -> None:
    """Hidden files are none."""
    pets()
    saved("loose.png", COLOURS[0])
    told = "loose.png is not a picture of a class and is ignored"
    assert told in read("images", "set").notes
    Path("set/cat/notes.txt").write_text("x")
    Path("set/.DS_Store").write_text("x")
    Path("set/cat/more").mkdir()
    notes = read("images", "set").notes
    told = "3 files or folders are not pictures of a class and are ignored: loose.png, …"
    assert told in notes


def test_decoding_on_demand_gives_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    pets(copies=6)
    near = prepared("images", "set", scale="standard")
    monkeypatch.setattr("pipeline.data.images.IN_MEMORY_BYTES", 0)
    assert isinstance(read("images", "set").inputs, Pictures)
    far = prepared("images", "set", scale="standard", memory_budget=0)
    assert far.schema == near.schema
    for whole, lazy in zip(near.train.blocks(), far.train.blocks(), strict=True):
        assert torch.equal(whole, lazy)


def test_equal_files_are_found_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.images.IN_MEMORY_BYTES", 0)
    pets(prefix="train/")
    pets(prefix="test/")
    saved("test/cat/new.png", COLOURS[0] // 2)
    parts = prepared("images", "set", validation=0.0)
    assert parts.report is not None
    assert (parts.report.repeated, len(parts.test)) == (4, 5)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def claiming(side: int) -> bytes:
    """A PNG of a few bytes whose header claims a square of so many pixels a side."""
    header = struct.pack(">4s2I5B", b"IHDR", side, side, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
    return start + struct.pack(">I", zlib.crc32(header)) + struct.pack(">I4s", 0, b"IDAT")


FRAMES = [Image.fromarray(picture) for picture in COLOURS[:2]]
WHOLE = encoded(FRAMES[0])
MIDDLE = len(WHOLE) // 2
MOST = "; expected at most 80,000,000 pixels (height × width). Make it"


@pytest.mark.parametrize("lazy", [False, True], ids=["at once", "on demand"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"this is not a picture", "is not a picture: it begins with b'this is '"),
        (WHOLE[:MIDDLE], "is damaged or incomplete ("),
        (WHOLE[:MIDDLE] + b"\0\1\2" + WHOLE[MIDDLE + 3 :], "is damaged or incomplete ("),
        (b"", "is empty (0 bytes); copy it again or remove it"),
        (b"%!PS-Adobe-3.0 EPSF", "is not a picture: it begins with b'%!PS-Ado'; expected"),
        (WHOLE[:8], "is not a picture"),
        (claiming(10_000), f"has 10000×10000 pixels{MOST}"),
        (claiming(20_000), f"exceeds Pillow's limit{MOST}"),
        (encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), "holds several pictu"),
        (
            encoded(Image.fromarray(GREYS[0] / np.float32(9)), "TIFF"),
            "has 32-bit values of unknown",
        ),
    ],
    ids=["text", "cut", "changed", "empty", "program", "magic", "huge", "huger", "many", "floats"],
)
def test_unreadable_image_is_named_before_training(
    content: bytes,
    problem: str,
    lazy: bool,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    if lazy:
        monkeypatch.setattr("pipeline.data.images.IN_MEMORY_BYTES", 0)
    pets()
    Path("set/dog/9.png").write_bytes(content)
    assert f"set/dog/9.png {problem}" in refusal(read, "images", "set")
    assert not recwarn


# Files that are made, and folders, which end with a slash.
LAYOUTS = """
set/
- set has no class folders with pictures; expected FOLDER/<class>/<pictures>

set/a.png
- set has no class folders with pictures

set/cat/a.png
- set has only one class, 'cat' (1 pictures); expected folders of

set/cat/a.png set/dog/
- set/dog has no pictures; expected at least one per class. Add

set/train/cat/a.png set/train/dog/a.png set/rest/
- set has the folders 'rest' and 'train'

set/train/cat/a.png set/train/dog/a.png set/val/ set/valid/
- set has both 'val' and 'valid' for the validation part; ex
"""


@pytest.mark.parametrize(("layout", "problem"), refusals(LAYOUTS))
def test_folder_without_class_layout_is_refused(layout: str, problem: str) -> None:
    for name in layout.split():
        if name.endswith("/"):
            Path(name).mkdir(parents=True)
        else:
            saved(name.removeprefix("set/"), COLOURS[0])
    assert problem in refusal(read, "images", "set")


def test_only_links_within_the_folder_are_followed() -> None:
    pets()
    Path("set/dog/again.png").symlink_to(Path("set/cat/0.png").resolve())
    assert len(read("images", "set").inputs) == 5
    secret = Path("secret.png").resolve()
    Path("set/dog/out.png").symlink_to(secret)
    problem = refusal(read, "images", "set")
    assert re.search(r"set/dog/out.png is a link to .*, which does not exist", problem)
    shutil.copy("set/cat/0.png", secret)
    problem = refusal(read, "images", "set")
    assert re.search(r"set/dog/out.png is a link to .*secret.png, outside of set", problem)
    Path("set/bee").symlink_to(secret.parent)
    problem = refusal(read, "images", "set")
    assert re.search(r"set/bee is a link to .*, outside of set", problem)


def test_file_or_unreadable_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved("a.png", COLOURS[0])
    problem = "set/a.png is a file; expected a folder, FOLDER/<class>"
    assert problem in refusal(read, "images", path)
    # The superuser may read everything, so the system's answer is given here.
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(EnvironmentFaultError, match=r"data.path='set' can't be read: permission"):
        read("images", "set")


HEIGHT, WIDTH = 6, 8
RAMP = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) * 5
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)


def grey(content: bytes, size: tuple[int, int] = (HEIGHT, WIDTH)) -> list[list[int]]:
    pixels: list[list[int]] = decode(content, mode="L", size=size, name="a")[0].tolist()
    return pixels


def seen(content: bytes) -> PictureHeader:
    path = Path("a.png")
    path.write_bytes(content)
    return read_header(path)


DEEP = RAMP.astype(np.uint16) * 256 + 77
SHADES = Image.fromarray(RAMP % 4)
SHADES.putpalette([10, 10, 10, 99, 99, 99, 5, 5, 5, 200, 200, 200])


@pytest.mark.parametrize(
    ("image", "form", "expected"),
    [
        *((Image.fromarray(RAMP), form, RAMP) for form in ("PNG", "BMP", "GIF", "TIFF")),
        (Image.fromarray(DEEP), "PNG", RAMP),
        (Image.fromarray(DEEP), "TIFF", RAMP),
        (Image.fromarray(RAMP > 100), "PNG", (RAMP > 100) * 255),
        (SHADES, "PNG", np.array([10, 99, 5, 200])[RAMP % 4]),
    ],
    ids=["PNG", "BMP", "GIF", "TIFF", "16 bits", "16 bits TIFF", "black and white", "palette"],
)
def test_grey_image_keeps_its_upper_eight_bits(
    image: Image.Image, form: str, expected: np.ndarray
) -> None:
    """This holds for every lossless format."""
    content = encoded(image, form)
    assert grey(content) == expected.tolist()
    assert seen(content) == PictureHeader(size=(HEIGHT, WIDTH), grey=True, transparent=False)


RED_AND_BLUE = Image.fromarray(RAMP % 2)
RED_AND_BLUE.putpalette([255, 0, 0, 0, 0, 255])
LOOKED_UP = np.stack([255 - RAMP % 2 * 255, RAMP * 0, RAMP % 2 * 255], axis=-1)


@pytest.mark.parametrize(
    ("image", "form", "expected"),
    [
        *((Image.fromarray(COLOUR), form, COLOUR) for form in ("PNG", "BMP", "TIFF", "WEBP")),
        (RED_AND_BLUE, "PNG", LOOKED_UP),
    ],
    ids=["PNG", "BMP", "TIFF", "WEBP", "palette"],
)
def test_colours_keep_their_values(image: Image.Image, form: str, expected: np.ndarray) -> None:
    content = encoded(image, form, lossless=True)
    pixels = decode(content, mode="RGB", size=(HEIGHT, WIDTH), name="a")
    assert (pixels == expected.transpose(2, 0, 1)).all()
    assert pixels.flags.c_contiguous
    assert not seen(content).grey


def test_transparency_is_blended_with_white() -> None:
    """This holds for alpha channels and for the transparent index of a GIF."""
    pixels = np.stack([RAMP, np.full_like(RAMP, 51)], axis=-1)  # 51 of 255 is a fifth
    content = encoded(Image.fromarray(pixels, "LA"))
    assert abs(np.array(grey(content)) - (RAMP * 0.2 + 255 * 0.8)).max() <= 1
    assert seen(content).transparent
    image = Image.fromarray(RAMP % 2)
    image.putpalette([0, 0, 0, 40, 40, 40])
    content = encoded(image, "GIF", transparency=0)
    assert grey(content) == np.where(RAMP % 2, 40, 255).tolist()


def test_first_image_of_mpo_pair_is_read() -> None:
    """Phones write such pairs."""
    first, second = (Image.new("L", (16, 16), shade) for shade in (200, 20))
    content = encoded(first, "MPO", save_all=True, append_images=[second])
    assert abs(np.array(grey(content, (16, 16))) - 200).max() <= 2


def test_cmyk_image_becomes_rgb() -> None:
    content = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    pixels = decode(content, mode="RGB", size=(16, 16), name="a")
    assert abs(pixels[:, 8, 8].astype(int) - [255, 0, 0]).max() <= 3


TURNS: dict[int, Callable[[Any], Any]] = {
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
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_rotated_photo_is_read_upright(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = Image.fromarray(np.ascontiguousarray(TURNS[orientation](RAMP)))
    lossless: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}
    content = encoded(turned, form, exif=exif, **lossless.get(form, {}))
    assert abs(np.array(grey(content)) - RAMP).max() <= (4 if form == "JPEG" else 0)
    assert seen(content).size == (HEIGHT, WIDTH)


def test_resizing_ignores_the_aspect_ratio() -> None:
    content = encoded(Image.new("L", (30, 10), 123))
    assert grey(content, (4, 7)) == [[123] * 7] * 4
    checks = np.indices((64, 64)).sum(0) % 2 * 200
    shrunk = np.array(grey(encoded(Image.fromarray(checks.astype(np.uint8))), (8, 8)))
    assert abs(shrunk - 100).max() <= 2


DIGITS = load_digits()
KEYS: dict[str, Any] = {"target": "digit", "image_shape": (8, 8), "validation": 0.0}


def pixels(rows: int = 300) -> list[list[str]]:
    """Pixels of handwritten digits, 8×8, with a column `digit` before them."""
    cells = np.column_stack([DIGITS.target, DIGITS.data])[:rows].astype(int)
    return [["digit", *DIGITS.feature_names], *(list(map(str, row)) for row in cells)]


def test_pixel_columns_are_scaled_together(own_folder: Path) -> None:
    """A file and a data frame with other column orders are read alike."""
    content = text(pixels())
    found = prepared_table(content, **KEYS)
    train, images = found.train.rows, DIGITS.images[:300, None]
    mean, deviation = images[train].mean(), images[train].std()
    expected = (images[train] - mean) / deviation
    np.testing.assert_allclose(inputs_of(found.train), expected, rtol=1e-5)

    reader = reader_of(found.schema)
    turned = [row[::-1] for row in pixels()]
    Path("new.csv").write_text(text(turned), encoding="utf-8")  # other order, with the target
    frame = pd.DataFrame(pixels()[1:], columns=pixels()[0]).drop(columns="digit")
    for rows in (new_rows("new.csv", found.schema), reader.apply(frame, what="the input")):
        np.testing.assert_array_equal(rows.raw, images)
    example = reader.apply(pd.DataFrame(found.example), what="the example")
    np.testing.assert_array_equal(example.raw, images[train[:3]])


def test_pixel_table_linear_baseline_equals_logistic_regression(own_folder: Path) -> None:
    found = prepared_table(text(pixels()), **KEYS)
    limits = Limits(rows=10_000, seconds=5)
    baselines = predictions(found, names=["linear"], class_weights=None, limits=limits)
    outputs = baselines["linear"].outputs
    train, test = (DIGITS.data[part.rows] for part in (found.train, found.test))
    oracle = LogisticRegression(max_iter=1000).fit(
        (train - train.mean()) / train.std(), DIGITS.target[found.train.rows]
    )
    expected = oracle.predict_proba((test - train.mean()) / train.std())
    assert outputs is not None
    np.testing.assert_allclose(outputs, expected, atol=1e-3)


def test_pixel_like_columns_suggest_image_shape(own_folder: Path) -> None:
    told = "the 64 columns look like pixels but are scaled one by one; 'data.image_shape=[8,8]'"
    head, *rows = pixels()
    found = prepared_table(text(pixels()), target="digit")
    assert any(note.startswith(told) for note in found.notes)
    fewer = [row[:-1] for row in pixels()]
    fractions = [head, *([*row[:-1], "0.5"] for row in rows)]
    for other in (fewer, fractions):
        notes = prepared_table(text(other), target="digit").notes
        assert not any("pixels" in note for note in notes)


def test_image_shape_of_three_is_channels_first(own_folder: Path) -> None:
    found = prepared_table(text(pixels()), **KEYS | {"image_shape": (4, 4, 4)}, scale="none")
    expected = DIGITS.data[:300].reshape(300, 4, 4, 4)[found.test.rows]
    np.testing.assert_array_equal(inputs_of(found.test), expected)


def test_image_network_suggests_image_shape(
    own_folder: Path, train: Train, capsys: Capture
) -> None:
    Path("digits.csv").write_text(text(pixels()), encoding="utf-8")
    words = ("model=cnn2d", "data=table", "data.path=digits.csv", "data.target=digit")
    for more, sides in (("seed=0", "8,8"), ("data.drop=[pixel_0_0]", "HEIGHT,WIDTH")):
        assert train(*words, "verbose=0", more) == 2
        assert capsys.readouterr().err.endswith(
            "models that read them: cnn1d, mlp; columns of pixels become images with "
            f"'data.image_shape=[{sides}]'\n"
        )


@pytest.mark.parametrize(
    ("header", "cell", "told"),
    [
        ("more", "1", "is 64 pixels, but patients.csv has 65 feature columns; expected"),
        ("more", "x", "has 65 feature columns; column 'more' holds words; expected one"),
    ],
)
def test_non_pixel_columns_are_refused(own_folder: Path, header: str, cell: str, told: str) -> None:
    head, *rows = pixels()
    content = text([[header, *head], *([cell, *row] for row in rows)])
    problem = refusal(prepared_table, content, **KEYS)
    assert problem.startswith("data.image_shape=[8, 8] ")
    assert told in problem
