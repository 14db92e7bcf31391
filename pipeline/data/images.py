"""Pictures in folders, one folder a class, with given parts or without; new pictures."""

import base64
import binascii
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Gt

from pipeline.data.array_files import PARTS, PartName, readable
from pipeline.data.content import Content
from pipeline.data.labels import (
    Asked,
    Word,
    classes_of,
    labelled_samples,
)
from pipeline.data.on_demand import Mode, PictureHeader, Pictures, Size, decode, read_header
from pipeline.data.reader import (
    Block,
    Missing,
    NewRows,
    Reader,
    Rules,
    first_rows,
    numbers_of,
    sliced,
)
from pipeline.data.source import Array, Samples, Series, Source
from pipeline.errors import DataError

CHANNELS: dict[Mode, tuple[str, ...]] = {"L": ("grey",), "RGB": ("red", "green", "blue")}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
EXPECTED = "FOLDER/<class>/<pictures>, or FOLDER/train/<class>/<pictures> (and val, test)"
FILE, IMAGE = "file", "image"
"""Heading of the pictures' names; column of a DataFrame with their files' content."""


@dataclass(kw_only=True, eq=False)
class Images(Source):
    """Pictures with the class that their folder is named by.

    Args:
        path: The folder that holds a folder a class, or train, val and test with those in them.
        image_size: Height and width that all are resized to; None = all have one size.
        image_mode: L = grey, RGB = colour; None = grey where all are grey.
        positive: The positive one of two classes; None = the rarer.
    """

    path: str
    image_size: tuple[Annotated[int, Gt(0)], Annotated[int, Gt(0)]] | None
    image_mode: Mode | None
    positive: Word | None

    def read(self) -> Samples:
        """Find, check and decode the pictures, uint8 (rows, channels, height, width)."""
        found, strays = _find(readable(self.path))
        headers = [read_header(picture.file) for picture in found]
        are_grey = all(header.grey for header in headers)
        mode: Mode = self.image_mode or ("L" if are_grey else "RGB")
        size = self.image_size or _common_size(headers, found)
        pictures = Pictures([picture.file for picture in found], mode=mode, size=size)
        classes = sorted({picture.label for picture in found})
        indices = np.array([classes.index(picture.label) for picture in found])
        sizes = dict(Counter(picture.part for picture in found))
        target = classes_of(indices, classes, Asked(positive=self.positive))
        return labelled_samples(
            pictures.checked(),
            target,
            sizes,
            reading={"kind": "images", "size": list(size), "mode": mode},
            found=strays,
            notes=(
                *_absent(found, sizes),
                *_header_notes(headers, mode=self.image_mode, size=self.image_size),
            ),
            features=CHANNELS[mode],
            ids=np.array([picture.name for picture in found]),
        )


class _LabelledPicture(NamedTuple):
    file: Path
    name: str
    label: str
    part: PartName


class _Listing(NamedTuple):
    """A folder's content in sorted order, without hidden names."""

    folders: Sequence[Path]
    pictures: Sequence[Path]
    strays: Sequence[Path]


def _listed(folder: Path, root: Path) -> _Listing:
    """List a folder below `root`.

    Raises:
        DataError: A link in it leads out of `root`, or nowhere.
    """
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for entry in filter(Path.is_symlink, entries):
        led = entry.resolve()
        if not led.exists():
            raise DataError(f"{entry} is a link to {led}, which is not there; take it away")
        if not led.is_relative_to(root.resolve()):
            raise DataError(
                f"{entry} is a link out of {root}, to {led}; expected all pictures within the "
                "folder. Copy them there"
            )
    files = [entry for entry in entries if entry.is_file()]
    return _Listing(
        folders=[entry for entry in entries if entry.is_dir()],
        pictures=[file for file in files if file.suffix.lower() in SUFFIXES],
        strays=[file for file in files if file.suffix.lower() not in SUFFIXES],
    )


def _find(root: Path) -> tuple[Sequence[_LabelledPicture], list[str]]:
    """Return the pictures part after part and class after class, and a note on what is left away.

    Raises:
        DataError: There are no classes, one only, one without pictures, or a link leads out.
    """
    if not root.is_dir():
        raise DataError(f"{root} is a file; expected a folder, {EXPECTED}")
    top = _listed(root, root)
    strays = [*top.strays]
    pictures: list[_LabelledPicture] = []
    for part, listing in _parts(top, root):
        strays += [*(() if listing is top else listing.strays), *listing.pictures]
        for class_folder in listing.folders:
            found = _listed(class_folder, root)
            strays += [*found.strays, *found.folders]
            if not found.pictures:
                raise DataError(
                    f"{class_folder} has no picture; expected at least one for a class. Add some "
                    "or remove the folder"
                )
            for file in found.pictures:
                name = file.relative_to(root).as_posix()
                pictures.append(_LabelledPicture(file, name, class_folder.name, part))
    labels = sorted({picture.label for picture in pictures})
    if not labels:
        raise DataError(f"{root} has no class folders with pictures; expected {EXPECTED}")
    if len(labels) == 1:
        raise DataError(
            f"{root} has one class only, {labels[0]!r}, with {len(pictures)} pictures; expected a "
            f"folder for each of at least 2 classes: {EXPECTED}"
        )
    notes = [
        f"{len(strays)} files or folders are no pictures of a class and are left out: "
        f"{stray.relative_to(root).as_posix()}{', …' * (len(strays) > 1)}"
        for stray in strays[:1]
    ]
    return pictures, notes


def _parts(top: _Listing, root: Path) -> Iterator[tuple[PartName, _Listing]]:
    """Yield the parts in the order train, validation, test; the root itself if it has none."""
    named: dict[PartName, Path] = {}
    others: list[str] = []
    for folder in top.folders:
        part = PARTS.get(folder.name.lower())
        if part is None:
            others.append(folder.name)
        elif part in named:
            raise DataError(
                f"{root} has both {named[part].name!r} and {folder.name!r} for its {part} part; "
                "expected one of them"
            )
        else:
            named[part] = folder
    if "train" not in named or not _listed(named["train"], root).folders:
        yield "train", top
        return
    if others:
        raise DataError(
            f"{root} has the folder {others[0]!r} beside {named['train'].name!r}; expected "
            f"{EXPECTED}"
        )
    for part in dict.fromkeys(PARTS.values()):
        if part in named:
            yield part, _listed(named[part], root)


def _common_size(headers: Sequence[PictureHeader], pictures: Sequence[_LabelledPicture]) -> Size:
    first = headers[0].size
    for header, picture in zip(headers, pictures, strict=True):
        if header.size != first:
            (height, width), _ = Counter(each.size for each in headers).most_common(1)[0]
            raise DataError(
                f"{pictures[0].name} is {_words(first)} and {picture.name} is "
                f"{_words(header.size)} (height×width); expected one size. Resize all: "
                f"data.image_size=[{height},{width}]"
            )
    return first


def _words(size: Size) -> str:
    return f"{size[0]}×{size[1]}"


def _absent(pictures: Sequence[_LabelledPicture], parts: Iterable[PartName]) -> Iterator[str]:
    """Say which classes a part has no picture of."""
    classes = {picture.label for picture in pictures}
    for part in parts:
        missing = classes - {picture.label for picture in pictures if picture.part == part}
        if missing and part != "train":  # what training lacks is refused by the shared check
            yield f"the {part} part has no picture of class {', '.join(sorted(missing))}"


def _header_notes(
    headers: Sequence[PictureHeader], *, mode: Mode | None, size: Size | None
) -> Iterator[str]:
    """Say what was decided by the headers, where the user has not said it."""
    count, grey = len(headers), sum(header.grey for header in headers)
    mixed = f", {grey} of {count} are grey" if grey else ""
    if mode is None and grey == count:
        yield "all pictures are grey and read so; data.image_mode=RGB says otherwise"
    elif mode is None:
        yield f"the pictures are read in colour{mixed}; data.image_mode=L makes them grey"
    if size is not None and (others := sum(header.size != size for header in headers)):
        yield f"{others} of {count} pictures are resized to {_words(size)} (height×width)"
    if transparent := sum(header.transparent for header in headers):
        yield f"{transparent} of {count} pictures can be transparent; what is lies on white"


class ImageReader(Reader):
    """Reads pictures: files, or their content in the column `image` of a DataFrame."""

    def inputs(self) -> Any:
        """Describe the column of pictures."""
        return [{"name": IMAGE, "type": "binary"}]

    def example(self, raw: Samples | Series, content: Content) -> Any:
        """Return the first training pictures as PNG files in base64."""
        assert isinstance(raw, Samples)
        return [{IMAGE: _as_png(row)} for row in first_rows(raw, content)]

    def open(self, path: Path, rules: Rules, *, size: int) -> NewRows:
        """Open one picture, or a folder of them."""
        self.refuse_id(rules)
        place = readable(path, key="input")
        files, root = (_below(place), place) if place.is_dir() else ([place], place.parent)
        names = [file.relative_to(root).as_posix() for file in files]
        height, width = self.schema.reading["size"]
        raw = Pictures(files, mode=self.schema.reading["mode"], size=(height, width))
        return NewRows(heading=FILE, blocks=sliced(raw, names, size=size), total=len(raw))

    def apply(self, held: Any, *, what: str, missing: Missing = "refuse") -> Block:
        """Return the pictures of a DataFrame, uint8 (rows, channels, height, width), or numbers."""
        del missing
        if not hasattr(held, "columns"):
            return Block(raw=numbers_of(held, self.schema.raw_shape, what=what))
        if IMAGE not in held.columns:
            raise DataError(
                f"{what} has no column {IMAGE!r}; expected the content of a picture's file in each "
                "of its cells, as bytes or base64"
            )
        height, width = self.schema.reading["size"]
        decoded = [
            decode(
                _content(cell, f"{what} row {row}"),
                mode=self.schema.reading["mode"],
                size=(height, width),
                name=f"{what} row {row}",
            )
            for row, cell in enumerate(held[IMAGE], start=1)
        ]
        raw = np.array(decoded, dtype=np.uint8)
        return Block(raw=raw.reshape(len(decoded), *self.schema.raw_shape))


def _below(root: Path) -> list[Path]:
    """Return all pictures of a folder and of those in it, in sorted order.

    Raises:
        DataError: A link leads out, or there is no picture.
    """
    found: list[Path] = []
    waiting = [root]
    while waiting:
        listing = _listed(waiting.pop(), root)
        found += listing.pictures
        # A link to a folder could lead round in a ring.
        waiting += [folder for folder in listing.folders if not folder.is_symlink()]
    if not found:
        raise DataError(f"{root} has no picture; expected files {', '.join(SUFFIXES)}")
    return sorted(found)


def _content(cell: object, place: str) -> bytes:
    if isinstance(cell, bytes | bytearray | memoryview):
        return bytes(cell)
    try:
        return base64.b64decode(str(cell), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(
            f"{place}, column {IMAGE!r}: neither bytes nor base64; expected the content "
            "of a picture's file"
        ) from error


def _as_png(row: Array) -> str:
    """Return a picture (channels, height, width) as the base64 text of a PNG file."""
    from PIL import Image

    pixels = np.moveaxis(row.astype(np.uint8), 0, -1)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


READER = ImageReader
