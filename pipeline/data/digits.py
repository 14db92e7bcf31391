"""Handwritten digits of 8×8 pixels (scikit-learn's `load_digits`)."""

from dataclasses import replace

import numpy as np

from pipeline.data.shipped import ScikitLearnSet
from pipeline.data.source import Samples

LARGEST_VALUE = 16


class Digits(ScikitLearnSet):
    """1,797 grey pictures of ten digits, 8×8 pixels with values from 0 to 1."""

    name = "digits"

    def read(self) -> Samples:
        """Read the pictures, (rows, 1, 8, 8)."""
        table = super().read()
        pixels = (np.asarray(table.inputs) / LARGEST_VALUE).astype(np.float32)
        return replace(table, inputs=pixels.reshape(-1, 1, 8, 8), features=("grey",))
