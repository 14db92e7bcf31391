"""The records of a text file with their lines, read slowly, for the sake of a message."""

import csv
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import DataError

LONGEST_SHOWN = 40


def records(path: Path, sep: str, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line where it begins, the header first, blank lines left out.

    Args:
        path: A text file.
        sep: What parts the cells.
        strict: Refuse a quoted cell that never ends.

    Raises:
        DataError: A cell never ends, or is longer than any table needs.
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
                f"{path} line {begun}: a quoted cell never ends; close its quote, or double a "
                "quote that belongs to the cell"
            ) from error


def shown(cell: str) -> str:
    """Return a cell as it may stand in a message, quoted and cut where it is long."""
    return repr(cell if len(cell) <= LONGEST_SHOWN else f"{cell[:LONGEST_SHOWN]}…")
