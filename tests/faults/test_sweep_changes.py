"""Faults F27 and F43: a study that is gone on with as another one, or on other data."""

import re
from pathlib import Path

import pytest

from faults.conftest import StartSweep
from faults.study_records import Records
from faults.sweeps import Sweeping, behaving

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]


def refused(running: Sweeping) -> list[str]:
    """Return the lines of a sweep that was refused."""
    assert running.end() == 2, running.err
    assert running.problems == running.err.splitlines()
    return [line.removeprefix("error: ") for line in running.problems]


def test_another_space_or_run_is_refused_with_what_differs_unless_it_is_allowed(
    sweep: StartSweep,
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


def write_rows(path: Path, *, sign: int) -> None:
    """Write a table of two classes, which `sign` exchanges."""
    rows = [f"{x / 10},{'yes' if sign * x > 0 else 'no'}" for x in range(-40, 41)]
    path.write_text("\n".join(["x,y", *rows]) + "\n", encoding="utf-8")


def test_data_that_change_under_a_worker_or_between_commands_are_refused_with_both_hashes(
    sweep: StartSweep,
) -> None:
    records, table = Records(), Path("rows.csv")
    words = ("data=table", "data.path=rows.csv", "data.target=y")
    write_rows(table, sign=1)
    running = sweep(*words, "sweep.n_trials=4", *behaving("wait"))
    running.await_waiting()
    write_rows(table, sign=-1)
    running.go_on()
    lines = refused(running)
    assert len(lines) == 1
    assert "data.path=rows.csv: the data had the hash" in lines[0]
    assert "sweep.allow_change=true" in lines[0]
    assert len(set(re.findall(r"\b[0-9a-f]{12}\b", lines[0]))) == 2
    before = records.trials(), records.runs()
    assert sum(trial.state == "COMPLETE" for trial in before[0]) == 1
    assert refused(sweep(*words, "sweep.n_trials=4", *behaving("wait"))) == lines
    assert (records.trials(), records.runs()) == before
    write_rows(table, sign=1)
    whole = sweep(*words, "sweep.n_trials=4", *behaving("wait"))
    assert whole.end() == 0, whole.err
    records.require_whole(4)
