"""Parquet files of a user: their columns, and batches of rows as texts, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.array_files import MOST_RATIO, RATIO_FROM
from pipeline.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

#: Most rows of a batch.
BATCH_ROWS = 65_536
#: Most bytes of the texts in a batch, unless one row has more.
BATCH_BYTES = 2**26


def names_in(path: Path) -> tuple[str, ...]:
    """Return the names of a file's columns.

    Raises:
        DataError: The file can't be read, or would unpack to more than a file of its size may.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path)
        names = tuple(metadata.schema.to_arrow_schema().names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} starts as a Parquet file but can't be read; it may be incomplete"
        ) from error
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    unpacked = sum(group.total_byte_size for group in groups)
    # Equal cells take no room, but each becomes a number, or is as wide as its column.
    row = sum(max(8, column.length) for column in _stored_columns(metadata).values())
    _require_unpacked_size(path, max(unpacked, metadata.num_rows * row))
    return names


def texts_in(path: Path, names: Sequence[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file in batches, all cells as texts.

    Args:
        path: The file.
        names: Names of all columns of the file, in its order.
        columns: The columns to read, of `names`.

    Raises:
        DataError: The file can't be read, a column holds neither numbers nor texts, or all texts
            together are longer than those of a file of its size may be.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path)
        stored = _stored_columns(metadata).items()
        as_bytes = [name for name, column in stored if column.physical_type == "BYTE_ARRAY"]
        # Dictionaries take as much memory as in the file, however often a text repeats.
        with pq.ParquetFile(
            path, metadata=metadata, read_dictionary=as_bytes, arrow_extensions_enabled=False
        ) as file:
            fields = dict(zip(names, file.schema_arrow, strict=True))
            chosen = [fields[name] for name in columns]
            _require_readable(path, chosen, as_bytes)
            size = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=[one.name for one in chosen]):
                cells = [batch.column(one.name) for one in chosen]
                lengths = _text_bytes(cells, batch.num_rows)
                size += int(lengths.sum())
                _require_unpacked_size(path, size)
                for start, end in _pieces(lengths):
                    texts = [_texts(one.slice(start, end - start)) for one in cells]
                    yield pa.RecordBatch.from_arrays(texts, names=[*columns])
    except (pa.ArrowException, OSError) as error:
        line = " ".join(str(error).split()).rstrip(".")
        raise DataError(
            f"{path} can't be read as Parquet: {line}; save it again, or as CSV"
        ) from error


def _stored_columns(metadata: pq.FileMetaData) -> dict[str, pq.ColumnSchema]:
    """Return the columns as they are stored, by their paths."""
    columns = map(metadata.schema.column, range(metadata.num_columns))
    return {column.path: column for column in columns}


def _require_unpacked_size(path: Path, size: int) -> None:
    """Raise DataError if a file unpacks to more bytes than a file of its size may."""
    packed = path.stat().st_size
    if size > max(RATIO_FROM, MOST_RATIO * packed):
        raise DataError(
            f"{path} would unpack from {packed} to {size} bytes or more; expected less. Save it as "
            "CSV"
        )


def _require_readable(path: Path, fields: Sequence[pa.Field], as_bytes: Sequence[str]) -> None:
    """Raise DataError if a column holds neither numbers nor texts.

    `as_bytes` are the columns whose values are stored as bytes of any length.
    """
    import pyarrow as pa

    odd = {}
    for field in fields:
        is_text = pa.types.is_dictionary(field.type)
        kind = field.type.value_type if is_text else field.type
        is_binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
        # Decimals of any length can't be read as dictionaries.
        is_unbounded = field.name in as_bytes and not is_text
        if is_binary or is_unbounded or pa.types.is_nested(kind):
            odd[field.name] = kind
    if odd:
        name, kind = next(iter(odd.items()))
        raise DataError(
            f"{path}: the column {name!r} has type {kind}; expected numbers or strings. Add to "
            f"data.drop: {', '.join(odd)}"
        )


def _text_bytes(cells: Sequence[pa.Array], rows: int) -> NDArray[np.int64]:
    """Return the bytes of the texts in each row, (rows,), without unpacking dictionaries."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = np.zeros(rows, dtype=np.int64)
    for one in cells:
        if pa.types.is_dictionary(one.type):
            lengths = pc.take(pc.binary_length(one.dictionary), one.indices)
            total += np.from_dlpack(pc.fill_null(lengths, 0)).astype(np.int64)
    return total


def _pieces(lengths: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the first row of each piece of a batch, and the one after its last.

    `lengths` has the bytes of the texts in each row, (rows,).
    """
    ends, start = lengths.cumsum(), 0
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
