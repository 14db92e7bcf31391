"""Limits on the time of a study and of a trial."""

import pytest

from faults.conftest import StartSweep
from faults.sweeps import Records, behaving, grid


@pytest.mark.slow
def test_no_trial_starts_after_the_time_of_the_study(sweep: StartSweep, database: str) -> None:
    running = sweep("sweep.n_trials=1000", "sweep.timeout=3", *behaving(delay=0.1))
    assert running.end() == 0, running.err
    records = Records()
    assert 1 <= len(records.ends()) < 1000
    assert "the winner, tested once" in running.out
    records.require_whole(len(records.ends()))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["wait", "deaf"])
def test_a_trial_that_takes_too_long_counts_as_failed(
    sweep: StartSweep, database: str, how: str
) -> None:
    ways = behaving(how, "error", rates=(0.02, 0.03))
    running = sweep(*grid(0.01, 0.02, 0.03), "sweep.trial_timeout=4", *ways)
    assert running.end() == 0, running.err
    records = Records()
    assert records.ends() == [("COMPLETE", None), ("FAIL", "error"), ("FAIL", "error")]
    assert records.trials()[1].attributes["attributes"]["message"] == (
        "took longer than sweep.trial_timeout=4"
    )
    records.require_whole(3)
