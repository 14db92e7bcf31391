"""Tables of answers as files, and the places that they and their input lie in."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ConfigError, DataError, PipelineError
from pipeline.serving.files import (
    GROUP_ROWS,
    Sheet,
    require_places,
    write_csv_to,
    write_parquet_to,
    write_sheet,
)


def sheet(*pieces: list[list[str] | list[float]]) -> Sheet:
    return Sheet(header=("=id", "value"), texts=frozenset({"=id"}), pieces=iter(pieces))


def csv_rows(*pieces: list[list[str] | list[float]]) -> list[list[str]]:
    file = io.BytesIO()
    write_csv_to(file, sheet(*pieces))
    return list(csv.reader(io.StringIO(file.getvalue().decode("utf-8"), newline="")))


def test_texts_that_a_spreadsheet_would_run_are_quoted_and_so_is_a_heading() -> None:
    run = ["=1+1", "+cmd", "-x", "@SUM(A1)", "\tx", "\rx"]
    others = ["-5", "+1.5e3", "007", "a=b", "", 'say "hi", you', "two\nlines", "a\rb"]
    heading, *rows = csv_rows([[*run, *others], [1.0] * 14])
    assert heading == ["'=id", "value"]
    assert rows == [[text, "1.0"] for text in (*(f"'{text}" for text in run), *others)]


def test_a_number_is_read_back_to_the_last_bit_and_never_quoted() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 2000, dtype=np.uint32).view(np.float32)
    values = [-0.1, *np.extract(np.isfinite(bits), bits).astype(float).tolist()]
    rows = csv_rows([["a"] * len(values), values])
    assert [float(row[1]) for row in rows[1:]] == values


def test_nothing_is_written_before_the_first_rows_are_known_to_be_sound() -> None:
    def refused() -> Iterator[list[list[float]]]:
        raise DataError("no number")
        yield []

    file = io.BytesIO()
    with pytest.raises(DataError):
        write_csv_to(file, Sheet(header=("a",), texts=frozenset(), pieces=refused()))
    assert file.getvalue() == b""
    assert csv_rows() == [["'=id", "value"]]  # the heading of a sheet without rows


def test_parquet_holds_the_same_rows_unquoted_in_large_groups() -> None:
    size = GROUP_ROWS // 2
    starts = range(0, 4 * size, size)
    pieces = [[[f"={n}"] * size, [*map(float, range(n, n + size))]] for n in starts]
    for given in (pieces, []):
        write_parquet_to(file := io.BytesIO(), sheet(*given))
        read = pq.ParquetFile(io.BytesIO(file.getvalue()))
        assert [str(field.type) for field in read.schema_arrow] == ["string", "double"]
        assert read.metadata.num_row_groups == len(given) // 2
        table = read.read()
        assert table["value"].to_pylist() == [*map(float, range(size * len(given)))]
        assert set(table["=id"].to_pylist()) == {text for piece in given for text in piece[0]}


@pytest.fixture(autouse=True)
def new(own_folder: Path) -> Path:
    path = own_folder / "new.csv"
    path.write_text("a,b\n", encoding="utf-8")
    return path


def problem(kind: type[PipelineError], source: str, output: str, *, overwrite: bool = False) -> str:
    with pytest.raises(kind) as caught:
        require_places(source, output, overwrite=overwrite)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("neu.csv", "does not exist; expected a file of new rows. Did you mean 'new"),
        ("no/new.csv", "does not exist; expected a file of new rows."),
        ("http://x/new.csv", "is an address; expected a file on this"),
        ("s3://x/new.csv", "is an address; expected a file on this"),
    ],
)
def test_an_input_that_is_no_file_here_is_refused(source: str, said: str) -> None:
    assert problem(DataError, source, "out.csv").startswith(f"input='{source}' {said}")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("out.txt", "ends in neither .csv nor .parquet, the two kinds that are"),
        ("out", "ends in neither .csv nor .parquet"),
        ("it's/a.csv", "lies in no folder that is there; make it with: mkdir -p 'it'\"'\"'s'"),
        ("new.csv/out.csv", "lies below 'new.csv', which is a file;"),
        ("folder.csv", "is a folder; expected a file, such as folder.csv/pre"),
        ("old.csv", "is there already; choose another, or replace it with overwr"),
        ("x" * 300 + ".csv", "is not a valid path (File name too"),
        ("a\0.csv", "is not a valid path (it holds a NUL)"),
        ("link.csv", "lies in no folder that is there; make it with: mkdir -p /"),
    ],
)
def test_an_output_that_can_not_be_written_so_is_refused(output: str, said: str) -> None:
    Path("folder.csv").mkdir()
    Path("link.csv").symlink_to("no/target.csv")
    Path("old.csv").write_text("mine", encoding="utf-8")
    told = problem(ConfigError, "new.csv", output)
    assert told.startswith(f"output={output!r} {said}")
    assert output != "link.csv" or told.endswith(f" {Path.cwd() / 'no'}")
    assert Path("old.csv").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("way", ["the same", "another spelling", "a link", "a second name"])
def test_the_input_itself_is_never_the_output(own_folder: Path, way: str) -> None:
    output = {"the same": "new.csv", "another spelling": f"../{own_folder.name}/new.csv"}.get(
        way, "other.csv"
    )
    if way == "a link":
        Path("other.csv").symlink_to("new.csv")
    if way == "a second name":
        os.link("new.csv", "other.csv")
    told = problem(ConfigError, "new.csv", output, overwrite=True)
    assert told == f"output={output!r} is the input itself; choose another file"


def test_what_may_be_written_passes_and_a_link_stays_one(own_folder: Path) -> None:
    Path("old.csv").write_text("old", encoding="utf-8")
    for output in ("out.csv", "OUT.CSV", str(own_folder / "out.parquet"), None):
        require_places("new.csv", output, overwrite=False)
    Path("target").touch()
    Path("link.csv").symlink_to("target")
    for output in ("old.csv", "link.csv"):
        require_places("new.csv", output, overwrite=True)
    sheet = Sheet(header=("prediction",), texts=frozenset(), pieces=iter([[[1]]]))
    write_sheet("link.csv", sheet)
    assert Path("link.csv").is_symlink()
    assert Path("target").read_text(encoding="utf-8") == "prediction\n1\n"
