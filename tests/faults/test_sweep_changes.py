"""Faults F27 and F43: a study that is gone on with as another one, or on other data."""

import re
from pathlib import Path

import pytest
from helpers.fixture_types import Capture

from faults.conftest import StartSweep, SweepHere
from faults.study_records import Records
from faults.sweeps import behaving, problems

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]


def test_changed_study_is_refused_unless_allowed(sweep_here: SweepHere, capsys: Capture) -> None:
    """The messages name each difference."""

    def refused(*words: str) -> list[str]:
        assert sweep_here("sweep.n_trials=2", *words) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines == [line for line in lines if line.startswith("error: ")]
        return lines

    records = Records()
    assert sweep_here("sweep.n_trials=1", "optimizer.lr=tag(log, interval(1e-3, 1e-1))") == 0
    before = records.trials(), records.runs()
    wider = "optimizer.lr=tag(log, interval(1e-4, 1e-1))"
    capsys.readouterr()
    space, run = refused(wider, "trainer.max_epochs=3")
    assert (
        "optimizer.lr was tag(log, interval(0.001, 0.1)) and is tag(log, interval(0.0001" in space
    )
    assert "trainer.max_epochs" in run
    assert all("sweep.allow_change=true" in line for line in (space, run))
    (line,) = refused("optimizer.lr=choice(0.01,0.02)")
    assert "optimizer.lr" in line
    assert "sweep.name=" in line
    assert "allow_change" not in line
    assert (records.trials(), records.runs()) == before
    assert sweep_here("sweep.n_trials=2", wider, "sweep.allow_change=true") == 0
    records.require_whole(2)
    (line,) = refused("optimizer.lr=tag(log, interval(1e-3, 1e-1))")  # the change is stored
    assert "was tag(log, interval(0.0001, 0.1)) and is tag(log, interval(0.001, 0.1)) now" in line


def write_rows(path: Path, *, sign: int) -> None:
    """Write a table of two classes, which `sign` exchanges."""
    rows = [f"{x / 10},{'yes' if sign * x > 0 else 'no'}" for x in range(-40, 41)]
    path.write_text("\n".join(["x,y", *rows]) + "\n", encoding="utf-8")


def test_changed_data_are_refused_with_both_hashes(
    sweep: StartSweep, sweep_here: SweepHere, capsys: Capture
) -> None:
    records, table = Records(), Path("rows.csv")
    words = ("data=table", "data.path=rows.csv", "data.target=y", "sweep.n_trials=4")
    write_rows(table, sign=1)
    running = sweep(*words, *behaving("wait"))
    running.await_waiting()
    write_rows(table, sign=-1)
    running.go_on()
    assert running.end() == 2
    (line,) = running.err.splitlines()
    assert line.startswith("error: data.path=rows.csv: the data had the hash")
    assert "sweep.allow_change=true" in line
    assert len(set(re.findall(r"\b[0-9a-f]{12}\b", line))) == 2
    before = records.trials(), records.runs()
    assert sum(trial.state == "COMPLETE" for trial in before[0]) == 1
    assert sweep_here(*words, *behaving("wait")) == 2
    assert problems(capsys.readouterr().err) == problems(running.err)
    assert (records.trials(), records.runs()) == before
    write_rows(table, sign=1)
    assert sweep_here(*words, *behaving("wait")) == 0
    records.require_whole(4)
