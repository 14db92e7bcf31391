"""Parquet, read in pieces of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.data.parsing.tables.file import TableFile, TableFormat, unreadable
from pipeline.data.parsing.tables.formats._arrow import (
    BATCH_ROWS,
    require_readable,
    require_unpacked_size,
    texts_of,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def _names(file: TableFile) -> Sequence[str]:
    """Return the names of the columns; raises DataError if the file unpacks to too many bytes."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file.path)
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    unpacked = sum(group.total_byte_size for group in groups)
    # Equal cells take no room, but each becomes a number, or is as wide as its column.
    row = sum(max(8, column.length) for column in _stored_columns(metadata).values())
    require_unpacked_size(file.path, max(unpacked, metadata.num_rows * row))
    names: list[str] = metadata.schema.to_arrow_schema().names
    return names


def _count(file: TableFile) -> int:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file.path)
    cells: int = metadata.num_rows * metadata.num_columns
    return cells


def _batches(file: TableFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches, all cells as texts.

    Raises:
        DataError: A column holds neither numbers nor texts, or all texts together are longer than
            those of a file of its size may be.
    """
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file.path)
    stored = _stored_columns(metadata).items()
    as_bytes = [name for name, column in stored if column.physical_type == "BYTE_ARRAY"]
    # Dictionaries take as much memory as in the file, however often a text repeats.
    with pq.ParquetFile(
        file.path, metadata=metadata, read_dictionary=as_bytes, arrow_extensions_enabled=False
    ) as opened:
        fields = dict(zip(file.names, opened.schema_arrow, strict=True))
        chosen = [fields[name] for name in columns]
        require_readable(file.path, chosen, as_bytes)
        stored_names = [field.name for field in chosen]
        read = opened.iter_batches(BATCH_ROWS, columns=stored_names)
        yield from texts_of(file.path, (batch.select(stored_names) for batch in read), columns)


def _damage(file: TableFile, error: Exception) -> Sequence[str]:
    if not file.names:
        return [f"{file.path} starts as a Parquet file but can't be read; it may be incomplete"]
    return unreadable(file, error)


def _stored_columns(metadata: pq.FileMetaData) -> dict[str, pq.ColumnSchema]:
    """Return the columns as they are stored, by their paths."""
    columns = map(metadata.schema.column, range(metadata.num_columns))
    return {column.path: column for column in columns}


FORMAT = TableFormat(
    name="Parquet",
    recognizes=lambda head: head.startswith(b"PAR1"),
    names=_names,
    count=_count,
    batches=_batches,
    explain_damage=_damage,
)
