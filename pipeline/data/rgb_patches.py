"""Small colour pictures cut from the two photographs that scikit-learn ships."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.parsing.labels import TargetKeys, classes_of
from pipeline.data.shipped import Arrays, cached
from pipeline.data.source import Samples, Source

SIZE = 16  # pixels a side
PHOTOGRAPHS = ("china", "flower")


@dataclass(kw_only=True, eq=False)
class RGBPatches(Source):
    """Patches of 16×16 pixels that do not overlap; the class is the photograph they come from.

    All patches of a column stay in one part, so the validation part is a region of its own too.

    Args:
        positive: Positive class: china or flower.
        test_from: First pixel column, of 640, of the test region.
    """

    positive: str
    test_from: int

    def read(self) -> Samples:
        """Cut the patches, uint8 (rows, 3, 16, 16)."""
        arrays = cached("rgb_patches", _make, made_by="scikit-learn")
        target = classes_of(arrays["targets"], PHOTOGRAPHS, TargetKeys(positive=self.positive))
        return Samples(
            inputs=arrays["inputs"],
            targets=target.values,
            task=target.task,
            classes=target.classes,
            is_turned=target.is_turned,
            features=("red", "green", "blue"),
            test=np.flatnonzero(arrays["columns"] >= self.test_from),
            groups=arrays["columns"],
        )


def _make() -> Arrays:
    from sklearn.datasets import load_sample_images

    bunch = load_sample_images()
    names = [Path(name).stem for name in bunch.filenames]
    inputs = []
    columns = []
    for name in PHOTOGRAPHS:
        photograph = bunch.images[names.index(name)]  # (height, width, 3)
        down = photograph.shape[0] // SIZE
        across = photograph.shape[1] // SIZE
        region = photograph[: down * SIZE, : across * SIZE]
        grid = region.reshape(down, SIZE, across, SIZE, 3)
        inputs.append(grid.transpose(0, 2, 4, 1, 3).reshape(-1, 3, SIZE, SIZE))
        columns.append(np.tile(np.arange(across) * SIZE, down))  # first pixel column of each patch
    return {
        "inputs": np.concatenate(inputs),
        "columns": np.concatenate(columns),
        "targets": np.repeat([0, 1], [*map(len, inputs)]),
    }
