"""Feather of version 2, the file format of Arrow IPC; its batches are read one by one."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.data.parsing.tables.file import TableFile, TableFormat
from pipeline.data.parsing.tables.formats._arrow import (
    BATCH_ROWS,
    require_readable,
    require_unpacked_size,
    texts_of,
)

if TYPE_CHECKING:
    import pyarrow as pa

MAGIC = b"ARROW1\0\0"
#: Indices of fields in the FlatBuffers tables of Arrow's `Message.fbs`.
MESSAGE_HEADER = 2
DICTIONARY_DATA = 1
BATCH_LENGTH = 0
BATCH_BUFFERS = 2
BATCH_COMPRESSION = 3


def _read(form: str, content: bytes | pa.Buffer, position: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, content, position)
    except struct.error as error:
        raise ValueError(f"a header points to byte {position}, beyond its end") from error


class FlatTable:
    """Fields of a table of FlatBuffers in bytes that Arrow has verified."""

    def __init__(self, content: bytes, start: int | None = None) -> None:
        self.content = content
        self._start = self._read("<I", 0) if start is None else start

    def _read(self, form: str, position: int) -> int:
        return _read(form, self.content, position)[0]

    def position(self, index: int) -> int | None:
        """Return the position of a field; None = the table leaves it out."""
        fields = self._start - self._read("<i", self._start)
        slot = 4 + 2 * index
        if slot >= self._read("<H", fields):
            return None
        offset = self._read("<H", fields + slot)
        return self._start + offset if offset else None

    def number(self, index: int) -> int:
        """Return a field that is an integer of 64 bits."""
        position = self.position(index)
        return 0 if position is None else self._read("<q", position)

    def table(self, index: int) -> FlatTable:
        """Return a field that is a table."""
        return FlatTable(self.content, self._target(index))

    def pairs(self, index: int) -> Iterator[tuple[int, int]]:
        """Yield the elements of a field that is a vector of pairs of integers of 64 bits."""
        start = self._target(index)
        for element in range(self._read("<I", start)):
            offset, length = _read("<qq", self.content, start + 4 + 16 * element)
            yield offset, length

    def _target(self, index: int) -> int:
        position = self.position(index)
        if position is None:
            raise ValueError(f"the table has no field {index}")
        return position + self._read("<I", position)


def _sizes(file: TableFile) -> tuple[int, int]:
    """Return the rows of all batches and the bytes of all buffers once they are unpacked.

    They are read from the messages' headers: Arrow would unpack a batch to count its rows.
    """
    import pyarrow as pa

    rows = 0
    unpacked = 0
    with pa.memory_map(str(file.path)) as content:
        content.seek(len(MAGIC))
        for message in pa.ipc.MessageReader.open_stream(content):
            if message.type not in ("dictionary", "record batch"):
                continue
            batch = FlatTable(message.metadata.to_pybytes()).table(MESSAGE_HEADER)
            if message.type == "dictionary":
                batch = batch.table(DICTIONARY_DATA)
            else:
                rows += batch.number(BATCH_LENGTH)
            is_packed = batch.position(BATCH_COMPRESSION) is not None
            for offset, length in batch.pairs(BATCH_BUFFERS):
                size = length
                if is_packed and length:  # -1 = this buffer is not packed
                    size = max(length, *_read("<q", message.body, offset))
                unpacked += size
    return rows, unpacked


def _names(file: TableFile) -> Sequence[str]:
    """Return the names of the columns; raises DataError if the file unpacks to too many bytes."""
    import pyarrow as pa

    with pa.memory_map(str(file.path)) as content:
        names: list[str] = pa.ipc.open_file(content).schema.names
    rows, unpacked = _sizes(file)
    # A column of nulls takes no room, but each of its cells becomes a number.
    require_unpacked_size(file.path, max(unpacked, 8 * rows * len(names)))
    return names


def _count(file: TableFile) -> int:
    rows, _ = _sizes(file)
    return rows * len(file.names)


def _batches(file: TableFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    positions = [file.names.index(name) for name in columns]
    with pa.memory_map(str(file.path)) as content:
        fields = [pa.ipc.open_file(content).schema.field(position) for position in positions]
        require_readable(file.path, fields)
        options = pa.ipc.IpcReadOptions(included_fields=sorted(positions))
        opened = pa.ipc.open_file(content, options=options)
        names = [field.name for field in fields]
        batches = map(opened.get_batch, range(opened.num_record_batches))
        yield from texts_of(file.path, _pieces(batches, names), columns)


def _pieces(batches: Iterable[pa.RecordBatch], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the named columns of batches, at most `BATCH_ROWS` rows at once."""
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS).select(names)


FORMAT = TableFormat(
    name="Feather",
    recognizes=lambda head: head.startswith(MAGIC),
    names=_names,
    count=_count,
    batches=_batches,
)
