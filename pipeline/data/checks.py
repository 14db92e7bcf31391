"""What is wrong with the data, or worth telling, before a network sees them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.data.scale import Statistics, rows_a_block
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Indices, OnDemand, Samples
from pipeline.data.split import Split, counted
from pipeline.errors import DataError

FOUND_AT_ONCE = 65_536
MIXED_BYTES = 4 * 2**20
"""Of rows whose bits are mixed at once, which takes several copies."""


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


def check_finite(raw: Array | OnDemand, what: str, *, holes_too: bool = True) -> None:
    """Refuse NaN and infinity, by row.

    Args:
        raw: (rows, …).
        what: Its name in the message.
        holes_too: Refuse NaN; False = infinity alone, since holes will be filled in.

    Raises:
        DataError: Names the first row and how many there are.
    """
    if raw.dtype.kind != "f" or isinstance(raw, OnDemand):
        return
    wrong = (lambda block: ~np.isfinite(block)) if holes_too else np.isinf
    holes = np.concatenate([wrong(block).reshape(len(block), -1).any(1) for block in _blocks(raw)])
    if holes.any():
        kind = "a missing or infinite" if holes_too else "an infinite"
        raise DataError(
            f"{what} has {holes.sum()} rows with {kind} value, the first is row "
            f"{int(holes.argmax())}; expected numbers. Fill them in or leave these rows out"
        )


def check_classes(samples: Samples, split: Split) -> None:
    """Refuse one class only, and a class that is tested but never trained.

    Raises:
        DataError: Names the class, its count or its part.
    """
    labels = samples.targets
    trained, _ = counted(labels[split.train])
    if len(counted(labels)[0]) < 2:
        raise DataError(
            f"all {len(labels)} rows are of class {samples.classes[trained[0]]!r}; "
            "expected at least 2 classes"
        )
    for part, rows in split.parts().items():
        untrained = np.setdiff1d(counted(labels[rows])[0], trained)
        if len(untrained):
            raise DataError(
                f"class {samples.classes[untrained[0]]!r} is in the {part} part but not in the "
                "training part; give it more rows or try another data.split_seed"
            )


def constant_columns(measured: Statistics, schema: Schema) -> tuple[str, ...]:
    """Return the columns or channels that have one value in the whole training part.

    Args:
        measured: What that part says of each feature, once encoded.
        schema: Says which features a column has become.
    """
    if schema.encoder is None:
        names = schema.features or tuple(f"number {n}" for n in range(len(measured.constant)))
        return tuple(name for name, same in zip(names, measured.constant, strict=True) if same)
    sizes = [len(code.features) for code in schema.encoder.codes]
    flags = np.split(measured.constant, np.cumsum(sizes)[:-1])
    pairs = zip(schema.encoder.codes, flags, strict=True)
    return tuple(code.name for code, same in pairs if same.all())


def check_apart(raw: Array | OnDemand, split: Split) -> None:
    """Refuse test rows whose inputs also stand in the training part.

    Raises:
        DataError: Says how many there are.
    """
    if repeated := repeated_rows(raw, split):
        raise DataError(
            f"{repeated} of {len(split.test)} test rows have inputs that also stand in the "
            "training part; expected none, since data.strict=true. Leave them out, or keep them "
            "together with data.group=COLUMN"
        )


def repeated_rows(raw: Array | OnDemand, split: Split) -> int:
    """Count the test rows whose inputs stand in the training part as well."""
    return count_among(fingerprints(raw, split.test), fingerprints(raw, split.train))


def count_among(sought: NDArray[np.uint64], known: NDArray[np.uint64]) -> int:
    """Count the rows (rows,) whose fingerprint is among known ones; both are put in order."""
    if not len(known):
        return 0
    known.sort()
    sought.sort()
    # Both in order, so that looking up millions stays in the processor's cache, without copies.
    blocks = (
        sought[start : start + FOUND_AT_ONCE] for start in range(0, len(sought), FOUND_AT_ONCE)
    )
    return sum(int((known[_place(known, block)] == block).sum()) for block in blocks)


def _place(ordered: NDArray[np.uint64], sought: NDArray[np.uint64]) -> Indices:
    """Return where each number would stand; the last place for those behind all others."""
    return np.minimum(np.searchsorted(ordered, sought), len(ordered) - 1)


def fingerprints(raw: Array | OnDemand, rows: Indices) -> NDArray[np.uint64]:
    """Return 64 bits for each of the given rows, equal for equal content, (rows,)."""
    if isinstance(raw, OnDemand):
        return raw.fingerprints[rows]
    width = int(np.prod(raw.shape[1:]))
    factors = np.random.default_rng(0).integers(1, 2**63, width, dtype=np.uint64) * 2 + 1
    size = rows_a_block(raw, most_bytes=MIXED_BYTES)
    found = np.empty(len(rows), dtype=np.uint64)
    for start in range(0, len(rows), size):
        block = np.asarray(raw[rows[start : start + size]], dtype=np.float64)
        bits = np.ascontiguousarray(block).reshape(len(block), -1).view(np.uint64)
        # The high bits of a float say most, and a product moves bits upwards alone.
        mixed = (bits ^ (bits >> np.uint64(32))) * factors
        found[start : start + len(block)] = (mixed ^ (mixed >> np.uint64(29))).sum(axis=1)
    return found


def _blocks(raw: Array) -> Iterator[Array]:
    size = rows_a_block(raw)
    return (raw[start : start + size] for start in range(0, len(raw), size))
