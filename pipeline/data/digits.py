"""Handwritten digits of 8×8 pixels (scikit-learn's `load_digits`)."""

import numpy as np

from pipeline.data.scikit import shipped
from pipeline.data.source import Samples, Source

LARGEST_VALUE = 16


class Digits(Source):
    """1,797 grey pictures of 8×8 pixels, 0 … 1, of ten digits."""

    def read(self) -> Samples:
        """Read the pictures, (rows, 1, 8, 8)."""
        table = shipped("digits")
        return Samples(
            inputs=(table.inputs / LARGEST_VALUE).astype(np.float32).reshape(-1, 1, 8, 8),
            targets=table.targets,
            task="multiclass",
            classes=table.classes,
            features=("grey",),
        )
