"""What the formats that Arrow reads with types share: bounds on memory, and cells as texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.data.parsing.array_files import MOST_RATIO, RATIO_FROM

if TYPE_CHECKING:
    import pyarrow as pa

#: Most rows of a batch.
BATCH_ROWS = 65_536
#: Most bytes of the texts in a batch, unless one row has more.
BATCH_BYTES = 2**26


def require_unpacked_size(path: Path, size: int) -> None:
    """Raise DataError if a file unpacks to more bytes than a file of its size may."""
    packed = path.stat().st_size
    if size > max(RATIO_FROM, MOST_RATIO * packed):
        raise DataError(
            f"{path} would unpack from {packed} to {size} bytes or more; expected less. Save it as "
            "CSV"
        )


def require_readable(path: Path, fields: Sequence[pa.Field], as_bytes: Sequence[str] = ()) -> None:
    """Raise DataError if a column holds neither numbers nor texts.

    `as_bytes` are the columns whose values are stored as bytes of any length.
    """
    import pyarrow as pa

    odd = {}
    for field in fields:
        is_text = pa.types.is_dictionary(field.type)
        kind = field.type.value_type if is_text else field.type
        # Decimals of any length can't be read as dictionaries.
        is_unbounded = field.name in as_bytes and not is_text
        if is_unbounded or not _has_texts(kind):
            odd[field.name] = kind
    if odd:
        name, kind = next(iter(odd.items()))
        raise DataError(
            f"{path}: the column {name!r} has type {kind}; expected numbers or strings. Add to "
            f"data.drop: {', '.join(odd)}"
        )


def _has_texts(kind: pa.DataType) -> bool:
    """Return whether Arrow writes the values of a type as texts; bytes need not be texts."""
    import pyarrow as pa

    stored = getattr(kind, "storage_type", kind)
    checks = ("binary", "large_binary", "binary_view", "fixed_size_binary")
    if any(getattr(pa.types, f"is_{name}")(stored) for name in checks):
        return False
    try:
        pa.array([], kind).cast(pa.string())
    except pa.ArrowException:
        return False
    return True


def texts_of(
    path: Path, batches: Iterable[pa.RecordBatch], columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Yield batches of typed cells as texts, with other names for their columns.

    Raises:
        DataError: The texts take more bytes than those of a file of this size may.
    """
    import pyarrow as pa

    size = 0
    for batch in batches:
        lengths = _text_bytes(batch.columns, batch.num_rows)
        size += int(lengths.sum())
        require_unpacked_size(path, size)
        for start, end in _pieces(lengths):
            texts = [_texts(cells.slice(start, end - start)) for cells in batch.columns]
            yield pa.RecordBatch.from_arrays(texts, names=[*columns])


def _text_bytes(cells: Sequence[pa.Array], rows: int) -> NDArray[np.int64]:
    """Return the bytes of the texts in each row, (rows,), without unpacking dictionaries."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = np.zeros(rows, dtype=np.int64)
    for column in cells:
        kind = column.type
        lengths = None
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            lengths = pc.binary_length(column)
        elif pa.types.is_dictionary(kind):
            words = column.dictionary.cast(pa.large_string())
            lengths = pc.take(pc.binary_length(words), column.indices)
        if lengths is not None:
            total += np.from_dlpack(pc.fill_null(lengths, 0)).astype(np.int64)
    return total


def _pieces(lengths: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the first row of each piece of a batch, and the one after its last.

    `lengths` has the bytes of the texts in each row, (rows,).
    """
    ends = lengths.cumsum()
    start = 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        fitting = int(np.searchsorted(ends, before + BATCH_BYTES, side="right"))
        end = max(fitting, start + 1)
        yield start, end
        start = end


def _texts(cells: pa.Array) -> pa.Array:
    import pyarrow as pa

    plain = cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells
    return plain.cast(pa.string())
