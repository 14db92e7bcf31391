"""Parts that a file itself gives, laid behind one another: training, validation, test."""

from collections.abc import Mapping

import numpy as np

from pipeline.data.array_files.labels import Where
from pipeline.data.array_files.names import PartName
from pipeline.data.source import Indices


def part_rows(sizes: Mapping[PartName, int]) -> dict[PartName, Indices]:
    """Return the row numbers of each part, in the order they come."""
    rows: dict[PartName, Indices] = {}
    start = 0
    for part, size in sizes.items():
        rows[part] = np.arange(start, start + size)
        start += size
    return rows


def part_notes(sizes: Mapping[PartName, int]) -> list[str]:
    """Tell which parts the files give themselves, if they give more than one."""
    if len(sizes) < 2:
        return []
    listed = ", ".join(f"{part} {size}" for part, size in sizes.items())
    return [f"the files give their own parts: {listed} rows"]


def places(sizes: Mapping[str, int]) -> Where:
    """Return what names the place of a row of labels laid behind one another.

    Args:
        sizes: Rows of each array by its label in messages.
    """

    def where(row: int) -> str:
        for label, size in sizes.items():
            if row < size:
                return f"{label}[{row}]"
            row -= size
        raise IndexError(row)

    return where
