"""The rows of a new table, through the command: found by name, refused by line and column."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from serving import new_data
from serving.asked_models import Predict, child, trained
from serving.new_data import write_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of each kind and, below `runs`, models that were trained on them."""
    return trained(tmp_path_factory.mktemp("given"), ["table", "values"])


@pytest.fixture
def predict(given: Path, capsys: pytest.CaptureFixture[str], own_folder: Path) -> Predict:
    return Predict(given, capsys)


def test_a_table_keeps_its_order_and_the_column_that_names_its_rows(predict: Predict) -> None:
    rows = [[f"=n{number}", *row[1:]] for number, row in enumerate(new_data.patients(30, seed=9))]
    write_rows(Path("new.csv"), new_data.TABLE, rows)
    found = predict.rows("table", "new.csv")
    assert [row["patient"] for row in found] == [f"'=n{number}" for number in range(30)]
    assert list(found[0])[:2] == ["patient", "prediction"]
    assert {row["prediction"] for row in found} <= {"well", "'=ill"}
    named = predict.rows("table", "new.csv", "id=city")
    assert [row["city"] for row in named] == [row[2] for row in rows]
    assert [list(row.values())[1:] for row in named] == [list(row.values())[1:] for row in found]


def test_columns_in_another_order_and_form_give_the_same_bits(predict: Predict) -> None:
    rows = new_data.patients(40, seed=3)
    write_rows(Path("new.csv"), new_data.TABLE, rows)
    plain = predict.rows("table", "new.csv")
    order = [3, 2, 4, 0, 1]
    lines = [
        [str(new_data.TABLE[n]) for n in order],
        *([f' "{row[n]}"' for n in order] for row in rows),
    ]
    text = "\r\n".join(";".join(line) for line in lines)
    Path("other.csv").write_bytes(b"\xef\xbb\xbf" + text.replace(' "', '"').encode() + b"\r\n\r\n")
    assert predict.rows("table", "other.csv") == plain
    import pandas as pd

    pd.read_csv("new.csv", float_precision="round_trip").to_parquet("new.parquet")
    assert predict.rows("table", "new.parquet") == plain


def test_all_missing_columns_are_named_at_once(predict: Predict) -> None:
    write_rows(Path("new.csv"), ("patient", "bmi2", "city"), [["a", 1, "Rome"]])
    line = predict.problem("table", "input=new.csv", "output=out.csv")
    assert line.startswith(
        "new.csv lacks the columns 'age', 'bmi', which the model was trained on; "
    )
    header_only = write_rows(Path("empty.csv"), ("city",), [])
    assert "'age', 'bmi'" in predict.problem("table", f"input={header_only}", "output=out.csv")


def test_further_columns_are_ignored_and_told(predict: Predict) -> None:
    rows = [[*row, "x", 1] for row in new_data.patients(5)]
    write_rows(Path("new.csv"), (*new_data.TABLE, "note", "=extra"), rows)
    predict.rows("table", "new.csv", "verbose=1")
    assert predict.out.splitlines()[1].endswith("columns the model does not know: note, =extra")


def test_the_answer_may_stand_in_the_input_or_be_missing_or_be_nonsense(predict: Predict) -> None:
    rows = new_data.patients(20, seed=4)
    write_rows(Path("new.csv"), new_data.TABLE, rows)
    whole = predict.rows("table", "new.csv")
    write_rows(Path("without.csv"), new_data.TABLE[:-1], [row[:-1] for row in rows])
    assert predict.rows("table", "without.csv") == whole
    write_rows(Path("nonsense.csv"), new_data.TABLE, [[*row[:-1], ""] for row in rows])
    assert predict.rows("table", "nonsense.csv") == whole


def test_an_unknown_category_counts_as_other_and_is_told_or_refused(predict: Predict) -> None:
    rows = new_data.patients(6)
    for row in rows[2:4]:
        row[2] = "Oslo"
    write_rows(Path("new.csv"), new_data.TABLE, rows)
    assert len(predict.rows("table", "new.csv", "verbose=2")) == 6
    assert "categories unknown to the training count as other: city 2" in predict.out
    line = predict.problem("table", "input=new.csv", "output=other.csv", "unknown=refuse")
    assert line.startswith("new.csv line 4, column 'city': 'Oslo' is no category of the training")


def test_an_empty_cell_is_filled_in_where_training_had_some_and_refused_elsewhere(
    predict: Predict,
) -> None:
    rows = new_data.patients(6)
    rows[1][3] = ""
    write_rows(Path("new.csv"), new_data.TABLE, rows)
    predict.rows("table", "new.csv", "verbose=2")
    assert "missing cells filled in as in training: bmi 2" in predict.out
    rows[3][1] = "NA"
    write_rows(Path("new.csv"), new_data.TABLE, rows)
    line = predict.problem("table", "input=new.csv", "output=other.csv")
    assert line.startswith("new.csv line 5, column 'age': the cell is empty, and no training row ")
    predict.rows("table", "new.csv", "missing=impute", "verbose=2")
    assert "bmi 2, age 1" in predict.out


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("old", "new.csv line 4, column 'age': 'old' is no number; "),
        ("1,5", "new.csv line 4, column 'age': '1,5' is no number; write 1.5"),
        ("1e300", "new.csv line 4, column 'age': '1e300' is infinite in single precision; "),
        ("inf", "new.csv line 4, column 'age': 'inf' is infinite in single precision; "),
    ],
)
def test_a_cell_of_another_type_is_refused_by_line_and_column(
    predict: Predict, cell: str, said: str
) -> None:
    rows = new_data.patients(6)
    rows[2][1] = cell
    write_rows(Path("new.csv"), new_data.TABLE, rows)
    assert predict.problem("table", "input=new.csv", "output=out.csv").startswith(said)


def test_a_number_too_large_for_the_network_is_refused_by_its_line(predict: Predict) -> None:
    rows = [row[:2] for row in new_data.measured(6)]
    rows[4][0] = 3e38
    write_rows(Path("new.csv"), new_data.VALUES[:2], rows)
    line = predict.problem("values", "input=new.csv", "output=out.csv")
    assert line.startswith("new.csv line 6: the network's answer is no number; ")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_header_without_rows_gives_a_header_without_rows(predict: Predict, suffix: str) -> None:
    import pyarrow.parquet as pq

    write_rows(Path("new.csv"), new_data.TABLE[:-1], [])
    assert predict("table", "input=new.csv", f"output=out.{suffix}", "verbose=2") == 0
    assert predict.out == f"0 rows in out.{suffix}\n"
    if suffix == "csv":
        (header,) = csv.reader(io.StringIO(Path("out.csv").read_text(encoding="utf-8")))
    else:
        header = pq.read_schema("out.parquet").names
    assert header == ["patient", "prediction", header[2]]


def test_a_column_that_is_not_there_names_no_row(predict: Predict) -> None:
    write_rows(Path("new.csv"), new_data.TABLE, new_data.patients(4))
    line = predict.problem("table", "input=new.csv", "output=out.csv", "id=pateint")
    assert line.endswith("Did you mean 'patient'?")


def test_a_column_that_is_called_like_an_answer_names_no_row(predict: Predict) -> None:
    write_rows(Path("new.csv"), ("prediction", "x1", "x2"), [["a", 1, 2]])
    line = predict.problem("values", "input=new.csv", "output=out.csv", "id=prediction")
    assert line.startswith("the column 'prediction' of new.csv has the name of an answer; ")


MEASURED = """
import resource, sys
from pipeline.predict import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def test_four_times_the_rows_take_hardly_more_memory(predict: Predict) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    some = {"x1": np.arange(10_000) / 7, "x2": np.arange(10_000) / 9, "note": ["x" * 40] * 10_000}
    peaks = []
    for rows in (80_000, 320_000):  # the smaller one fills a batch and all that waits
        table = pa.table(some)
        with pq.ParquetWriter("new.parquet", table.schema) as writer:
            for _ in range(rows // len(table)):
                writer.write_table(table)
        words = (f"model_from={predict.run('values')}", "input=new.parquet", "overwrite=true")
        ended = child(MEASURED, *words, "output=out.csv", "id=note", "verbose=0")
        assert ended.returncode == 0, ended.stderr
        with Path("out.csv").open("rb") as file:
            assert sum(1 for _ in file) == rows + 1
        peaks.append(int(ended.stdout) / 1024)
    # The answers alone, held as Python's numbers and texts, would take more than twice as much.
    assert peaks[1] - peaks[0] < 32, peaks
