import base64
import csv
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from faults.stores import free_port
from helpers.fixture_types import Capture, Patch
from helpers.server_processes import run_script, start_mlflow, stop_server
from mlflow.entities import LoggedModel
from mlflow.models.utils import _enforce_schema
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import invocations
from mlflow.tracking import MlflowClient
from mlflow.utils.proto_json_utils import parse_tf_serving_input
from PIL import Image

from pipeline.predict import main as predict
from pipeline.serving.model import Model
from pipeline.sweep import main as sweep
from pipeline.tracking.models import input_example, requirements, signature
from pipeline.tracking.uri import sqlite_uri
from pipeline.train import main as train

NAMES = ["patients", "photos", "signals", "spots", "own"]
ANSWER = {"name": "prediction", "type": "string"}
OWN_NETWORK = """
from torch import Tensor, nn


class Line(nn.Module):
    takes = ("table",)

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(input_shape[0], outputs)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(rows)
"""


def write_patients(file: Path) -> None:
    """Write a table with a hole, a category and whole numbers, as a spreadsheet would."""
    draw = np.random.default_rng(0)
    lines = ["age;city;dose;outcome"]
    for number in range(160):
        age, city = int(draw.integers(20, 80)), ("Rome", "Oslo", "Bern")[number % 3]
        dose = ("", "1.5", "2.5")[int(draw.integers(3))]
        lines.append(f"{age};{city};{dose};{'ill' if age > 50 else 'well'}")
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")


def write_pictures(folder: Path) -> None:
    draw = np.random.default_rng(0)
    for name, light in (("dark", 60), ("light", 190)):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(light - 40, light + 40, size=(9, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Path]:
    """A folder with a run on a table, on pictures, arrays, a series, and of an own network."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    write_patients(folder / "patients.csv")
    write_pictures(folder / "photos")
    (folder / "my_line.py").write_text(OWN_NETWORK)
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "line.yaml").write_text("_target_: my_line.Line\n")
    own = ["--config-dir", "conf", "trust=[my_line]", "model=line"]
    table = ["data=table", "data.path=patients.csv"]
    runs = {
        "patients": ["model=mlp", *table],
        "photos": ["model=cnn2d", "data=images", "data.path=photos"],
        "signals": ["model=mlp", "data=mnist1d", "trainer.limit_train_batches=2"],
        "spots": ["model=mlp", "data=sunspots"],
        "own": [*own, *table],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, words in runs.items():
            more = [f"register={name}", f"name={name}", "trainer.max_epochs=1", "verbose=0"]
            assert train([*words, *more]) == 0
        patch.setenv("MLFLOW_TRACKING_URI", sqlite_uri(folder / "mlflow.db"))
        yield folder


@pytest.fixture
def place(trained: Path, monkeypatch: Patch) -> Path:
    """The same folder as the current one, its database the one that MLflow asks."""
    monkeypatch.chdir(trained)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri(trained / "mlflow.db"))
    return trained


def loaded(name: str) -> PyFuncModel:
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    assert isinstance(model, PyFuncModel)
    return model


def predicted(model: PyFuncModel, rows: Any) -> pd.DataFrame:
    answers = model.predict(rows)
    assert isinstance(answers, pd.DataFrame)
    return answers


def logged(folder: Path, name: str) -> LoggedModel:
    client = MlflowClient(sqlite_uri(folder / "mlflow.db"))
    version = client.get_model_version_by_alias(name, "champion")
    return client.get_logged_model(version.tags["pipeline.model"])


def files_of(folder: Path, name: str) -> Path:
    return Path(str(logged(folder, name).artifact_location).removeprefix("file://"))


def said_by_the_command(folder: Path, name: str, given: Path) -> list[dict[str, str]]:
    (run,) = folder.glob(f"runs/*-{name}-*")
    said = folder / f"{name}-said.csv"
    words = [f"model_from={run}", f"input={given}", f"output={said}"]
    assert predict([*words, "overwrite=true", "verbose=0"]) == 0
    with said.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("kind", ["float32", "float64", "int64", "uint8"])
@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_arrays_of_any_number_type_pass_the_signature(shape: tuple[int, ...], kind: str) -> None:
    """So do the same values as JSON."""
    inputs = {"shape": list(shape), "dtype": "float64"}
    arrays = {"kind": "array", "inputs": inputs, "outputs": [ANSWER]}
    schema = signature(arrays).inputs
    rows = np.arange(24).reshape(4, *shape).astype(kind)
    as_json = parse_tf_serving_input(  # type: ignore[no-untyped-call] # MLflow has no types there
        {"inputs": rows.tolist()}, schema
    )
    frames = [pd.DataFrame(rows)] if len(shape) == 1 else []
    for given in (rows, as_json, *frames):
        taken = np.asarray(_enforce_schema(given, schema)).astype(kind)
        np.testing.assert_array_equal(taken, rows)
    example = input_example(rows.tolist(), arrays)
    assert (example.shape, example.dtype) == ((4, *shape), np.dtype("float64"))


def test_requirements_are_published_versions() -> None:
    lines = requirements("images")
    assert all(re.fullmatch(r"[a-z-]+==[\w.]+", line) for line in lines), lines
    assert {line.partition("==")[0] for line in {*lines} - {*requirements("table")}} == {"pillow"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_finished_run_has_one_complete_model(place: Path, name: str) -> None:
    """Its input example is answered, and none of its files is a pickle."""
    kept = logged(place, name)
    client = MlflowClient(sqlite_uri(place / "mlflow.db"))
    found = client.search_logged_models(
        [kept.experiment_id], filter_string=f"source_run_id = '{kept.source_run_id}'"
    )
    assert [(one.model_id, str(one.status)) for one in found] == [(kept.model_id, "READY")]
    outputs = client.get_run(str(kept.source_run_id)).outputs
    assert outputs is not None
    assert [output.model_id for output in outputs.model_outputs] == [kept.model_id]
    files = files_of(place, name)
    suffixes = {file.suffix for file in files.rglob("*") if file.is_file()}
    assert suffixes <= {"", ".py", ".json", ".yaml", ".txt", ".ckpt", ".md"}
    needed = (files / "requirements.txt").read_text()
    assert "pipeline" not in needed
    assert "://" not in needed

    model = loaded(name)
    reply = answer(model, json.loads((files / "serving_input_example.json").read_text()))
    direct = predicted(model, model.input_example).to_dict("records")
    assert reply == json.loads(json.dumps(direct))
    assert len(reply) == (1 if name == "spots" else 3)  # a series is forecast one step on


@pytest.mark.slow
def test_frame_answers_equal_the_predict_command(place: Path) -> None:
    given = place / "patients.csv"
    answers = predicted(loaded("patients"), pd.read_csv(given, sep=";", encoding="utf-8-sig"))
    said = said_by_the_command(place, "patients", given)
    assert list(answers.columns) == ["prediction", "probability of ill"]
    assert answers["prediction"].tolist() == [row["prediction"] for row in said]
    shares = [float(row["probability of ill"]) for row in said]
    np.testing.assert_allclose(answers["probability of ill"], shares, rtol=1e-6)
    assert len(set(shares)) > 100
    # A column of whole numbers alone and one of holes alone are taken, too.
    rows = pd.DataFrame({"age": [30, 70], "city": ["Rome", "Oslo"], "dose": [None, None]})
    exact = rows.assign(age=rows["age"].astype(float), dose=np.nan)
    model = loaded("patients")
    pd.testing.assert_frame_equal(predicted(model, rows), predicted(model, exact))


def answer(model: PyFuncModel, request: dict[str, Any]) -> Any:
    """Return what a scoring server answers, without its socket."""
    metadata: Any = model.metadata  # MLflow leaves these two without types
    answered: Any = invocations
    schema = metadata.get_input_schema()
    reply = answered(json.dumps(request), "application/json", model, schema)
    assert reply.status == 200, reply.response
    return json.loads(reply.response)["predictions"]


@pytest.mark.slow
def test_base64_image_answer_equals_the_predict_command(place: Path) -> None:
    pictures = [place / "photos" / "dark" / "3.png", place / "photos" / "light" / "7.png"]
    texts = [base64.b64encode(picture.read_bytes()).decode() for picture in pictures]
    reply = answer(loaded("photos"), {"dataframe_records": [{"image": text} for text in texts]})
    for picture, row in zip(pictures, reply, strict=True):
        (said,) = said_by_the_command(place, "photos", picture)
        assert row["prediction"] == said["prediction"]
        shares = [key for key in row if key.startswith("probability")]
        assert [row[key] for key in shares] == pytest.approx([float(said[k]) for k in shares])


@pytest.mark.slow
def test_own_network_is_stored_with_its_model(place: Path, tmp_path: Path) -> None:
    script = (
        "import json, sys, mlflow\n"
        "model = mlflow.pyfunc.load_model('models:/own@champion')\n"
        "import my_line\n"
        "print(json.dumps([my_line.__file__, len(model.predict(model.input_example))]))\n"
    )
    elsewhere = run_script(script, cwd=tmp_path)
    printed, _ = elsewhere.communicate(timeout=300)
    assert elsewhere.returncode == 0
    file, rows = json.loads(printed.splitlines()[-1])
    assert Path(file).is_relative_to(files_of(place, "own"))
    assert rows == 3


def posted(url: str, request: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    body = json.dumps(request).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as reply:
        return json.loads(reply.read())["predictions"]


@pytest.mark.slow
def test_server_answers_requests_from_table_rows(place: Path) -> None:
    frame = pd.read_csv(place / "patients.csv", sep=";", encoding="utf-8-sig")[:20]
    rows = frame[["age", "city", "dose"]].astype(object).where(frame.notna(), None)
    requests: list[dict[str, Any]] = [
        {"dataframe_split": rows.to_dict("split", index=False)},
        {"dataframe_records": rows.to_dict("records")},
        {"inputs": rows.to_dict("list")},
    ]
    wrong = {"dataframe_records": [{"age": "1,5", "city": "Rome", "dose": 1.5}]}
    port = free_port()
    words = ("models", "serve", "-m", "models:/patients@champion", "--env-manager", "local")
    server = start_mlflow(*words, port=port, folder=place)
    try:
        url = f"http://127.0.0.1:{port}/invocations"
        answers = [posted(url, request) for request in requests]
        with pytest.raises(urllib.error.HTTPError) as refused:
            posted(url, wrong)
        told = json.loads(refused.value.read())  # while the server sends it
    finally:
        stop_server(server)
    said = said_by_the_command(place, "patients", place / "patients.csv")[:20]
    shares = [float(row["probability of ill"]) for row in said]
    for reply in answers:
        assert [row["prediction"] for row in reply] == [row["prediction"] for row in said]
        assert [row["probability of ill"] for row in reply] == pytest.approx(shares, rel=1e-6)
    assert refused.value.code == 400
    assert "'age'" in told["message"]
    assert "'1,5'" in told["message"]
    assert "Traceback" not in json.dumps(told)


STUDY = (
    *("model=mlp", "data=iris", "trainer.max_epochs=1", "register=iris"),
    *("sweep.name=small", "sweep.n_trials=2", "sweep.workers=1"),
    "optimizer.lr=tag(log, interval(1e-3, 1e-1))",
)


@pytest.mark.slow
def test_study_registers_only_its_winner_once(own_folder: Path, capsys: Capture) -> None:
    assert sweep(STUDY) == 0
    first = capsys.readouterr().out.splitlines()
    assert sweep(STUDY) == 0
    line = "model   registered as iris v1 (champion)"
    assert (first[-1], capsys.readouterr().out.splitlines()[-1]) == (line, line)
    assert not any("register=" in line for line in first)

    client = MlflowClient(sqlite_uri(own_folder / "mlflow.db"))
    (version,) = client.search_model_versions("name = 'iris'")
    study = client.get_run(str(version.run_id))
    found = client.search_logged_models([study.info.experiment_id])
    assert [model.source_run_id for model in found] == [version.run_id]
    best = study.data.metrics["best/val/f1"]
    assert float(version.tags["value"]) == pytest.approx(best, abs=1e-12)

    number = int(study.data.tags["best.trial"])
    (kept,) = own_folder.glob(f"runs/small/trials/*-{number:04}/checkpoints/kept.ckpt")
    rows = np.random.default_rng(0).uniform(0, 8, size=(5, 4))
    model = Model.load(own_folder / "runs" / "small")
    assert model.outputs(rows).equal(Model.load(kept).outputs(rows))
    assert sum(model.facts["report"]["rows"].values()) == 150

    card = (own_folder / "runs" / "small" / "model" / "card.md").read_text(encoding="utf-8")
    assert "150 rows: " in card
    assert f"| accuracy | {model.facts['metrics']['test/accuracy']:.2f} |" in card


def test_comparison_without_winner_cannot_be_registered(own_folder: Path, capsys: Capture) -> None:
    words = ["model=mlp", "data=iris", "seed=1,2", "sweep.sampler=grid", "register=iris"]
    assert sweep(words) == 2
    assert capsys.readouterr().err == (
        "error: register=iris needs a best trial, but a comparison has none; remove it, then "
        "train the chosen model with pipeline train\n"
    )
    assert list(own_folder.iterdir()) == []
