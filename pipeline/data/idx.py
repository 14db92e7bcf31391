"""Data source for pictures in MNIST's idx format: a folder of images and labels."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import DataError
from pipeline.data.parsing import array_files as files
from pipeline.data.parsing.array_layouts import arrange, array_reading, find_layout
from pipeline.data.parsing.labels import TargetKeys, Word, joined_target, labelled_samples
from pipeline.data.source import Array, Samples, Source

EXPECTED = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte (each may end in .gz)"
)
_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<part>train|t10k|test)[-_](?P<role>images|labels)"
    r"(?:[-._]idx\d)?(?:[-._]ubyte)?(?:\.idx)?(?P<gz>\.gz)?",
    re.IGNORECASE,
)


@dataclass(kw_only=True, eq=False)
class Idx(Source):
    """Pictures with one class each; the split of the files is kept.

    Args:
        path: The folder, or the file of its training images.
        classes: Names of the classes in the order of their labels; empty = the labels.
        positive: The positive one of two classes; None = the rarer one.
    """

    path: str
    classes: list[Word]
    positive: Word | None

    def read(self) -> Samples:
        """Read the pictures, (rows, channels, height, width), the training part first."""
        stored = {
            part: (files.idx_array(images_file), files.idx_array(labels_file))
            for part, (images_file, labels_file) in _pairs(files.readable(self.path)).items()
        }
        _require_matching_headers(stored)
        images: dict[files.PartName, Array] = {}
        labels: list[tuple[str, Array]] = []
        for part, (stored_images, stored_labels) in stored.items():
            images[part] = stored_images.read()
            files.require_numbers(images[part], stored_images.label)
            labels.append((stored_labels.path.name, stored_labels.read()))
        train = images["train"]
        layout = find_layout(train.shape, train.dtype, "images" if train.ndim == 3 else None)
        keys = TargetKeys(classes=self.classes, positive=self.positive, always_classes=True)
        return labelled_samples(
            files.join([arrange(array, layout) for array in images.values()]),
            joined_target(labels, keys),
            {part: len(array) for part, array in images.items()},
            reading=array_reading("idx", layout, train.shape, train.dtype),
        )


def _require_matching_headers(
    stored: Mapping[files.PartName, tuple[files.StoredArray, files.StoredArray]],
) -> None:
    """Compare the headers of all files before any of them is unpacked.

    Raises:
        DataError: A file has no images, or another number or size of them than expected.
    """
    train, _ = stored["train"]
    for images, labels in stored.values():
        images.require_stored_size()
        labels.require_stored_size()
        if labels.shape != images.shape[:1]:
            raise DataError(
                f"{images.label} has shape {images.shape} and {labels.label} has shape "
                f"{labels.shape}; expected equal numbers of labels and images"
            )
        if images.shape[0] == 0:
            raise DataError(f"{images.label} has 0 images; expected at least one")
        if images.shape[1:] != train.shape[1:]:
            raise DataError(
                f"{train.label} has shape {train.shape} and {images.label} has shape "
                f"{images.shape}; expected one height and width"
            )


def _pairs(place: Path) -> dict[files.PartName, tuple[Path, Path]]:
    """Return the files of images and labels of each part, given their folder or one of them."""
    folder = place if place.is_dir() else place.parent
    match = None if place.is_dir() else _NAME.fullmatch(place.name)
    sets: dict[
        str, dict[tuple[files.PartName, str], Path]
    ] = {}  # by prefix, such as `emnist-letters-`
    for file in files.files_in(folder):
        name = _NAME.fullmatch(file.name)
        if name is not None:
            part: files.PartName = "train" if name["part"].lower() == "train" else "test"
            # An unpacked file precedes its `.gz` in sorted order, so it is the one that is read.
            sets.setdefault(name["prefix"], {}).setdefault((part, name["role"].lower()), file)
    if folder != place and match is None:
        raise DataError(f"{place} does not have the name of an MNIST file; expected {EXPECTED}")
    if not sets:
        raise DataError(f"{place} has no idx files; expected {EXPECTED}")
    if match is None and len(sets) > 1:
        raise DataError(
            f"{place} has {len(sets)} data sets, such as {', '.join(map(repr, sets))}; choose "
            f"one: data.path={place}/FILE, the training images"
        )
    set_files = sets[match["prefix"]] if match else next(iter(sets.values()))
    return files.complete_pairs(
        set_files, ("images", "labels"), str(folder), f"expected {EXPECTED}"
    )
