"""What is wrong with the data, or worth telling, before a network sees them."""

from collections.abc import Iterator

import numpy as np

from pipeline.data.scale import Statistics, rows_a_block
from pipeline.data.source import Array, Indices, Samples
from pipeline.data.split import Split
from pipeline.errors import DataError

NAMED = 5  # names in a note before "…"


def check_rows(samples: Samples) -> None:
    """Refuse samples without a row, or with inputs and targets of different lengths.

    Raises:
        DataError: Says the numbers of rows.
    """
    rows, targets = len(samples.inputs), len(samples.targets)
    if rows == 0:
        raise DataError("the data has no rows; expected at least one in each part")
    if rows != targets:
        raise DataError(f"the data has {rows} rows of inputs and {targets} of targets")


def check_finite(raw: Array, what: str) -> None:
    """Refuse NaN and infinity, by row.

    Raises:
        DataError: Names the first row and how many there are.
    """
    if raw.dtype.kind != "f":
        return
    holes = np.concatenate(
        [~np.isfinite(block).reshape(len(block), -1).all(1) for block in _blocks(raw)]
    )
    if holes.any():
        raise DataError(
            f"{what} has {holes.sum()} rows with a missing or infinite value, the first is row "
            f"{int(holes.argmax())}; expected numbers. Fill them in or leave these rows out"
        )


def check_classes(samples: Samples, split: Split) -> None:
    """Refuse one class only, and a class that is tested but never trained.

    Raises:
        DataError: Names the class, its count or its part.
    """
    labels = samples.targets
    trained = np.unique(labels[split.train])
    if len(np.unique(labels)) < 2:
        raise DataError(
            f"all {len(labels)} rows are of class {samples.classes[trained[0]]!r}; "
            "expected at least 2 classes"
        )
    for part, rows in split.parts().items():
        untrained = np.setdiff1d(labels[rows], trained)
        if len(untrained):
            raise DataError(
                f"class {samples.classes[untrained[0]]!r} is in the {part} part but not in the "
                "training part; give it more rows or try another data.split_seed"
            )


def constant_note(measured: Statistics, names: tuple[str, ...]) -> list[str]:
    """Tell which features or channels have one value in the whole training part."""
    found = np.flatnonzero(measured.constant)
    if not len(found):
        return []
    listed = ", ".join(names[index] if names else f"number {index}" for index in found[:NAMED])
    more = ", …" if len(found) > NAMED else ""
    return [
        f"{len(found)} of {len(measured.constant)} features are constant in the training part and "
        f"say nothing: {listed}{more}"
    ]


def repeated_note(raw: Array, split: Split) -> list[str]:
    """Tell how many test rows also stand in the training part."""
    trained = set(_row_hashes(raw, split.train))
    repeated = sum(row in trained for row in _row_hashes(raw, split.test))
    if not repeated:
        return []
    return [
        f"{repeated} of {len(split.test)} test rows have inputs that also stand in the training "
        "part: the test flatters the network there"
    ]


def _row_hashes(raw: Array, rows: Indices) -> Iterator[int]:
    return (hash(np.ascontiguousarray(raw[row]).tobytes()) for row in rows)


def _blocks(raw: Array) -> Iterator[Array]:
    size = rows_a_block(raw)
    return (raw[start : start + size] for start in range(0, len(raw), size))
