"""Files of a table as batches of texts, what is wrong with them, and their cells as numbers."""

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from given_tables import FILE, patients, text, write

from pipeline.data.schema import UNKNOWN
from pipeline.data.source import Column
from pipeline.data.tables import file as table_file
from pipeline.data.tables.cells import MISSING, Cells, raw_rows
from pipeline.data.tables.file import Place, batches, form_of, where
from pipeline.errors import ConfigError, DataError


def rows(path: Path, **keys: object) -> list[list[str | None]]:
    return [list(row.values()) for _, batch in batches(path, **keys) for row in batch.to_pylist()]


def refused(content: str | bytes, **keys: object) -> tuple[str, ...]:
    with pytest.raises(DataError) as raised:
        rows(write(content), **keys)
    return raised.value.problems


def emptied(cells: list[str]) -> list[str | None]:
    return [cell.strip() or None for cell in cells]


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_cells_are_those_of_pythons_own_reader_for_any_separator_and_line_end(
    sep: str, end: str, mark: bytes
) -> None:
    content = text(patients(), sep=sep, end=end) + end * 3
    names, *expected = csv.reader(io.StringIO(content, newline=""), delimiter=sep)
    path = write(mark + content.encode())
    assert form_of(path).names == tuple(names)
    assert rows(path) == [emptied(cells) for cells in expected if cells]


@pytest.mark.parametrize(
    ("content", "names", "expected"),
    [
        (
            'a,b\n"x,y","one\r\ntwo"\n"say ""no""",3\n',
            ("a", "b"),
            [["x,y", "one\r\ntwo"], ['say "no"', "3"]],
        ),
        (" blood pressure , b \n 1 ,  \n", ("blood pressure", "b"), [["1", None]]),
        ("a,b\n\r\n\n", ("a", "b"), []),
        ("a,b", ("a", "b"), []),
        (",a\n0,1\n", ("unnamed_1", "a"), [["0", "1"]]),
        ("0,1,2\n5,6,7\n", ("0", "1", "2"), [["5", "6", "7"]]),  # as pandas numbers columns
    ],
)
def test_names_and_cells_are_read_without_spaces_and_quotes(
    content: str, names: tuple[str, ...], expected: list[list[str | None]]
) -> None:
    path = write(content)
    assert form_of(path).names == names
    assert rows(path) == expected
    turned = names[::-1]
    assert rows(path, columns=turned) == [cells[::-1] for cells in expected]


def test_a_file_of_many_blocks_comes_in_order_with_the_number_of_each_first_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table_file, "BLOCK_BYTES", 200)
    path = write("a,b\n" + "".join(f'{row},"x\n{row}"\n' for row in range(1, 101)))
    found = [(at.first_row, batch.column("a").to_pylist()) for at, batch in batches(path)]
    assert len(found) > 3
    assert [str(first) for first, _ in found] == [cells[0] for _, cells in found]
    assert [cell for _, cells in found for cell in cells] == [str(row) for row in range(1, 101)]


def test_a_parquet_file_is_known_by_its_content_and_gives_the_same_texts() -> None:
    table = pa.table(
        {
            "n": [1.5, None, 0.1],
            "i": [1, 2, None],
            "t": ["x", " y ", ""],
            "c": pa.array(["u", "v", "u"]).dictionary_encode(),
            "b": [True, False, None],
        }
    )
    pq.write_table(table, "table.csv")
    assert form_of(Path("table.csv")).names == ("n", "i", "t", "c", "b")
    assert rows(Path("table.csv")) == [
        ["1.5", "1", "x", "u", "true"],
        [None, "2", "y", "v", "false"],
        ["0.1", None, None, "u", None],
    ]


def test_a_parquet_file_of_lists_or_cut_short_is_refused() -> None:
    pq.write_table(pa.table({"x": [[1], [2]], "y": [1, 2]}), "t.parquet")
    with pytest.raises(DataError, match=r"t.parquet: the column 'x' holds list<.*data.drop=\[x\]"):
        rows(Path("t.parquet"))
    assert rows(Path("t.parquet"), columns=["y"]) == [["1"], ["2"]]
    whole = Path("t.parquet").read_bytes()
    Path("t.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"t.parquet begins as a Parquet file .* cut short"):
        rows(Path("t.parquet"))


UTF_8 = "save it as UTF-8, as with: iconv -f {} -t UTF-8 patients.csv > new.csv"
NUL = "it is no text, or it was damaged; write it anew"
FIX = "expected 2, as in the header. Put cells that contain ',' into quotes"


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        (b"", [" is empty; expected a line of names and rows below it"]),
        (b"\xef\xbb\xbf\r\n\r\n", [" is empty; expected a line of names and rows below it"]),
        (
            b"a,b,a,b,c\n1,2,3,4,5\n",
            [": several columns are named 'a', 'b'; give each a name of its own"],
        ),
        (
            b"5.1,3.5,1\n4.9,3,0\n",
            [
                ": its first line holds numbers ('5.1', '3.5', '1', …) where names of columns are "
                "expected; put a line of names above it"
            ],
        ),
        (
            "naïve,b\n1,2\n".encode("latin-1"),
            [
                " line 1 has the byte 0xef ('ï' in Latin-1), which is no UTF-8; "
                f"{UTF_8.format('LATIN1')}"
            ],
        ),
        (
            'a,b\n"x\ny",2\n1,é\n'.encode("latin-1"),
            [
                " line 4 has the byte 0xe9 ('é' in Latin-1), which is no UTF-8; "
                f"{UTF_8.format('LATIN1')}"
            ],
        ),
        ("a,b\n1,2\n".encode("utf-16"), [f" is UTF-16; {UTF_8.format('UTF-16')}"]),
        ("a,b\n1,2\n".encode("utf-16-be"), [f" is UTF-16; {UTF_8.format('UTF-16')}"]),
        (b"a,b\n1,2\n3,\x004\n", [f" line 3 has a NUL byte (byte 11 of the file): {NUL}"]),
        (
            b"a,b\n" + b"1,2\n" * 20_000 + b"3,\x004\n",
            [f" line 20002 has a NUL byte (byte 80007 of the file): {NUL}"],
        ),
        (b"PK\x03\x04rest", [" is an Excel or zip file; save the sheet as CSV (UTF-8)"]),
        (b"\x1f\x8brest", [" is compressed; unpack it first, as with gunzip"]),
        (
            b'a,b\n1,2\n\n3,"never ends\n5,6\n7,8\n',
            [
                " line 4: a quoted cell never ends; close its quote, or double a quote that "
                "belongs to the cell"
            ],
        ),
        (
            b'a,b\n1,2\n"x\n\ny",2\n3\n\n4,5,6\n',
            [f" line 6 has 1 cell; {FIX}", f" line 8 has 3 cells; {FIX}"],
        ),
        (
            b"a,b\n1,2\n" + b"1\n" * 9,
            [
                *(f" line {line} has 1 cell; {FIX}" for line in range(3, 8)),
                ": 4 more rows have another number of cells",
            ],
        ),
        (
            b"a,b\n0,1,2\n1,3,4\n",
            [
                ": every row has 3 cells, one more than the header's 2; its first column may be an "
                "index without a name. Put a name for it into line 1"
            ],
        ),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_what_and_where_it_is(
    content: bytes, problems: list[str]
) -> None:
    assert refused(content) == tuple(f"{FILE}{problem}" for problem in problems)


def test_missing_columns_are_all_named_beside_those_that_are_there() -> None:
    assert refused("age,town\n1,2\n", columns=["ages", "dose"]) == (
        f"{FILE} lacks the columns 'ages', 'dose'; it has age, town. Did you mean 'age'?",
    )


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("patient.csv", r"patient.csv does not exist; .* Did you mean 'patients.csv'\?"),
        ("patients.txt", r"patients.txt does not exist; .* Did you mean 'patients.csv'\?"),
        ("no/x.csv", r"no/x.csv does not exist; .* Its folder no does not exist either"),
        ("patients.csv/x", r"patients.csv/x does not exist; a part of its path is a file"),
        (".", r"\. is a folder; expected a CSV or Parquet file"),
    ],
)
def test_a_path_that_is_no_file_is_refused(path: str, problem: str) -> None:
    write("a,b\n1,2\n")
    with pytest.raises(DataError, match=problem):
        form_of(Path(path))


def test_a_separator_that_is_given_wins_over_what_is_found_and_is_one_sign() -> None:
    path = write("a;b,c;d\n1;2,3;4\n")
    assert form_of(path, sep=",").names == ("a;b", "c;d")
    for sep in ("::", "", '"'):
        with pytest.raises(ConfigError, match=r"data.sep=.* is no separator; expected one charact"):
            form_of(path, sep=sep)
    assert form_of(write("a\tb\n"), sep="tab").names == ("a", "b")


def parsed(*cells: str | None, **changes: object) -> list[float]:
    place = Place(**{"file": "the request", **changes})  # type: ignore[arg-type] # of a test
    return Cells(pa.array(cells, pa.string()), "dose", place).numbers().tolist()


def refused_number(*cells: str | None, **changes: object) -> str:
    with pytest.raises(DataError) as raised:
        parsed(*cells, **changes)
    return str(raised.value)


def test_numbers_are_read_as_python_reads_them_and_words_for_missing_as_none() -> None:
    for cell in ("1", "-2.5", "+3", ".5", "5.", "1e-3", "1E4", "007", "0.1", "3.4e38", "-3.4e38"):
        assert parsed(cell) == [float(cell)]
    for missing in (*sorted(MISSING), None):
        np.testing.assert_array_equal(parsed("1", missing), [1, np.nan])


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
    assert refused_number("1", None, cell, "x", first_row=10) == (
        f"the request row 12, column 'dose': {cell!r} is no number; {way}"
    )


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e300", "1e999", "3.5e38"])
def test_a_number_that_is_infinite_in_single_precision_is_refused(cell: str) -> None:
    assert refused_number("1", cell) == (
        f"the request row 2, column 'dose': {cell!r} is infinite in single precision; expected a "
        "number between ±3.4e+38. Leave the cell empty where it is not known"
    )


def test_a_long_cell_is_cut_in_the_message() -> None:
    assert f"{'x' * 40}…' is no number" in refused_number("x" * 500)


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
