"""Faults F15, F18 to F21 and F35: a store that is down, silent or locked; a clock."""

import re
import shlex
import shutil
import socket
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from helpers.fixture_types import Capture, Patch, Train
from helpers.run_files import events, final_values
from mlflow.tracking import MlflowClient

from faults.conftest import Start, Words
from faults.processes import crowding, ending, recorded_epochs, wait_until
from faults.stores import FINISHED, TrackingServer, free_port, only_run, outcome, recorded_steps
from faults.study_records import RUNNING
from pipeline.runs import main as runs

SHORT = ("model=mlp", "data=iris", "trainer.max_epochs=3")
PAUSED = ("+callbacks.pause._target_=slow_parts.Pause", "+callbacks.pause.hook=on_train_end")


@pytest.mark.parametrize("traceback", ["false", "true"])
def test_unreachable_server_is_named_without_its_password(
    train: Train,
    monkeypatch: Patch,
    capsys: Capture,
    traceback: str,
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:canary@127.0.0.1:{port}")
    began_at, seconds = time.monotonic(), 10 * crowding()
    assert train(*SHORT, f"traceback={traceback}", "verbose=0") == 3
    assert time.monotonic() - began_at < seconds
    printed = capsys.readouterr().err
    line = (
        f"error: the tracking server http://me:***@127.0.0.1:{port} does not answer (connection "
        "refused); start it, or record here with tracking=local and without MLFLOW_TRACKING_URI\n"
    )
    assert printed == line if traceback == "false" else line in printed
    assert "canary" not in printed
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.slow
def test_run_without_optional_server_keeps_its_values(train: Train, capsys: Capture) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    assert train(*SHORT, f"tracking.uri={uri}", "tracking.required=false", "verbose=0") == 0
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"warning: the tracking server {uri} does not answer")
    assert first.endswith("; the values are kept in the run folder")
    (run,) = Path("runs").iterdir()
    assert f"values are kept in '{run}/journal.jsonl'; send them with: " in last
    assert recorded_epochs(run) == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["killed", "silenced"])
def test_restarted_server_receives_every_value_once(
    fork: Start, server: TrackingServer, own_code: Words, fault: str
) -> None:
    """It went away while the run trained."""
    server.start()
    training = fork(
        *SHORT, f"tracking.uri={server.uri}", "verbose=0", "callbacks=[]", *PAUSED, *own_code
    )
    training.await_file("paused")
    wait_until(lambda: recorded_steps(server.uri, "train/loss"), what="the first values")
    go_away, come_back = {
        "killed": (server.kill, server.start),
        "silenced": (server.silence, server.wake),
    }[fault]
    go_away()
    (training.folder / "go on").touch()
    went_on_at, seconds = time.monotonic(), 30 * crowding()
    training.require_success()
    assert time.monotonic() - went_on_at < seconds
    finished = training.run
    assert ending(finished) == FINISHED
    (line,) = training.err.splitlines()
    journal = finished.relative_to(training.folder) / "journal.jsonl"
    assert re.fullmatch(
        rf"warning: the tracking server {server.uri} does not answer \(.*\); .*; \d+ values are "
        f"kept in '{journal}'; send them with: pipeline runs action=sync output=runs "
        f"tracking.uri={server.uri}",
        line,
    ), line
    come_back()
    interrupted = only_run(server.uri).info.run_id
    assert outcome(server.uri) == RUNNING
    program, command, *words = shlex.split(line.partition("send them with: ")[2])
    assert (program, command) == ("pipeline", "runs")
    assert runs(words) == 0
    assert runs(["action=sync", f"tracking.uri={server.uri}"]) == 0
    run = only_run(server.uri)
    assert run.info.run_id == interrupted
    assert outcome(server.uri) == FINISHED
    for key in ("train/loss", "val/f1"):
        assert recorded_steps(server.uri, key) == [1, 2, 3]
    assert run.data.metrics["test/f1"] == pytest.approx(final_values(finished)["test/f1"])
    names = {item.path for item in MlflowClient(server.uri).list_artifacts(interrupted)}
    assert "test_predictions.csv" in names


@pytest.mark.slow
def test_silent_server_is_waited_for_only_briefly(fork: Start) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        training = fork(*SHORT, f"tracking.uri={uri}", "verbose=0")
        assert training.end() == 3
    expected = f"error: the tracking server {uri} does not answer (no answer in time)"
    assert training.err.startswith(expected)
    assert len(training.err.splitlines()) == 1
    assert not (training.folder / "runs").exists()


@pytest.mark.slow
def test_database_lock_is_waited_for_twenty_seconds(start: Start, database: str) -> None:
    """A longer lock is reported."""
    shutil.copy("mlflow.db", "other.db")
    with (
        closing(sqlite3.connect("mlflow.db", isolation_level=None)) as briefly,
        closing(sqlite3.connect("other.db", isolation_level=None)) as longer,
    ):
        for other in (briefly, longer):
            other.execute("BEGIN EXCLUSIVE")
        waiting = start(*SHORT)
        refused = start(*SHORT, "verbose=0", "output=never", "tracking.uri=sqlite:///other.db")
        threading.Event().wait(20)
        assert psutil.pid_exists(waiting.pid)
        briefly.execute("COMMIT")
        assert (waiting.end(), waiting.err) == (0, "")
        assert refused.end() == 3
    assert outcome(database) == FINISHED
    assert refused.err == (
        f"error: the tracking database '{refused.folder}/other.db' is locked by another program; "
        "stop it, then retry\n"
    )
    assert not (refused.folder / "never").exists()


@pytest.mark.slow
@pytest.mark.parametrize("hours", [-1, 1])
def test_clock_change_leaves_durations_correct(
    fork: Start, database: str, own_code: Words, hours: int
) -> None:
    words = ["+callbacks.clock._target_=slow_parts.ClockStep", f"+callbacks.clock.hours={hours}"]
    training = fork(*SHORT, *words, *own_code)
    training.require_success()
    run = only_run(database)
    assert outcome(database) == FINISHED
    assert 0 <= run.info.end_time - run.info.start_time < 600_000
    assert recorded_epochs(training.run) == [1, 2, 3]
    times = [event["time"] for event in events(training.run)]
    assert times == sorted(times)
    values = final_values(training.run)
    assert 0 < values["time/epoch"] < 60
    assert 0 < values["time/fit"] < 60
    assert re.search(r"^took    \d", training.out, re.MULTILINE)
