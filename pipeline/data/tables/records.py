"""Records of a CSV as Python reads them, and what is wrong with a file, named by its line."""

import csv
import re
import shlex
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.errors import DataError

BLOCK_BYTES = 2**22
MOST_TOLD = 5
SAVE_AS = "save it as UTF-8, as with: iconv -f {} -t UTF-8 {} > new.csv"


def records(path: Path, sep: str, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line where it begins, the header first, without blank lines.

    This is slow and only used for messages. With `strict`, a quoted cell that never ends raises
    DataError.
    """
    begun = 1
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        reader = csv.reader(lines, delimiter=sep, strict=strict)
        try:
            for record in reader:
                if record:
                    yield begun, record
                begun = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{path} line {begun}: a quoted cell never ends; close its quote, or double "
                "quotes within the cell"
            ) from error


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
                has_breaks = has_breaks or any("\n" in cell for cell in record)
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
            if (position := block.find(b"\0")) >= 0:
                line += block.count(b"\n", 0, position)
                return [
                    f"{path} line {line} has a NUL byte (byte {before + position + 1} of the "
                    "file): the file is not text or is damaged; save it again"
                ]
            line, before = line + block.count(b"\n"), before + len(block)
    return []


def utf8_problems(path: Path) -> list[str]:
    """Return a message, in a list, on the first byte that is not UTF-8; empty = there is none."""
    with path.open("rb") as file:
        for line, content in enumerate(file, start=1):
            try:
                content.decode("utf-8")
            except UnicodeDecodeError as error:
                text = content + file.read(BLOCK_BYTES).rpartition(b"\n")[0]
                # Chinese words have four such bytes in a row, accented letters hardly ever.
                likely = ("GB18030",) * bool(re.search(rb"[\x80-\xff]{4}", text))
                encodings = (*likely, "CP1252", "LATIN1")
                code = next(c for c in encodings if text.decode(c, "ignore").encode(c) == text)
                letter = content[error.start :].decode(code, "replace")[0]
                return [
                    f"{path} line {line} has the byte 0x{content[error.start]:02x} ({letter!r} in "
                    f"{code}), which is not UTF-8; {SAVE_AS.format(code, shlex.quote(str(path)))}"
                ]
    return []
