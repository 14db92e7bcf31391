"""Fault F28: a loss or a weight that is no number any more."""

from pathlib import Path

import torch
from fixture_types import Capture, Train

from faults.processes import checkpoint_epoch, ending, recorded_epochs
from faults.stores import outcome

STEEP = ("model=mlp", "data=diabetes", "optimizer=sgd", "scheduler=none", "verbose=0")
UNCLIPPED = "trainer.gradient_clip_val=null"


def only_run(folder: Path) -> Path:
    (run,) = (folder / "runs").iterdir()
    return run


def weights_are_finite(path: Path) -> bool:
    weights = torch.load(path, weights_only=True)["state_dict"].values()
    return all(bool(torch.isfinite(tensor).all()) for tensor in weights)


def test_a_huge_learning_rate_ends_in_the_first_epoch_without_any_checkpoint(
    train: Train, own_folder: Path, database: str, capsys: Capture
) -> None:
    assert train(*STEEP, UNCLIPPED, "optimizer.lr=1e6") == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert outcome(database) == ("FAILED", "diverged")
    assert line.startswith("error: ")
    assert "in epoch 1: training diverged; try a smaller optimizer.lr" in line
    assert ending(only_run(own_folder)) == ("FAILED", "diverged")
    assert list((only_run(own_folder) / "checkpoints").glob("*")) == []


def test_a_run_that_diverges_later_keeps_its_last_finite_weights(
    train: Train, own_folder: Path, own_code: tuple[str, ...]
) -> None:
    words = ["+callbacks.steep._target_=slow_parts.SteepFrom", "+callbacks.steep.epoch=3"]
    code = train(*STEEP, UNCLIPPED, "optimizer.lr=0.001", *words, *own_code, "tracking=none")
    assert code == 4
    run = only_run(own_folder)
    assert ending(run) == ("FAILED", "diverged")
    assert recorded_epochs(run) == [1, 2]
    for name in ("last", "best"):
        assert weights_are_finite(run / "checkpoints" / f"{name}.ckpt")
        assert checkpoint_epoch(run, name) <= 2


def test_weights_ruined_by_the_last_step_of_an_epoch_are_not_kept(
    train: Train, own_folder: Path, own_code: tuple[str, ...], capsys: Capture
) -> None:
    # Without validation nobody computes a loss with them before the checkpoint is written.
    words = ["+callbacks.ruin._target_=slow_parts.RuinLastStep", "+callbacks.ruin.epoch=2"]
    quick = ("data.validation=0", "trainer.max_epochs=2", "tracking=none")
    assert train(*STEEP, *words, *own_code, *quick) == 4
    assert capsys.readouterr().err == (
        "error: a weight is no number after epoch 2: training diverged; try a smaller "
        "optimizer.lr, or trainer.gradient_clip_val=1.0\n"
    )
    run = only_run(own_folder)
    assert ending(run) == ("FAILED", "diverged")
    assert weights_are_finite(run / "checkpoints" / "last.ckpt")
    assert checkpoint_epoch(run) == 1


def test_a_feature_that_is_no_number_is_refused_with_its_place_before_anything_is_made(
    train: Train, own_folder: Path, own_code: tuple[str, ...], capsys: Capture
) -> None:
    source = "data._target_=slow_parts.IrisWithHole"
    assert train("model=mlp", "data=iris", source, *own_code, "tracking=none") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "17" in line
    assert not (own_folder / "runs").exists()
