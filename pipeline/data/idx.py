"""Pictures in MNIST's idx format: a folder with images and labels of two parts."""

from collections.abc import Mapping

import numpy as np

from pipeline.data.array_files.idx import read_idx
from pipeline.data.array_files.idx_folder import IdxPair, find_idx
from pipeline.data.array_files.joined import join
from pipeline.data.array_files.labels import Asked, Target, Word, target_of
from pipeline.data.array_files.layout import arranged, layout_of
from pipeline.data.array_files.names import PartName
from pipeline.data.array_files.parts import labelled_samples, part_notes, places
from pipeline.data.array_files.places import readable
from pipeline.data.array_files.values import require_numbers
from pipeline.data.source import Array, Samples, Source
from pipeline.errors import DataError


class Idx(Source):
    """Pictures with a class each; the files' own split is kept.

    Args:
        path: The folder, or the file of its training images.
        classes: Names of the classes in the order of their labels; empty = the labels.
        positive: The positive one of two classes; None = the rarer.
    """

    def __init__(self, *, path: str, classes: list[Word], positive: Word | None) -> None:
        self.path = path
        self.asked = Asked(classes=classes, positive=positive, always_classes=True)

    def read(self) -> Samples:
        """Read the pictures, (rows, channels, height, width), the training part first."""
        pairs = find_idx(readable(self.path))
        images = {part: read_idx(pair.images) for part, pair in pairs.items()}
        labels = {part: read_idx(pair.labels) for part, pair in pairs.items()}
        _check(pairs, images, labels)
        first = images["train"]
        layout = layout_of(first.shape, first.dtype, "images" if first.ndim == 3 else None)
        sizes = {part: len(array) for part, array in images.items()}
        target = self._target(pairs, labels)
        return labelled_samples(
            join([arranged(array, layout) for array in images.values()]),
            target,
            sizes,
            reading={
                "kind": "array",
                "format": "idx",
                "layout": layout,
                "axes": first.ndim,
                "dtype": first.dtype.name,
            },
            notes=part_notes(sizes),
        )

    def _target(
        self, pairs: Mapping[PartName, IdxPair], labels: Mapping[PartName, Array]
    ) -> Target:
        sizes = {pairs[part].labels.name: len(array) for part, array in labels.items()}
        return target_of(np.concatenate(list(labels.values())), self.asked, places(sizes))


def _check(
    pairs: Mapping[PartName, IdxPair],
    images: Mapping[PartName, Array],
    labels: Mapping[PartName, Array],
) -> None:
    """Refuse counts that differ, labels of another rank, and parts of different sizes."""
    train = pairs["train"].images
    for part, pair in pairs.items():
        pictures, numbers = images[part], labels[part]
        if numbers.ndim != 1 or len(numbers) != len(pictures):
            raise DataError(
                f"{pair.images} has shape {pictures.shape} and {pair.labels} has shape "
                f"{numbers.shape}; expected as many labels as images"
            )
        if len(pictures) == 0:
            raise DataError(f"{pair.images} has 0 images; expected at least one")
        if pictures.shape[1:] != images["train"].shape[1:]:
            raise DataError(
                f"{train} has shape {images['train'].shape} and {pair.images} has shape "
                f"{pictures.shape}; expected one height and width"
            )
        require_numbers(pictures, str(pair.images))
