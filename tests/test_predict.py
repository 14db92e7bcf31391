"""`python -m pipeline.predict`: new rows of every kind, answered by models just trained."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from serving import new_data
from serving.asked_models import TRAINED, Predict, child, trained
from serving.new_data import read_rows, write_rows

from pipeline.predict import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of each kind and, below `runs`, models that were trained on them."""
    return trained(tmp_path_factory.mktemp("given"), list(TRAINED))


@pytest.fixture
def predict(given: Path, capsys: pytest.CaptureFixture[str], own_folder: Path) -> Predict:
    return Predict(given, capsys)


def told_rows(run: Path) -> list[dict[str, str]]:
    return read_rows(run / "artifacts" / "test_predictions.csv")


def copied_test_rows(predict: Predict, kind: str) -> tuple[Path, list[dict[str, str]]]:
    """Write the test rows of a run as a file of new rows, in the order of its own table of them."""
    tested = told_rows(predict.run(kind))
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


@pytest.mark.parametrize("kind", ["table", "arrays", "images"])
def test_classes_of_the_test_rows_are_those_that_the_run_itself_has_told(
    predict: Predict, kind: str
) -> None:
    source, tested = copied_test_rows(predict, kind)
    rows = predict.rows(kind, source)
    assert [row["prediction"] for row in rows] == [row["predicted"] for row in tested]
    names = [name for name in rows[0] if name.startswith("probability of ")]
    assert names == [name for name in tested[0] if name.startswith("probability of ")]
    for name in names:
        told = [float(row[name]) for row in tested]
        assert [float(row[name]) for row in rows] == pytest.approx(told, abs=1e-6)


def test_values_of_the_test_rows_are_those_that_the_run_itself_has_told(predict: Predict) -> None:
    source, tested = copied_test_rows(predict, "values")
    rows = predict.rows("values", source)
    told = [float(row["predicted"]) for row in tested]
    assert [float(row["prediction"]) for row in rows] == pytest.approx(told, abs=1e-6)
    assert list(rows[0]) == ["prediction", "prediction low", "prediction high"]
    for row in rows:
        assert float(row["prediction low"]) < float(row["prediction high"])


@pytest.mark.parametrize("kind", ["table", "values", "arrays", "images"])
def test_whoever_holds_the_rows_in_memory_gets_the_very_same_numbers(
    predict: Predict, kind: str
) -> None:
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


def test_parquet_holds_the_same_numbers_as_csv(predict: Predict) -> None:
    import pyarrow.parquet as pq

    write_rows(Path("new.csv"), new_data.TABLE, new_data.patients(25))
    rows = predict.rows("table", "new.csv")
    assert predict("table", "input=new.csv", "output=out.parquet") == 0
    table = pq.read_table("out.parquet").to_pylist()
    for row, same in zip(rows, table, strict=True):
        assert row["prediction"] == same["prediction"].replace("=ill", "'=ill")
        (name,) = (name for name in row if name.startswith("probability"))
        assert float(row[name]) == same[name]


def test_without_an_output_the_table_alone_goes_to_standard_output(predict: Predict) -> None:
    write_rows(Path("new.csv"), new_data.TABLE, new_data.patients(4))
    rows = predict.rows("table", "new.csv")
    assert predict("table", "input=new.csv", "verbose=2") == 0
    assert list(csv.DictReader(io.StringIO(predict.out))) == rows
    assert predict.err.startswith("4 rows: ")


def test_silence_is_kept_where_it_is_asked_for(predict: Predict) -> None:
    write_rows(Path("new.csv"), new_data.TABLE, new_data.patients(4))
    assert predict("table", "input=new.csv", "output=out.csv", "verbose=0") == 0
    assert (predict.out, predict.err) == ("", "")


def test_pictures_are_named_by_their_files_and_one_alone_is_enough(predict: Predict) -> None:
    pictures = new_data.write_pictures(Path("new"), 6, seed=5)
    rows = predict.rows("images", pictures)
    assert [row["file"] for row in rows] == sorted(
        file.relative_to(pictures).as_posix() for file in pictures.rglob("*.png")
    )
    (one,) = predict.rows("images", pictures / "dark" / "000.png")
    (name,) = (name for name in one if name.startswith("probability"))
    # Rows that go together may round the last bit of each other's sums in another way.
    assert float(one.pop(name)) == pytest.approx(float(rows[0].pop(name)), abs=1e-6)
    assert one == rows[0] | {"file": "000.png"}


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_file_that_is_no_picture_is_named(predict: Predict, content: bytes) -> None:
    new_data.write_pictures(Path("new"), 3)
    Path("new/dark/002.png").write_bytes(content)
    line = predict.problem("images", "input=new", "output=out.csv")
    assert line.startswith("new/dark/002.png")


def test_a_series_is_forecast_past_its_end_with_intervals(predict: Predict) -> None:
    rows = new_data.months(150)
    write_rows(Path("new.csv"), ("month", "sales"), rows)
    found = predict.rows("series", "new.csv", "verbose=2")
    assert [row["month"] for row in found] == ["2012-07", "2012-08", "2012-09"]
    assert list(found[0]) == ["month", "sales", "sales low", "sales high"]
    for row in found:
        assert float(row["sales low"]) < float(row["sales high"])
    assert predict.out.startswith("3 rows in out.csv: from ")


@pytest.mark.parametrize("kind", ["arrays", "images", "series"])
def test_only_the_rows_of_a_table_are_named_by_a_column(predict: Predict, kind: str) -> None:
    write_rows(Path("new.csv"), ("month", "sales"), new_data.months(40))
    line = predict.problem(kind, "input=new.csv", "output=out.csv", "id=month")
    assert line.startswith("id=month names a column of a table, but this model reads ")


def test_a_run_is_named_by_its_folder_its_name_or_as_the_last(
    predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    run = predict.run("series")
    runs = f"runs={run.parent}"
    write_rows(Path("new.csv"), ("month", "sales"), new_data.months(40))
    names = [run, run.name, run / "model", run / "model" / "model.ckpt", "last"]
    tables = []
    for number, name in enumerate(names):
        words = [f"model_from={name}", "input=new.csv", f"output={number}.csv", runs]
        assert main(words) == 0, capsys.readouterr().err
        tables.append(Path(f"{number}.csv").read_bytes())
    assert set(tables) == {tables[0]}


def test_a_run_id_is_read_as_text_by_its_beginning(given: Path, predict: Predict) -> None:
    shutil.copytree(given / "runs", "runs")
    (run,) = Path("runs").glob("*-series-*")
    state = {
        "uri": "",
        "run_id": "12e45678" + "0" * 24,
        "experiment_id": "1",
        "sent": 0,
        "done": True,
    }
    (run / "mlflow.json").write_text(json.dumps(state), encoding="utf-8")
    write_rows(Path("new.csv"), ("month", "sales"), new_data.months(40))
    assert main(["model_from=12e45678", "input=new.csv", "output=out.csv"]) == 0
    assert len(read_rows(Path("out.csv"))) == 3


def test_all_wrong_names_are_told_before_any_wrong_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["model_form=x", "inputs=y", "unknown=ignore"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: model_form is unknown. Did you mean 'model_from'?",
        "error: inputs is unknown. Did you mean 'input'?",
    ]
    assert main(["unknown=ignore", "missing=drop"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: model_from is missing; expected a text (not empty).",
        "error: input is missing; expected a text (not empty).",
        "error: unknown='ignore' is not allowed; expected one of other, refuse.",
        "error: missing='drop' is not allowed; expected one of refuse, impute.",
    ]


CHILD = """
import sys
from pipeline.predict import main
code = main(sys.argv[1:])
heavy = ("pytorch_lightning", "lightning", "mlflow", "optuna")
sys.exit(code or " ".join(name for name in heavy if name in sys.modules) or 0)
"""


def test_a_local_run_is_asked_without_loading_lightning_or_mlflow(predict: Predict) -> None:
    write_rows(Path("new.csv"), new_data.TABLE, new_data.patients(4))
    ended = child(CHILD, f"model_from={predict.run('table')}", "input=new.csv", "output=out.csv")
    assert (ended.returncode, ended.stderr) == (0, "")
