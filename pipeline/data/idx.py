"""Pictures in MNIST's idx format: a folder with images and labels of two parts, gzipped or not."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.data.array_files import (
    PartName,
    arranged,
    files_in,
    join,
    layout_of,
    read_idx,
    readable,
    require_content,
    require_numbers,
)
from pipeline.data.labels import Asked, Word, joined_target, labelled_samples
from pipeline.data.source import Array, Samples, Source
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


class _Pair(NamedTuple):
    """The two files of a part."""

    images: Path
    labels: Path


@dataclass(kw_only=True, eq=False)
class Idx(Source):
    """Pictures with a class each; the files' own split is kept.

    Args:
        path: The folder, or the file of its training images.
        classes: Names of the classes in the order of their labels; empty = the labels.
        positive: The positive one of two classes; None = the rarer.
    """

    path: str
    classes: list[Word]
    positive: Word | None

    def read(self) -> Samples:
        """Read the pictures, (rows, channels, height, width), the training part first."""
        pairs = _pairs(readable(self.path))
        images = {part: read_idx(pair.images) for part, pair in pairs.items()}
        first = images["train"]
        sizes = {part: len(array) for part, array in images.items()}
        labels: list[tuple[str, Array]] = []
        for part, pair in pairs.items():
            labels.append((pair.labels.name, _labels(pair, images[part])))
            if images[part].shape[1:] != first.shape[1:]:
                raise DataError(
                    f"{pairs['train'].images} has shape {first.shape} and {pair.images} has shape "
                    f"{images[part].shape}; expected one height and width"
                )
            require_numbers(images[part], str(pair.images))
        layout = layout_of(first.shape, first.dtype, "images" if first.ndim == 3 else None)
        asked = Asked(classes=self.classes, positive=self.positive, always_classes=True)
        return labelled_samples(
            join([arranged(array, layout) for array in images.values()]),
            joined_target(labels, asked),
            sizes,
            reading={
                "kind": "array",
                "format": "idx",
                "layout": layout,
                "axes": first.ndim,
                "dtype": first.dtype.name,
            },
        )


def _labels(pair: _Pair, pictures: Array) -> Array:
    """Read as many labels as there are pictures."""
    labels = read_idx(pair.labels)
    if labels.ndim != 1 or len(labels) != len(pictures):
        raise DataError(
            f"{pair.images} has shape {pictures.shape} and {pair.labels} has shape "
            f"{labels.shape}; expected as many labels as images"
        )
    if len(pictures) == 0:
        raise DataError(f"{pair.images} has 0 images; expected at least one")
    return labels


def _pairs(place: Path) -> dict[PartName, _Pair]:
    """Find the files from their folder, or from one of them.

    Raises:
        DataError: Files are missing, or several data sets lie there.
    """
    folder = place if place.is_dir() else place.parent
    sets = _sets(folder)
    if place.is_dir():
        if not sets:
            raise DataError(f"{place} has no idx files; expected {EXPECTED}")
        prefix, *others = sets
        if others:
            raise DataError(
                f"{place} has {len(sets)} data sets, beginning with "
                f"{', '.join(map(repr, sets))}; say which: data.path={place}/FILE, the images to "
                "train on"
            )
    elif match := _NAME.fullmatch(place.name):
        prefix = match["prefix"]
    else:
        raise DataError(f"{place} is not named as a file of MNIST's; expected {EXPECTED}")
    roles = sets[prefix]
    found: dict[PartName, _Pair] = {}
    parts: tuple[PartName, ...] = ("train", "test")
    for part in parts:
        images, labels = (roles.get((part, role)) for role in ("images", "labels"))
        if images and labels:
            found[part] = _Pair(images, labels)
        elif there := images or labels:
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
