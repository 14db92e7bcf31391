"""Runs that can't do what they say are refused in one line, before anything is created."""

from pathlib import Path

import pytest
from helpers.fixture_types import Capture, Patch, Train

MLP, IRIS = "model=mlp tracking=none", "model=mlp data=iris tracking=none"
FIND = f"{IRIS} find_lr=true"
MINE = f"{IRIS} +callbacks.mine._target_=pytorch_lightning.callbacks."
TWO = f"{IRIS} trainer=ddp trainer.accelerator=cpu"
RULE = "metrics.threshold=best_f1 is for binary tasks, but this is a"
AFRESH = "find_lr=true trains from scratch and keeps no weights; remove register."
REFUSED = {
    # networks
    "model=cnn2d data=iris": "model=cnn2d reads images (channels, height, width), but the data are "
    "a table (features,) of shape (4,); models that read them: cnn1d, mlp",
    "model=lstm data=digits": "model=lstm reads a series (steps, features), but the data are "
    "images (channels, height, width) of shape (1, 8, 8); models that read them: cnn2d, mlp",
    "-m model=mlp,gru --cfg job": "--cfg and --info show one run",
    # limits of the Trainer, three batches of training rows
    f"{IRIS} trainer.limit_train_batches=0": "trainer.limit_train_batches=0 disables training",
    f"{IRIS} trainer.limit_train_batches=0.1": "trainer.limit_train_batches=0.1 of 3 batches is "
    "less than one; expected a share of at least 0.334, or a whole number of batches.",
    f"{IRIS} trainer.overfit_batches=0.1": "trainer.overfit_batches=0.1 of 3 batches is ",
    f"{IRIS} trainer.limit_val_batches=0.1": "trainer.limit_val_batches=0.1 of 1 batches is ",
    f"{IRIS} trainer.limit_test_batches=0.1": "trainer.limit_test_batches=0.1 of 2 batches is ",
    f"{IRIS} trainer.max_steps=0": "trainer.max_steps=0 disables training; ",
    f"{IRIS} trainer.max_time=00:00:00:00": "trainer.max_time=00:00:00:00 disables training; "
    "expected days:hours:minutes:seconds, or null.",
    f"{IRIS} trainer.val_check_interval=2": "trainer.val_check_interval=2 validates every 2 ",
    f"{IRIS} trainer.val_check_interval=9": "trainer.val_check_interval=9 validates every 9 ",
    f"{IRIS} trainer.check_val_every_n_epoch=null trainer.val_check_interval=4": "trainer."
    "val_check_interval=4 validates every 4 batches, not at the end of an epoch of "
    "3; expected a divisor of 3, or null.",
    # thresholds
    f"{IRIS} metrics.threshold=best_f1": f"{RULE} multiclass task; remove it",
    f"{MLP} data=diabetes metrics.threshold=best_f1": f"{RULE} regression task; remove it",
    f"{MLP} data=breast_cancer metrics.threshold=recall_at_0.9 data.validation=0": "metrics."
    "threshold=recall_at_0.9 is found on validation rows, but there are none; set "
    "data.validation=0.2, or a number such as metrics.threshold=0.5",
    # losses
    f"{IRIS} loss.class_weights=[1.0,2.0]": "loss.class_weights=[1.0, 2.0] has 2 weights for 3 "
    "classes; expected one each for setosa, versicolor, virginica.",
    f"{MLP} data=diabetes loss.class_weights=balanced": "loss.class_weights does not apply to "
    "regression; expected null.",
    f"{MLP} data=diabetes loss.label_smoothing=0.1": "loss.label_smoothing does not apply to "
    "regression; expected 0.0.",
    # callbacks
    f"{MINE}ModelCheckpoint": "callbacks.mine is a ModelCheckpoint, which is refused: a run always "
    "saves its weights; set keep=best|last instead.",
    f"{MINE}TQDMProgressBar": "callbacks.mine is a ProgressBar, which is refused: set "
    "verbose=0|1|2 instead.",
    f"{MINE}LearningRateFinder": "callbacks.mine is a LearningRateFinder, which is refused: it "
    "changes optimizer.lr from the config's value.",
    f"{MINE}BatchSizeFinder": "callbacks.mine is a BatchSizeFinder, which is refused: it changes "
    "data.batch_size from the config's value.",
    f"{MINE}StochasticWeightAveraging +callbacks.mine.swa_lrs=0.01": "callbacks.mine is a "
    "StochasticWeightAveraging, which is refused: it changes the weights after all checkpoints are "
    "written; use callbacks=ema instead.",
    # the learning-rate test
    "model=mlp data=iris find_lr=true register=shelf": AFRESH,
    f"{FIND} resume=auto": AFRESH.replace("register", "resume"),
    f"{FIND} trainer.devices=2": "find_lr=true runs on one device; remove trainer.devices and ",
    f"{FIND} trainer.fast_dev_run=true": "find_lr=true can't be combined with trainer.fast_dev",
    f"{FIND} lr_range.lowest=10": "lr_range.lowest=10 is not below lr_range.highest=10.0.",
    f"{FIND} lr_range.steps=19": "lr_range.steps=19 is not allowed; expected a whole number ≥ 20.",
    # several devices
    f"{TWO} trainer.num_nodes=2": "trainer.num_nodes=2 needs a process for each device on each ",
    f"{TWO} trainer.strategy=fsdp": "trainer.strategy=fsdp is not supported: ",
}


def refusal(run: Train, capsys: Capture, *words: str) -> str:
    """Return the only line of a refused command, which has created nothing."""
    assert run(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert list(Path.cwd().iterdir()) == []
    return line.removeprefix("error: ")


@pytest.mark.parametrize("words", REFUSED)
def test_impossible_run_is_refused_in_one_line(train: Train, capsys: Capture, words: str) -> None:
    assert refusal(train, capsys, *words.split()).startswith(REFUSED[words])


@pytest.mark.parametrize("words", ["optimizer.lr=choice(0.1,0.01)", "sweeps=preflight"])
def test_study_refuses_a_range_test(capsys: Capture, words: str) -> None:
    from pipeline.sweep import main

    line = refusal(lambda *arguments: main(arguments), capsys, *FIND.split(), words)
    assert line.startswith("find_lr=true is for a single run: use ")


TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"}
STEP = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
INCOMPLETE = (
    "the environment has an incomplete rank: {}; start the command with torchrun or srun, or unset "
)


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        (
            {**TORCHRUN, "RANK": "", "LOCAL_RANK": "0"},
            INCOMPLETE.format("RANK='', WORLD_SIZE='2', LOCAL_RANK='0'") + "TORCHELASTIC_RUN_ID",
        ),
        (
            {**TORCHRUN, "RANK": "2"},
            INCOMPLETE.format("RANK='2', WORLD_SIZE='2', LOCAL_RANK=''") + "TORCHELASTIC_RUN_ID",
        ),
        (
            {**STEP, "SLURM_STEP_NUM_TASKS": "two"},
            INCOMPLETE.format("SLURM_PROCID='0', SLURM_STEP_NUM_TASKS='two', SLURM_LOCALID='0'")
            + "SLURM_STEP_NUM_TASKS",
        ),
        (
            STEP,
            "2 processes were started together, but the config has 1 devices on 1 machines; "
            "expected trainer.devices × trainer.num_nodes = 2, with trainer=ddp; for a single "
            "process, unset SLURM_STEP_NUM_TASKS",
        ),
    ],
    ids=["empty", "missing", "no number", "others"],
)
def test_invalid_rank_environment_is_refused_at_start(
    train: Train, monkeypatch: Patch, capsys: Capture, variables: dict[str, str], problem: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert refusal(train, capsys, *IRIS.split()) == problem
