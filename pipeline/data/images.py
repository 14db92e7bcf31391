"""Pictures in folders: one folder a class, given parts or not."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from annotated_types import Gt

from pipeline.data.array_files.labels import Asked, Word, classes_of
from pipeline.data.array_files.names import PartName
from pipeline.data.array_files.parts import labelled_samples, part_notes
from pipeline.data.array_files.places import readable
from pipeline.data.pictures.choices import choose
from pipeline.data.pictures.classes import LabelledPicture, find_labelled
from pipeline.data.pictures.decoding import Mode, look
from pipeline.data.pictures.on_demand import Pictures, judged
from pipeline.data.reading_arrays import ImageReader
from pipeline.data.source import Samples, Source

CHANNELS: dict[Mode, tuple[str, ...]] = {"L": ("grey",), "RGB": ("red", "green", "blue")}


class Images(Source):
    """Pictures with the class that their folder is named by.

    Args:
        path: The folder that holds a folder a class, or train, val and test with those in them.
        image_size: Height and width that all are resized to; None = all have one size.
        image_mode: L = grey, RGB = colour; None = grey where all are grey.
        positive: The positive one of two classes; None = the rarer.
    """

    def __init__(
        self,
        *,
        path: str,
        image_size: tuple[Annotated[int, Gt(0)], Annotated[int, Gt(0)]] | None,
        image_mode: Mode | None,
        positive: Word | None,
    ) -> None:
        self.path = path
        self.image_size = image_size
        self.image_mode = image_mode
        self.asked = Asked(positive=positive)

    def read(self) -> Samples:
        """Find, judge and decode the pictures, uint8 (rows, channels, height, width)."""
        found = find_labelled(readable(self.path))
        files = [picture.file for picture in found.pictures]
        names = [picture.name for picture in found.pictures]
        looks = [look(file, str(file)) for file in files]
        choice = choose(looks, names, mode=self.image_mode, size=self.image_size)
        pictures = Pictures(files, mode=choice.mode, size=choice.size)
        classes = sorted({picture.label for picture in found.pictures})
        indices = np.array([classes.index(picture.label) for picture in found.pictures])
        target = classes_of(indices, classes, self.asked)
        sizes = _sizes(found.pictures)
        return labelled_samples(
            judged(pictures),
            target,
            sizes,
            reading={"kind": "images", "size": list(choice.size), "mode": choice.mode},
            notes=(
                *found.notes,
                *part_notes(sizes),
                *_absent(found.pictures, sizes),
                *choice.notes,
            ),
            features=CHANNELS[choice.mode],
            ids=np.array(names),
        )


def _sizes(pictures: Sequence[LabelledPicture]) -> dict[PartName, int]:
    return dict(Counter(picture.part for picture in pictures))


def _absent(pictures: Sequence[LabelledPicture], sizes: dict[PartName, int]) -> Iterator[str]:
    """Tell which classes a part has no picture of."""
    classes = {picture.label for picture in pictures}
    for part in sizes:
        missing = classes - {picture.label for picture in pictures if picture.part == part}
        if missing and part != "train":  # what training lacks is refused by the shared check
            yield f"the {part} part has no picture of class {', '.join(sorted(missing))}"


READER = ImageReader
