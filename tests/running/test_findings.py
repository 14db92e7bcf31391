"""What a run finds out about itself, as files, a tag and pictures."""

from pathlib import Path

import numpy as np
import pytest
from fixture_types import Capture, Made, Patch, Train
from matplotlib import pyplot
from mlflow import MlflowClient
from records import artifact, epochs, events, only_run, predictions, runs
from sklearn.datasets import load_digits, load_iris
from sklearn.metrics import f1_score, log_loss

from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.findings import Findings, load_findings
from pipeline.gallery import drawing, read_list
from pipeline.running.plan import Datasets
from pipeline.running.run_findings import wants_pictures
from pipeline.serving.model import Model

IRIS = ("model=mlp", "data=iris", "trainer.max_epochs=3", "verbose=0")


def tags(run: Path) -> dict[str, str]:
    return {one["key"]: one["value"] for one in events(run) if one["event"] == "tag"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without pictures."""
    from pipeline.train import main

    output = tmp_path_factory.mktemp("plain")
    assert main([*IRIS, "tracking=none", f"output={output}"]) == 0
    return only_run(output)


@pytest.fixture(scope="module")
def iris(plain: Path) -> Findings:
    return load_findings(plain / "artifacts")


def test_findings_are_what_the_tables_of_the_run_say(plain: Path, iris: Findings) -> None:
    lines = predictions(plain)
    assert iris.test is not None
    assert [int(line["row"]) for line in lines] == iris.test.rows.tolist()
    assert [line["target"] for line in lines] == [iris.classes[one] for one in iris.test.targets]
    shares = [[float(line[f"probability of {name}"]) for name in iris.classes] for line in lines]
    np.testing.assert_allclose(np.asarray(shares), iris.test.outputs, rtol=1e-6)
    of_training = {
        epoch: {key: value for key, value in values.items() if key != "time/epoch"}
        for epoch, values in iris.history.items()
    }
    assert of_training == epochs(plain)
    assert iris.rows == {"train": 89, "validation": 23, "test": 38}
    assert sum(iris.shares) == pytest.approx(1)
    assert iris.intervals["f1"][0] <= iris.metrics["test/f1"] <= iris.intervals["f1"][1]
    assert (iris.epochs, iris.steps) == (3, 3)
    assert not iris.clipping.chosen
    assert not (plain / "artifacts" / "pictures").exists()
    assert "doctor" in tags(plain)


def test_training_rows_are_scored_with_the_kept_weights_as_they_are_used(
    plain: Path, iris: Findings
) -> None:
    rows = Datasets().prepared(check(compose(list(IRIS)))).train.rows
    said = Model.load(plain / "model" / "model.ckpt").outputs(load_iris().data[rows]).numpy()
    targets = load_iris().target[rows]
    assert iris.training["f1"] == pytest.approx(f1_score(targets, said.argmax(1), average="macro"))
    assert iris.training["loss"] == pytest.approx(log_loss(targets, said), rel=1e-5)


def test_a_run_on_record_has_its_pictures_and_its_note(made: Made, monkeypatch: Patch) -> None:
    monkeypatch.delenv("PIPELINE_PICTURES")
    run = made(*IRIS)
    pictures = run / "artifacts" / "pictures"
    written = read_list(pictures)
    assert {"curves/loss", "classes/confusion", "layers/gradient_norms"} <= {
        one.name for one in written
    }
    assert [one.reason for one in written if one.reason] == []
    assert all((pictures / one.file).stat().st_size > 1000 for one in written)
    said = tags(run)
    assert "curves/loss.png" in said["mlflow.note.content"]
    assert said["doctor"]
    assert f"python -m pipeline.train {' '.join(IRIS)}" in said["mlflow.note.content"]
    client = MlflowClient("sqlite:///mlflow.db")
    (stored,) = client.search_runs(["1"])
    assert stored.data.tags["doctor"] == said["doctor"]
    listed = client.list_artifacts(stored.info.run_id, "pictures/curves")
    assert "pictures/curves/loss.png" in [one.path for one in listed]


@pytest.mark.parametrize(
    ("words", "variable", "wanted"),
    [
        ((), "0", False),
        ((), "1", True),
        (("tracking=none",), "1", False),
        (("pictures=false",), "1", False),
        (("pictures=true", "tracking=none"), "0", True),
    ],
)
def test_pictures_are_drawn_where_they_are_wanted(
    words: tuple[str, ...], variable: str, wanted: bool, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("PIPELINE_PICTURES", variable)
    assert wants_pictures(check(compose([*IRIS, *words]))) == wanted


def test_a_diverged_run_is_diagnosed(train: Train, capsys: Capture) -> None:
    words = ("model.norm=none", "model.gain=20", "optimizer=sgd", "optimizer.lr=10")
    more = ("trainer.gradient_clip_val=null", "pictures=true", "tracking=none")
    assert train(*IRIS[:3], *words, *more) == 4
    out, err = capsys.readouterr()
    assert "exploding_gradient" in out
    assert err.count("\n") == 1
    run = only_run(Path("runs"))
    assert "exploding_gradient" in tags(run)["doctor"]
    assert "exploding_gradient" in (run / "artifacts" / "doctor.md").read_text(encoding="utf-8")
    assert artifact(run, "doctor.json")
    found = load_findings(run / "artifacts")
    assert found.end == "diverged"
    assert found.vitals is not None
    assert len(found.vitals.layers) == 4
    assert read_list(run / "artifacts" / "pictures")


def test_rows_that_are_asked_for_are_looked_at_or_refused_before_anything_begins(
    train: Train, made: Made, capsys: Capture
) -> None:
    assert train(*IRIS, "feature_maps.samples=[3,999]") == 2
    assert "feature_maps.samples" in capsys.readouterr().err
    assert runs(Path("runs")) == []
    run = made(*IRIS, "feature_maps.samples=[3,149]", "pictures=true", "tracking=none")
    found = load_findings(run / "artifacts")
    assert found.inside is not None
    assert found.inside.rows.tolist() == [3, 149]
    assert found.inside.labels == ("setosa", "virginica")
    assert found.importances is not None
    assert len(found.importances.columns) == 4


def test_an_artist_that_fails_leaves_a_warning_and_a_finished_run(
    made: Made, monkeypatch: Patch, capsys: Capture
) -> None:
    broken = Path("broken").absolute()
    broken.mkdir()
    (broken / "matplotlib.py").write_text("raise SystemExit(7)\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    run = made(*IRIS, "pictures=true", "tracking=none")
    err = capsys.readouterr().err
    assert err.startswith("warning: the pictures could not be drawn")
    assert err.count("\n") == 1
    assert events(run)[-1]["status"] == "FINISHED"


def test_drawing_leaves_what_others_have_drawn() -> None:
    figure = pyplot.figure()
    with drawing():
        pyplot.figure()
    assert pyplot.get_fignums() == [figure.number]
    pyplot.close(figure)


def test_of_very_many_test_rows_evenly_spaced_ones_are_kept(made: Made, monkeypatch: Patch) -> None:
    monkeypatch.setattr("pipeline.running.run_findings.MOST_NUMBERS", 3 * 10)
    run = made(*IRIS, "tracking=none")
    found = load_findings(run / "artifacts")
    rows = [int(line["row"]) for line in predictions(run)]
    assert found.test is not None
    assert found.test.rows.tolist() == [rows[round(37 * n / 9)] for n in range(10)]
    assert found.rows["test"] == 38


def test_mistakes_are_shown_with_their_own_inputs_also_where_rows_were_left_out(
    made: Made, monkeypatch: Patch
) -> None:
    monkeypatch.setattr("pipeline.running.run_findings.MOST_NUMBERS", 10 * 100)
    words = ("model=cnn2d", "data=digits", "trainer.max_epochs=1", "verbose=0", "tracking=none")
    found = load_findings(made(*words, "pictures=true") / "artifacts")
    assert found.test is not None
    assert found.mistakes is not None
    assert len(found.test.rows) == 100
    rows = found.test.rows[found.mistakes.positions]
    assert len(rows) > 0
    pictures = load_digits().images[rows]
    shares = pictures / pictures.max()
    np.testing.assert_allclose(found.mistakes.inputs[:, 0] / found.mistakes.inputs.max(), shares)


@pytest.mark.parametrize("place", ["activity_of", "_scores"])
def test_no_fault_of_a_look_at_the_network_costs_the_run_its_result(
    made: Made, monkeypatch: Patch, capsys: Capture, place: str
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no look today")

    monkeypatch.setattr(f"pipeline.running.run_findings.{place}", fails)
    run = made(*IRIS, "tracking=none")
    warning = capsys.readouterr().err
    assert "RuntimeError: no look today" in warning
    assert warning.count("\n") == 1
    assert events(run)[-1]["status"] == "FINISHED"
    assert (run / "model" / "model.ckpt").is_file()


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_weighted_classes_are_scored_in_any_precision(
    made: Made, capsys: Capture, precision: str
) -> None:
    words = ("loss.class_weights=[1,2,5]", f"trainer.precision={precision}", "tracking=none")
    run = made(*IRIS, *words)
    assert capsys.readouterr().err == ""
    assert load_findings(run / "artifacts").training["loss"] > 0
