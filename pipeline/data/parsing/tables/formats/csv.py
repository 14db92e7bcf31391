"""CSV: texts between separators, whose damage is named by its line."""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.errors import ConfigError, DataError, some
from pipeline.data.parsing.cells.texts import DATE, shown
from pipeline.data.parsing.tables.file import (
    HEAD_BYTES,
    MOST_TOLD,
    TableFile,
    TableFormat,
    numbered_row,
    text_bytes,
)

if TYPE_CHECKING:
    from _csv import Reader

    import pyarrow as pa

SEPARATORS = (",", ";", "\t", "|")
TYPED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}
#: Most records that are compared with the first line, which has the names of columns.
MOST_RECORDS = 200
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

BLOCK_BYTES = 2**22
#: Most characters of a cell; Arrow reads none that is longer than two blocks.
LONGEST_CELL = 2 * BLOCK_BYTES
NEVER_ENDS = "a quoted cell never ends; close its quote, or double quotes within the cell"
TOO_LONG = f"a cell has more than {LONGEST_CELL:,} characters; close its quote, or shorten it"
SAVE_AS = "save it as UTF-8, as with: iconv -f {} -t UTF-8 {} > new.csv"


def _names(file: TableFile) -> Sequence[str]:
    """Return the names in the first line, or `column1`, `column2`, … if it is a row."""
    _require_text(file.path, file.head)
    sep = _separator(file)
    names, _ = _first_record(file.path, sep)
    return names_of(file, [names, *_whole_records(file.head, sep)[1:]])


def names_of(file: TableFile, rows: Sequence[Sequence[str]]) -> Sequence[str]:
    """Return the names of columns, given the first rows of a file in which all cells are texts.

    Raises:
        DataError: The first row should have the names, but holds values like those below it.
    """
    if file.options.header is False:
        return [f"column{number}" for number in range(1, len(rows[0]) + 1)]
    if file.options.header is None:
        _require_names(file.path, rows[0], rows[1:])
    return rows[0]


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


def _separator(file: TableFile) -> str:
    """Return the chosen separator, or the one by which the first records have equal widths."""
    if (typed := file.options.sep) is not None:
        chosen = TYPED.get(typed, typed)
        # pyarrow takes ASCII alone.
        is_character = len(chosen) == 1 and chosen.isascii() and chosen.isprintable()
        if chosen == '"' or not (is_character or chosen == "\t"):
            raise ConfigError(
                f"data.sep={typed!r} is not a separator; expected one ASCII character such as ';', "
                "or tab"
            )
        return chosen
    return max(SEPARATORS, key=lambda sep: _fit(file.head, sep))


def _whole_records(head: bytes, sep: str) -> list[list[str]]:
    """Return the records in the first bytes of a file, the header first."""
    text = io.StringIO(head.decode("utf-8-sig", errors="ignore"), newline="")
    complete = [record for record in csv_records(text, sep) if record]
    is_cut = len(head) == HEAD_BYTES and len(complete) > 1
    return complete[:-1] if is_cut else complete


def _fit(head: bytes, sep: str) -> tuple[bool, float, int]:
    widths = [len(record) for record in _whole_records(head, sep)]
    header = widths[0] if widths else 0
    return header > 1, sum(width == header for width in widths) / max(1, len(widths)), header


def _first_record(path: Path, sep: str) -> tuple[tuple[str, ...], int]:
    """Return the cells of the first record, and the bytes of it and of blank lines above it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv_records(file, sep)
        try:
            names = next(record for record in reader if "".join(record).strip())
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
    kinds = [_kind_of(name) for name in names]
    cells_below: list[set[str]] = [set() for _ in names]
    for row in rows[:MOST_RECORDS]:
        for cells, cell in zip(cells_below, row, strict=False):
            if cell.strip():
                cells.add(cell.strip())
    alike = []
    values = []
    has_cell = False  # whether a word of the first line is also a cell of its column
    for name, kind, cells in zip(names, kinds, cells_below, strict=True):
        if not kind:
            has_cell = has_cell or name in cells
            continue
        values.append(name)
        if {*map(_kind_of, cells)} == {kind}:
            alike.append(name)
    steps = {0}
    if all(map(str.isdigit, values)):
        steps = {int(second) - int(first) for first, second in pairwise(values)}
    # pandas names columns 0, 1, 2, … by default.
    are_all_named = len(values) < len(names) or values == [*map(str, range(len(values)))]
    are_counted = len(steps) == 1 and steps != {0} and len(values) > 2 and are_all_named
    if not alike or (are_counted and not has_cell):
        return
    contents = " and ".join(sorted({_kind_of(name) for name in alike}))
    raise DataError(
        f"{path}: its first line holds {contents} ({some([*map(shown, alike)], most=3)}) like the "
        "rows below it; expected column names. data.header=false reads it as a row, "
        "data.header=true as names"
    )


def _kind_of(cell: str) -> str:
    """Return whether a cell holds `numbers` or `dates`; empty = something else."""
    if DATE.fullmatch(cell):
        return "dates"
    with suppress(ValueError):
        if float(cell) == float(cell) and any(map(str.isdigit, cell)):
            return "numbers"
    return ""


def _batches(file: TableFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches; a NUL byte and a quoted cell that never ends raise DataError."""
    sep = _separator(file)
    last = None
    for last in _parsed(file, sep, columns):
        if not all(text_bytes(cells).all() for cells in last.columns):
            raise DataError(*nul_problems(file.path))
        yield last
    if last is not None:
        row = last.slice(last.num_rows - 1).to_pylist()[0]
        # A quoted cell that never ends swallows all rows below it, including their line breaks.
        if any(cell is not None and has_break(cell) for cell in row.values()):
            require_ended(file.path, sep)


def _parsed(file: TableFile, sep: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    start = 0
    if file.options.header is not False:
        _, start = _first_record(file.path, sep)
    if file.head.startswith(BYTE_ORDER_MARK):
        start += len(BYTE_ORDER_MARK)
    with file.path.open("rb") as text:
        text.seek(start)
        if not any(block.strip() for block in iter(lambda: text.read(HEAD_BYTES), b"")):
            return  # only blank lines after the header
    with pa.OSFile(str(file.path), "rb") as opened:
        opened.seek(start)
        yield from arrow_csv.open_csv(
            opened,
            read_options=arrow_csv.ReadOptions(
                column_names=[*file.names], block_size=BLOCK_BYTES, use_threads=True
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=sep, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(file.names, pa.string()),
                include_columns=[*columns],
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )


def _damage(file: TableFile, error: Exception) -> list[str]:
    """Return messages on bytes that are not UTF-8, on ragged rows, or else Arrow's own words."""
    sep = _separator(file)
    problems = utf8_problems(file.path) or ragged(file.path, sep, columns=len(file.names))
    if not problems:
        require_ended(file.path, sep)
        problems = [f"{file.path} can't be read: {' '.join(str(error).split())}"]
    return problems


def _row_name(file: TableFile, row: int) -> str:
    """Return the line number of an editor; the header is line 1, a quoted cell may span lines."""
    place = row - (file.options.header is False)
    for line, _ in islice(records(file.path, _separator(file)), place, place + 1):
        return f"line {line}"
    return numbered_row(file, row)


def csv_records(lines: Iterable[str], sep: str, *, strict: bool = False) -> Reader:
    """Return Python's reader of a CSV, with cells as long as Arrow reads.

    The lines of a file should come from `open(newline="")`, which knows all three line ends.
    """
    csv.field_size_limit(LONGEST_CELL)  # for the whole process; Python's own is 131,072 characters
    return csv.reader(lines, delimiter=sep, strict=strict)


def records(path: Path, sep: str, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line where it begins, the header first, without blank lines.

    This is slow and only used for messages. A cell that is too long and, with `strict`, a quoted
    cell that never ends raise DataError.
    """
    first_line = 1
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        reader = csv_records(lines, sep, strict=strict)
        try:
            for record in reader:
                if record:
                    yield first_line, record
                first_line = reader.line_num + 1
        except csv.Error as error:
            problem = TOO_LONG if "field limit" in str(error) else NEVER_ENDS
            raise DataError(f"{path} line {first_line}: {problem}") from error


def has_break(cell: str) -> bool:
    """Return whether a cell spans several lines."""
    return "\n" in cell or "\r" in cell


def require_ended(path: Path, sep: str) -> None:
    """Raise DataError if a quoted cell never ends; reads all records."""
    deque(records(path, sep, strict=True), maxlen=0)


def ragged(path: Path, sep: str, *, columns: int) -> list[str]:
    """Return messages on the first rows that have more or fewer cells than the header."""
    odd_rows = []
    rows = 0
    has_breaks = False
    with suppress(DataError):  # a quote that never ends is reported elsewhere
        for line, record in records(path, sep):
            rows += 1
            if len(record) != columns:
                odd_rows.append((line, len(record)))
                has_breaks = has_breaks or any(map(has_break, record))
    if has_breaks:
        require_ended(path, sep)
    if odd_rows and len(odd_rows) == rows - 1 and {width for _, width in odd_rows} == {columns + 1}:
        return [
            f"{path}: every row has {columns + 1} cells, one more than the header's {columns}; "
            "its first column may be an index without a name. Add its name to line 1"
        ]
    named = "a tab" if sep == "\t" else repr(sep)
    quote = f"Quote cells that contain {named}"
    fill = f"Add the missing cells, or {named} for each empty one"
    problems = []
    for line, width in odd_rows[:MOST_TOLD]:
        plural = "" if width == 1 else "s"
        remedy = quote if width > columns else fill
        problems.append(
            f"{path} line {line} has {width} cell{plural}; expected {columns}, as in the header. "
            f"{remedy}"
        )
    if len(odd_rows) > MOST_TOLD:
        count = len(odd_rows) - MOST_TOLD
        problems.append(f"{path}: {count} more rows have a different number of cells")
    return problems


def nul_problems(path: Path) -> list[str]:
    """Return a message, in a list, on the first NUL byte of a file."""
    line = 1
    before = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):  # not by lines: a file of zeros is one line
            if block.endswith(b"\r"):  # a line end of two bytes is not cut
                block += file.read(1)
            if (position := block.find(b"\0")) >= 0:
                line += _line_ends(block[:position])
                return [
                    f"{path} line {line} has a NUL byte (byte {before + position + 1} of the "
                    "file): the file is not text or is damaged; save it again"
                ]
            line += _line_ends(block)
            before += len(block)
    return []


def _line_ends(content: bytes) -> int:
    """Return the number of line ends: CR LF, LF, or CR as in old files of a Mac."""
    return content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n")


def _likely_encoding(text: bytes) -> str:
    """Return the likely encoding of a text that is not UTF-8."""
    # Chinese words have four such bytes in a row, accented letters hardly ever.
    if re.search(rb"[\x80-\xff]{4}", text) and _is_encoded(text, "GB18030"):
        return "GB18030"
    return "CP1252" if _is_encoded(text, "CP1252") else "LATIN1"


def _is_encoded(text: bytes, encoding: str) -> bool:
    return text.decode(encoding, "ignore").encode(encoding) == text


def utf8_problems(path: Path) -> list[str]:
    """Return a message, in a list, on the first byte that is not UTF-8; empty = there is none."""
    line = 1
    with path.open("rb") as file:
        for content in file:
            try:
                content.decode("utf-8")
            except UnicodeDecodeError as error:
                text = content + file.read(BLOCK_BYTES).rpartition(b"\n")[0]
                encoding = _likely_encoding(text)
                letter = content[error.start :].decode(encoding, "replace")[0]
                line += _line_ends(content[: error.start])
                remedy = SAVE_AS.format(encoding, shlex.quote(str(path)))
                return [
                    f"{path} line {line} has the byte 0x{content[error.start]:02x} ({letter!r} in "
                    f"{encoding}), which is not UTF-8; {remedy}"
                ]
            line += _line_ends(content)
    return []


FORMAT = TableFormat(
    name="CSV",
    recognizes=lambda _: True,
    is_last=True,
    names=_names,
    count=lambda _: 0,
    batches=_batches,
    explain_damage=_damage,
    row_name=_row_name,
    separator=_separator,
    has_typed_cells=False,
)
