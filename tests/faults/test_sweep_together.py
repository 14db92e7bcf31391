"""Fault F13: drivers of one study that start at the same moment, also by srun."""

import pytest

from faults.conftest import StartSweep
from faults.stores import FINISHED
from faults.study_records import Records
from faults.sweeps import behaving, require_whole

pytestmark = pytest.mark.slow


def task(number: int) -> dict[str, str]:
    """What Slurm tells a process of a step of two on one machine (docs/how-to/cluster.md)."""
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


def test_concurrent_sweeps_share_one_total(sweep: StartSweep) -> None:
    """They start in an empty folder."""
    words = ("sweep.n_trials=6", *behaving(delay=0.3))
    together = [sweep(*words), *(sweep(*words, **task(number)) for number in range(2))]
    assert [driver.end() for driver in together] == [0, 0, 0], [driver.err for driver in together]
    assert [driver.err for driver in together] == ["", "", ""]
    records = Records()
    require_whole(records, 6)
    assert records.parent().end == FINISHED
    assert len(records.ends()) == 6
    assert "test results of the best trial" in "".join(driver.out for driver in together)
