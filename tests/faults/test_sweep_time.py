"""Limits on the time of a study and of a trial."""

import pytest

from faults.conftest import StartSweep
from faults.processes import crowding
from faults.study_records import Records
from faults.sweeps import behaving, grid


@pytest.mark.slow
def test_no_trial_starts_after_the_time_of_the_study(sweep: StartSweep, database: str) -> None:
    seconds = round(3 * crowding())  # on a busy machine workers take longer to be ready
    running = sweep("sweep.n_trials=1000", f"sweep.timeout={seconds}", *behaving(delay=0.1))
    assert running.end() == 0, running.err
    records = Records()
    assert 1 <= len(records.ends()) < 1000
    assert "the winner, tested once" in running.out
    records.require_whole(len(records.ends()))


@pytest.mark.slow
def test_a_trial_that_takes_too_long_counts_as_failed_even_if_it_minds_no_signal(
    sweep: StartSweep, database: str
) -> None:
    ways = behaving("wait", "deaf", rates=(0.02, 0.03))
    limit = f"sweep.trial_timeout={round(4 * crowding())}"
    running = sweep(*grid(0.01, 0.02, 0.03, 0.04), limit, *ways)
    assert running.end() == 0, running.err
    assert running.err == ""
    records = Records()
    complete, too_slow = ("COMPLETE", None), ("FAIL", "error")
    assert records.ends() == [complete, too_slow, too_slow, complete]
    for trial in records.trials()[1:3]:
        message = trial.attributes["attributes"]["message"]
        assert message == f"took longer than {limit}"
    records.require_whole(4)
