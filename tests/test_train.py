"""`pipeline train`: what a user gets from one command."""

import gc
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fixture_types import Capture, Made
from helpers.run_files import epochs, final_values, predictions
from mlflow import MlflowClient
from sklearn import metrics as sklearn_metrics
from torch.optim.optimizer import register_optimizer_step_pre_hook

pytestmark = pytest.mark.usefixtures("quick_children")

FILES = {"config.yaml", "requirements.txt", "test_predictions.csv", "classes.csv", "history.csv"}


LOADED = """
import sys
import pipeline.running.training
early = {"mlflow", "optuna", "sqlalchemy", "pandas", "sklearn"} & sys.modules.keys()
from pipeline.train import main
code = main(sys.argv[1:])
sys.exit(code or early or "mlflow" in sys.modules)
"""


def test_training_process_never_loads_mlflow(own_folder: Path, empty_database: Path) -> None:
    """The run is where plain `mlflow ui` looks."""
    shutil.copy(empty_database, own_folder / "mlflow.db")
    words = ("model=mlp", "data=iris", "trainer.max_epochs=3", "verbose=0", "tags={mood: good}")
    ended = subprocess.run(
        [sys.executable, "-c", LOADED, *words], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    client = MlflowClient(f"sqlite:///{own_folder}/mlflow.db")
    experiment = client.get_experiment_by_name("pipeline")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "mlp-iris-max_epochs3")
    assert run.data.params["model.hidden"] == "[64, 128, 64]"
    assert run.data.params["trainer.threads"] == "1"
    assert run.data.tags["mood"] == "good"
    history = client.get_metric_history(run.info.run_id, "val/f1")
    assert [point.step for point in history] == [1, 2, 3]
    assert {"train/loss", "grad/norm", "grad/clipped", "best/epoch", "test/f1", "naive/f1"} <= set(
        run.data.metrics
    )
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= FILES


@pytest.mark.parametrize(
    "words",
    [
        ("model=mlp", "data=iris"),
        ("model=cnn1d", "data=breast_cancer", "trainer.max_epochs=3"),
        ("model=cnn2d", "model.channels=[4]", "trainer.max_epochs=1"),
    ],
    ids=" ".join,
)
def test_classification_metrics_equal_scikit_learn(made: Made, words: tuple[str, ...]) -> None:
    run = made(*words, "tracking=none", "verbose=0")
    truth, guess = ([row[key] for row in predictions(run)] for key in ("target", "predicted"))
    binary = "data=breast_cancer" in words
    kwargs = {"average": "binary", "pos_label": "malignant"} if binary else {"average": "macro"}
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        truth, guess, zero_division=0, **kwargs
    )
    expected = {
        "test/precision": precision,
        "test/recall": recall,
        "test/f1": f1,
        "test/accuracy": sklearn_metrics.accuracy_score(truth, guess),
    }
    values = final_values(run)
    assert {key: values[key] for key in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("scale", ["none", "standard", "minmax"])
def test_series_scores_are_in_target_units(made: Made, scale: str) -> None:
    words = ("model=lstm", "data=sunspots", "data.validation=0", "trainer.max_epochs=3")
    run = made(*words, f"data.scale={scale}", "model.hidden=8", "tracking=none", "verbose=0")
    rows = predictions(run)
    truth, guess = ([float(row[key]) for row in rows] for key in ("target", "predicted"))
    values = final_values(run)
    rmse = sklearn_metrics.root_mean_squared_error(truth, guess)
    assert values["test/rmse"] == pytest.approx(rmse, rel=1e-5)
    assert values["test/r2"] == pytest.approx(sklearn_metrics.r2_score(truth, guess), abs=1e-5)
    assert values["naive/rmse"] == pytest.approx(30.34, abs=0.005)
    assert values["linear/rmse"] == pytest.approx(17.47, abs=0.005)


def test_baselines_of_a_series_are_named(made: Made, capsys: Capture) -> None:
    words = ("model=mlp", "data=airline", "data.difference=12", "trainer.max_epochs=1")
    made(*words, "tracking=none", "verbose=2", "details=true", "output=told")
    printed = capsys.readouterr().out
    assert "in thousand passengers" in printed
    assert "naive = value 12 steps before" in printed
    plain = ("model=mlp", "data=airline", "data.difference=null", "trainer.max_epochs=1")
    run = made(*plain, "tracking=none", "verbose=2", "output=plain")
    assert "seasonal = value 12 steps before" in capsys.readouterr().out
    assert final_values(run)["seasonal/rmse"] == pytest.approx(41.85, abs=0.005)
    assert "seasonal = value 12 steps before" in (run / "model/card.md").read_text(encoding="utf-8")


def test_garbage_collection_is_normal_during_training(made: Made) -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    during = []
    hook = register_optimizer_step_pre_hook(
        lambda *_: during.append((gc.get_threshold(), gc.get_freeze_count()))
    )
    try:
        made("model=mlp", "data=iris", "trainer.max_epochs=1", "tracking=none", "verbose=0")
    finally:
        hook.remove()
    threshold, frozen = during[0]
    assert threshold[0] < before[0][0]  # the tests begin as a command does
    assert frozen > 100_000, "a search would take as long as a short training"
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_same_config_and_seed_are_bit_equal(
    made: Made, capsys: Capture, empty_database: Path
) -> None:
    """What is shown or tracked makes no difference."""
    shutil.copy(empty_database, "mlflow.db")
    common = ["model=gru", "model.hidden=8", "data=synthetic_control", "model.dropout=0.2"]
    common += ["trainer.max_epochs=2"]
    first = predictions(made(*common, "verbose=0", "tracking=none", "output=a"))
    assert capsys.readouterr() == ("", "")
    assert predictions(made(*common, "verbose=1", "tracking=local", "output=b")) == first
    other = made(*common, "verbose=2", "tracking=none", "output=c", "seed=1")
    assert predictions(other) != first


@pytest.mark.parametrize("data", ["table", "rgb_patches"])
def test_positive_class_does_not_change_the_network(
    made: Made, own_folder: Path, data: str
) -> None:
    usual, other = ("ill", "well") if data == "table" else ("flower", "china")
    rows = [f"{n % 17},{n % 5},{usual if n % 17 > 10 else other}" for n in range(120)]
    (own_folder / "rows.csv").write_text("\n".join(["x,y,state", *rows]), encoding="utf-8")
    words = ["model=mlp", f"data={data}", "monitor=val/loss", "trainer.max_epochs=2"]
    words += ["trainer.precision=64-true", "tracking=none", "verbose=0"]
    words += ["data.path=rows.csv"] * (data == "table")
    unnamed, one, turned = (
        made(*words, *given, f"output={number}")
        for number, given in enumerate([[], *([f"data.positive={x}"] for x in (usual, other))])
    )
    assert predictions(one) == predictions(unnamed)
    losses = [[e["val/loss"] for e in epochs(run).values()] for run in (one, turned)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)
    assert final_values(turned)["test/accuracy"] == final_values(one)["test/accuracy"]
    for before, after in zip(predictions(one), predictions(turned), strict=True):
        share = float(before[f"probability of {usual}"])
        assert float(after[f"probability of {other}"]) == pytest.approx(1 - share, abs=1e-6)
