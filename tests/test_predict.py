"""`pipeline predict`: new rows of every kind, answered by models just trained."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.fixture_types import Capture
from serving import new_data
from serving.asked_models import Predict, child
from serving.new_data import read_rows, write_rows

from pipeline.predict import main

pytestmark = pytest.mark.slow


@pytest.fixture
def predict(given: Path, capsys: Capture, own_folder: Path) -> Predict:
    return Predict(given, capsys)


def copied_test_rows(predict: Predict, kind: str) -> tuple[Path, list[dict[str, str]]]:
    """Write the test rows of a run as a file of new rows, in the order of its own table of them."""
    tested = read_rows(predict.run(kind) / "artifacts" / "test_predictions.csv")
    numbers = [int(row["row"]) for row in tested]
    if kind == "arrays":
        with np.load(predict.given / "arrays.npz") as arrays:
            np.save("new.npy", arrays["x"][numbers])
        return Path("new.npy"), tested
    if kind == "images":
        files = sorted((predict.given / "images").rglob("*.png"))
        for place, number in enumerate(numbers):
            Path("new").mkdir(exist_ok=True)
            shutil.copy(files[number], f"new/{place:03}.png")
        return Path("new"), tested
    with (predict.given / f"{kind}.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return write_rows(Path("new.csv"), header, [rows[number] for number in numbers]), tested


@pytest.mark.parametrize("kind", ["table", "values", "arrays", "images", "pixels"])
def test_predict_equals_stored_test_predictions(predict: Predict, kind: str) -> None:
    source, tested = copied_test_rows(predict, kind)
    rows = predict.rows(kind, source)
    names = {name: name for name in tested[0] if name.startswith("probability of ")}
    if kind == "values":
        names = {"prediction": "predicted"}
        assert list(rows[0]) == ["prediction", "prediction low", "prediction high"]
        assert all(float(row["prediction low"]) < float(row["prediction high"]) for row in rows)
    else:
        assert [row["prediction"] for row in rows] == [row["predicted"] for row in tested]
        assert list(names) == [name for name in rows[0] if name.startswith("probability of ")]
    for name, in_run in names.items():
        told = [float(row[in_run]) for row in tested]
        assert [float(row[name]) for row in rows] == pytest.approx(told, abs=1e-6)


@pytest.mark.parametrize("kind", ["table", "values", "arrays", "images"])
def test_rows_in_memory_get_identical_predictions(predict: Predict, kind: str) -> None:
    import pandas as pd

    from pipeline.serving.frames import predict_frame
    from pipeline.serving.model import Model

    source, _ = copied_test_rows(predict, kind)
    in_file = predict.rows(kind, source)
    held: object = np.load(source) if kind == "arrays" else None
    if kind in ("table", "values"):
        held = pd.read_csv(
            source, float_precision="round_trip", keep_default_na=False, na_values=[""]
        )
    if kind == "images":
        held = pd.DataFrame({"image": [file.read_bytes() for file in sorted(source.iterdir())]})
    frame = predict_frame(Model.load(predict.run(kind)), held)  # type: ignore[arg-type] # of the kind
    for name in frame.columns:
        told = [row[name] for row in in_file]
        if name == "prediction" and kind != "values":
            assert [cell.lstrip("'") for cell in told] == frame[name].tolist()
        else:
            assert [float(cell) for cell in told] == frame[name].tolist()


def test_predictions_keep_row_order_and_id(predict: Predict) -> None:
    rows = [[f"=n{number}", *row[1:]] for number, row in enumerate(new_data.patients(30, seed=9))]
    write_rows(Path("new.csv"), new_data.TABLE, rows)
    found = predict.rows("table", "new.csv")
    assert [row["patient"] for row in found] == [f"'=n{number}" for number in range(30)]
    assert list(found[0])[:2] == ["patient", "prediction"]
    assert {row["prediction"] for row in found} <= {"well", "'=ill"}
    named = predict.rows("table", "new.csv", "id=city")
    assert [row["city"] for row in named] == [row[2] for row in rows]
    assert [list(row.values())[1:] for row in named] == [list(row.values())[1:] for row in found]


def test_target_column_of_new_rows_is_ignored(predict: Predict) -> None:
    """It may also be missing."""
    rows = new_data.patients(20, seed=4)
    write_rows(Path("new.csv"), new_data.TABLE, rows)
    whole = predict.rows("table", "new.csv")
    write_rows(Path("without.csv"), new_data.TABLE[:-1], [row[:-1] for row in rows])
    assert predict.rows("table", "without.csv") == whole
    write_rows(Path("nonsense.csv"), new_data.TABLE, [[*row[:-1], ""] for row in rows])
    assert predict.rows("table", "nonsense.csv") == whole


def test_unusual_cells_and_columns_are_counted(predict: Predict) -> None:
    rows = [[*row, "x", 1] for row in new_data.patients(6)]
    rows[2][2] = rows[3][2] = "Oslo"
    rows[1][3] = ""
    rows[3][1] = "NA"
    write_rows(Path("new.csv"), (*new_data.TABLE, "note", "=extra"), rows)
    assert len(predict.rows("table", "new.csv", "missing=impute", "verbose=2")) == 6
    assert predict.out.splitlines()[1] == (
        "note: categories not seen in training, treated as other (city: 2); missing cells, filled "
        "as in training (bmi: 2, age: 1); ignored columns (not used in training): note, =extra"
    )


def test_invalid_rows_and_clashing_columns_are_refused(predict: Predict) -> None:
    rows = new_data.patients(6)
    rows[2][2] = "Oslo"
    write_rows(Path("new.csv"), new_data.TABLE, rows)
    line = predict.problem("table", "input=new.csv", "output=out.csv", "unknown=refuse")
    assert line.startswith("new.csv line 4, column 'city': 'Oslo' is not a category of ")
    values = [row[:2] for row in new_data.measured(6)]
    values[4][0] = 3e38
    write_rows(Path("new.csv"), new_data.VALUES[:2], values)
    line = predict.problem("values", "input=new.csv", "output=out.csv")
    assert line.startswith("new.csv line 6: the prediction is NaN or infinite; ")
    write_rows(Path("new.csv"), ("prediction", "x1", "x2"), [["a", 1, 2]])
    line = predict.problem("values", "input=new.csv", "output=out.csv", "id=prediction")
    assert line.startswith("column 'prediction' of new.csv has the name of an output column; ")
    write_rows(Path("new.csv"), ("month", "sales"), new_data.months(40))
    for kind in ("arrays", "images", "series"):
        line = predict.problem(kind, "input=new.csv", "output=out.csv", "id=month")
        assert line.startswith("id=month names a column of a table, but this model reads ")


def test_header_without_rows_gives_only_a_header(predict: Predict) -> None:
    import pyarrow.parquet as pq

    write_rows(Path("new.csv"), new_data.TABLE[:-1], [])
    for name in ("out.csv", "out.parquet"):
        assert predict("table", "input=new.csv", f"output={name}", "verbose=2") == 0
        assert predict.out == f"0 rows written to {name}\n"
    header = pq.read_schema("out.parquet").names
    assert header[:2] == ["patient", "prediction"]
    assert Path("out.csv").read_text(encoding="utf-8") == f"{','.join(header)}\n"


def test_table_goes_to_stdout_without_output_option(predict: Predict) -> None:
    write_rows(Path("new.csv"), new_data.TABLE, new_data.patients(4))
    rows = predict.rows("table", "new.csv")
    assert predict("table", "input=new.csv", "verbose=2") == 0
    assert list(csv.DictReader(io.StringIO(predict.out))) == rows
    assert predict.err.startswith("4 rows: ")
    assert predict("table", "input=new.csv", "output=silent.csv", "verbose=0") == 0
    assert (predict.out, predict.err) == ("", "")


def test_predicted_images_are_named_by_their_files(predict: Predict) -> None:
    pictures = new_data.write_pictures(Path("new"), 6, seed=5)
    rows = predict.rows("images", pictures)
    assert [row["file"] for row in rows] == sorted(
        file.relative_to(pictures).as_posix() for file in pictures.rglob("*.png")
    )
    (one,) = predict.rows("images", pictures / rows[0]["file"])
    assert one["file"] == Path(rows[0]["file"]).name
    chances = [[float(v) for k, v in row.items() if k.startswith("prob")] for row in (one, rows[0])]
    assert chances[0] == pytest.approx(chances[1], rel=1e-5)
    assert chances[0]


def test_series_is_forecast_with_intervals(predict: Predict) -> None:
    rows = new_data.months(150)
    write_rows(Path("new.csv"), ("month", "sales"), rows)
    found = predict.rows("series", "new.csv", "verbose=2")
    assert [row["month"] for row in found] == ["2012-07", "2012-08", "2012-09"]
    assert list(found[0]) == ["month", "sales", "sales low", "sales high"]
    for row in found:
        assert float(row["sales low"]) < float(row["sales high"])
    assert predict.out.startswith("3 rows written to out.csv: ")


def test_model_is_named_by_path_name_or_id(given: Path, predict: Predict, capsys: Capture) -> None:
    shutil.copytree(given / "runs", "runs")
    (run,) = Path("runs").glob("*-series-*")
    state = {"uri": "", "run_id": f"12e45678{'0' * 24}", "experiment_id": "1", "sent": 0}
    (run / "mlflow.json").write_text(json.dumps({**state, "done": True}), encoding="utf-8")
    write_rows(Path("new.csv"), ("month", "sales"), new_data.months(40))
    names = [run, run.name, run / "model", run / "model" / "model.ckpt", "last", "12e45678"]
    tables = []
    for number, name in enumerate(names):  # an id that looks like a number is read as a text
        words = [f"model_from={name}", "input=new.csv", f"output={number}.csv"]
        assert main(words) == 0, capsys.readouterr().err
        tables.append(Path(f"{number}.csv").read_bytes())
    assert set(tables) == {tables[0]}


def test_wrong_names_are_reported_before_wrong_values(capsys: Capture) -> None:
    assert main(["model_form=x", "inputs=y", "unknown=ignore"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: model_form is unknown. Did you mean 'model_from=x'?",
        "error: inputs is unknown. Did you mean 'input=y'?",
    ]
    assert main(["unknown=ignore", "missing=drop"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: model_from=RUN is required: a run's folder or id, last, or models:/NAME@ALIAS.",
        "error: input=FILE is required.",
        "error: unknown='ignore' is not allowed; expected one of other, refuse.",
        "error: missing='drop' is not allowed; expected one of refuse, impute.",
    ]


MEASURED = """
import resource, sys
from pipeline.predict import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def test_prediction_memory_does_not_grow_with_rows(predict: Predict) -> None:
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
        assert (ended.returncode, ended.stderr) == (0, "")
        with Path("out.csv").open("rb") as file:
            assert sum(1 for _ in file) == rows + 1
        peaks.append(int(ended.stdout) / 1024)
    # The answers alone, held as Python's numbers and texts, would take more than twice as much.
    assert peaks[1] - peaks[0] < 32, peaks
