"""Records of a CSV as Python reads them, and what is wrong with a file, named by its line."""

from __future__ import annotations

import csv
import re
import shlex
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader

BLOCK_BYTES = 2**22
#: Most characters of a cell; Arrow reads none that is longer than two blocks.
LONGEST_CELL = 2 * BLOCK_BYTES
MOST_TOLD = 5
NEVER_ENDS = "a quoted cell never ends; close its quote, or double quotes within the cell"
TOO_LONG = f"a cell has more than {LONGEST_CELL:,} characters; close its quote, or shorten it"
SAVE_AS = "save it as UTF-8, as with: iconv -f {} -t UTF-8 {} > new.csv"


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
    begun = 1
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        reader = csv_records(lines, sep, strict=strict)
        try:
            for record in reader:
                if record:
                    yield begun, record
                begun = reader.line_num + 1
        except csv.Error as error:
            problem = TOO_LONG if "field limit" in str(error) else NEVER_ENDS
            raise DataError(f"{path} line {begun}: {problem}") from error


def has_break(cell: str) -> bool:
    """Return whether a cell spans several lines."""
    return "\n" in cell or "\r" in cell


def require_ended(path: Path, sep: str) -> None:
    """Raise DataError if a quoted cell never ends; reads all records."""
    deque(records(path, sep, strict=True), maxlen=0)


def ragged(path: Path, sep: str, *, columns: int) -> list[str]:
    """Return messages on the first rows that have more or fewer cells than the header."""
    found = []
    rows = 0
    has_breaks = False
    with suppress(DataError):  # a quote that never ends is reported elsewhere
        for line, record in records(path, sep):
            rows += 1
            if len(record) != columns:
                found.append((line, len(record)))
                has_breaks = has_breaks or any(map(has_break, record))
    if has_breaks:
        require_ended(path, sep)
    if found and len(found) == rows - 1 and {width for _, width in found} == {columns + 1}:
        return [
            f"{path}: every row has {columns + 1} cells, one more than the header's {columns}; "
            "its first column may be an index without a name. Add its name to line 1"
        ]
    named = "a tab" if sep == "\t" else repr(sep)
    quote = f"Quote cells that contain {named}"
    fill = f"Add the missing cells, or {named} for each empty one"
    problems = [
        f"{path} line {line} has {width} cell{'s' * (width != 1)}; expected {columns}, as in the "
        f"header. {quote if width > columns else fill}"
        for line, width in found[:MOST_TOLD]
    ]
    more = len(found) - MOST_TOLD
    return problems + ([f"{path}: {more} more rows have a different number of cells"] * (more > 0))


def nul_problems(path: Path) -> list[str]:
    """Return a message, in a list, on the first NUL byte of a file."""
    line, before = 1, 0
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
            line, before = line + _line_ends(block), before + len(block)
    return []


def _line_ends(content: bytes) -> int:
    """Return the number of line ends: CR LF, LF, or CR as in old files of a Mac."""
    return content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n")


def utf8_problems(path: Path) -> list[str]:
    """Return a message, in a list, on the first byte that is not UTF-8; empty = there is none."""
    line = 1
    with path.open("rb") as file:
        for content in file:
            try:
                content.decode("utf-8")
            except UnicodeDecodeError as error:
                text = content + file.read(BLOCK_BYTES).rpartition(b"\n")[0]
                # Chinese words have four such bytes in a row, accented letters hardly ever.
                likely = ("GB18030",) * bool(re.search(rb"[\x80-\xff]{4}", text))
                encodings = (*likely, "CP1252", "LATIN1")
                code = next(c for c in encodings if text.decode(c, "ignore").encode(c) == text)
                letter = content[error.start :].decode(code, "replace")[0]
                line += _line_ends(content[: error.start])
                return [
                    f"{path} line {line} has the byte 0x{content[error.start]:02x} ({letter!r} in "
                    f"{code}), which is not UTF-8; {SAVE_AS.format(code, shlex.quote(str(path)))}"
                ]
            line += _line_ends(content)
    return []
