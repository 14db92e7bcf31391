"""Excel workbooks: their cells as texts, bounds on memory, and damage."""

import datetime as dt
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from data.tables.given_tables import damage_told, write
from helpers.refused_calls import refusal
from openpyxl import Workbook

from pipeline.base.errors import EnvironmentFaultError
from pipeline.data.parsing.tables.file import CsvOptions, batches, form_of, where
from pipeline.data.parsing.tables.formats import _arrow

PATH = Path("t.xlsx")
NAMES = ("n", "w", "t", "d", "b", "at", "h")
DAY = dt.datetime(2024, 1, 2)


def rows(options: CsvOptions | None = None) -> list[list[str | None]]:
    read = batches(PATH, options or CsvOptions())
    return [list(row.values()) for _, batch in read for row in batch.to_pylist()]


@pytest.fixture(autouse=True)
def workbook() -> None:
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append(NAMES)
    sheet.append([1.5, 2.0, " x ", dt.date(2024, 1, 2), True, DAY, None])
    sheet.append([])
    sheet.append([0.25, 1e20, None, dt.date(2024, 1, 3), False, dt.datetime(2024, 1, 2, 3), "y"])
    book.create_sheet("other").append(["not read"])
    book.save(PATH)


def edited(change: Callable[[bytes], bytes]) -> None:
    """Change the XML of the first sheet."""
    with zipfile.ZipFile(PATH) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(PATH, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            is_sheet = name == "xl/worksheets/sheet1.xml"
            archive.writestr(name, change(content) if is_sheet else content)


def test_first_sheet_is_read_as_csv() -> None:
    assert form_of(PATH, CsvOptions()).names == NAMES
    assert rows() == [
        ["1.5", "2", "x", "2024-01-02", "TRUE", "2024-01-02 00:00:00", None],
        ["0.25", str(10**20), None, "2024-01-03", "FALSE", "2024-01-02 03:00:00", "y"],
    ]
    assert rows(CsvOptions(header=False))[0] == [*NAMES]
    assert where(str(PATH), 2, CsvOptions()) == "t.xlsx sheet row 4"


def test_row_wider_than_the_header_is_named() -> None:
    edited(lambda xml: xml.replace(b'r="G4"', b'r="J4"'))
    assert "t.xlsx sheet row 4 has 10 cells; expected 7, as in" in refusal(rows)


def test_sheet_of_a_small_file_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_arrow, "RATIO_FROM", 2**20)
    edited(lambda xml: xml + b" " * 3_000_000)
    assert re.match(r"t.xlsx would unpack from \d+ to 30\d+ bytes or more", refusal(rows))


def test_number_of_a_row_is_bounded() -> None:
    edited(lambda xml: xml.replace(b'<row r="4"', b'<row r="99999999999"'))
    assert len(rows()) == 1


def test_any_damage_is_one_line_of_the_file() -> None:
    assert damage_told(PATH, rows, copies=60) > 50


def test_zip_file_without_a_workbook_is_refused() -> None:
    with zipfile.ZipFile(PATH, "w") as archive:
        archive.writestr("a.csv", "a,b\n1,2\n")
    assert "t.xlsx is a zip file without an Excel workbook" in refusal(rows)


def test_old_excel_file_is_refused() -> None:
    path = write(b"\xd0\xcf\x11\xe0rest")
    problem = "an old Excel file, or one with a password; save the"
    assert problem in refusal(form_of, path, CsvOptions())


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(
        EnvironmentFaultError, match=r"t.xlsx is an Excel file, .* pip install '?openpyxl"
    ):
        rows()
