"""Whether arrays of inputs can stand behind one another."""

from collections.abc import Sequence

import numpy as np

from pipeline.data.array_files.stored import Stored
from pipeline.errors import DataError


def require_alike(stored: Sequence[Stored]) -> None:
    """Refuse inputs that a network can't take together, or at all.

    Raises:
        DataError: Their shapes or types differ, or they are no numbers.
    """
    first = stored[0]
    for one in stored:
        one.refuse_objects()
        if one.dtype.kind not in "biuf":
            raise DataError(f"{one.label} has values of type {one.dtype}; expected numbers")
        if one.shape[1:] != first.shape[1:]:
            raise DataError(
                f"{first.label} has shape {first.shape} and {one.label} has shape {one.shape}; "
                "expected the same shape but for the number of rows"
            )
        if (one.dtype == np.uint8) != (first.dtype == np.uint8):
            raise DataError(
                f"{first.label} is of type {first.dtype} and {one.label} of type {one.dtype}; "
                "expected one type, since uint8 means 0 to 255"
            )
