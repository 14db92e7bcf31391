"""Excel (.xlsx): cells of the first sheet, as texts as a CSV of that sheet has them."""

from __future__ import annotations

import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import DataError, EnvironmentFaultError, pip_install
from pipeline.data.parsing.tables.file import TableFile, TableFormat
from pipeline.data.parsing.tables.formats._arrow import BATCH_ROWS, require_unpacked_size
from pipeline.data.parsing.tables.formats.csv import MOST_RECORDS, names_of

if TYPE_CHECKING:
    import pyarrow as pa

#: Parts of a workbook in its zip file.
WORKBOOK = "xl/workbook.xml"
SHEETS = "xl/worksheets/"
#: Bytes of the shortest cell of a sheet: `<c r="A1"><v>1</v></c>`.
SHORTEST_CELL = 24
#: Most rows of a sheet of Excel.
MOST_ROWS = 2**20
#: Most cells of a batch.
BATCH_CELLS = 2**22


def _parts(file: TableFile) -> Sequence[zipfile.ZipInfo]:
    """Return the files in a workbook; raises DataError if it is none, or unpacks to too much."""
    with _plain_errors(), zipfile.ZipFile(file.path) as archive:
        parts = archive.infolist()
    if all(part.filename != WORKBOOK for part in parts):
        raise DataError(
            f"{file.path} is a zip file without an Excel workbook (.xlsx); unpack it, or save its "
            "sheet as CSV (UTF-8)"
        )
    require_unpacked_size(file.path, sum(part.file_size for part in parts))
    return parts


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise every error as ValueError: damaged parts make openpyxl raise errors of any kind."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _rows(file: TableFile) -> Generator[tuple[int, list[str]]]:
    """Yield the rows of the first sheet that are not empty, each after its number in Excel."""
    _parts(file)
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise EnvironmentFaultError(
            f"{file.path} is an Excel file, which needs the package 'openpyxl'; install it with: "
            f"{pip_install('openpyxl')}, or save the sheet as CSV (UTF-8)"
        ) from error
    # Its warnings are about styles, and about dates that the cells then hold as errors.
    with (
        _plain_errors(),
        file.path.open("rb") as content,  # openpyxl takes no path that ends otherwise
        closing(load_workbook(content, read_only=True, data_only=True)) as workbook,
    ):
        sheet = workbook.worksheets[0]
        sheet.reset_dimensions()  # rows would be as wide as the sheet says that it is
        rows = sheet.iter_rows(max_row=MOST_ROWS)
        for number, cells in enumerate(rows, start=1):
            texts = [_text(cell) for cell in cells]
            while texts and not texts[-1]:
                del texts[-1]
            if texts:
                yield number, texts


def _text(cell: Any) -> str:
    """Return a cell as in a CSV: ISO dates, whole numbers without decimals, TRUE and FALSE."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime):
        has_time = "h" in cell.number_format.lower() or value.time().isoformat() != "00:00:00"
        return value.isoformat(" ") if has_time else value.date().isoformat()
    return str(value).strip()


def _names(file: TableFile) -> Sequence[str]:
    with closing(_rows(file)) as rows:
        first = [texts for _, texts in islice(rows, MOST_RECORDS)]
    if not first:
        raise DataError(f"{file.path} is empty; expected a header and rows")
    return names_of(file, first)


def _batches(file: TableFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    width = len(file.names)
    positions = [file.names.index(name) for name in columns]
    most_rows = max(1, min(BATCH_ROWS, BATCH_CELLS // width))
    with closing(_rows(file)) as rows:
        if file.options.header is not False:
            next(rows)
        while batch := list(islice(rows, most_rows)):
            for number, texts in batch:
                if len(texts) > width:
                    raise DataError(
                        f"{file.path} sheet row {number} has {len(texts)} cells; expected {width}, "
                        "as in the header. Name all columns, or clear the other cells"
                    )
                texts.extend([""] * (width - len(texts)))
            columns_of_texts = list(zip(*(texts for _, texts in batch), strict=True))
            cells = [pa.array(columns_of_texts[position], pa.string()) for position in positions]
            yield pa.RecordBatch.from_arrays(cells, names=[*columns])


def _count(file: TableFile) -> int:
    """Return the most cells that the sheets may have, by the bytes of their XML."""
    parts = _parts(file)
    size = sum(part.file_size for part in parts if part.filename.startswith(SHEETS))
    return size // SHORTEST_CELL


def _row_name(file: TableFile, row: int) -> str:
    """Return the number of a row as Excel shows it; the header is usually row 1."""
    place = row - (file.options.header is False)
    with closing(_rows(file)) as rows:
        number, _ = next(islice(rows, place, None))
    return f"sheet row {number}"


FORMAT = TableFormat(
    name="Excel",
    recognizes=lambda head: head.startswith(b"PK\x03\x04"),
    names=_names,
    count=_count,
    batches=_batches,
    row_name=_row_name,
)
