"""Metrics of one's own: computed, followed and shown as the program's are, or refused in a line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.config_command import CommandLine
from helpers.fixture_types import Capture, Patch, Train
from helpers.run_files import artifact, epochs, final_values, only_run, predictions
from modules import own_scores
from torchmetrics.functional.classification import binary_matthews_corrcoef

from pipeline.base.errors import ConfigError
from pipeline.study.ledger.definition import read_objectives

Best = Callable[[list[float]], float]
Own = Callable[..., list[str]]
"""Writes `conf/metrics/own.yaml` of some lines and returns the words that choose it."""
TRUST = "trust=[own_scores,torchmetrics]"
MCC = "  matthews: {_target_: torchmetrics.classification.BinaryMatthewsCorrCoef}"
BRIER = "  brier: {_target_: own_scores.Brier, power: 2}"
QUICK = ("trainer.max_epochs=4", "tracking=none", "verbose=0")
CANCER = ("model=mlp", "data=breast_cancer", *QUICK)


@pytest.fixture
def own(own_folder: Path, monkeypatch: Patch) -> Own:
    monkeypatch.syspath_prepend(str(Path(own_scores.__file__).parent))

    def write(*lines: str) -> list[str]:
        file = own_folder / "conf" / "metrics" / "own.yaml"
        file.parent.mkdir(parents=True)
        file.write_text("\n".join(["more:", *lines, ""]), encoding="utf-8")
        return ["--config-dir", "conf", TRUST, "metrics=own"]

    return write


@pytest.fixture
def line(own_folder: Path, capsys: Capture) -> CommandLine:
    return CommandLine(own_folder, capsys)


def tumours(run: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The probabilities (rows,) and classes (rows,) that a run has saved."""
    rows = predictions(run)
    scores = [float(row["probability of malignant"]) for row in rows]
    return torch.tensor(scores), torch.tensor([int(row["target"] == "malignant") for row in rows])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "best"), [("matthews", max), ("brier", min)])
def test_own_metrics_equal_torchmetrics(
    train: Train, own: Own, own_folder: Path, name: str, best: Best
) -> None:
    """Each one is monitored in its own direction."""
    assert train(*own(MCC, BRIER), *CANCER, f"monitor=val/{name}", "optimizer.lr=0.03") == 0
    run = only_run(own_folder / "runs")
    scores, classes = tumours(run)
    values = final_values(run)
    matthews = float(binary_matthews_corrcoef(scores, classes))
    assert values["test/matthews"] == pytest.approx(matthews)
    assert values["test/brier"] == pytest.approx(float(((scores - classes) ** 2).mean()))
    share = values["naive/brier"]  # the share p of the positive class, said of every row
    assert np.sqrt(share).round(1) in (0.4, 0.5)
    assert values["linear/matthews"] > 0.8
    low, high = artifact(run, "intervals.json")["ends"][name]
    assert low < values[f"test/{name}"] < high
    by_epoch = {epoch: of_epoch[f"val/{name}"] for epoch, of_epoch in epochs(run).items()}
    assert values[f"best/val/{name}"] == best(list(by_epoch.values()))
    assert by_epoch[int(values["best/epoch"])] == values[f"best/val/{name}"]


@pytest.mark.slow
def test_own_metrics_get_the_shapes_of_torchmetrics(
    train: Train, own: Own, own_folder: Path, capsys: Capture
) -> None:
    error = "torchmetrics.classification.MulticlassCalibrationError, num_classes: 3"
    words = own(f"  error: {{_target_: {error}}}")
    assert train(*words, "model=mlp", "data=iris", *QUICK[:2], "verbose=2") == 0
    assert "\nerror " in capsys.readouterr().out
    file = own_folder / "conf" / "metrics" / "own.yaml"
    file.write_text("more: {rank: {_target_: torchmetrics.SpearmanCorrCoef}}", encoding="utf-8")
    assert train(*words, "model=mlp", "data=diabetes", "name=ranked", *QUICK) == 0
    from scipy.stats import spearmanr  # type: ignore[import-untyped] # scipy brings no types

    (run,) = (own_folder / "runs").glob("*-ranked-*")
    rows = predictions(run)
    truth, called = ([float(row[key]) for row in rows] for key in ("target", "predicted"))
    rank = spearmanr(truth, called).statistic
    assert final_values(run)["test/rank"] == pytest.approx(rank, abs=1e-4)


def test_study_optimizes_an_own_metric(line: CommandLine, own: Own) -> None:
    run = line.run(*own(MCC, BRIER), *CANCER)
    names = ["val/brier", "val/matthews"]
    about = read_objectives(names, "val/f1", task="binary", metrics=run.metrics)
    assert {one.name: one.direction for one in about} == {"val/brier": "min", "val/matthews": "max"}
    with pytest.raises(ConfigError, match=r"'val/brie' is not logged; .* mean 'val/brier'\?"):
        read_objectives("val/brie", "val/f1", task="binary", metrics=run.metrics)


BRIER_ALONE = "{_target_: own_scores.Brier, power: 2}"
REFUSED = {
    f"f1: {BRIER_ALONE}": "metrics.more.f1: a built-in metric has this name; choose another.",
    f"a-b: {BRIER_ALONE}": (
        "metrics.more: 'a-b' is not a metric name; expected only letters, digits and _."
    ),
    "own: {_target_: own_scores.NoMetric}": (
        "metrics.more.own._target_='own_scores.NoMetric' is not a torchmetrics.Metric."
    ),
    "own: {_target_: own_scores.Brier, power: two}": (
        "metrics.more.own.power='two' is not allowed; expected a whole number."
    ),
    "own: {_target_: os.system}": (
        "metrics.more.own._target_='os.system' is outside of pipeline, torch.nn, torch.optim, "
        "pytorch_lightning.callbacks, own_scores, torchmetrics; if it is your own, add "
        "'trust=[os]' to the command line."
    ),
}


@pytest.mark.parametrize("entry", REFUSED)
def test_invalid_metric_is_reported(line: CommandLine, own: Own, entry: str) -> None:
    assert line.problem(*own(f"  {entry}"), *CANCER) == REFUSED[entry]


GIVEN = "its inputs are probabilities (rows,) and targets (rows,)"
BROKEN = {
    "Fussy monitor=val/f1": (
        f"metrics.more.own fails: ValueError: I don't like these rows; {GIVEN}"
    ),
    "Several monitor=val/f1": f"metrics.more.own returns shape (3,); expected a scalar; {GIVEN}",
    "Undecided,power:2 monitor=val/own": (
        "monitor=val/own can't be monitored: own_scores.Undecided does not define which "
        "values are better; add higher_is_better = True or False to the class"
    ),
    "Brier,power:2 callbacks.early_stopping.mode=max": (
        "callbacks.early_stopping.mode=max selects the worst val/own; expected min."
    ),
    "Brier,power:2 monitor=val/won": (
        "monitor='val/won' is not logged; expected one of val/accuracy, val/precision, "
        "val/recall, val/f1, val/auroc, val/rmse, val/mae, val/r2, "
        "val/balanced_accuracy, val/log_loss, val/mcc, val/smape, val/loss, train/loss, "
        "val/own. Did you mean 'val/own'?"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN)
def test_failing_metric_is_reported_before_the_run(
    train: Train, own: Own, own_folder: Path, capsys: Capture, case: str
) -> None:
    target, word = case.split()
    arguments = target.replace(",", ", ").replace(":", ": ")
    words = [*own(f"  own: {{_target_: own_scores.{arguments}}}"), word]
    if "stopping" in word:
        words += ["callbacks=early_stopping", "callbacks.early_stopping.monitor=val/own"]
    assert train(*CANCER, *words) == 2
    assert capsys.readouterr().err == f"error: {BROKEN[case]}\n"
    assert [path.name for path in own_folder.iterdir()] == ["conf"]


@pytest.mark.parametrize(
    ("metric", "data"), [("balanced_accuracy", "iris"), ("smape", "diabetes"), ("mcc", "iris")]
)
def test_further_metric_can_be_monitored_and_shown(
    train: Train, own_folder: Path, capsys: Capture, metric: str, data: str
) -> None:
    words = ("model=mlp", f"data={data}", f"monitor=val/{metric}", *QUICK[:2])
    assert train(*words, "verbose=1", "pictures=false") == 0
    assert f"\n{metric} " in capsys.readouterr().out
    run = only_run(own_folder / "runs")
    values = final_values(run)
    low, high = artifact(run, "intervals.json")["ends"][metric]
    assert low < values[f"test/{metric}"] < high
    by_epoch = [of_epoch[f"val/{metric}"] for of_epoch in epochs(run).values()]
    best = min if metric == "smape" else max
    assert values[f"best/val/{metric}"] == best(by_epoch)


def test_objective_without_scores_suggests_monitor() -> None:
    with pytest.raises(ConfigError, match=r"Trials score it with monitor=val/mcc\.$"):
        read_objectives("val/mcc", "val/f1", task="binary")
    (objective,) = read_objectives(None, "val/mcc", task="binary")
    assert (objective.name, objective.direction) == ("val/mcc", "max")
    with pytest.raises(ConfigError, match=r"model/parameters, time/fit\.$"):
        read_objectives("val/smape", "val/f1", task="binary")
