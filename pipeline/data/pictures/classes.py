"""A folder of pictures a class, or a folder of those a part."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.array_files.names import PARTS, PartName
from pipeline.data.pictures.walk import Listing, listed
from pipeline.errors import DataError

EXPECTED = "FOLDER/<class>/<pictures>, or FOLDER/train/<class>/<pictures> (and val, test)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPicture:
    """A picture with what its folders say.

    Args:
        file: Where it lies.
        name: Its path below the root.
        label: Its class.
        part: Its part; train where the folder names no parts.
    """

    file: Path
    name: str
    label: str
    part: PartName


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All pictures of a root, part after part, class after class.

    Args:
        pictures: At least one.
        notes: What was left away.
    """

    pictures: Sequence[LabelledPicture]
    notes: tuple[str, ...]


def find_labelled(root: Path) -> Found:
    """Find the pictures of each class.

    Raises:
        DataError: There are no classes, one only, one without pictures, or a link leads out.
    """
    if not root.is_dir():
        raise DataError(f"{root} is a file; expected a folder, {EXPECTED}")
    top = listed(root, root)
    strays = [*top.strays]
    pictures: list[LabelledPicture] = []
    for part, folder in _parts(top, root):
        listing = top if folder == root else listed(folder, root)
        strays += [] if folder == root else [*listing.strays]
        strays += listing.pictures
        for class_folder in listing.folders:
            found = listed(class_folder, root)
            strays += [*found.strays, *found.folders]
            pictures += _labelled(found, class_folder, part, root)
    _check(root, pictures)
    return Found(pictures=pictures, notes=tuple(_stray_note(strays, root)))


def _parts(top: Listing, root: Path) -> Iterator[tuple[PartName, Path]]:
    """Yield the parts in the order train, validation, test; the root itself if it has none."""
    named: dict[PartName, Path] = {}
    for folder in filter(_is_part, top.folders):
        part = PARTS[folder.name.lower()]
        if part in named:
            raise DataError(
                f"{root} has both {named[part].name!r} and {folder.name!r} for its {part} part; "
                "expected one of them"
            )
        named[part] = folder
    if "train" not in named or not listed(named["train"], root).folders:
        yield "train", root
        return
    others = [folder.name for folder in top.folders if not _is_part(folder)]
    if others:
        raise DataError(
            f"{root} has the folder {others[0]!r} beside {named['train'].name!r}; expected "
            f"{EXPECTED}"
        )
    for part in ("train", "validation", "test"):
        if part in named:
            yield part, named[part]


def _is_part(folder: Path) -> bool:
    return folder.name.lower() in PARTS


def _labelled(
    found: Listing, class_folder: Path, part: PartName, root: Path
) -> Iterator[LabelledPicture]:
    if not found.pictures:
        raise DataError(
            f"{class_folder} has no picture; expected at least one for a class. Add some or "
            "remove the folder"
        )
    for file in found.pictures:
        name = file.relative_to(root).as_posix()
        yield LabelledPicture(file=file, name=name, label=class_folder.name, part=part)


def _check(root: Path, pictures: Sequence[LabelledPicture]) -> None:
    labels = sorted({picture.label for picture in pictures})
    if not labels:
        raise DataError(f"{root} has no class folders with pictures; expected {EXPECTED}")
    if len(labels) == 1:
        raise DataError(
            f"{root} has one class only, {labels[0]!r}, with {len(pictures)} pictures; expected a "
            f"folder for each of at least 2 classes: {EXPECTED}"
        )


def _stray_note(strays: Sequence[Path], root: Path) -> list[str]:
    if not strays:
        return []
    first = strays[0].relative_to(root).as_posix()
    return [
        f"{len(strays)} files or folders are no pictures of a class and are left out: {first}"
        + (", …" if len(strays) > 1 else "")
    ]
