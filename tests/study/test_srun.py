"""Drivers of one study that srun starts side by side, as a batch file of docs/how-to/cluster.md."""

from pathlib import Path

import pytest
from faults.conftest import beside
from faults.processes import start_command
from faults.study_records import Records
from faults.sweeps import BASE

from pipeline.runs import main as runs


def task(number: int) -> dict[str, str]:
    """What Slurm tells a process of a step of two on one machine."""
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "study",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "localhost",
    }


@pytest.mark.slow
def test_tasks_that_srun_starts_share_one_study_and_train_each_trial_by_themselves(
    own_folder: Path, tmp_path: Path
) -> None:
    words = beside(BASE, ["sweep.n_trials=5"])
    drivers = [
        start_command(
            words,
            folder=own_folder,
            streams=tmp_path / f"task{number}",
            environment=task(number),
            command="sweep",
        )
        for number in range(2)
    ]
    try:
        assert [driver.end() for driver in drivers] == [0, 0], [driver.err for driver in drivers]
    finally:
        for driver in drivers:
            driver.finish()
    Records().require_whole(5)
    assert runs(["action=check", "study=study"]) == 0
