"""A table of answers as a CSV or Parquet file, written a piece at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pipeline.serving.spreadsheets import cell, csv_text

if TYPE_CHECKING:
    import pyarrow as pa

Column = list[str] | list[float]
CSV, PARQUET = ".csv", ".parquet"
GROUP_ROWS = 65_536
"""Rows that a Parquet file keeps together."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sheet:
    """A table that is made while it is taken.

    Args:
        header: Names of the columns.
        texts: Those that hold texts; the others hold numbers.
        pieces: All columns of some rows, then those of the next.
    """

    header: tuple[str, ...]
    texts: frozenset[str]
    pieces: Iterator[Sequence[Column]]


def write_csv_to(file: BinaryIO, sheet: Sheet) -> None:
    """Write a sheet as CSV, with nothing in it that a spreadsheet would run."""
    heading = csv_text([[cell(name) for name in sheet.header]]).encode("utf-8")
    for columns in sheet.pieces:
        file.write(heading)  # not before the first rows are known to be sound
        heading = b""
        named = zip(sheet.header, columns, strict=True)
        shown = [map(cell, map(str, c)) if name in sheet.texts else c for name, c in named]
        file.write(csv_text(zip(*shown, strict=True)).encode("utf-8"))
    file.write(heading)


def write_parquet_to(file: BinaryIO, sheet: Sheet) -> None:
    """Write a sheet as Parquet; its texts are as they are, since nothing runs them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = [(name, pa.string() if name in sheet.texts else pa.float64()) for name in sheet.header]
    schema = pa.schema(kinds)
    with pq.ParquetWriter(file, schema) as writer:
        for group in _groups(sheet, schema):
            writer.write_table(group)


def _groups(sheet: Sheet, schema: "pa.Schema") -> "Iterator[pa.Table]":
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    for columns in sheet.pieces:
        waiting.append(pa.record_batch([list(column) for column in columns], schema=schema))
        if sum(map(len, waiting)) >= GROUP_ROWS:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


WRITERS = {CSV: write_csv_to, PARQUET: write_parquet_to}
"""By the suffix of the file."""
