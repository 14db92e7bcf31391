"""Where in a file a row stands, as an editor shows it; looked up only where something is wrong."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.data.tables.form import form_of
from pipeline.data.tables.records import records
from pipeline.errors import ConfigError, DataError


def where(file: str, row: int, *, sep: str | None = None) -> str:
    """Name a row in a message: `patients.csv line 18`, or `patients.csv row 17`.

    Lines are those of an editor, the header at line 1, and count what quoted cells span; rows are
    counted from 1 behind the header, and name those of files without lines.

    Args:
        file: Name of the file or of whatever else the rows came in.
        row: Number of the row of data, counted from 1.
        sep: What parts the cells; None = found in the file.
    """
    line = line_of(Path(file), row, sep=sep)
    return f"{file} row {row}" if line is None else f"{file} line {line}"


def line_of(path: Path, row: int, *, sep: str | None = None) -> int | None:
    """Return the line where a row of data begins; None for what has no such line."""
    try:
        form = form_of(path, sep=sep) if path.is_file() else None
    except (ConfigError, DataError, OSError):
        return None
    if form is None or form.kind != "text":
        return None
    found = next(islice(records(path, form.sep), row, None), None)
    return None if found is None else found[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a batch of cells comes from, for messages.

    Args:
        file: Name of the file or of whatever else the rows came in.
        first_row: Number of the first row of data, counted from 1.
        sep: What parts the cells; None = found in the file.
    """

    file: str
    first_row: int = 1
    sep: str | None = None

    def cell(self, position: int, column: str) -> str:
        """Name a cell of the batch, its position counted from 0."""
        return f"{where(self.file, self.first_row + position, sep=self.sep)}, column {column!r}"
