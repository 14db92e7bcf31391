"""Faults F16, F18 and F19: databases and servers that are gone, in mid-sweep and at the start."""

import shlex
from pathlib import Path

import pytest
from helpers.fixture_types import Capture

from faults.conftest import StartSweep
from faults.processes import wait_until
from faults.stores import FINISHED, TrackingServer
from faults.study_records import Records
from faults.sweeps import BASE, behaving, grid, problems
from pipeline.runs import main as runs
from pipeline.sweep import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]

WAITS = (*grid(0.01, 0.02, 0.03), *behaving("wait", rates=[0.02]))


# `tests/study/test_storage.py` spoils such a file in other ways.
def test_removed_study_database_ends_the_sweep(sweep: StartSweep) -> None:
    """No new one is created."""
    studies = Path.cwd() / "studies" / "optuna.db"
    studies.parent.mkdir()
    running = sweep(*WAITS, f"sweep.storage=sqlite:///{studies}")
    running.await_waiting()
    for path in studies.parent.iterdir():
        path.unlink()
    running.go_on()
    assert running.end() == 3
    (problem,) = problems(running.err)
    assert f"'{studies}' was removed during the study" in problem
    assert not studies.exists()
    assert "RUNNING" not in {run.status for run in Records().runs()}


@pytest.mark.parametrize(
    ("store", "code", "line"),
    [
        (
            "sweep.storage=sqlite:///notes.db",
            2,
            "the study database '{}/notes.db' is not a database; choose another file with "
            "sweep.storage=sqlite:///FILE",
        ),
        (
            "tracking.uri=http://127.0.0.1:9",
            3,
            "the tracking server http://127.0.0.1:9 does not answer (connection refused); start "
            "it, or record here with tracking=local",
        ),
    ],
)
def test_unusable_store_is_reported_at_start(
    store: str, code: int, line: str, own_folder: Path, capsys: Capture
) -> None:
    """Nothing is created."""
    (own_folder / "notes.db").write_text("these are my notes\n" * 1000, encoding="utf-8")
    assert main([*BASE, "sweep.n_trials=1", store]) == code
    assert capsys.readouterr().err == f"error: {line.format(own_folder)}\n"
    assert not (own_folder / "runs").exists()
    assert not (own_folder / "optuna.db").exists()
    assert Records().runs() == []


def test_restarted_server_receives_every_trial_once(
    sweep: StartSweep, server: TrackingServer
) -> None:
    server.start()
    records = Records(mlflow=server.folder / "mlflow.db")
    running = sweep(*WAITS, f"tracking.uri={server.uri}")
    running.await_waiting()
    wait_until(lambda: 1 in records.children(), what="the run of the trial that waits")
    server.kill()
    running.go_on()
    running.require_success()
    (warning,) = running.err.splitlines()
    assert warning.startswith(f"warning: the tracking server {server.uri} does not answer")
    assert "test results of the best trial" in running.out
    assert records.counted() == 3
    server.start()
    command = shlex.split(warning.partition("send them with: ")[2])
    assert command[:2] == ["pipeline", "runs"]
    assert runs(command[2:]) == 0
    records.require_whole(3)
    assert records.parent().end == FINISHED


def test_study_continues_without_optional_server(capsys: Capture) -> None:
    """It says how to send its records later."""
    uri = "http://127.0.0.1:9"
    words = ("sweep.n_trials=2", f"tracking.uri={uri}", "tracking.required=false")
    assert main([*BASE, *words]) == 0
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"warning: the tracking server {uri} does not answer")
    assert f"send them with: pipeline runs action=sync output=runs tracking.uri={uri}" in last
    assert len(list(Path("runs/study/trials").iterdir())) == 2  # also the one that is not the best
