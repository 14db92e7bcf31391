"""Faults F16, F18 and F19: databases and servers that are gone, in mid-sweep and at the start."""

import shlex
from pathlib import Path

import pytest

from faults.conftest import StartSweep
from faults.processes import wait_until
from faults.stores import TrackingServer
from faults.study_records import Records
from faults.sweeps import BASE, behaving, grid, problems
from pipeline.runs import main as runs
from pipeline.sweep import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]

WAITS = (*grid(0.01, 0.02, 0.03), *behaving("wait", rates=[0.02]))


# `tests/study/test_storage.py` spoils such a file in other ways.
def test_a_study_whose_database_goes_in_mid_sweep_ends_and_begins_no_other(
    sweep: StartSweep,
) -> None:
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
def test_a_store_that_can_not_be_used_is_named_at_the_start_before_anything_is_created(
    store: str, code: int, line: str, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_folder / "notes.db").write_text("these are my notes\n" * 1000, encoding="utf-8")
    assert main([*BASE, "sweep.n_trials=1", store]) == code
    assert capsys.readouterr().err == f"error: {line.format(own_folder)}\n"
    assert not (own_folder / "runs").exists()
    assert not (own_folder / "optuna.db").exists()
    assert Records().runs() == []


def test_a_server_that_dies_in_mid_sweep_is_sent_everything_once_when_it_is_back(
    sweep: StartSweep, server: TrackingServer
) -> None:
    server.start()
    records = Records(mlflow=server.folder / "mlflow.db")
    running = sweep(*WAITS, f"tracking.uri={server.uri}")
    running.await_waiting()
    wait_until(lambda: 1 in records.children(), what="the run of the trial that waits")
    server.kill()
    running.go_on()
    assert running.end() == 0, running.err
    (warning,) = running.err.splitlines()
    assert warning.startswith(f"warning: the tracking server {server.uri} does not answer")
    assert "test results of the best trial" in running.out
    assert records.counted() == 3
    server.start()
    command = shlex.split(warning.partition("send them with: ")[2])
    assert command[:2] == ["pipeline", "runs"]
    assert runs(command[2:]) == 0
    records.require_whole(3)
    assert records.parent().end == ("FINISHED", None)


def test_a_study_goes_on_without_a_server_that_is_not_required_and_says_how_to_send_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = "http://127.0.0.1:9"
    words = ("sweep.n_trials=2", f"tracking.uri={uri}", "tracking.required=false")
    assert main([*BASE, *words]) == 0
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"warning: the tracking server {uri} does not answer")
    assert f"send them with: pipeline runs action=sync output=runs tracking.uri={uri}" in last
    assert len(list(Path("runs/study/trials").iterdir())) == 2  # also the one that is not the best
