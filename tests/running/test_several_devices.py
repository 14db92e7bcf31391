"""A run on several devices is the run that one device does, only shared (gloo, on the CPU)."""

import shutil
import tempfile
from pathlib import Path

import mlflow
import pytest
import torch
from fixture_types import Capture, Made, Patch, Train
from mlflow.entities import ViewType
from records import checkpoint, epochs, events, final_values, only_run, predictions

from pipeline.evaluate import main as evaluate

TWO = ("trainer=ddp", "trainer.accelerator=cpu")
EXACT = ("tracking=none", "verbose=0", "trainer.precision=64-true")
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
        for epoch, found in epochs(run).items()
        for key, value in found.items()
    } | {key: value for key, value in final_values(run).items() if not key.startswith("time/")}


@pytest.mark.parametrize(
    "words",
    [
        # Batch norm; the last batch has one row, so the second rank has none of it.
        ("model=mlp", "data=iris", "data.batch_size=89", "loss.class_weights=[1,2,5]"),
        ("model=mlp", "data=breast_cancer", "loss.class_weights=balanced", "data.batch_size=47"),
        ("model=mlp", "data=diabetes", "trainer.accumulate_grad_batches=3"),
        ("model=lstm", "data.batch_size=333", "loss.label_smoothing=0.1"),
        ("model=cnn2d", "data=digits", "data.memory_budget=0", "model.norm=batch"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_two_processes_train_the_network_that_one_trains(
    made: Made, words: tuple[str, ...]
) -> None:
    alone = made(*SHORT, *words, "output=alone")
    shared = made(*SHORT, *words, "output=shared", *TWO)
    one, two = values(alone), values(shared)
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert two[key] == pytest.approx(value, rel=1e-6, abs=1e-6), key
    first, second = (checkpoint(run, "last")["state_dict"] for run in (alone, shared))
    for name, weights in first.items():
        torch.testing.assert_close(second[name], weights, rtol=1e-7, atol=1e-8)


def test_half_precision_and_an_odd_temporary_folder_change_nothing_much(
    made: Made, own_folder: Path, monkeypatch: Patch
) -> None:
    odd = own_folder / "a b ü %20"
    odd.mkdir()
    monkeypatch.setenv("TMPDIR", str(odd))
    monkeypatch.setattr(tempfile, "tempdir", None)
    words = ("model=mlp", "data=digits", "tracking=none", "verbose=0", "trainer.max_epochs=2")
    words += ("trainer.precision=bf16-mixed",)
    one = final_values(made(*words, "output=alone"))
    two = final_values(made(*words, "output=shared", *TWO))
    assert two["train/loss"] == pytest.approx(one["train/loss"], rel=0.05)
    assert two["test/f1"] == pytest.approx(one["test/f1"], abs=0.03)
    assert list(odd.iterdir()) == []


def test_figures_are_those_of_one_process_on_the_same_weights_and_every_row_counts_once(
    made: Made, own_folder: Path
) -> None:
    words = ("model=mlp", "data=digits", "data.test=0.2506", "data.validation=0.151")
    run = made(*words, "trainer.max_epochs=2", "verbose=0", *TWO)
    figures = final_values(run)
    rows = [line["row"] for line in predictions(run)]
    assert len(rows) == 451  # which two ranks can not share equally
    assert len(set(rows)) == len(rows)
    for split, stage in (("test", "test"), ("validation", "val")):
        given = [f"model_from={run}", f"split={split}", "verbose=0", f"output={stage}"]
        assert evaluate([*given, "tracking=none"]) == 0
        judged = final_values(only_run(own_folder / stage))
        best = "best/" if stage == "val" else ""
        compared = [key for key in judged if key.startswith(f"{stage}/")]
        assert len(compared) >= 5
        for key in compared:
            assert judged[key] == pytest.approx(figures[best + key], abs=1e-6), key
    # One run on record, whatever the number of processes.
    client = mlflow.MlflowClient(f"sqlite:///{own_folder / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "pipeline")
    (found,) = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    assert found.info.status == "FINISHED"
    assert found.data.metrics["test/f1"] == pytest.approx(figures["test/f1"])
    assert found.data.tags["device"].startswith("cpu × 2 processes")


def test_training_sees_each_row_exactly_once_an_epoch(train: Train, own_folder: Path) -> None:
    words = ("model=mlp", "data=diabetes", "data.batch_size=50", *SHORT)
    assert train(*words, *callback("SeenRows"), "output=alone") == 0
    alone = [_seen(epoch, 1) for epoch in range(2)]
    for file in own_folder.glob("seen-*"):
        file.unlink()
    assert train(*words, *callback("SeenRows"), *TWO) == 0
    for epoch in range(2):
        steps = [Path(f"seen-{epoch}-{rank}").read_text().splitlines() for rank in range(2)]
        sizes = [(len(a.split()), len(b.split())) for a, b in zip(*steps, strict=True)]
        assert all(a - b in (0, 1) for a, b in sizes)
        assert _seen(epoch, 2) == alone[epoch]


def _seen(epoch: int, world: int) -> list[str]:
    files = [Path(f"seen-{epoch}-{rank}") for rank in range(world)]
    return sorted(word for file in files for word in file.read_text().split())


@pytest.mark.parametrize(("before", "after"), [((), TWO), (TWO, ())], ids=["1 to 2", "2 to 1"])
def test_a_run_goes_on_with_another_number_of_devices(
    made: Made, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    words = ("model=mlp", "data=iris", "scheduler=none", *EXACT)
    whole = epochs(made(*words, "trainer.max_epochs=4", "output=whole"))
    run = made(*words, "trainer.max_epochs=2", *before)
    given = after or ("trainer=cpu",)
    assert made(f"resume={run}", "trainer.max_epochs=4", *given) == run
    gone_on = epochs(run)
    assert gone_on.keys() == whole.keys() == {1, 2, 3, 4}
    for key, value in whole[4].items():
        assert gone_on[4][key] == pytest.approx(value, rel=1e-6, abs=1e-8), key


def test_a_stop_that_the_metrics_ask_for_ends_all_ranks_at_the_same_epoch(made: Made) -> None:
    words = ("model=mlp", "data=iris", "callbacks=early_stopping", "verbose=0", "tracking=none")
    words += ("callbacks.early_stopping.patience=1", "optimizer.lr=1e-9", "trainer.max_epochs=30")
    assert len(epochs(made(*words, *TWO))) < 10


def test_dropout_is_each_ranks_own_and_the_same_seed_gives_the_same_bits(made: Made) -> None:
    words = ("model=mlp", "model.dropout=0.5", "data=iris", *SHORT, *TWO)
    first, second = (
        checkpoint(made(*words, f"output={output}"), "last")["state_dict"]
        for output in ("first", "second")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("rank", "whose"), [(0, ""), (1, "rank 1: ")])
def test_a_rank_that_fails_is_told_with_its_own_words_and_code(
    train: Train, own_folder: Path, capsys: Capture, rank: int, whose: str
) -> None:
    words = ("model=mlp", "data=iris", "verbose=0", "tracking=none", "trainer.max_epochs=4")
    fails = (*callback("Raises"), f"+callbacks.own.rank={rank}")
    assert train(*words, *fails, *TWO) == 3
    assert f"error: {whose}out of memory (no room here)" in capsys.readouterr().err
    (*_, last) = events(only_run(own_folder / "runs"))
    assert last["status"] == "FAILED"
