"""The rows of a new table, found by the names of its columns, a block at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.schema import Schema
from pipeline.errors import DataError, did_you_mean
from pipeline.serving.blocks import Block, regrouped
from pipeline.serving.new_rows import Found, NewRows, Rules

if TYPE_CHECKING:
    import pyarrow as pa


def opened_table(path: Path, schema: Schema, rules: Rules, *, size: int) -> NewRows:
    """Open a table, CSV or Parquet.

    Raises:
        DataError: It can't be read, lacks a column, or, when its block is read, has a wrong cell.
    """
    from pipeline.data.tables.delimited import column_names

    sep = schema.reading.get("sep")
    columns = column_names(path, sep=sep)
    heading = _heading(path, schema, rules.id, columns)
    reader = TableReader(schema, rules, file=str(path), heading=heading)
    reader.note_ignored(columns)
    reader.require(columns)
    pieces = _pieces(path, reader, columns, sep=sep)
    return NewRows(heading=heading, blocks=regrouped(pieces, size=size), found=reader.found)


class TableReader:
    """Turns the cells of a table into raw rows and keeps what was met.

    Args:
        schema: Of the trained model.
        rules: How to take the rows.
        file: Name of the table in messages.
        heading: Column that names the rows; None = they have no names.
    """

    def __init__(self, schema: Schema, rules: Rules, *, file: str, heading: str | None) -> None:
        self.found = Found()
        self.heading = heading
        self.needed = schema.columns
        self._schema = schema
        self._rules = rules
        self._file = file
        # Whatever stands in the place of the answer is nobody's business here.
        self._answer = {schema.label, schema.reading.get("target")} - set(self.needed)

    def note_ignored(self, columns: Sequence[str]) -> None:
        """Note the columns that the model does not know."""
        known = {*self.needed, *self._answer, self.heading, self._schema.reading.get("id")}
        self.found.ignored = tuple(name for name in columns if name not in known)

    def require(self, columns: Sequence[str]) -> None:
        """Refuse a table that lacks a column, before its first row is read."""
        import pyarrow as pa

        self.read(pa.RecordBatch.from_pydict({n: pa.array([], pa.string()) for n in columns}))

    def read(self, batch: "pa.RecordBatch", *, first_row: int = 1) -> Block:
        """Turn a batch of the table into raw rows.

        Args:
            batch: Its cells are texts, missing ones null.
            first_row: Number of its first row in the table.

        Raises:
            DataError: A column is missing, or a cell can't be used; it names row and column.
        """
        from pipeline.data.tables.reading_again import rows_of

        rows = rows_of(
            batch.select([name for name in batch.schema.names if name not in self._answer]),
            self._schema,
            file=self._file,
            first_row=first_row,
            unknown=self._rules.unknown,
            missing=self._rules.missing,
        )
        self.found.unknown.update(rows.unknown)
        self.found.missing.update(rows.missing)
        return Block(raw=rows.raw, names=self._names(batch))

    def _names(self, batch: "pa.RecordBatch") -> list[str] | None:
        if self.heading is None:
            return None
        return [name or "" for name in batch.column(self.heading).to_pylist()]


def _heading(path: Path, schema: Schema, given: str | None, columns: Sequence[str]) -> str | None:
    """Return the column that names the rows."""
    if given is not None and given not in columns:
        raise DataError(
            f"{path} has no column {given!r}, which id={given} asks for; it has "
            f"{', '.join(columns)}.{did_you_mean(given, columns)}"
        )
    own: str | None = schema.reading.get("id")
    return given or (own if own in columns else None)


def _pieces(
    path: Path, reader: TableReader, columns: Sequence[str], *, sep: str | None
) -> Iterator[Block]:
    """Yield the rows in the pieces in which they are read."""
    from pipeline.data.tables.delimited import batches

    wanted = [name for name in columns if name in {*reader.needed, reader.heading}]
    for first_row, batch in batches(path, sep=sep, columns=wanted):
        yield reader.read(batch, first_row=first_row)
