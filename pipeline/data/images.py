"""Data source for pictures in one folder per class, with or without a split, and its reader."""

import base64
import binascii
import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from annotated_types import Gt
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.base.processes.cpu import cores
from pipeline.data.parsing.array_files import IN_MEMORY_BYTES, PARTS, PartName, readable
from pipeline.data.parsing.labels import TargetKeys, Word, classes_of, labelled_samples
from pipeline.data.preparation.content import Content
from pipeline.data.preparation.reader import (
    Block,
    NewRows,
    Reader,
    Rules,
    first_rows,
    numbers_of,
    sliced,
)
from pipeline.data.source import Array, Indices, OnDemand, Samples, Series, Source

if TYPE_CHECKING:
    from PIL.Image import Image

Mode = Literal["L", "RGB"]
#: Height and width in pixels.
Size = tuple[int, int]

CHANNELS: dict[Mode, tuple[str, ...]] = {"L": ("grey",), "RGB": ("red", "green", "blue")}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
EXPECTED = "FOLDER/<class>/<pictures>, or FOLDER/train/<class>/<pictures> (and val, test)"
#: Heading of the column of file names.
FILE = "file"
#: Column of a DataFrame with the content of files.
IMAGE = "image"

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
#: Most pixels of a picture; a small file can claim more than fits into memory.
MOST_PIXELS = 80_000_000
#: Most bytes of a picture's file.
MOST_BYTES = 256 * 2**20
#: Pictures handed to the threads at a time.
AT_ONCE = 256
GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112  # the EXIF tag
#: Pillow's operations that turn pictures of EXIF orientations 2 to 8 upright.
_TURNS = (
    *("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM"),
    *("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"),
)


class PictureHeader(NamedTuple):
    """Header of a picture: its upright size, and whether it is grey or can be transparent."""

    size: Size
    grey: bool
    transparent: bool


@dataclass(kw_only=True, eq=False)
class Images(Source):
    """Pictures in folders that are named after their classes.

    Args:
        path: Folder with one folder per class, or with train, val and test that have those.
        image_size: Height and width in pixels to which all are resized; None = all have one size.
        image_mode: L = grey, RGB = colour; None = grey if all are grey, else colour.
        positive: The positive one of two classes; None = the rarer one.
    """

    path: str
    image_size: tuple[Annotated[int, Gt(0)], Annotated[int, Gt(0)]] | None
    image_mode: Mode | None
    positive: Word | None

    def read(self) -> Samples:
        """Find, check and decode the pictures, uint8 (rows, channels, height, width)."""
        pictures, notes = _find(readable(self.path))
        headers = [read_header(picture.file) for picture in pictures]
        mode = self.image_mode
        if mode is None:
            mode = "L" if all(header.grey for header in headers) else "RGB"
        size = self.image_size or _common_size(headers, pictures)
        rows = Pictures([picture.file for picture in pictures], mode=mode, size=size)
        classes = sorted({picture.label for picture in pictures})
        indices = np.array([classes.index(picture.label) for picture in pictures])
        target = classes_of(indices, classes, TargetKeys(positive=self.positive))
        return labelled_samples(
            rows.checked(),
            target,
            dict(Counter(picture.part for picture in pictures)),
            reading={"kind": "images", "size": list(size), "mode": mode},
            leading_notes=notes,
            notes=[*_notes(pictures, headers, mode=self.image_mode, size=self.image_size)],
            features=CHANNELS[mode],
        )


class _LabelledPicture(NamedTuple):
    file: Path
    name: str
    label: str
    part: PartName


class _Listing(NamedTuple):
    """A folder's content in sorted order, without hidden names."""

    folders: list[Path]
    pictures: list[Path]
    strays: list[Path]


def _list_folder(folder: Path, root: Path) -> _Listing:
    """List a folder below `root`. Raises DataError if a link is broken or leads out of `root`."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for entry in filter(Path.is_symlink, entries):
        target = entry.resolve()
        if not target.exists():
            raise DataError(f"{entry} is a link to {target}, which does not exist; remove it")
        if not target.is_relative_to(root.resolve()):
            raise DataError(
                f"{entry} is a link to {target}, outside of {root}; expected all pictures within "
                "the folder. Copy them there"
            )
    listing = _Listing([], [], [])
    for entry in entries:
        if entry.is_dir():
            listing.folders.append(entry)
        elif entry.is_file() and entry.suffix.lower() in SUFFIXES:
            listing.pictures.append(entry)
        elif entry.is_file():
            listing.strays.append(entry)
    return listing


def _find(root: Path) -> tuple[Sequence[_LabelledPicture], list[str]]:
    """Return the pictures, sorted by part and class, and a note on files that are left out."""
    if not root.is_dir():
        raise DataError(f"{root} is a file; expected a folder, {EXPECTED}")
    top = _list_folder(root, root)
    strays = [*top.strays]
    pictures = []
    for part, part_listing in _parts(top, root):
        if part_listing is not top:
            strays += part_listing.strays
        strays += part_listing.pictures
        for class_folder in part_listing.folders:
            listing = _list_folder(class_folder, root)
            strays += [*listing.strays, *listing.folders]
            if not listing.pictures:
                raise DataError(
                    f"{class_folder} has no pictures; expected at least one per class. Add some "
                    "or remove the folder"
                )
            for file in listing.pictures:
                name = file.relative_to(root).as_posix()
                pictures.append(_LabelledPicture(file, name, class_folder.name, part))
    labels = sorted({picture.label for picture in pictures})
    if not labels:
        raise DataError(f"{root} has no class folders with pictures; expected {EXPECTED}")
    if len(labels) == 1:
        raise DataError(
            f"{root} has only one class, {labels[0]!r} ({len(pictures)} pictures); expected "
            f"folders of at least 2 classes: {EXPECTED}"
        )
    return pictures, _notes_on_strays(strays, root)


def _notes_on_strays(strays: Sequence[Path], root: Path) -> list[str]:
    if not strays:
        return []
    first = strays[0].relative_to(root).as_posix()
    if len(strays) == 1:
        return [f"{first} is not a picture of a class and is ignored"]
    note = f"{len(strays)} files or folders are not pictures of a class and are ignored: {first}, …"
    return [note]


def _parts(top: _Listing, root: Path) -> Iterator[tuple[PartName, _Listing]]:
    """Yield the parts in the order train, validation, test; without parts, all as train."""
    folders: dict[str, Path] = {}
    for folder in top.folders:
        part = PARTS.get(folder.name.lower(), folder.name)
        if folders.setdefault(part, folder) != folder:
            raise DataError(
                f"{root} has both {folders[part].name!r} and {folder.name!r} for the {part} part; "
                "expected one of them"
            )
    if "train" not in folders or not _list_folder(folders["train"], root).folders:
        yield "train", top
        return
    for part in folders:
        if part not in PARTS:
            raise DataError(
                f"{root} has the folders {part!r} and {folders['train'].name!r}; "
                f"expected {EXPECTED}"
            )
    for name in dict.fromkeys(PARTS.values()):
        if name in folders:
            yield name, _list_folder(folders[name], root)


def _common_size(headers: Sequence[PictureHeader], pictures: Sequence[_LabelledPicture]) -> Size:
    sizes = [header.size for header in headers]
    first = sizes[0]
    for size, picture in zip(sizes, pictures, strict=True):
        if size != first:
            most_frequent, _ = Counter(sizes).most_common(1)[0]
            height, width = most_frequent
            raise DataError(
                f"{pictures[0].name} is {first[0]}×{first[1]} and {picture.name} is "
                f"{size[0]}×{size[1]} (height×width); expected one size. Resize all: "
                f"'data.image_size=[{height},{width}]'"
            )
    return first


def _notes(
    pictures: Sequence[_LabelledPicture],
    headers: Sequence[PictureHeader],
    *,
    mode: Mode | None,
    size: Size | None,
) -> Iterator[str]:
    """Yield notes on classes that a part lacks, and on what was chosen for the user."""
    classes: dict[PartName, set[str]] = {}
    for picture in pictures:
        classes.setdefault(picture.part, set()).add(picture.label)
    all_classes = set().union(*classes.values())
    for part, part_classes in classes.items():
        missing = all_classes - part_classes
        if missing and part != "train":  # `check_classes` refuses what training lacks
            yield f"the {part} part has no picture of class {', '.join(sorted(missing))}"
    count = len(headers)
    grey = sum(header.grey for header in headers)
    if mode is None and grey == count:
        yield "all pictures are grey and read as grey; change with data.image_mode=RGB"
    elif mode is None:
        share = f", {grey} of {count} are grey" if grey else ""
        yield f"the pictures are read in colour{share}; change with data.image_mode=L"
    if size is not None:
        resized = sum(header.size != size for header in headers)
        if resized:
            yield f"{resized} of {count} pictures are resized to {size[0]}×{size[1]} (height×width)"
    transparent = sum(header.transparent for header in headers)
    if transparent:
        yield (
            f"{transparent} of {count} pictures have an alpha channel; transparent pixels become "
            "white"
        )


class Pictures(OnDemand):
    """Picture files as rows (rows, channels, height, width), decoded on access."""

    def __init__(self, files: Sequence[Path], *, mode: Mode, size: Size) -> None:
        self.files = tuple(files)
        self.mode = mode
        self.size = size
        self.shape = (len(self.files), 1 if mode == "L" else 3, *size)
        self.dtype = np.dtype(np.uint8)

    @cached_property
    def fingerprints(self) -> NDArray[np.uint64]:  # type: ignore[override] # made when asked for
        """Fingerprint of each file, (rows,); equal files have equal ones."""
        hashes = (hashlib.blake2b(file.read_bytes(), digest_size=8) for file in self.files)
        numbers = [int.from_bytes(hashed.digest(), "little") for hashed in hashes]
        return np.array(numbers, dtype=np.uint64)

    def __getitem__(self, rows: slice | Indices) -> Array:
        """Decode rows, uint8 (rows, channels, height, width)."""
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows
        pixels = np.empty((len(chosen), *self.shape[1:]), dtype=self.dtype)
        for position, row in enumerate(chosen):
            pixels[position] = self._picture(int(row))
        return pixels

    def checked(self) -> "Array | Pictures":
        """Decode each picture once; return all as one array if that is small, else `self`."""
        pixels = None
        if int(np.prod(self.shape)) <= IN_MEMORY_BYTES:
            pixels = np.empty(self.shape, dtype=np.uint8)
        decode_row = partial(self._decode_into, pixels)
        with ThreadPoolExecutor(cores()) as threads:  # Pillow releases the GIL
            for start in range(0, len(self), AT_ONCE):
                for _ in threads.map(decode_row, range(start, min(start + AT_ONCE, len(self)))):
                    pass
        return self if pixels is None else pixels

    def _decode_into(self, pixels: NDArray[np.uint8] | None, row: int) -> None:
        picture = self._picture(row)
        if pixels is not None:
            pixels[row] = picture

    def _picture(self, row: int) -> NDArray[np.uint8]:
        file = self.files[row]
        return decode(file.read_bytes(), mode=self.mode, size=self.size, name=str(file))


def read_header(file: Path) -> PictureHeader:
    """Return the header of a picture without decoding its pixels."""
    with _opened(file, str(file)) as image:
        grey = image.mode in GREY
        if image.mode in ("P", "PA"):
            palette = np.array(image.getpalette() or [0, 0, 0]).reshape(-1, 3)
            grey = bool((palette == palette[:, :1]).all())
        is_turned = 5 <= _orientation(image) <= 8
        width, height = image.size[::-1] if is_turned else image.size
        return PictureHeader((height, width), grey, image.has_transparency_data)


def decode(content: bytes, *, mode: Mode, size: Size, name: str) -> NDArray[np.uint8]:
    """Return the picture in the content of a file, uint8 (channels, height, width).

    It is turned upright according to its EXIF data, transparent pixels are put on white and
    16-bit values become 8-bit. It is then converted to `mode` and resized to `size` (bilinear).

    Raises:
        DataError: The picture can't be decoded; `name` is its name in the message.
    """
    from PIL.Image import Resampling, Transpose, alpha_composite, fromarray, new

    with _opened(content, name) as image:
        orientation = _orientation(image)
        upright: Image = image
        if image.mode == "F" or image.mode.startswith("I"):
            values = np.asarray(image)
            if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65_535:
                raise DataError(
                    f"{name} has 32-bit values of unknown range; expected 8 or 16 bits. Save it "
                    "with 8 bits, or use arrays: data=arrays"
                )
            upright = fromarray((values >> 8).astype(np.uint8))
        elif image.has_transparency_data:
            transparent = image.convert("RGBA")
            upright = alpha_composite(new("RGBA", image.size, "white"), transparent)
        if upright.mode != mode:
            upright = upright.convert(mode)
        if 2 <= orientation <= 8:
            upright = upright.transpose(Transpose[_TURNS[orientation - 2]])
        if upright.size != (size[1], size[0]):
            upright = upright.resize((size[1], size[0]), Resampling.BILINEAR)
        pixels = np.asarray(upright, dtype=np.uint8)
    return pixels[None] if mode == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator["Image"]:
    """Open a picture; its pixels are decoded on first access."""
    from PIL import Image, UnidentifiedImageError

    # Pillow warns above a limit of its own; the size is checked below, against a lower one.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size == 0:
        raise DataError(f"{name} is empty (0 bytes); copy it again or remove it")
    if size > MOST_BYTES:
        raise DataError(
            f"{name} has {size} bytes; expected a picture of at most {MOST_BYTES}. Make it smaller"
        )
    smaller = (
        f"expected at most {MOST_PIXELS:,} pixels (height × width). Make it smaller or remove it"
    )
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataError(f"{name} has {height}×{width} pixels; {smaller}")
            # A photo from a phone may contain a second one (MPO), which is not an animation.
            if image.format != "MPO" and getattr(image, "is_animated", False):
                raise DataError(
                    f"{name} holds several pictures (animated, multi-page); expected one. Save "
                    "each as its own file"
                )
            yield image
    except UnidentifiedImageError as error:
        content = source if isinstance(source, bytes) else source.read_bytes()
        raise DataError(
            f"{name} is not a picture: it begins with {content[:8]!r}; expected PNG, JPEG, BMP, "
            "GIF, WebP or TIFF. Replace or remove it"
        ) from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} exceeds Pillow's limit; {smaller}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, PermissionError):
            raise
        reason = " ".join(str(error).split())
        raise DataError(
            f"{name} is damaged or incomplete ({reason}); copy it again or remove it"
        ) from error


def _orientation(image: "Image") -> int:
    """Return the EXIF orientation that is still to be applied, 1 to 8."""
    # Pillow turns a TIFF itself, and would decode all pixels of a PNG to look for EXIF behind them.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    return int(image.getexif().get(_ORIENTATION, 1))


class ImageReader(Reader):
    """Reader for picture files, or for their content in the column `image` of a DataFrame."""

    def inputs(self) -> Any:
        """Describe the column of pictures. Raises ValueError if the schema contradicts itself."""
        form = self._form()
        mode = form["mode"]
        size = form["size"]
        if (len(CHANNELS[mode]), *size) != self.schema.input_shape or np.prod(size) > MOST_PIXELS:
            raise ValueError(f"pictures of mode {mode} and size {size}")
        return [{"name": IMAGE, "type": "binary"}]

    def example(self, raw: Samples | Series, content: Content) -> Any:
        """Return the first training pictures as PNG files in base64."""
        from PIL import Image

        assert isinstance(raw, Samples)
        examples = []
        for row in first_rows(raw, content):
            pixels = np.moveaxis(row.astype(np.uint8), 0, -1)
            if len(row) == 1:
                pixels = pixels[..., 0]
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            examples.append({IMAGE: base64.b64encode(file.getvalue()).decode("ascii")})
        return examples

    def open(self, path: Path, rules: Rules, *, size: int) -> NewRows:
        """Open one picture, or all in a folder and its subfolders, in sorted order."""
        self.refuse_id(rules)
        place = readable(path, key="input")
        if place.is_dir():
            root = place
            files = sorted(_pictures_below(place))
        else:
            root = place.parent
            files = [place]
        if not files:
            raise DataError(f"{place} has no pictures; expected files {', '.join(SUFFIXES)}")
        names = [file.relative_to(root).as_posix() for file in files]
        raw = Pictures(files, **self._form())
        return NewRows(heading=FILE, blocks=sliced(raw, names, size=size), total=len(raw))

    def apply(self, rows: Any, *, what: str, missing: str = "refuse") -> Block:
        """Return the pictures of a DataFrame or an array, (rows, channels, height, width)."""
        del missing
        if not hasattr(rows, "columns"):
            return Block(raw=numbers_of(rows, self.schema.raw_shape, what=what))
        if IMAGE not in rows.columns:
            raise DataError(
                f"{what} has no column {IMAGE!r}; expected the content of an image file in each "
                "cell, as bytes or base64"
            )
        decoded = []
        for row, cell in enumerate(rows[IMAGE], start=1):
            name = f"{what} row {row}"
            decoded.append(decode(_content(cell, name), name=name, **self._form()))
        raw = np.array(decoded, dtype=np.uint8)
        return Block(raw=raw.reshape(len(decoded), *self.schema.raw_shape))

    def _form(self) -> dict[str, Any]:
        return {"mode": self.schema.reading["mode"], "size": tuple(self.schema.reading["size"])}


def _pictures_below(root: Path) -> list[Path]:
    """Return the pictures in a folder and its subfolders."""
    pictures = []
    folders = [root]
    while folders:
        listing = _list_folder(folders.pop(), root)
        pictures += listing.pictures
        # Links to folders are not followed, since they could form a cycle.
        folders += [folder for folder in listing.folders if not folder.is_symlink()]
    return pictures


def _content(cell: object, place: str) -> bytes:
    if isinstance(cell, bytes | bytearray | memoryview):
        return bytes(cell)
    try:
        return base64.b64decode(str(cell), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(
            f"{place}, column {IMAGE!r}: neither bytes nor base64; expected the content "
            "of an image file"
        ) from error


READER = ImageReader
