"""What a run finds out about itself, as files, a tag and pictures."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.fixture_types import Capture, Made, Patch, Train
from helpers.run_files import artifact, epochs, events, findings_of, only_run, predictions
from helpers.sample_data import shipped
from helpers.sample_findings import scored_rows, vitals_of
from matplotlib import pyplot
from mlflow import MlflowClient
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.metrics import f1_score, log_loss

from pipeline.base.ends import End
from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.pictures.gallery import drawing, read_list
from pipeline.running.helpers import wants_pictures
from pipeline.serving.model import Model

pytestmark = pytest.mark.usefixtures("quick_children")

WORDS = ("model=mlp", "data=iris", "trainer.max_epochs=3", "verbose=0")
IRIS = (*WORDS, "tracking=none")


def tags(run: Path) -> dict[str, str]:
    return {event["key"]: event["value"] for event in events(run) if event["event"] == "tag"}


@pytest.mark.parametrize("is_in_order", [True, False])
def test_next_value_of_target_is_found_in_a_table(
    made: Made, tmp_path: Path, is_in_order: bool
) -> None:
    generator = np.random.default_rng(0)
    levels = generator.normal(size=301)
    rows = np.column_stack([generator.normal(size=300), levels[1:], levels[:-1]])
    if not is_in_order:
        rows = generator.permutation(rows)
    path = tmp_path / "levels.csv"
    np.savetxt(path, rows, delimiter=",", header="wind,tomorrow,level", comments="")
    words = ("model=mlp", "data=table", f"data.path={path}", "trainer.max_epochs=1")
    leading = findings_of(made(*words, "tracking=none")).leading
    assert leading == ("tomorrow" if is_in_order else "")


def test_findings_agree_with_tables_and_model(run: Path) -> None:
    iris, lines = findings_of(run), predictions(run)
    test = scored_rows(iris)
    assert [int(line["row"]) for line in lines] == test.rows.tolist()
    classes = [iris.classes.index(line["target"]) for line in lines]
    assert classes == test.targets.tolist()
    shares = [[float(line[f"probability of {name}"]) for name in iris.classes] for line in lines]
    np.testing.assert_allclose(np.asarray(shares), test.outputs, rtol=1e-6)
    for epoch, values in epochs(run).items():
        assert values.items() <= iris.history[epoch].items()
    assert iris.rows == {"train": 89, "validation": 23, "test": 38}
    assert sum(iris.shares) == pytest.approx(1)
    assert iris.intervals["f1"][0] <= iris.metrics["test/f1"] <= iris.intervals["f1"][1]
    assert (iris.epochs, iris.steps) == (3, 3)
    assert not iris.clipping.chosen
    assert not (run / "artifacts" / "pictures").exists()
    assert "doctor" in tags(run)
    # Training rows are scored with the kept weights as these are used.
    rows = shipped("iris").train.rows
    probabilities = Model.load(run / "model" / "model.ckpt").outputs(load_iris().data[rows]).numpy()
    targets = load_iris().target[rows]
    assert iris.training["f1"] == pytest.approx(
        f1_score(targets, probabilities.argmax(1), average="macro")
    )
    assert iris.training["loss"] == pytest.approx(log_loss(targets, probabilities), rel=1e-5)


@pytest.mark.parametrize(
    "words",
    [("data=table", "data.target=y"), ("data=series", "data.window=3", "data.difference=1")],
    ids=["table", "differences"],
)
def test_targets_are_written_as_in_the_file(made: Made, words: tuple[str, ...]) -> None:
    """15.7, and not the 15.700000968 that float32 makes of it."""
    cells = [f"{day * 7 % 31 + day / 10:.1f}" for day in range(60)]
    times = range(1900, 1960) if "data=series" in words else [day * 37 % 101 for day in range(60)]
    lines = [f"{time},{cell}\n" for time, cell in zip(times, cells, strict=True)]
    Path("days.csv").write_text("x,y\n" + "".join(lines), encoding="utf-8")
    run = made("model=mlp", *words, "data.path=days.csv", "trainer.max_epochs=1", "tracking=none")
    tested = predictions(run)
    assert [line["target"] for line in tested] == [cells[int(line["row"])] for line in tested]


def test_run_is_judged_on_its_training_rows(made: Made, capsys: Capture) -> None:
    """These are the first 24 rows, since each epoch has the same three batches."""
    words = ("data=breast_cancer", "data.batch_size=8", "debug=overfit", "trainer.max_epochs=9")
    run = made("model=mlp", *words)
    findings, part = findings_of(run), shipped("breast_cancer").train
    note = f"note: each epoch trains on the first 24 of {len(part)} training rows (trainer.overfit"
    assert note in capsys.readouterr().out
    rows, targets = part.rows[:24], part.targets[:24].numpy()
    inputs = load_breast_cancer().data[rows]
    outputs = Model.load(run / "model" / "model.ckpt").outputs(inputs).numpy()
    assert findings.rows["train"] == 24
    assert findings.training["loss"] == pytest.approx(log_loss(targets, outputs), rel=1e-5)
    assert findings.shares == pytest.approx(np.bincount(targets) / 24)
    assert findings.kept is None  # the last epoch, not the one that suits the validation rows


def test_recorded_run_has_pictures_and_note(made: Made, monkeypatch: Patch) -> None:
    monkeypatch.delenv("PIPELINE_PICTURES")
    run = made(*WORDS, "feature_maps.samples=[3,149]")
    pictures = run / "artifacts" / "pictures"
    written = read_list(pictures)
    names = {entry.name for entry in written}
    assert {"curves/loss", "classes/confusion", "layers/gradient_norms"} <= names
    assert [entry.reason for entry in written if entry.reason] == []
    assert all((pictures / entry.file).stat().st_size > 1000 for entry in written)
    page = (run / "artifacts" / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') == len(written)
    assert "<dt>status</dt>\n<dd>finished</dd>" in page
    run_tags = tags(run)
    assert "curves/loss.png" in run_tags["mlflow.note.content"]
    assert run_tags["doctor"]
    assert f"pipeline train {' '.join(WORDS)}" in run_tags["mlflow.note.content"]
    client = MlflowClient("sqlite:///mlflow.db")
    (stored,) = client.search_runs(["1"])
    assert stored.data.tags["doctor"] == run_tags["doctor"]
    artifacts = client.list_artifacts(stored.info.run_id)
    artifacts += client.list_artifacts(stored.info.run_id, "pictures/curves")
    assert {"report.html", "pictures/curves/loss.png"} <= {entry.path for entry in artifacts}
    # The rows that were asked for are looked at.
    findings = findings_of(run)
    assert findings.inside is not None
    assert findings.inside.rows.tolist() == [3, 149]
    assert findings.inside.labels == ("setosa", "virginica")
    assert findings.importances is not None
    assert len(findings.importances.columns) == 4


def test_unknown_sample_rows_are_refused_at_start(train: Train, capsys: Capture) -> None:
    assert train(*IRIS, "feature_maps.samples=[3,999]") == 2
    assert "feature_maps.samples" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_note_without_pictures_links_the_card(made: Made) -> None:
    assert "artifacts/card.md" in tags(made(*WORDS, "pictures=false"))["mlflow.note.content"]


@pytest.mark.parametrize(
    ("words", "variable", "expected"),
    [
        ((), "0", False),
        ((), "1", True),
        (("tracking=none",), "1", True),
        (("pictures=false",), "1", False),
        (("pictures=true",), "0", True),
    ],
)
def test_pictures_are_drawn_where_wanted(
    words: tuple[str, ...], variable: str, expected: bool, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("PIPELINE_PICTURES", variable)
    assert wants_pictures(check(compose([*WORDS, *words]))) == expected


def test_diverged_run_is_diagnosed(train: Train, capsys: Capture) -> None:
    words = ("model.norm=none", "model.gain=20", "optimizer=sgd", "optimizer.lr=10")
    options = ("trainer.gradient_clip_val=null", "pictures=true", "tracking=none")
    assert train(*WORDS[:3], *words, *options) == 4
    out, err = capsys.readouterr()
    assert "doctor  exploding gradient: " in out
    assert err.count("\n") == 1
    run = only_run(Path("runs"))
    assert re.search(r"^took    .+ s of it training$", out, re.MULTILINE)
    assert out.endswith(f"run     {run}\nreport  {run}/artifacts/report.html\n")
    assert "exploding_gradient" in tags(run)["doctor"]
    assert "## Exploding gradient" in (run / "artifacts" / "doctor.md").read_text(encoding="utf-8")
    assert artifact(run, "doctor.json")
    findings = findings_of(run)
    assert findings.end is End.DIVERGED
    assert len(vitals_of(findings).layers) == 4
    assert read_list(run / "artifacts" / "pictures")
    page = (run / "artifacts" / "report.html").read_text(encoding="utf-8")
    assert "<dt>status</dt>\n<dd>failed (diverged)</dd>" in page


def test_failed_drawing_leaves_a_finished_run(
    made: Made, monkeypatch: Patch, capsys: Capture
) -> None:
    """It prints one warning."""
    monkeypatch.setattr(sys, "executable", f"{sys.prefix}/bin/python")  # a fork has matplotlib
    broken = Path("broken").absolute()
    broken.mkdir()
    (broken / "matplotlib.py").write_text("raise SystemExit(7)\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    run = made(*IRIS, "pictures=true")
    err = capsys.readouterr().err
    assert err.startswith("warning: the pictures could not be drawn")
    assert err.count("\n") == 1
    assert events(run)[-1]["status"] == "FINISHED"


def test_resumed_run_shows_no_earlier_report(made: Made, train: Train, capsys: Capture) -> None:
    run = made(*WORDS[:3], "scheduler=none", "tracking=none", "pictures=true")
    assert f"report  {run}" in capsys.readouterr().out
    assert train(f"resume={run}", "pictures=false", "trainer.max_epochs=4") == 0
    assert "report  " not in capsys.readouterr().out


def test_drawing_leaves_figures_of_others_open() -> None:
    figure = pyplot.figure()
    with drawing():
        pyplot.figure()
    assert pyplot.get_fignums() == [figure.number]
    pyplot.close(figure)


def test_kept_test_rows_are_evenly_spaced(made: Made, monkeypatch: Patch) -> None:
    """The mistakes among them keep their inputs."""
    monkeypatch.setattr("pipeline.running.run_findings.MOST_NUMBERS", 10 * 100)
    words = ("model=cnn2d", "data=digits", "trainer.max_epochs=1", "verbose=0", "tracking=none")
    run = made(*words, "pictures=true")
    findings = findings_of(run)
    rows = [int(line["row"]) for line in predictions(run)]
    kept_rows = scored_rows(findings).rows
    assert findings.rows["test"] == len(rows)
    expected_rows = [rows[round((len(rows) - 1) * number / 99)] for number in range(100)]
    assert kept_rows.tolist() == expected_rows
    assert findings.mistakes is not None
    wrong_rows = kept_rows[findings.mistakes.positions]
    assert len(wrong_rows) > 0
    pictures = load_digits().images[wrong_rows]
    shares = pictures / pictures.max()
    inputs = findings.mistakes.inputs[:, 0]
    np.testing.assert_allclose(inputs / inputs.max(), shares)


@pytest.mark.parametrize("place", ["activity_of", "_scores"])
def test_failed_network_analysis_keeps_the_result(
    made: Made, monkeypatch: Patch, capsys: Capture, place: str
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no look today")

    monkeypatch.setattr(f"pipeline.running.training_scores.{place}", fails)
    run = made(*IRIS)
    warning = capsys.readouterr().err
    assert "RuntimeError: no look today" in warning
    assert warning.count("\n") == 1
    assert events(run)[-1]["status"] == "FINISHED"
    assert (run / "model" / "model.ckpt").is_file()


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_weighted_classes_are_scored_in_any_precision(
    made: Made, capsys: Capture, precision: str
) -> None:
    run = made(*IRIS, "loss.class_weights=[1,2,5]", f"trainer.precision={precision}")
    assert capsys.readouterr().err == ""
    assert findings_of(run).training["loss"] > 0
