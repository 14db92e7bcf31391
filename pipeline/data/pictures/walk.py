"""What lies in a folder of pictures; a link that leads out of it is refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.pictures.opened import SUFFIXES
from pipeline.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A folder's content in sorted order; hidden names are left away.

    Args:
        folders: Folders in it.
        pictures: Files with the suffix of a picture.
        strays: Other files.
    """

    folders: Sequence[Path]
    pictures: Sequence[Path]
    strays: Sequence[Path]


def listed(folder: Path, root: Path) -> Listing:
    """List a folder below `root`.

    Raises:
        DataError: A link in it leads out of `root`, or nowhere.
    """
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for entry in entries:
        _refuse_leaving(entry, root)
    files = [entry for entry in entries if entry.is_file()]
    return Listing(
        folders=[entry for entry in entries if entry.is_dir()],
        pictures=[file for file in files if file.suffix.lower() in SUFFIXES],
        strays=[file for file in files if file.suffix.lower() not in SUFFIXES],
    )


def pictures_below(root: Path) -> list[Path]:
    """Return all pictures of a folder and of those in it, in sorted order.

    Raises:
        DataError: As `listed`, or there is no picture.
    """
    found: list[Path] = []
    waiting = [root]
    while waiting:
        listing = listed(waiting.pop(), root)
        found += listing.pictures
        # A link to a folder could lead round in a ring.
        waiting += [folder for folder in listing.folders if not folder.is_symlink()]
    if not found:
        raise DataError(f"{root} has no picture; expected files {', '.join(SUFFIXES)}")
    return sorted(found)


def _refuse_leaving(entry: Path, root: Path) -> None:
    if not entry.is_symlink():
        return
    led = entry.resolve()
    if not led.exists():
        raise DataError(f"{entry} is a link to {led}, which is not there; take it away")
    if not led.is_relative_to(root.resolve()):
        raise DataError(
            f"{entry} is a link out of {root}, to {led}; expected all pictures within the folder. "
            "Copy them there"
        )
