"""`python -m pipeline.train`: what a user gets from one command."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_types import Capture, Made, Train
from mlflow import MlflowClient
from records import final_values, predictions
from sklearn import metrics as sklearn_metrics
from torch.optim.optimizer import register_optimizer_step_pre_hook

NAMES = ("precision", "recall", "f1", "accuracy")


def test_a_run_is_in_mlflow_where_plain_mlflow_ui_looks(train: Train, own_folder: Path) -> None:
    assert train("model=mlp", "trainer.max_epochs=3", "verbose=0", "tags={mood: good}") == 0
    client = MlflowClient(f"sqlite:///{own_folder}/mlflow.db")
    experiment = client.get_experiment_by_name("pipeline")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "mlp-mnist1d"
    assert run.data.params["model.hidden"] == "[64, 128, 64]"
    assert run.data.params["trainer.threads"] == "1"
    assert run.data.tags["mood"] == "good"
    history = client.get_metric_history(run.info.run_id, "val/f1")
    assert [point.step for point in history] == [1, 2, 3]
    assert {"train/loss", "grad/norm", "grad/clipped", "best/epoch", "test/f1", "naive/f1"} <= set(
        run.data.metrics
    )
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {
        "config.yaml",
        "requirements.txt",
        "test_predictions.csv",
        "classes.csv",
        "history.csv",
    } <= names


@pytest.mark.parametrize(
    "words",
    [
        ("model=mlp", "data=iris"),
        ("model=cnn1d", "data=breast_cancer"),
        ("model=cnn2d", "trainer.max_epochs=1"),
    ],
    ids=" ".join,
)
def test_classification_figures_equal_scikit_learns_on_the_saved_predictions(
    made: Made, words: tuple[str, ...]
) -> None:
    run = made(*words, "tracking=none", "verbose=0")
    truth, guess = zip(
        *((row["target"], row["predicted"]) for row in predictions(run)), strict=True
    )
    binary = words[-1] == "data=breast_cancer"
    kwargs = {"average": "binary", "pos_label": "malignant"} if binary else {"average": "macro"}
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        truth, guess, zero_division=0, **kwargs
    )
    accuracy = sklearn_metrics.accuracy_score(truth, guess)
    values = final_values(run)
    for name, expected in zip(NAMES, (precision, recall, f1, accuracy), strict=True):
        assert values[f"test/{name}"] == pytest.approx(expected, abs=1e-6)


def test_garbage_is_collected_as_usual_while_a_network_trains(train: Train) -> None:
    before, seen = gc.get_threshold(), set()
    hook = register_optimizer_step_pre_hook(lambda *_: seen.add(gc.get_threshold()))
    try:
        assert train("model=mlp", "data=iris", "tracking=none", "verbose=0") == 0
    finally:
        hook.remove()
    (found,) = seen
    assert found[0] < before[0]  # the tests begin as a command does
    assert gc.get_threshold() == before


def test_regression_figures_are_in_the_targets_own_units(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("model=lstm", "data=sunspots", "data.validation=0", "trainer.max_epochs=3")
    run = made(*words, "tracking=none", "verbose=0")
    truth, guess = (
        [float(row[key]) for row in predictions(run)] for key in ("target", "predicted")
    )
    values = final_values(run)
    rmse = sklearn_metrics.root_mean_squared_error(truth, guess)
    assert values["test/rmse"] == pytest.approx(rmse, rel=1e-5)
    assert values["test/r2"] == pytest.approx(sklearn_metrics.r2_score(truth, guess), abs=1e-5)
    assert values["naive/rmse"] == pytest.approx(30.34, abs=0.005)
    assert values["linear/rmse"] == pytest.approx(17.47, abs=0.005)

    words = ("model=mlp", "data=airline", "data.difference=12", "trainer.max_epochs=1")
    made(*words, "tracking=none", "verbose=2", "output=told")
    printed = capsys.readouterr().out
    assert "in thousand passengers" in printed
    assert "naive: value 12 steps before" in printed


def test_the_same_config_and_seed_give_the_same_bits_whatever_is_shown_or_tracked(
    made: Made, capsys: Capture
) -> None:
    common = ("model=gru", "model.dropout=0.2", "trainer.max_epochs=2")
    first = predictions(made(*common, "verbose=0", "tracking=none", "output=a"))
    assert capsys.readouterr() == ("", "")
    assert predictions(made(*common, "verbose=1", "tracking=local", "output=b")) == first
    other = made(*common, "verbose=2", "tracking=none", "output=c", "seed=1")
    assert predictions(other) != first


def test_training_never_waits_for_mlflow_which_its_process_does_not_even_load() -> None:
    script = (
        "import sys; from pipeline.train import main; "
        "code = main(['model=mlp', 'data=iris', 'trainer.max_epochs=1', 'verbose=0']); "
        "sys.exit(code or sum(name.partition('.')[0] == 'mlflow' for name in sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert Path("mlflow.db").exists()


def test_a_wrong_value_is_told_before_lightning_mlflow_or_torchs_compiler_is_loaded() -> None:
    script = (
        "import sys; from pipeline.train import main; code = main(['optimizer.lr=-1']); "
        "slow = {'pytorch_lightning', 'mlflow', 'torchmetrics', 'torch._inductor'}; "
        "slow &= set(sys.modules); "
        "print(code, sorted(slow))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert ended.stdout == "2 []\n"
    assert ended.stderr == "error: optimizer.lr=-1 is not allowed; expected a number > 0.\n"
