"""What Slurm and torchrun say in the environment is a rank, or nothing, or one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fixture_types import Made, Patch
from helpers.run_files import epochs, final_values, only_run
from helpers.server_processes import ROOT

WORDS = ("model=mlp", "data=iris", "trainer.max_epochs=2", "tracking=none", "verbose=0")
JOB = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}


def untimed_values(run: Path) -> dict[str, float]:
    return {key: value for key, value in final_values(run).items() if not key.startswith("time/")}


def test_single_device_run_ignores_cluster_environment(made: Made, monkeypatch: Patch) -> None:
    """A batch job and an interactive shell of a cluster give the same values."""
    alone = untimed_values(made(*WORDS))
    for number, variables in enumerate(
        (
            {**JOB, "SLURM_JOB_NAME": "x"},
            {**JOB, "SLURM_JOB_NAME": "bash", "SLURM_STEP_NUM_TASKS": "1"},
            {"SLURM_JOB_NAME": "interactive", "SLURM_NTASKS": "2"},
            {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "nowhere.invalid"},
            TORCHRUN,
        )
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            assert untimed_values(made(*WORDS, f"output={number}")) == alone, variables


def start_training(*words: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.train", *WORDS, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_callback_values_are_kept_despite_inherited_rank() -> None:
    rates = "+callbacks.rates._target_=pytorch_lightning.callbacks.LearningRateMonitor"
    assert start_training(rates, RANK="1", LOCAL_RANK="1").wait(300) == 0
    logged = {key for values in epochs(only_run(Path("runs"))).values() for key in values}
    assert "lr-Adam" in logged


@pytest.mark.slow
def test_two_tasks_of_srun_train_one_network() -> None:
    """The job says --ntasks=2 alone."""
    job = {**JOB, "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_NAME": "run", "SLURM_NODEID": "0"}
    job |= {"SLURM_JOB_ID": str(10_000 + os.getpid() % 10_000), "SLURM_NODELIST": "localhost"}
    job |= {"GLOO_SOCKET_IFNAME": "lo"}
    words = ("trainer=ddp", "trainer.accelerator=cpu")
    tasks = [
        start_training(*words, **{**job, "SLURM_PROCID": number, "SLURM_LOCALID": number})
        for number in ("0", "1")
    ]
    errors = [task.communicate(timeout=300)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], errors
    assert sorted(epochs(only_run(Path("runs")))) == [1, 2]
