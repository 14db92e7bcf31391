"""Rows of a file in batches: kept in memory if they fit, so that the file is read once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.parsing.cells.texts import AS_CLASSES, Cells
from pipeline.data.parsing.tables.file import CellLocation, CsvOptions, batches

if TYPE_CHECKING:
    import pyarrow as pa


#: Most bytes of texts that are kept. A file with more, such as long texts in Parquet, is read
#: again.
MOST_KEPT = 2**30


class FileRows:
    """Rows of a file, all cells as texts.

    Args:
        path: The file.
        options: How a CSV is read.
        columns: The columns to read.
        keep: Whether to keep the texts in memory until they are taken, up to `MOST_KEPT`.
    """

    def __init__(
        self, path: Path, options: CsvOptions, columns: Sequence[str] | None, *, keep: bool
    ) -> None:
        self._path = path
        self._options = options
        self._columns = columns
        self._kept = self._held() if keep else None

    def _held(self) -> deque[tuple[CellLocation, pa.RecordBatch]] | None:
        """Return all batches; None if they are too large."""
        batches_read: deque[tuple[CellLocation, pa.RecordBatch]] = deque()
        size = 0
        for place, batch in self._read():
            size += batch.nbytes
            if size > MOST_KEPT:
                return None
            batches_read.append((place, batch))
        return batches_read

    def _read(self) -> Iterator[tuple[CellLocation, pa.RecordBatch]]:
        return batches(self._path, self._options, columns=self._columns)

    def __iter__(self) -> Iterator[tuple[CellLocation, pa.RecordBatch]]:
        """Iterate over the batches, each after its place."""
        return self._read() if self._kept is None else iter(self._kept)

    def taken(self) -> Iterator[tuple[CellLocation, pa.RecordBatch]]:
        """Iterate over the batches for the last time; each is freed when the next one comes."""
        if self._kept is None:
            yield from self._read()
            return
        while self._kept:
            yield self._kept.popleft()

    def cells(self, column: str) -> Iterator[Cells]:
        """Iterate over the cells of a column, with no remedy for those that are not numbers."""
        for place, batch in self:
            yield Cells(batch.column(column), column, place, remedy="")

    def target_cells(self, column: str) -> Iterator[Cells]:
        """Iterate over the cells of the target, whose words may be classes."""
        for place, batch in self:
            yield Cells(batch.column(column), column, place, remedy=AS_CLASSES).present()
