"""What is wrong with a text file that can't be parsed, by line; read slowly, since it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.tables.encoding import utf8_problem
from pipeline.data.tables.form import Form
from pipeline.data.tables.records import records
from pipeline.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_TOLD = 5


def parse_problems(path: Path, form: Form, error: str) -> list[str]:
    """Say in which lines a file is damaged.

    Args:
        path: A text file that the parser refused.
        form: How it was read.
        error: What the parser said, told where nothing better is found.
    """
    if problem := utf8_problem(path):
        return [problem]
    return (
        _ragged(path, form)
        or _unended(path, form.sep)
        or [f"{path} can't be read: {' '.join(error.split())}"]
    )


def unended_quote(path: Path, form: Form, last: pa.RecordBatch) -> list[str]:
    """Say where a quoted cell begins that never ends: it would swallow all rows below it.

    Args:
        path: A text file.
        form: How it was read.
        last: Its last batch; a cell that never ends has a line break in its last row.
    """
    row = last.slice(last.num_rows - 1).to_pylist()[0]
    if not any(cell is not None and "\n" in cell for cell in row.values()):
        return []
    return _unended(path, form.sep)


def _unended(path: Path, sep: str) -> list[str]:
    try:
        for _ in records(path, sep, strict=True):
            pass
    except DataError as error:
        return list(error.problems)
    return []


def _ragged(path: Path, form: Form) -> list[str]:
    """Tell rows with more or fewer cells than the header, the first few by their line."""
    expected, found, rows = len(form.names), [], 0
    widths = set()
    try:
        for line, record in records(path, form.sep):
            rows += 1
            if len(record) != expected:
                found.append((line, len(record)))
                widths.add(len(record))
    except DataError:
        pass  # what never ends is told by itself; the rows before it are known
    if not found:
        return []
    if len(found) == rows - 1 and widths == {expected + 1}:
        return [
            f"{path}: every row has {expected + 1} cells, one more than the header's {expected}; "
            "its first column may be an index without a name. Put a name for it into line 1"
        ]
    problems = [
        f"{path} line {line} has {width} cell{'s' * (width != 1)}; expected {expected}, as in the "
        f"header. Put cells that contain {_named(form.sep)} into quotes"
        for line, width in found[:MOST_TOLD]
    ]
    more = len(found) - MOST_TOLD
    return problems + ([f"{path}: {more} more rows have another number of cells"] * (more > 0))


def _named(sep: str) -> str:
    return "a tab" if sep == "\t" else repr(sep)
