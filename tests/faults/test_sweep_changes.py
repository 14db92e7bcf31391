"""Fault F27: a study that is gone on with as another one."""

import pytest

from faults.conftest import StartSweep
from faults.study_records import Records
from faults.sweeps import Sweeping


def refused(running: Sweeping) -> list[str]:
    """Return the lines of a sweep that was refused."""
    assert running.end() == 2, running.err
    assert running.problems == running.err.splitlines()
    return [line.removeprefix("error: ") for line in running.problems]


@pytest.mark.slow
def test_another_space_or_run_is_refused_with_what_differs_unless_it_is_allowed(
    sweep: StartSweep, database: str
) -> None:
    records = Records()
    first = sweep("sweep.n_trials=1", "optimizer.lr=tag(log, interval(1e-3, 1e-1))")
    assert first.end() == 0, first.err
    before = records.trials(), records.runs()
    more = "sweep.n_trials=2"
    wider = "optimizer.lr=tag(log, interval(1e-4, 1e-1))"
    lines = refused(sweep(more, wider, "trainer.max_epochs=3"))
    assert len(lines) == 2
    (space,) = (line for line in lines if "optimizer.lr" in line)
    assert "0.001" in space
    assert "0.0001" in space
    assert sum("trainer.max_epochs" in line for line in lines) == 1
    assert all("sweep.allow_change=true" in line for line in lines)
    (line,) = refused(sweep(more, "optimizer.lr=choice(0.01,0.02)"))
    assert "optimizer.lr" in line
    assert "sweep.name=" in line
    assert "allow_change" not in line
    assert (records.trials(), records.runs()) == before
    allowed = sweep(more, wider, "sweep.allow_change=true")
    assert allowed.end() == 0, allowed.err
    records.require_whole(2)
