"""Files of a table as batches of texts, what is wrong with them, and their cells as numbers."""

import csv
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.tables.given_tables import FILE, patients, text, write
from helpers.case_tables import cases
from helpers.refused_calls import refusal

from pipeline.data.parsing.cells.kinds.number import PLAIN
from pipeline.data.parsing.cells.texts import MISSING, Cells
from pipeline.data.parsing.tables import file as table_file
from pipeline.data.parsing.tables import formats
from pipeline.data.parsing.tables.file import CellLocation, CsvOptions, batches, form_of, where
from pipeline.data.parsing.tables.formats import _arrow
from pipeline.data.parsing.tables.formats import csv as csv_format

AS_FOUND = CsvOptions()


def rows(path: Path, options: CsvOptions = AS_FOUND, **keys: Any) -> list[list[str | None]]:
    read = batches(path, options, **keys)
    return [list(row.values()) for _, batch in read for row in batch.to_pylist()]


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_cells_equal_those_of_the_csv_module(sep: str, end: str, mark: bytes) -> None:
    content = text(patients(), sep=sep, end=end) + end * 3
    names, *expected = csv.reader(io.StringIO(content, newline=""), delimiter=sep)
    path = write(mark + content.encode())
    assert form_of(path, AS_FOUND).names == tuple(names)
    assert rows(path) == [[cell.strip() or None for cell in cells] for cells in expected if cells]


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
def test_spaces_and_quotes_are_stripped(
    content: str, names: tuple[str, ...], expected: list[Any]
) -> None:
    path = write(content)
    assert form_of(path, AS_FOUND).names == names
    assert rows(path) == expected
    assert rows(path, columns=names[::-1]) == [cells[::-1] for cells in expected]


def test_blocks_state_their_first_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_format, "BLOCK_BYTES", 200)
    path = write("a,b\n" + "".join(f'{row},"x\n{row}"\n' for row in range(1, 101)))
    found = [(at.first_row, batch.column("a").to_pylist()) for at, batch in batches(path, AS_FOUND)]
    assert len(found) > 3
    assert [str(first) for first, _ in found] == [cells[0] for _, cells in found]
    assert [cell for _, cells in found for cell in cells] == [str(row) for row in range(1, 101)]


def test_cells_may_exceed_the_csv_module_limit() -> None:
    name, note = "n" * 140_000, "one\n" + "x" * 140_000
    path = write(f'{name},b\n1,"{note}"\n')
    assert form_of(path, AS_FOUND).names == (name, "b")
    assert rows(path) == [["1", note]]


def test_oversized_cell_is_named_with_its_line() -> None:
    path = write('a,b\n1,2\n3,"' + "x" * 2**23 + 'x"\n')
    limit = "a cell has more than 8,388,608 characters; close its quote, or shorten it"
    assert refusal(rows, path) == f"{FILE} line 3: {limit}"


def test_parquet_is_recognized_by_content() -> None:
    """Its texts are those of a CSV file."""
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
    assert form_of(Path("table.csv"), AS_FOUND).names == ("n", "i", "t", "c", "b")
    assert rows(Path("table.csv")) == [
        ["1.5", "1", "x", "u", "true"],
        [None, "2", "y", "v", "false"],
        ["0.1", None, None, "u", None],
    ]


def test_long_parquet_texts_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_arrow, "BATCH_BYTES", 10)
    cells = ["one", "twelve", None, "a text of more bytes", "two", *["one"] * 4]
    pq.write_table(pa.table({"t": cells, "n": range(9)}), "t.parquet")
    found = [
        (at.first_row, *batch.to_pydict().values())
        for at, batch in batches(Path("t.parquet"), AS_FOUND)
    ]
    assert found == [
        (1, ["one", "twelve", None], ["0", "1", "2"]),
        (4, ["a text of more bytes"], ["3"]),
        (5, ["two", "one", "one"], ["4", "5", "6"]),
        (8, ["one", "one"], ["7", "8"]),
    ]


@pytest.mark.parametrize("cells", [[[1], [2]], [b"a", b"b"]])
def test_nested_or_truncated_parquet_is_refused(cells: list[Any]) -> None:
    pq.write_table(pa.table({"x": cells, "y": [1, 2]}), "t.parquet")
    problem = refusal(rows, Path("t.parquet"))
    assert re.match(
        r"t.parquet: the column 'x' has type (list<.*|binary); .* data.drop: x$", problem
    )
    assert rows(Path("t.parquet"), columns=["y"]) == [["1"], ["2"]]
    whole = Path("t.parquet").read_bytes()
    Path("t.parquet").write_bytes(whole[: len(whole) // 2])
    problem = refusal(rows, Path("t.parquet"))
    assert re.match(r"t.parquet starts as a Parquet file .* incomplete", problem)


HEADER = (
    " like the rows below it; expected column names. data.header=false reads it as a row, "
    "data.header=true as names"
)
EMPTY = " is empty; expected a header and rows"
LATIN = "save it as UTF-8, as with: iconv -f CP1252 -t UTF-8 patients.csv > new.csv"
WIDE = " is UTF-16; save it as UTF-8, as with: iconv -f UTF-16 -t UTF-8 patients.csv > new.csv"
NUL = "the file is not text or is damaged; save it again"
QUOTE = "expected 2, as in the header. Quote cells that contain ','"
FILL = "expected 2, as in the header. Add the missing cells, or ',' for each empty one"


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        (b"", EMPTY),
        (b"\xef\xbb\xbf\r\n\r\n", EMPTY),
        (
            b"a,b,a,b,c\n1,2\n",
            ": columns 1 and 3 are named 'a', columns 2 and 4 are named 'b'; name each differently",
        ),
        (
            b"5.1,3.5,1\n4.9,3,0\n",
            f": its first line holds numbers ('5.1', '3.5', '1'){HEADER}",
        ),
        (
            b"Anna,5.5,a,5.5\nBob,4.5,b,4.5\n",  # before a name twice is told
            f": its first line holds numbers ('5.5', '5.5'){HEADER}",
        ),
        (
            b"2024-01-01;a\n2024-01-02;b\n",
            f": its first line holds dates ('2024-01-01'){HEADER}",
        ),
        (
            b"5,4,3,yes\n1,5,2,no\n3,3,4,yes\n",  # a class is no name beside counted numbers
            f": its first line holds numbers ('5', '4', '3'){HEADER}",
        ),
        (
            b"0,0,0,name\n1,0,1,a\n",
            f": its first line holds numbers ('0', '0', '0'){HEADER}",
        ),
        (
            b"na\xefve,b\n",
            f" line 1 has the byte 0xef ('ï' in CP1252), which is not UTF-8; {LATIN}",
        ),
        (
            b'a,b\n"x\ny",2\n1,\xe9\n',
            f" line 4 has the byte 0xe9 ('é' in CP1252), which is not UTF-8; {LATIN}",
        ),
        ("a,b\n1,2\n".encode("utf-16"), WIDE),
        ("a,b\n1,2\n".encode("utf-16-be"), WIDE.replace("-f UTF-16", "-f UTF-16BE")),
        (b"a,b\n1,2\n3,\x004\n", f" line 3 has a NUL byte (byte 11 of the file): {NUL}"),
        (
            b"a,b\n" + b"1,2\n" * 20_000 + b"3,\x004\n",
            f" line 20002 has a NUL byte (byte 80007 of the file): {NUL}",
        ),
        (b"a,b\r1,2\r3,\x004\r", f" line 3 has a NUL byte (byte 11 of the file): {NUL}"),
        (
            b"a,b\r1,2\r1,\xe9\r",
            f" line 3 has the byte 0xe9 ('é' in CP1252), which is not UTF-8; {LATIN}",
        ),
        (b"a,b\r1,2\r3\r", f" line 3 has 1 cell; {FILL}"),
        (
            b"PK\x03\x04rest",
            " can't be read as Excel: File is not a zip file; save it again, or as CSV",
        ),
        (b"\x1f\x8brest", " is compressed; unpack it first, as with gunzip"),
        (
            b'a,b\n1,2\n\n3,"never ends\n5,6\n7,8\n',
            " line 4: a quoted cell never ends; close its quote, or double quotes within the cell",
        ),
        *(  # the quote swallows the other cells of its row
            (
                f'a,b\n1,2\n"x,3\n5,6\n{end}7,8\n'.encode(),
                " line 3: a quoted cell never ends; close its quote, or double quotes within the "
                "cell",
            )
            for end in ("", '5,"y"\n')
        ),
        (
            b'a,b\r1,2\r3,"never ends\r5,6\r',
            " line 3: a quoted cell never ends; close its quote, or double quotes within the cell",
        ),
        (
            b'a,b\n1,2\n"x\n\ny",2\n3\n\n4,5,6\n',
            f" line 6 has 1 cell; {FILL}\n line 8 has 3 cells; {QUOTE}",
        ),
        (
            b"a,b\n1,2\n" + b"1\n" * 9,
            "".join(f" line {line} has 1 cell; {FILL}\n" for line in range(3, 8))
            + ": 4 more rows have a different number of cells",
        ),
        (
            b"a,b\n0,1,2\n1,3,4\n",
            ": every row has 3 cells, one more than the header's 2; its first column may be an "
            "index without a name. Add its name to line 1",
        ),
    ],
)
def test_malformed_table_is_refused_by_line(content: bytes, problems: str) -> None:
    message = "\n".join(f"{FILE}{problem}" for problem in problems.split("\n"))
    assert refusal(rows, write(content)) == message


@pytest.mark.parametrize(
    ("encoding", "header", "cell", "named"),
    [
        ("cp1252", "Größe;Gekündigt", "€54,51", "0xf6 ('ö' in CP1252)"),
        ("cp1252", "size;label", "Größe", "0xf6 ('ö' in CP1252)"),
        ("cp1252", "Temperatur [°C];label", "à créée", "0xb0 ('°' in CP1252)"),
        ("gb18030", "年龄;结果", "“是”，喆", "0xc4 ('年' in GB18030)"),
        ("latin-1", "size;label", "\x81", "0x81 ('\\x81' in LATIN1)"),
        *((f"utf-16{order}", "size;label", "a", "is UTF-16") for order in ("", "-le", "-be")),
    ],
)
def test_suggested_encoding_command_preserves_the_text(
    encoding: str, header: str, cell: str, named: str
) -> None:
    content = f"{header}\n" + f"1;{cell}\n2;b\n" * 20
    folder = Path("my files [1]")
    folder.mkdir()
    path = folder / "a b.csv"
    path.write_bytes(content.encode(encoding))
    problem = refusal(rows, path)
    held = named if named == "is UTF-16" else f"has the byte {named}, which is not UTF-8"
    assert f" {held}; save it as UTF-8, " in problem
    command = problem.partition("as with: ")[2]
    subprocess.run(["sh", "-c", command], check=True)
    assert Path("new.csv").read_text("utf-8") == content
    assert rows(Path("new.csv"))[:2] == [["1", cell], ["2", "b"]]


MISSING_FILES = """
patients.csv → lacks the columns 'age', 'dose'; it has ages, b. Did you mean 'ages'?
patient.csv → Did you mean 'patients.csv'?
patients.txt → Did you mean 'patients.csv'?
no/x.csv → Its folder no does not exist either
patients.csv/x → patients.csv/x does not exist; a part of its path is a file
. → . is a folder; expected a CSV,
"""


@pytest.mark.parametrize(("path", "problem"), cases(MISSING_FILES))
def test_missing_file_and_columns_are_refused(path: str, problem: str) -> None:
    write("ages,b\n1,2\n")
    assert problem in refusal(rows, Path(path), columns=["age", "dose"])


@pytest.mark.parametrize(
    "content",
    [
        "country,1960,1961,1962\nA,1.5,2.5,3.5\n",
        "0,1,2\n5,6,7\n",
        "0,1,2,3\n5,6,?,7\n2,2,2,2\n",
        "label,0,1,2\nring,0,255,7\n",
        "1,2,3,sum\n1,2,2,5\n3,2,1,6\n",
        "n,1e3\n1,high\n",
        "a,2024-01-01\n1,5\n",
        "x,1\n",
    ],
)
def test_first_line_unlike_its_columns_is_header(content: str) -> None:
    names = content.partition("\n")[0].split(",")
    assert form_of(write(content), AS_FOUND).names == tuple(names)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_headerless_file_gets_names_and_keeps_all_rows(mark: bytes) -> None:
    path, without = write(mark + b"5.1,x\n4.9,y\n,z\n"), CsvOptions(header=False)
    assert form_of(path, without).names == ("column1", "column2")
    assert rows(path, options=without) == [["5.1", "x"], ["4.9", "y"], [None, "z"]]
    assert where(FILE, 2, without) == f"{FILE} line 2"
    assert form_of(path, CsvOptions(header=True)).names == ("5.1", "x")


def test_given_separator_overrides_detection() -> None:
    """It is a single ASCII character."""
    path = write("a;b,c;d\n1;2,3;4\n")
    assert form_of(path, CsvOptions(",")).names == ("a;b", "c;d")
    for sep in ("::", "", '"', "§", "\0", "\v"):
        problem = refusal(form_of, path, CsvOptions(sep))
        assert "is not a separator; expected one ASCII charact" in problem
    assert form_of(write("a\tb\n"), CsvOptions("tab")).names == ("a", "b")


def parsed(*cells: str | None) -> list[float]:
    place = CellLocation(file="the request", first_row=10)
    numbers: list[float] = PLAIN.read(Cells(pa.array(cells, pa.string()), "dose", place)).tolist()
    return numbers


def test_numbers_are_parsed_like_python_floats() -> None:
    """The words for missing values become NaN."""
    for cell in ("1", "-2.5", "+3", ".5", "5.", "1e-3", "1E4", "007", "0.1", "3.4e38", "-3.4e38"):
        assert parsed(cell) == [float(cell)]
    for missing in (*sorted(MISSING), None):
        np.testing.assert_array_equal(parsed("1", missing), [1, np.nan])


NO_NUMBER = "write a number or leave it empty, as the model was trained on numbers there"
INFINITE = "is infinite in float32; expected a number between ±3.4e+38. Leave the cell empty"
UNREADABLE = f"""
1,5 → is not a number; write 1.5
1,000 → is not a number; write 1.000 or 1000
-1,234,567.5 → is not a number; write -1234567.5
$3 → is not a number; write 3
20 % → is not a number; write 20 or 0.2
€ 1.50 → is not a number; write 1.50
high → is not a number; {NO_NUMBER}
0x10 → is not a number; {NO_NUMBER}
inf → {INFINITE} if it is unknown
-Infinity → {INFINITE} if it is unknown
1e300 → {INFINITE} if it is unknown
1e999 → {INFINITE} if it is unknown
3.5e38 → {INFINITE} if it is unknown
"""


@pytest.mark.parametrize(("cell", "problem"), cases(UNREADABLE))
def test_unreadable_number_is_refused_with_its_place(cell: str, problem: str) -> None:
    message = refusal(parsed, "1", None, cell)
    assert message == f"the request row 12, column 'dose': {cell!r} {problem}"


def test_long_cell_is_truncated_in_the_message() -> None:
    assert f"'{'x' * 40}…' is not a number" in refusal(parsed, "x" * 500)


def test_row_is_located_by_line_number() -> None:
    """Line breaks in quoted cells and empty lines count."""
    write('\ufeff\na;b\n1;"x\n\ny"\n\n2;z\n')
    told = [f"{FILE} line 3", f"{FILE} line 7", f"{FILE} row 3"]
    assert [where(FILE, row, AS_FOUND) for row in (1, 2, 3)] == told
    assert where("the request", 2, None) == "the request row 2"


def test_incomplete_format_is_named_by_file_and_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from pipeline.data.parsing.tables.file import TableFormat\n"
        "FORMAT = TableFormat(name='ORC', recognizes=bool, names=list, batches=list, "
        "explain_damage=list)\n"
    )
    (tmp_path / "orc.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(formats, "__path__", [str(tmp_path)])
    monkeypatch.setattr(table_file, "formats", table_file.formats.__wrapped__)
    problem = refusal(form_of, write("a,b\n1,2\n"), AS_FOUND)
    assert re.search(r"orc.py:2: .*missing 1 .* argument: 'count'", problem)
    monkeypatch.undo()
    sys.modules.pop("pipeline.data.parsing.tables.formats.orc", None)
