"""Fault F28: a loss or a weight that becomes NaN or infinite."""

from pathlib import Path

import pytest
from helpers.fixture_types import Capture, Train
from helpers.run_files import checkpoint, only_run

from faults.conftest import Words
from faults.processes import checkpoint_epoch, ending, recorded_epochs
from faults.refusals import refusal
from faults.stores import outcome
from pipeline.train import main

STEEP = ("model=mlp", "data=diabetes", "optimizer=sgd", "scheduler=none", "verbose=0")
UNCLIPPED = "trainer.gradient_clip_val=null"
OWN = "callbacks.own._target_=slow_parts."
DIVERGED: dict[str, tuple[tuple[str, ...], str, list[int]]] = {
    "by a huge learning rate": (
        (UNCLIPPED, "optimizer.lr=1e6", "tracking=local"),
        "in epoch 1: training diverged; try a smaller optimizer.lr",
        [],
    ),
    "later": (
        (UNCLIPPED, "optimizer.lr=0.001", f"+{OWN}SteepFrom", "+callbacks.own.epoch=3"),
        "in epoch 3: training diverged; try a smaller optimizer.lr",
        [1, 2],
    ),
    # Without validation nobody computes a loss with them before the checkpoint is written.
    "by the last step of an epoch": (
        (f"+{OWN}RuinLastStep", "+callbacks.own.epoch=2", "data.validation=0"),
        "error: a weight is NaN or infinite after epoch 2: training diverged; try a smaller "
        "optimizer.lr, or trainer.gradient_clip_val=1.0",
        [1],
    ),
}
"""Words, what is said, and the epochs of which the weights may be kept."""


@pytest.mark.parametrize("case", DIVERGED)
def test_diverged_run_keeps_its_last_finite_weights(
    train: Train, database: str, own_code: Words, capsys: Capture, case: str
) -> None:
    words, says, finite = DIVERGED[case]
    tracking = () if "tracking=local" in words else ("tracking=none",)
    assert train(*STEEP, *tracking, *own_code, *words) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line
    run = only_run(Path("runs"))
    assert ending(run) == ("FAILED", "diverged")
    if not tracking:
        assert outcome(database) == ("FAILED", "diverged")
    files = sorted(file.stem for file in (run / "checkpoints").iterdir())
    assert files == {0: [], 1: ["last"], 2: ["best", "last"]}[len(finite)]
    for name in files:
        content = checkpoint(run, name)
        assert content["pipeline"]["epoch"] in finite
        assert all(bool(tensor.isfinite().all()) for tensor in content["state_dict"].values())
    if case == "later":
        assert recorded_epochs(run) == finite
        assert checkpoint_epoch(run) == finite[-1]


def test_non_finite_feature_is_refused_at_start(own_code: Words, capsys: Capture) -> None:
    """The message names its row."""
    source = "data._target_=slow_parts.IrisWithHole"
    words = ("model=mlp", "data=iris", source, *own_code, "tracking=none")
    assert "17" in refusal(capsys, main, *words)
