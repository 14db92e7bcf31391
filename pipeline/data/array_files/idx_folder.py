"""The files of a data set in MNIST's format: images and labels of two parts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.array_files.names import PartName
from pipeline.data.array_files.places import files_in, require_content
from pipeline.errors import DataError

EXPECTED = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte (each may end in .gz)"
)
_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<part>train|t10k|test)[-_](?P<role>images|labels)"
    r"(?:[-._]idx\d)?(?:[-._]ubyte)?(?:\.idx)?(?P<gz>\.gz)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdxPair:
    """The two files of a part."""

    images: Path
    labels: Path


def find_idx(place: Path) -> Mapping[PartName, IdxPair]:
    """Find the files from their folder, or from one of them.

    Raises:
        DataError: Files are missing, or several data sets lie there.
    """
    folder = place if place.is_dir() else place.parent
    sets = _sets(folder)
    prefix = _prefix(place, sets)
    roles = sets[prefix]
    found: dict[PartName, IdxPair] = {}
    parts: tuple[PartName, ...] = ("train", "test")
    for part in parts:
        files = [roles.get((part, role)) for role in ("images", "labels")]
        images, labels = files
        if images and labels:
            found[part] = IdxPair(images=images, labels=labels)
        elif images or labels:
            there = images or labels
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


def _prefix(place: Path, sets: Mapping[str, object]) -> str:
    if not place.is_dir():
        match = _NAME.fullmatch(place.name)
        if match is None:
            raise DataError(f"{place} is not named as a file of MNIST's; expected {EXPECTED}")
        return match["prefix"]
    if not sets:
        raise DataError(f"{place} has no idx files; expected {EXPECTED}")
    if len(sets) > 1:
        raise DataError(
            f"{place} has {len(sets)} data sets, beginning with {', '.join(map(repr, sets))}; say "
            f"which: data.path={place}/FILE, the images to train on"
        )
    return next(iter(sets))
