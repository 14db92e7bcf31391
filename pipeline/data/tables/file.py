"""CSV and Parquet files of a user: their columns, batches of rows as texts, and their damage."""

from __future__ import annotations

import csv
import io
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.tables import parquet
from pipeline.data.tables.records import (
    BLOCK_BYTES,
    MOST_TOLD,
    SAVE_AS,
    TOO_LONG,
    csv_records,
    has_break,
    nul_problems,
    ragged,
    records,
    require_ended,
    utf8_problems,
)
from pipeline.data.tables.written import kind_of
from pipeline.errors import ConfigError, DataError, EnvironmentFaultError, did_you_mean, some
from pipeline.regular_files import stream_kind

if TYPE_CHECKING:
    import pyarrow as pa

SEPARATORS = (",", ";", "\t", "|")
TYPED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}
HEAD_BYTES = 65_536
#: Most records that are compared with the first line, which has the names of columns.
MOST_RECORDS = 200
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LONGEST_SHOWN = 40
OTHER_FILES = {
    b"PK\x03\x04": "an Excel or zip file; save the sheet as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the sheet as CSV (UTF-8)",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Column names of a file; of a CSV, its separator and the byte where its first row starts.

    `sep=None` means Parquet.
    """

    names: tuple[str, ...]
    sep: str | None = None
    start: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Origin of a batch of cells, for messages.

    `first_row` counts from 1. `csv` is how the file is read; None = it is not a CSV.
    """

    file: str
    first_row: int = 1
    csv: CsvOptions | None = None

    def cell(self, position: int, column: str) -> str:
        """Return the name of a cell for messages; `position` in the batch counts from 0."""
        return f"{where(self.file, self.first_row + position, self.csv)}, column {column!r}"


def where(file: str, row: int, options: CsvOptions | None) -> str:
    """Return the name of a row for messages: `patients.csv line 18`, or `patients.csv row 17`.

    Rows count from 1, after the header. A CSV gets the line number of an editor, where the header
    is line 1 and a quoted cell may span lines; what has no lines gets the row number.
    """
    path = Path(file)
    with suppress(ConfigError, DataError, OSError):
        if options is not None and path.is_file() and (sep := form_of(path, options).sep):
            place = row - (options.header is False)
            for line, _ in islice(records(path, sep), place, place + 1):
                return f"{file} line {line}"
    return f"{file} row {row}"


def shown(cell: str) -> str:
    """Return a cell for a message, quoted and shortened if it is long."""
    return repr(cell if len(cell) <= LONGEST_SHOWN else f"{cell[:LONGEST_SHOWN]}…")


def require_columns(
    what: Path | str, there: Sequence[str], wanted: Sequence[str], *, needed: str = ""
) -> None:
    """Raise DataError if columns are missing; `needed` says what they are for."""
    if missing := [name for name in wanted if name not in there]:
        named, purpose = ", ".join(map(repr, missing)), f", which {needed}" if needed else ""
        raise DataError(
            f"{what} lacks the column{'s' * (len(missing) > 1)} {named}{purpose}; it has "
            f"{', '.join(there)}.{did_you_mean(missing[0], there)}"
        )


def batches(
    path: Path, options: CsvOptions, *, columns: Sequence[str] | None = None
) -> Iterator[tuple[Place, pa.RecordBatch]]:
    """Yield the rows of a CSV or Parquet file in batches, each after its place.

    All cells are texts without surrounding spaces; an empty cell is null. `columns` gives the
    columns and their order; None = all.

    Raises:
        DataError: A column is missing or a line is damaged; see also `form_of`.
    """
    form = form_of(path, options)
    chosen = form.names if columns is None else tuple(columns)
    require_columns(path, form.names, chosen)
    if form.sep is None:
        read: Iterator[pa.RecordBatch] = map(trimmed, parquet.texts_in(path, form.names, chosen))
    else:
        read = _text(path, form, chosen)
    first = 1
    for batch in read:
        if batch.num_rows:
            csv_ = None if form.sep is None else options
            yield Place(file=str(path), first_row=first, csv=csv_), batch
        first += batch.num_rows


def form_of(path: Path, options: CsvOptions) -> Form:
    """Return the form of a CSV or Parquet file, which is recognized by its first bytes.

    Raises:
        ConfigError: The separator is not one.
        DataError: The file does not exist or is not a table.
        EnvironmentFaultError: The user may not read the file.
    """
    head = _head(path)
    for magic, words in OTHER_FILES.items():
        if head.startswith(magic):
            raise DataError(f"{path} is {words}")
    if head.startswith(b"PAR1"):
        return Form(names=_checked(path, parquet.names_in(path)))
    _require_text(path, head)
    sep = _separator(head, options.sep)
    names, header_bytes = _first_record(path, sep)
    if options.header is False:
        names = tuple(f"column{number}" for number in range(1, len(names) + 1))
        header_bytes = 0
    elif options.header is None:
        _require_names(path, names, _whole_records(head, sep)[1:])
    mark_bytes = len(BYTE_ORDER_MARK) if head.startswith(BYTE_ORDER_MARK) else 0
    return Form(names=_checked(path, names), sep=sep, start=mark_bytes + header_bytes)


def _require_text(path: Path, head: bytes) -> None:
    # Of Latin letters in UTF-16, every other byte is NUL.
    upper, lower = (part.count(0) / max(1, len(part)) for part in (head[::2], head[1::2]))
    order = "BE" if upper > 0.4 and not lower else "LE" if lower > 0.4 and not upper else ""
    is_marked = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    if is_marked or (order and len(head) >= 4):
        code = "UTF-16" if is_marked else f"UTF-16{order}"
        raise DataError(f"{path} is UTF-16; {SAVE_AS.format(code, shlex.quote(str(path)))}")
    if b"\0" in head:
        raise DataError(*nul_problems(path))
    if not head.removeprefix(BYTE_ORDER_MARK).strip():
        raise DataError(f"{path} is empty; expected a header and rows")


def _head(path: Path) -> bytes:
    expected = "expected a CSV or Parquet file"
    if (kind := stream_kind(path)) is not None:
        raise DataError(f"{path} is {kind}; {expected}. Save its content in a file first")
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        try:
            nearest = f".{did_you_mean(path.name, [one.name for one in path.parent.iterdir()])}"
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


def _separator(head: bytes, given: str | None) -> str:
    """Return the given separator, or the one by which the first records have equal widths."""
    if given is not None:
        chosen = TYPED.get(given, given)
        # pyarrow takes ASCII alone.
        is_character = len(chosen) == 1 and chosen.isascii() and chosen.isprintable()
        if chosen == '"' or not (is_character or chosen == "\t"):
            raise ConfigError(
                f"data.sep={given!r} is not a separator; expected one ASCII character such as ';', "
                "or tab"
            )
        return chosen
    return max(SEPARATORS, key=lambda sep: _fit(head, sep))


def _whole_records(head: bytes, sep: str) -> list[list[str]]:
    """Return the records in the first bytes of a file, the header first."""
    text = io.StringIO(head.decode("utf-8-sig", errors="ignore"), newline="")
    found = [record for record in csv_records(text, sep) if record]
    is_cut = len(head) == HEAD_BYTES and len(found) > 1
    return found[:-1] if is_cut else found


def _fit(head: bytes, sep: str) -> tuple[bool, float, int]:
    widths = [len(record) for record in _whole_records(head, sep)]
    header = widths[0] if widths else 0
    return header > 1, sum(width == header for width in widths) / max(1, len(widths)), header


def _first_record(path: Path, sep: str) -> tuple[tuple[str, ...], int]:
    """Return the cells of the first record, and the bytes of it and of blank lines above it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv_records(file, sep)
        try:
            names = next(record for record in reader if any(cell.strip() for cell in record))
        except UnicodeDecodeError as error:
            raise DataError(*utf8_problems(path)) from error
        except csv.Error as error:
            raise DataError(f"{path} line 1: {TOO_LONG}") from error
        except StopIteration as error:
            raise DataError(f"{path} has no names in its first line") from error
        file.seek(0)  # a file can't tell its position while it is iterated over
        lines = islice(file, reader.line_num)
        return tuple(names), sum(len(line.encode("utf-8")) for line in lines)


def _require_names(path: Path, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Raise DataError if the first line has numbers or dates where the rows below have them, too.

    Years, or other whole numbers with one step, may be names beside words, but not beside a word
    that is also a cell of its column.
    """
    names = [name.strip() for name in names]
    kinds = [kind_of(name) for name in names]
    below = [
        {row[place].strip() for row in rows[:MOST_RECORDS] if place < len(row)} - {""}
        for place in range(len(names))
    ]
    columns = [*zip(names, kinds, below, strict=True)]
    alike = [name for name, kind, cells in columns if kind and {*map(kind_of, cells)} == {kind}]
    values = [name for name, kind, _ in columns if kind]
    steps = {int(b) - int(a) for a, b in pairwise(values)} if all(map(str.isdigit, values)) else {0}
    # pandas names columns 0, 1, 2, … by default.
    are_all_named = len(values) < len(names) or values == [*map(str, range(len(values)))]
    are_counted = len(steps) == 1 and steps != {0} and len(values) > 2 and are_all_named
    has_cell = any(name in cells for name, kind, cells in columns if not kind)
    if not alike or (are_counted and not has_cell):
        return
    found = " and ".join(sorted({kind_of(name) for name in alike}))
    raise DataError(
        f"{path}: its first line holds {found} ({some([*map(shown, alike)], most=3)}) like the "
        "rows below it; expected column names. data.header=false reads it as a row, "
        "data.header=true as names"
    )


def _checked(path: Path, cells: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(cell.strip() or f"unnamed_{index}" for index, cell in enumerate(cells, start=1))
    repeated = {
        name: " and ".join(str(n) for n, other in enumerate(names, start=1) if other == name)
        for name, count in Counter(names).items()
        if count > 1
    }
    if repeated:
        told = [f"columns {places} are named {name!r}" for name, places in repeated.items()]
        raise DataError(f"{path}: {some(told, most=MOST_TOLD)}; name each differently")
    return names


def _text(path: Path, form: Form, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    sep = form.sep or ","
    last = None
    try:
        for last in _parsed(path, form, columns):
            if not all(_content(cells).all() for cells in last.columns):
                raise DataError(*nul_problems(path))
            yield trimmed(last)
    except pa.ArrowInvalid as error:
        if not (problems := utf8_problems(path) or ragged(path, sep, columns=len(form.names))):
            require_ended(path, sep)
            problems = [f"{path} can't be read: {' '.join(str(error).split())}"]
        raise DataError(*problems) from error
    if last is not None:
        row = last.slice(last.num_rows - 1).to_pylist()[0]
        # A quoted cell that never ends swallows all rows below it, including their line breaks.
        if any(cell is not None and has_break(cell) for cell in row.values()):
            require_ended(path, sep)


def _parsed(path: Path, form: Form, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    with path.open("rb") as text:
        text.seek(form.start)
        if not any(block.strip() for block in iter(lambda: text.read(BLOCK_BYTES), b"")):
            return  # only blank lines after the header
    with pa.OSFile(str(path), "rb") as file:
        file.seek(form.start)
        yield from arrow_csv.open_csv(
            file,
            read_options=arrow_csv.ReadOptions(
                column_names=[*form.names], block_size=BLOCK_BYTES, use_threads=True
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=form.sep, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(form.names, pa.string()),
                include_columns=[*columns],
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )


def trimmed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Strip the spaces around all cells; cells that are empty then become null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def texts_of(cells: pa.Array) -> pa.Array:
        # Printable ASCII without spaces becomes 0 to 93; all kinds of spaces become more.
        is_plain = not (_content(cells) - np.uint8(33) > 93).any()
        if is_plain and pc.min(pc.binary_length(cells)).as_py() != 0:
            return cells
        texts = pc.utf8_trim_whitespace(cells)
        return pc.if_else(pc.equal(texts, ""), None, texts)

    return pa.RecordBatch.from_arrays(
        [texts_of(cells) for cells in batch.columns], names=batch.schema.names
    )


def _content(cells: pa.Array) -> NDArray[np.uint8]:
    """Return the bytes of all cells, concatenated."""
    texts = cells.buffers()[2]
    content: NDArray[np.uint8] = np.frombuffer(b"" if texts is None else texts, dtype=np.uint8)
    return content
