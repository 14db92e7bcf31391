"""What outputs say to a person, with what intervals, and answers for a file as a table."""

import csv
import io
import itertools
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.case_tables import cases, from_yaml, refusals
from helpers.fixture_types import Capture
from helpers.refused_calls import refusal
from serving.made_models import model, schema
from torch import Tensor, nn

from benchmarks.interval_coverage import predicted
from pipeline import __version__
from pipeline.base.errors import DataError
from pipeline.data.preparation.reader import Block, NewRows
from pipeline.serving.files import (
    GROUP_ROWS,
    Sheet,
    require_places,
    write_csv_to,
    write_parquet_to,
    write_sheet,
)
from pipeline.serving.model import Decision, Model, conformal
from pipeline.serving.predictions import (
    Predictions,
    RowsDone,
    answered,
    answers,
    interface,
    output_names,
    summary,
    value_names,
)


def lines(made: Model, columns: list[list[str] | list[float]], **notes: Any) -> list[str]:
    made.facts["version"] = __version__  # type: ignore[index] # a dict
    sheet = Sheet(header=(), texts=frozenset(), pieces=iter(()))
    values = value_names(made.schema) if made.schema.task == "regression" else ()
    predictions = Predictions(sheet=sheet, new=NewRows(heading=None, **notes), values=values)
    predictions.add(dict(zip(output_names(made.schema, made.decision), columns, strict=False)))
    return summary(made, predictions, output="new.csv")


BINARY = schema("binary", classes=["no", "yes"])
MANY = schema("multiclass", outputs=7, classes=list("abcdefg"))
FOUND = Decision(threshold=0.31, rule="best_f1")


@pytest.mark.parametrize(
    ("made", "column", "line"),
    [
        (
            model(BINARY),
            ["no", "yes", "no"],
            "3 rows written to new.csv: no: 2, yes: 1 (yes if its probability is above 0.5)",
        ),
        (
            model(BINARY, FOUND),
            ["yes"],
            "1 row written to new.csv: yes: 1 (yes if its probability is above 0.31, from best_f1)",
        ),
        (
            *(model(MANY), list("aabbccddeefg")),
            "12 rows written to new.csv: a: 2, b: 2, c: 2, d: 2, e: 2, …",
        ),
        (
            *(model(schema(units="mmHg")), [120.0, 80.5]),
            "2 rows written to new.csv: 80.50 to 120 mmHg",
        ),
        (model(schema()), [], "0 rows written to new.csv"),
    ],
)
def test_predictions_are_summarized_in_one_line(made: Model, column: list[Any], line: str) -> None:
    assert lines(made, [column]) == [line]


def test_each_predicted_value_is_summarized() -> None:
    """Not the first alone, and not the ends of the intervals beside them."""
    two = schema(outputs=2, targets=("sales", "costs"), units="EUR")
    made = model(two, Decision(intervals=((-50.0, 50.0), (-1.0, 1.0))))
    columns = answers(made, torch.tensor([[100.0, 2.0], [300.0, 1.5]]))
    assert lines(made, [*columns.values()]) == [
        "2 rows written to new.csv: sales: 100 to 300 EUR, costs: 1.5000 to 2.0000 EUR"
    ]


def test_all_input_notes_form_one_line() -> None:
    notes = {
        "unknown": Counter(city=12, hair=1),
        "missing": Counter(age=3),
        "ignored": ("u", "v", "w", "x", "y", "z"),
        "gaps": ("a step is missing after 1960-01",),
    }
    assert lines(model(schema()), [[1.0]], **notes)[1:] == [
        "note: categories not seen in training, treated as other (city: 12, hair: 1); missing "
        "cells, filled as in training (age: 3); ignored columns (not used in training): u, v, w, "
        "x, y, …; a step is missing after 1960-01"
    ]


class Progress(RowsDone):
    """Progress of 1,000 rows in each second."""

    def __init__(self, *, verbose: int, total: int | None = None) -> None:
        seconds = itertools.count(100.0)
        super().__init__(verbose=verbose, total=total, clock=lambda: next(seconds))

    def run(self, seconds: int) -> None:
        for second in range(1, seconds + 1):
            self(1000 * second)
        self.end()


@pytest.mark.parametrize(("verbose", "seconds"), [(0, 100), (2, 1)], ids=["silent", "short"])
def test_silent_or_short_command_shows_no_progress(
    capsys: Capture, verbose: int, seconds: int
) -> None:
    Progress(verbose=verbose).run(seconds)
    assert capsys.readouterr() == ("", "")


def test_progress_is_shown_every_ten_seconds(capsys: Capture) -> None:
    Progress(verbose=2).run(30)
    assert capsys.readouterr().err.splitlines() == [
        "2,000 rows, 1,000 rows/s, 2.0 s",
        "12,000 rows, 1,000 rows/s, 12 s",
        "22,000 rows, 1,000 rows/s, 22 s",
    ]


def test_line_of_progress_is_overwritten_and_removed(capsys: Capture) -> None:
    Progress(verbose=1, total=30_000).run(30)
    lines = capsys.readouterr().err.split("\r")
    assert lines[-2:] == ["30,000 of 30,000 rows, 1,000 rows/s, 30 s\x1b[K", "\x1b[K"]


# Only above the threshold is a row positive.
ABOVE = """
prediction: ["no", "no", "yes", "yes"]
probability of yes: [0.0, 0.25, 0.375, 1.0]
"""
LIKELIEST = """
prediction: [b, c]
probability of a: [0.25, 0.125]
probability of b: [0.5, 0.25]
probability of c: [0.25, 0.625]
"""
# An interval lies around a value by the residuals of its own output.
AROUND = """
prediction 1: [10.0]
prediction 1 low: [9.0]
prediction 1 high: [12.0]
prediction 2: [1.0]
prediction 2 low: [0.5]
prediction 2 high: [1.25]
"""
ANSWERS = [
    (model(BINARY, Decision(threshold=0.25, rule="best_f1")), [0.0, 0.25, 0.375, 1.0], ABOVE),
    (
        model(schema("multiclass", outputs=3, classes=["a", "b", "c"])),
        [[0.25, 0.5, 0.25], [0.125, 0.25, 0.625]],
        LIKELIEST,
    ),
    (
        model(schema(outputs=2), Decision(intervals=((-1.0, 2.0), (-0.5, 0.25)))),
        [[10.0, 1.0]],
        AROUND,
    ),
]


@pytest.mark.parametrize(("made", "outputs", "columns"), ANSWERS, ids=["binary", "many", "values"])
def test_outputs_become_classes_or_values_with_intervals(
    made: Model, outputs: list[Any], columns: str
) -> None:
    assert answers(made, torch.tensor(outputs)) == from_yaml(columns)
    # No row is answered with the columns of the interface.
    described = interface(made.schema, made.decision)["outputs"]
    assert answers(made, torch.tensor(outputs)[:0]) == {output["name"]: [] for output in described}


@pytest.mark.filterwarnings("ignore:overflow")
def test_row_of_headerless_file_is_refused_by_line() -> None:
    Path("new.csv").write_text("1,1\n1,1\n1,1\n", encoding="utf-8")
    made = model(schema(reading={"kind": "table", "target": "target", "header": False}))
    ones = np.ones((3, 2))
    problem = refusal(made.outputs, ones * [[1, 1], [1e39, 1], [1, 1]], what="new.csv")
    assert problem.startswith("new.csv line 2, column 'a': the value is infinite")
    problem = refusal(answered, made, Block(raw=ones * [[1], [1], [3e38]]), what="new.csv")
    assert problem.startswith("new.csv line 3: the prediction is NaN or infinite; ")


@pytest.mark.parametrize("lost", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_prediction_is_refused_by_row(lost: float) -> None:
    class Lost(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return rows * torch.tensor([[0.0, 1.0], [1.0, lost], [lost, 0.0]])

    made = model(schema(outputs=2), network=Lost())
    rows = Block(raw=np.ones((3, 2)))
    problem = refusal(answered, made, rows, what="new.csv", first_row=11)
    assert problem.startswith("new.csv row 12: the prediction is NaN or infinite; ")


def test_interval_ends_are_conformal_ranks() -> None:
    """Too few groups, or residuals that are NaN, have no interval."""
    for rows in (1, 8, 18, 19, 20, 38, 39, 50, 199, 1000):
        ordered = sorted(residuals := np.random.default_rng(rows).normal(size=rows))
        rank = math.ceil(round((rows + 1) * 0.95, 9))
        expected = (ordered[rows - rank], ordered[rank - 1]) if rank <= rows else None
        assert conformal(residuals, rows) == expected
    residuals = np.random.default_rng(0).normal(size=720)
    assert conformal(residuals, 18) is None
    few, many = conformal(residuals, 20), conformal(residuals, 720)
    assert few is not None
    assert many is not None
    assert few[0] < many[0] < many[1] < few[1]
    assert conformal(np.r_[np.nan, np.arange(99.0)], 100) is None


@pytest.mark.parametrize(
    ("rows", "horizon", "group"), [(20, 0, 1), (50, 0, 1), (60, 1, 1), (240, 12, 1), (800, 0, 20)]
)
def test_intervals_cover_nine_of_ten_truths(rows: int, horizon: int, group: int) -> None:
    """A small run of the benchmark whose table stands in docs/statistics.md."""
    coverage = predicted(rows, horizon=horizon, group=group, repetitions=1000)
    assert coverage is not None
    assert coverage > 0.9 - 3 * math.sqrt(0.09 / 1000)


def sheet(*pieces: list[list[str] | list[float]]) -> Sheet:
    return Sheet(header=("=id", "value"), texts=frozenset({"=id"}), pieces=iter(pieces))


def csv_rows(*pieces: list[list[str] | list[float]]) -> list[list[str]]:
    file = io.BytesIO()
    write_csv_to(file, sheet(*pieces))
    return list(csv.reader(io.StringIO(file.getvalue().decode("utf-8"), newline="")))


def test_spreadsheet_formulas_are_quoted_in_csv() -> None:
    """The heading is quoted too."""
    formulas = ["=1+1", "+cmd", "-x", "@SUM(A1)", "\tx", "\rx"]
    safe_texts = ["-5", "+1.5e3", "007", "a=b", "", 'say "hi", you', "two\nlines", "a\rb"]
    heading, *rows = csv_rows([[*formulas, *safe_texts], [1.0] * 14])
    assert heading == ["'=id", "value"]
    assert rows == [[text, "1.0"] for text in (*(f"'{text}" for text in formulas), *safe_texts)]


def test_numbers_survive_csv_exactly_and_unquoted() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 2000, dtype=np.uint32).view(np.float32)
    values = [-0.1, *np.extract(np.isfinite(bits), bits).astype(float).tolist()]
    rows = csv_rows([["a"] * len(values), values])
    assert [float(row[1]) for row in rows[1:]] == values


def test_nothing_is_written_before_first_valid_rows() -> None:
    def refused() -> Iterator[list[list[float]]]:
        raise DataError("no number")
        yield []

    file = io.BytesIO()
    with pytest.raises(DataError):
        write_csv_to(file, Sheet(header=("a",), texts=frozenset(), pieces=refused()))
    assert file.getvalue() == b""
    assert csv_rows() == [["'=id", "value"]]  # the heading of a sheet without rows


def test_parquet_holds_unquoted_rows_in_large_groups() -> None:
    size = GROUP_ROWS // 2
    starts = range(0, 5 * size, size)  # two groups, and half of one that is left
    pieces: list[Any] = [[[f"={n}"] * size, [*map(float, range(n, n + size))]] for n in starts]
    for written in (pieces, []):
        write_parquet_to(file := io.BytesIO(), sheet(*written))
        read = pq.ParquetFile(io.BytesIO(file.getvalue()))
        assert [str(field.type) for field in read.schema_arrow] == ["string", "double"]
        assert read.metadata.num_row_groups == (len(written) + 1) // 2
        table = read.read()
        assert table["value"].to_pylist() == [*map(float, range(size * len(written)))]
        assert set(table["=id"].to_pylist()) == {text for piece in written for text in piece[0]}


@pytest.fixture(autouse=True)
def new(own_folder: Path) -> Path:
    path = own_folder / "new.csv"
    path.write_text("a,b\n", encoding="utf-8")
    return path


REFUSED = """
neu.csv
- input='neu.csv' does not exist; expected a file of new rows. Did you mean 'new

no/new.csv
- input='no/new.csv' does not exist; expected a file of new rows.

http://x/new.csv
- input='http://x/new.csv' is a URL; download it first: curl -O http://x/new.csv, then set input=n

s3://x/new.csv
- input='s3://x/new.csv' is a URL; copy it to this machine first, then set input=new.csv
"""


@pytest.mark.parametrize(("source", "problem"), refusals(REFUSED))
def test_missing_or_remote_input_is_refused(source: str, problem: str) -> None:
    assert refusal(require_places, source, "out.csv", overwrite=False).startswith(problem)


LONG = "x" * 300
UNWRITABLE = f"""
out.txt → must end in .csv or .parquet
out → must end in .csv or .parquet
it's/a.csv → is in a folder that does not exist; create it with: mkdir -p 'it'"'"'s'
new.csv/out.csv → is below 'new.csv', which is a file;
folder.csv → is a folder; expected a file, such as folder.csv/pre
old.csv → already exists; choose another, or replace it with overwr
{LONG}.csv → is not a valid path (File name too
a\0.csv → is not a valid path (it holds a NUL)
link.csv → is in a folder that does not exist; create it with: mkdir -p /
"""


@pytest.mark.parametrize(("output", "problem"), cases(UNWRITABLE))
def test_unwritable_output_is_refused(output: str, problem: str) -> None:
    Path("folder.csv").mkdir()
    Path("link.csv").symlink_to("no/target.csv")
    Path("old.csv").write_text("mine", encoding="utf-8")
    message = refusal(require_places, "new.csv", output, overwrite=False)
    assert message.startswith(f"output={output!r} {problem}")
    assert output != "link.csv" or message.endswith(f" {Path.cwd() / 'no'}")
    assert Path("old.csv").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("kind", ["the same", "another spelling", "a link", "a second name"])
def test_output_equal_to_input_is_refused(own_folder: Path, kind: str) -> None:
    output = {"the same": "new.csv", "another spelling": f"../{own_folder.name}/new.csv"}.get(
        kind, "other.csv"
    )
    if kind == "a link":
        Path("other.csv").symlink_to("new.csv")
    if kind == "a second name":
        os.link("new.csv", "other.csv")
    message = refusal(require_places, "new.csv", output, overwrite=True)
    assert message == f"output={output!r} is the input file; choose another"


def test_valid_outputs_pass_and_links_stay_links(own_folder: Path) -> None:
    Path("old.csv").write_text("old", encoding="utf-8")
    for output in ("out.csv", "OUT.CSV", str(own_folder / "out.parquet"), None):
        require_places("new.csv", output, overwrite=False)
    Path("target").touch()
    Path("link.csv").symlink_to("target")
    for output in ("old.csv", "link.csv"):
        require_places("new.csv", output, overwrite=True)
    sheet = Sheet(header=("prediction",), texts=frozenset(), pieces=iter([[["1"]]]))
    write_sheet("link.csv", sheet)
    assert Path("link.csv").is_symlink()
    assert Path("target").read_text(encoding="utf-8") == "prediction\n1\n"
