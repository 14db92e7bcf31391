"""What Slurm and torchrun say in the environment is a rank, or nothing, or one line."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from real_processes import ROOT
from records import epochs, final_values, only_run

Train = Callable[..., int]
WORDS = ("model=mlp", "data=iris", "trainer.max_epochs=2", "tracking=none", "verbose=0")
JOB = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STEP = {**JOB, "SLURM_STEP_NUM_TASKS": "2"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}


def learned(output: str) -> dict[str, float]:
    values = final_values(only_run(Path(output)))
    return {key: value for key, value in values.items() if not key.startswith("time/")}


@pytest.mark.parametrize(
    "variables",
    [
        {**JOB, "SLURM_JOB_NAME": "x"},
        {**JOB, "SLURM_JOB_NAME": "x", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2"},
        {**JOB, "SLURM_JOB_NAME": "bash", "SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_JOB_NAME": "interactive", "SLURM_NTASKS": "2"},
        {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
        {"MASTER_ADDR": "nowhere.invalid", "WORLD_SIZE": "2"},
        {**TORCHRUN, "WORLD_SIZE": "1"},
    ],
    ids=" ".join,
)
def test_a_run_on_one_device_is_the_same_in_a_batch_job_and_in_a_shell_of_a_cluster(
    train: Train, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    assert train(*WORDS, "output=plain") == 0
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert train(*WORDS, "output=on_cluster") == 0
    assert learned("on_cluster") == learned("plain")


@pytest.mark.slow
def test_what_a_callback_logs_is_kept_where_the_environment_names_another_rank(
    own_folder: Path,
) -> None:
    rates = "+callbacks.rates._target_=pytorch_lightning.callbacks.LearningRateMonitor"
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline.train", *WORDS, rates],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RANK": "1", "LOCAL_RANK": "1"},
        check=False,
    )
    assert ended.returncode == 0
    logged = {key for values in epochs(only_run(own_folder / "runs")).values() for key in values}
    assert "lr-Adam" in logged


def run_of_two(folder: Path, number: int) -> subprocess.Popen[str]:
    """Start one of two tasks as srun does where the job says --ntasks=2 alone."""
    words = ("trainer=ddp", "trainer.accelerator=cpu", *WORDS)
    job = {"SLURM_JOB_ID": str(10_000 + os.getpid() % 10_000), "SLURM_JOB_NAME": "run"}
    rank = {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number), "SLURM_NODEID": "0"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.train", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", **STEP}
        | {**job, **rank, "SLURM_NODELIST": "localhost"},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_tasks_of_srun_train_one_network(own_folder: Path) -> None:
    tasks = [run_of_two(own_folder, number) for number in range(2)]
    said = [task.communicate(timeout=300)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert sorted(epochs(only_run(own_folder / "runs"))) == [1, 2]
