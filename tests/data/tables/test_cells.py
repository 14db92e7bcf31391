import numpy as np
import pyarrow as pa
import pytest
from given_tables import FILE, write

from pipeline.data.encode import UNKNOWN
from pipeline.data.source import Column
from pipeline.data.tables.cells import MISSING, numbers, raw_rows
from pipeline.data.tables.file import Place, where
from pipeline.errors import DataError


def parsed(*cells: str | None, **changes: object) -> list[float]:
    place = Place(**{"file": "the request", **changes})  # type: ignore[arg-type] # of a test
    return numbers(pa.array(cells, pa.string()), column="dose", place=place).tolist()


def refused(*cells: str | None, **changes: object) -> str:
    with pytest.raises(DataError) as raised:
        parsed(*cells, **changes)
    return str(raised.value)


@pytest.mark.parametrize("cell", ["1", "-2.5", "+3", ".5", "5.", "1e-3", "1E4", "007", "0.1"])
def test_a_number_is_read_as_python_reads_it(cell: str) -> None:
    assert parsed(cell) == [float(cell)]


@pytest.mark.parametrize("cell", [*sorted(MISSING), None])
def test_a_word_for_missing_and_an_empty_cell_are_no_number(cell: str | None) -> None:
    np.testing.assert_array_equal(parsed("1", cell), [1, np.nan])


@pytest.mark.parametrize(
    ("cell", "way"),
    [
        ("1,5", "write 1.5"),
        ("1,000", "write 1000"),
        ("-1,234,567.5", "write -1234567.5"),
        ("$3", "write 3"),
        ("20 %", "write 20"),
        ("€ 1.50", "write 1.50"),
        ("high", "write a number or leave it empty, as the model was trained on numbers there"),
        ("0x10", "write a number or leave it empty, as the model was trained on numbers there"),
    ],
)
def test_another_word_is_refused_with_row_column_value_and_what_to_write(
    cell: str, way: str
) -> None:
    assert refused("1", None, cell, "x", first_row=10) == (
        f"the request row 12, column 'dose': {cell!r} is no number; {way}"
    )


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e300", "1e999", "3.5e38"])
def test_a_number_that_is_infinite_in_single_precision_is_refused(cell: str) -> None:
    assert refused("1", cell) == (
        f"the request row 2, column 'dose': {cell!r} is infinite in single precision; expected a "
        "number between ±3.4e+38. Leave the cell empty where it is not known"
    )


def test_the_largest_numbers_of_single_precision_are_read() -> None:
    assert parsed("3.4e38", "-3.4e38") == [3.4e38, -3.4e38]


def test_a_long_cell_is_cut_in_the_message() -> None:
    assert f"{'x' * 40}…' is no number" in refused("x" * 500)


def test_a_category_is_the_index_of_its_level_and_a_stranger_is_known_as_one() -> None:
    cells = pa.array(["b", "a", None, "NA", "c", "b"])
    batch = pa.RecordBatch.from_arrays([cells], names=["town"])
    column = Column(name="town", levels=("a", "b"))
    found = raw_rows(batch, [column], Place(file="the request"))[:, 0]
    np.testing.assert_array_equal(found, [1, 0, np.nan, np.nan, UNKNOWN, 1])


def test_a_row_of_a_file_is_told_by_its_line_whatever_its_cells_span() -> None:
    write('\ufeff\na;b\n1;"x\n\ny"\n\n2;z\n')
    told = [f"{FILE} line 3", f"{FILE} line 7", f"{FILE} row 3"]
    assert [where(FILE, row) for row in (1, 2, 3)] == told
    assert where("the request", 2) == "the request row 2"
