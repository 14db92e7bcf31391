"""A run on several devices is the run that one device does, only shared (gloo, on the CPU)."""

import shutil
import tempfile
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from helpers.fixture_types import Capture, Made, Patch, Train
from helpers.run_files import (
    checkpoint,
    epochs,
    events,
    final_values,
    only_run,
    predictions,
    values_with,
)
from mlflow.entities import ViewType

from pipeline.evaluate import main as evaluate

TWO = ("trainer=ddp", "trainer.accelerator=cpu")
QUIET = ("tracking=none", "verbose=0")
EXACT = (*QUIET, "trainer.precision=64-true")
SHORT = (*EXACT, "trainer.max_epochs=2")
OWN_PARTS = Path(__file__).parents[1] / "faults" / "own_code" / "rank_parts.py"

pytestmark = pytest.mark.slow


def callback(name: str) -> tuple[str, ...]:
    """The words for a callback of the tests' own, whose file lies in the current folder."""
    shutil.copy(OWN_PARTS, Path.cwd())
    return (f"+callbacks.own._target_=rank_parts.{name}", "trust=[rank_parts]")


def values(run: Path) -> dict[str, float]:
    """All values of all epochs, but for how long they took."""
    return {
        f"{epoch} {key}": value
        for epoch, epoch_values in epochs(run).items()
        for key, value in epoch_values.items()
    } | {key: value for key, value in final_values(run).items() if not key.startswith("time/")}


@pytest.mark.parametrize(
    "words",
    [
        # Batch norm; the last batch has one row, so the second rank has none of it.
        ("model=mlp", "data=iris", "data.batch_size=89", "loss.class_weights=[1,2,5]"),
        ("model=mlp", "data=breast_cancer", "loss.class_weights=balanced", "data.batch_size=47"),
        ("model=mlp", "data=diabetes", "trainer.accumulate_grad_batches=3"),
        ("model=lstm", "model.hidden=8", "data.batch_size=333", "loss.label_smoothing=0.1"),
        ("model=cnn2d", "data=digits", "data.memory_budget=0", "model.norm=batch"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_two_processes_train_the_same_network(made: Made, words: tuple[str, ...]) -> None:
    alone = made(*SHORT, *words, "output=alone")
    shared = made(*SHORT, *words, "output=shared", *TWO)
    assert values(shared) == pytest.approx(values(alone), rel=1e-6, abs=1e-6)
    first, second = (checkpoint(run, "last")["state_dict"] for run in (alone, shared))
    for name, weights in first.items():
        torch.testing.assert_close(second[name], weights, rtol=1e-7, atol=1e-8)
    alone_arrays, shared_arrays = (
        np.load(run / "artifacts" / "findings" / "arrays.npz") for run in (alone, shared)
    )
    for name, error in (("vitals.gradients", 1e-3), ("vitals.updates", 1e-2)):
        np.testing.assert_allclose(shared_arrays[name], alone_arrays[name], rtol=error)


def test_half_precision_changes_little_on_two_processes(
    made: Made, own_folder: Path, monkeypatch: Patch
) -> None:
    """The temporary folder has an unusual name."""
    odd = own_folder / "a b ü %20"
    odd.mkdir()
    monkeypatch.setenv("TMPDIR", str(odd))
    monkeypatch.setattr(tempfile, "tempdir", None)
    words = ["model=mlp", "data=digits", *QUIET, "trainer.max_epochs=2"]
    words += ["trainer.precision=bf16-mixed"]
    alone_values = final_values(made(*words, "output=alone"))
    shared_values = final_values(made(*words, "output=shared", *TWO))
    assert shared_values["train/loss"] == pytest.approx(alone_values["train/loss"], rel=0.05)
    assert shared_values["test/f1"] == pytest.approx(alone_values["test/f1"], abs=0.03)
    assert list(odd.iterdir()) == []


def test_scores_count_every_row_exactly_once(made: Made, own_folder: Path) -> None:
    """They equal those of one process with the same weights."""
    words = ("model=mlp", "data=digits", "data.test=0.2506", "data.validation=0.151")
    run = made(*words, "trainer.max_epochs=2", "verbose=0", *TWO)
    figures = final_values(run)
    rows = [line["row"] for line in predictions(run)]
    assert len(rows) == len(set(rows)) == 451  # which two ranks can not share equally
    for split, stage in (("test", "test"), ("validation", "val")):
        assert evaluate([f"model_from={run}", f"split={split}", *QUIET, f"output={stage}"]) == 0
        compared = values_with(only_run(own_folder / stage), f"{stage}/")
        best = "best/" if stage == "val" else ""
        assert len(compared) >= 5
        assert compared == pytest.approx({k: figures[best + k] for k in compared}, abs=1e-6)
    # One run on record, whatever the number of processes.
    client = mlflow.MlflowClient(f"sqlite:///{own_folder / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "pipeline")
    (recorded_run,) = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    assert recorded_run.info.status == "FINISHED"
    assert recorded_run.data.metrics["test/f1"] == pytest.approx(figures["test/f1"])
    assert recorded_run.data.tags["device"].startswith("cpu × 2 processes")


def test_training_uses_each_row_once_per_epoch(train: Train, own_folder: Path) -> None:
    def steps(epoch: int, world: int) -> list[list[list[str]]]:
        """Return the rows of each step of each rank."""
        files = [own_folder / f"seen-{epoch}-{rank}" for rank in range(world)]
        return [[line.split() for line in file.read_text().splitlines()] for file in files]

    def rows(epoch: int, world: int) -> list[str]:
        return sorted(word for rank in steps(epoch, world) for step in rank for word in step)

    words = ("model=mlp", "data=diabetes", "data.batch_size=50", *SHORT, *callback("SeenRows"))
    assert train(*words, "output=alone") == 0
    alone = [rows(epoch, 1) for epoch in range(2)]
    for file in own_folder.glob("seen-*"):
        file.unlink()
    assert train(*words, *TWO) == 0
    for epoch in range(2):
        assert all(len(a) - len(b) in (0, 1) for a, b in zip(*steps(epoch, 2), strict=True))
        assert rows(epoch, 2) == alone[epoch]


def test_run_resumes_on_another_number_of_devices(made: Made) -> None:
    words = ("model=mlp", "data=iris", "scheduler=none", *EXACT)
    uninterrupted = epochs(made(*words, "trainer.max_epochs=6", "output=whole"))
    run = made(*words, "trainer.max_epochs=2", "trainer=cpu")
    for last, devices in ((4, TWO), (6, ("trainer=cpu", "trainer.devices=1"))):
        assert made(f"resume={run}", f"trainer.max_epochs={last}", *devices) == run
    assert epochs(run).keys() == uninterrupted.keys() == {1, 2, 3, 4, 5, 6}
    for epoch in (4, 6):
        resumed_values = {key: epochs(run)[epoch][key] for key in uninterrupted[epoch]}
        assert resumed_values == pytest.approx(uninterrupted[epoch], rel=1e-6, abs=1e-8)


def test_all_ranks_stop_together_and_reproducibly(
    made: Made,
) -> None:
    """Dropout differs from rank to rank; the metrics decide when to stop."""
    words = ["model=mlp", "model.dropout=0.5", "data=iris", *QUIET, "callbacks=early_stopping"]
    words += ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=9"]
    first, second = (made(*words, f"output={output}", *TWO) for output in ("first", "second"))
    assert epochs(first).keys() == {1, 2}
    weights = checkpoint(second, "last")["state_dict"]
    for name, expected in checkpoint(first, "last")["state_dict"].items():
        assert torch.equal(weights[name], expected)


@pytest.mark.parametrize(("rank", "whose"), [(0, ""), (1, "rank 1: ")])
def test_failed_rank_reports_its_message_and_code(
    train: Train, own_folder: Path, capsys: Capture, rank: int, whose: str
) -> None:
    words = ("model=mlp", "data=iris", *QUIET, "trainer.max_epochs=4")
    fails = (*callback("Raises"), f"+callbacks.own.rank={rank}")
    assert train(*words, *fails, *TWO) == 3
    assert f"error: {whose}out of memory (no room here)" in capsys.readouterr().err
    (*_, last) = events(only_run(own_folder / "runs"))
    assert last["status"] == "FAILED"
