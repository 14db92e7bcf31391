"""Tables of answers as files: exact numbers, nothing that runs, whole rows."""

import csv
import io
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.serving.sheets import GROUP_ROWS, Sheet, write_csv_to, write_parquet_to


def sheet(*pieces: list[list[str] | list[float]]) -> Sheet:
    return Sheet(header=("=id", "value"), texts=frozenset({"=id"}), pieces=iter(pieces))


def csv_rows(*pieces: list[list[str] | list[float]]) -> list[list[str]]:
    file = io.BytesIO()
    write_csv_to(file, sheet(*pieces))
    return list(csv.reader(io.StringIO(file.getvalue().decode("utf-8"), newline="")))


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@SUM(A1)", "\tx", "\rx"])
def test_a_text_that_a_spreadsheet_would_run_is_quoted_and_so_is_a_heading(text: str) -> None:
    assert csv_rows([[text], [1.0]]) == [["'=id", "value"], [f"'{text}", "1.0"]]


@pytest.mark.parametrize(
    "text", ["-5", "+1.5e3", "007", "a=b", "", 'say "hi", you', "two\nlines", "a\rb"]
)
def test_any_other_text_is_written_as_it_is(text: str) -> None:
    assert csv_rows([[text], [1.0]])[1] == [text, "1.0"]


def test_a_number_is_read_back_to_the_last_bit_and_never_quoted() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 2000, dtype=np.uint32).view(np.float32)
    values = [-0.1, *np.extract(np.isfinite(bits), bits).astype(float).tolist()]
    rows = csv_rows([["a"] * len(values), values])
    assert [float(row[1]) for row in rows[1:]] == values


def test_a_sheet_without_rows_is_its_heading() -> None:
    assert csv_rows() == [["'=id", "value"]]


def test_nothing_is_written_before_the_first_rows_are_known_to_be_sound() -> None:
    def refused() -> Iterator[list[list[float]]]:
        raise DataError("no number")
        yield []

    file = io.BytesIO()
    with pytest.raises(DataError):
        write_csv_to(file, Sheet(header=("a",), texts=frozenset(), pieces=refused()))
    assert file.getvalue() == b""


def test_parquet_holds_the_same_rows_unquoted_in_large_groups() -> None:
    import pyarrow.parquet as pq

    size = GROUP_ROWS // 2
    parts = [
        [[f"={part}"] * size, [float(part * size + row) for row in range(size)]]
        for part in range(4)
    ]
    file = io.BytesIO()
    write_parquet_to(file, sheet(*parts))
    read = pq.ParquetFile(io.BytesIO(file.getvalue()))
    assert read.metadata.num_row_groups == 2
    table = read.read()
    assert [str(field.type) for field in table.schema] == ["string", "double"]
    assert table["value"].to_pylist() == [float(row) for row in range(4 * size)]
    assert set(table["=id"].to_pylist()) == {"=0", "=1", "=2", "=3"}


def test_parquet_without_rows_has_the_types_of_its_columns() -> None:
    import pyarrow.parquet as pq

    file = io.BytesIO()
    write_parquet_to(file, sheet())
    table = pq.read_table(io.BytesIO(file.getvalue()))
    assert (table.num_rows, [str(field.type) for field in table.schema]) == (
        0,
        ["string", "double"],
    )
