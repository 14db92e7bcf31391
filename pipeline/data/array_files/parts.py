"""Parts that a file itself gives, laid behind one another: training, validation, test."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.data.array_files.labels import Target, Where
from pipeline.data.array_files.names import PartName
from pipeline.data.source import Array, Indices, OnDemand, Reading, Samples


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


def labelled_samples(
    inputs: Array | OnDemand,
    target: Target,
    sizes: Mapping[PartName, int],
    *,
    reading: Reading,
    notes: Sequence[str],
    features: tuple[str, ...] = (),
    units: str = "",
    ids: Array | None = None,
) -> Samples:
    """Return rows with what is to be predicted, their parts laid behind one another.

    Args:
        inputs: The rows of all parts.
        target: What is to be predicted, likewise.
        sizes: Rows of each part, in their order.
        reading: How new rows of this kind are read.
        notes: What was found in the files; what was decided about the target follows.
        features: Names along the channels.
        units: Unit of a regression's targets.
        ids: A name for each row.
    """
    rows = part_rows(sizes)
    return Samples(
        inputs=inputs,
        targets=target.values,
        task=target.task,
        classes=target.classes,
        features=features,
        units=units,
        test=rows.get("test"),
        validation=rows.get("validation"),
        ids=ids,
        reading=reading,
        notes=(*notes, *target.notes),
    )


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
