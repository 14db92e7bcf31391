"""Table files of a user: their format, their columns, and batches of rows as texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import ConfigError, DataError, EnvironmentFaultError, did_you_mean, some
from pipeline.base.kinds import load_records
from pipeline.base.regular_files import stream_kind

if TYPE_CHECKING:
    import pyarrow as pa

#: First bytes of a file, which tell its format.
HEAD_BYTES = 65_536
#: Most problems of a file that one message lists.
MOST_TOLD = 5
OTHER_FILES = {
    b"\xd0\xcf\x11\xe0": "an old Excel file, or one with a password; save the sheet as CSV",
    b"FEA1": "a Feather file of version 1; save it as version 2, or as CSV",
    b"\x1f\x8b": "compressed; unpack it first, as with gunzip",
    b"BZh": "compressed; unpack it first, as with bunzip2",
    b"\xfd7zXZ": "compressed; unpack it first, as with unxz",
}


class CsvOptions(NamedTuple):
    """How a CSV is read.

    Args:
        sep: Separator of the cells; None = detected.
        header: Whether the first line has the names of the columns; None = yes, with an error
            if it holds values.
    """

    sep: str | None = None
    header: bool | None = None

    @classmethod
    def of(cls, reading: Mapping[str, Any]) -> CsvOptions:
        """Return how a new file is read for a model, whose columns are known by name."""
        return cls(reading.get("sep"), reading.get("header") is not False)


def numbered_row(_: TableFile, row: int) -> str:
    """Return the name of a row that a user finds by its number."""
    return f"row {row}"


def unreadable(file: TableFile, error: Exception) -> Sequence[str]:
    """Return a message, in a list, on a file that Arrow or another library can't read."""
    cause = " ".join(str(error).split()).rstrip(".")
    return [f"{file.path} can't be read as {file.format.name}: {cause}; save it again, or as CSV"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFormat:
    """A format of table files: the constant `FORMAT` of a file in `tables/formats/`.

    Args:
        name: Name in messages and lists.
        recognizes: Says from the first bytes of a file, at most `HEAD_BYTES`, whether it has this
            format.
        names: Returns the names of the columns.
        count: Returns the number of cells that the file states in front; 0 = it states none.
        batches: Yields the rows of the given columns in batches, all cells as texts; its memory
            is bounded.
        explain_damage: Returns one message or more on a file that raised `ArrowException`,
            `OSError` or `ValueError`.
        row_name: Returns the name of a row for messages; rows count from 1, after the header.
        separator: Returns the separator of the cells; None = cells have none.
        has_typed_cells: Whether numbers are stored as such; otherwise texts may be numbers.
        is_last: Whether the format is tried after the others, since it recognizes any file.
    """

    name: str
    recognizes: Callable[[bytes], bool]
    names: Callable[[TableFile], Sequence[str]]
    count: Callable[[TableFile], int]
    batches: Callable[[TableFile, Sequence[str]], Iterator[pa.RecordBatch]]
    explain_damage: Callable[[TableFile, Exception], Sequence[str]] = unreadable
    row_name: Callable[[TableFile, int], str] = numbered_row
    separator: Callable[[TableFile], str] | None = None
    has_typed_cells: bool = True
    is_last: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """A file, its first bytes, its format and the names of its columns; empty = not read yet."""

    path: Path
    head: bytes
    options: CsvOptions
    format: TableFormat
    names: tuple[str, ...] = ()

    @property
    def sep(self) -> str | None:
        """Separator of the cells; None = the format has none."""
        return None if self.format.separator is None else self.format.separator(self)

    def count(self) -> int:
        """Return the number of cells that the file states in front; 0 = it states none."""
        with self.damage_explained():
            return self.format.count(self)

    def texts(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows in batches, all cells as texts; raises DataError on a damaged file."""
        with self.damage_explained():
            yield from self.format.batches(self, columns)

    @contextmanager
    def damage_explained(self) -> Iterator[None]:
        """Raise errors of Arrow, the system and values as DataError, in the words of the format."""
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(*self.format.explain_damage(self, error)) from error


@cache
def formats() -> Sequence[TableFormat]:
    """Return all formats of tables, in the order in which they are tried on a file.

    Raises:
        ConfigError: A format is incomplete; the message names its file and the field.
    """
    records = load_records("pipeline.data.parsing.tables.formats", TableFormat)
    return sorted(records.values(), key=lambda record: record.is_last)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellLocation:
    """Origin of a batch of cells, for messages.

    `first_row` counts from 1. `csv` is how the file is read; None = the rows are not in a file.
    `has_typed_cells` says whether a number among the texts was stored as one.
    """

    file: str
    first_row: int = 1
    csv: CsvOptions | None = None
    has_typed_cells: bool = True

    def cell(self, position: int, column: str) -> str:
        """Return the name of a cell for messages; `position` in the batch counts from 0."""
        return f"{where(self.file, self.first_row + position, self.csv)}, column {column!r}"


def where(file: str, row: int, options: CsvOptions | None) -> str:
    """Return the name of a row for messages: `patients.csv line 18`, or `patients.parquet row 17`.

    Rows count from 1, after the header. None for `options` means that they are not in a file.
    """
    path = Path(file)
    with suppress(ConfigError, DataError, OSError):
        if options is not None and path.is_file():
            table = form_of(path, options)
            return f"{file} {table.format.row_name(table, row)}"
    return f"{file} row {row}"


def require_columns(
    source: Path | str, names: Sequence[str], required: Sequence[str], *, needed: str = ""
) -> None:
    """Raise DataError if columns are missing; `needed` says what they are for."""
    if missing := [name for name in required if name not in names]:
        listed = ", ".join(map(repr, missing))
        plural = "s" if len(missing) > 1 else ""
        purpose = f", which {needed}" if needed else ""
        raise DataError(
            f"{source} lacks the column{plural} {listed}{purpose}; it has "
            f"{', '.join(names)}.{did_you_mean(missing[0], names)}"
        )


def batches(
    path: Path, options: CsvOptions, *, columns: Sequence[str] | None = None
) -> Iterator[tuple[CellLocation, pa.RecordBatch]]:
    """Yield the rows of a table file in batches, each after its place.

    All cells are texts without surrounding spaces; an empty cell is null. `columns` gives the
    columns and their order; None = all.

    Raises:
        DataError: A column is missing or the file is damaged; see also `form_of`.
    """
    table = form_of(path, options)
    chosen = table.names if columns is None else tuple(columns)
    require_columns(path, table.names, chosen)
    place = CellLocation(file=str(path), csv=options, has_typed_cells=table.format.has_typed_cells)
    for batch in table.texts(chosen):
        if batch.num_rows:
            yield place, trimmed(batch)
        place = replace(place, first_row=place.first_row + batch.num_rows)


def form_of(path: Path, options: CsvOptions) -> TableFile:
    """Return a table file, whose format is recognized by its first bytes.

    Raises:
        ConfigError: The separator is not one.
        DataError: The file does not exist or is not a table.
        EnvironmentFaultError: The user may not read the file.
    """
    head = _head(path)
    for magic, words in OTHER_FILES.items():
        if head.startswith(magic):
            raise DataError(f"{path} is {words}")
    record = next(record for record in formats() if record.recognizes(head))
    table = TableFile(path=path, head=head, options=options, format=record)
    with table.damage_explained():
        names = record.names(table)
    return replace(table, names=_checked(path, names))


def _head(path: Path) -> bytes:
    first, *other_names = sorted(record.name for record in formats())
    expected = f"expected a {', '.join([first, *other_names[:-1]])} or {other_names[-1]} file"
    if (kind := stream_kind(path)) is not None:
        raise DataError(f"{path} is {kind}; {expected}. Save its content in a file first")
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        try:
            neighbours = [neighbour.name for neighbour in path.parent.iterdir()]
            nearest = f".{did_you_mean(path.name, neighbours)}"
        except OSError:
            nearest = f". Its folder {path.parent} does not exist either"
        raise DataError(f"{path} does not exist; {expected}{nearest}") from error
    except NotADirectoryError as error:
        raise DataError(f"{path} does not exist; a part of its path is a file") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; {expected}") from error
    except PermissionError as error:
        raise EnvironmentFaultError(
            f"{path} can't be read: permission denied; try chmod u+r"
        ) from error


def _checked(path: Path, cells: Sequence[str]) -> tuple[str, ...]:
    names = tuple(cell.strip() or f"unnamed_{index}" for index, cell in enumerate(cells, start=1))
    numbers_by_name: dict[str, list[str]] = {}
    for number, name in enumerate(names, start=1):
        numbers_by_name.setdefault(name, []).append(str(number))
    repetitions = []
    for name, numbers in numbers_by_name.items():
        if len(numbers) > 1:
            repetitions.append(f"columns {' and '.join(numbers)} are named {name!r}")
    if repetitions:
        raise DataError(f"{path}: {some(repetitions, most=MOST_TOLD)}; name each differently")
    return names


def trimmed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Strip the spaces around all cells; cells that are empty then become null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def texts_of(cells: pa.Array) -> pa.Array:
        # Printable ASCII without spaces becomes 0 to 93; all kinds of spaces become more.
        is_plain = not (text_bytes(cells) - np.uint8(33) > 93).any()
        if is_plain and pc.min(pc.binary_length(cells)).as_py() != 0:
            return cells
        texts = pc.utf8_trim_whitespace(cells)
        return pc.if_else(pc.equal(texts, ""), None, texts)

    return pa.RecordBatch.from_arrays(
        [texts_of(cells) for cells in batch.columns], names=batch.schema.names
    )


def text_bytes(cells: pa.Array) -> NDArray[np.uint8]:
    """Return the bytes of all cells, concatenated."""
    texts = cells.buffers()[2]
    content: NDArray[np.uint8] = np.frombuffer(b"" if texts is None else texts, dtype=np.uint8)
    return content
