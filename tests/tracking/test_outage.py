import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest
from faults.processes import crowding
from faults.stores import TrackingServer, only_run, recorded_steps
from mlflow.tracking import MlflowClient
from real_processes import wait_for_health

from pipeline.errors import EnvironmentFaultError
from pipeline.tracking.client import Recorder
from pipeline.tracking.folders import read_state, unfinished
from pipeline.tracking.journal import Journal
from pipeline.tracking.sync import sync

Begun = Callable[..., Journal]


@pytest.fixture(autouse=True)
def _fail_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clients in this process, too, give up at once."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def train(journal: Journal, epochs: range, *, pause: float = 0.02) -> None:
    for epoch in epochs:
        journal.epoch(epoch, {"train/loss": 1 / epoch, "val/f1": 1 - 1 / epoch})
        time.sleep(pause)


@pytest.mark.slow
def test_a_server_killed_in_mid_run_loses_nothing_and_gets_nothing_twice(
    server: TrackingServer, begun: Begun
) -> None:
    uri = server.uri
    server.start()
    journal = begun(uri)
    (journal.folder / "artifacts").mkdir()
    (journal.folder / "artifacts" / "config.yaml").write_text("seed: 0\n")
    with Recorder() as recorder:
        recorder.connect(uri, experiment="pipeline")
        run_id = recorder.open(journal.folder)
        train(journal, range(1, 101))
        server.kill()
        train(journal, range(101, 201))
        journal.end("FINISHED")
        started_at = time.monotonic()
        assert recorder.close(journal.folder) > 0
        assert time.monotonic() - started_at < 12 * crowding()
        assert recorder.problem is not None
        assert f"{uri} does not answer" in recorder.problem

    server.start()
    for _ in range(2):
        sync(unfinished(journal.folder.parent), uri)
    run = only_run(uri)
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    assert sorted(recorded_steps(uri, "train/loss")) == list(range(1, 201))
    assert sorted(recorded_steps(uri, "val/f1")) == list(range(1, 201))
    assert [file.path for file in MlflowClient(uri).list_artifacts(run_id)] == ["config.yaml"]
    assert unfinished(journal.folder.parent) == []


@pytest.mark.slow
def test_an_outage_that_passes_is_caught_up_before_the_end(
    server: TrackingServer, begun: Begun
) -> None:
    uri = server.uri
    server.start()
    journal = begun(uri)
    with Recorder() as recorder:
        recorder.connect(uri, experiment="pipeline")
        recorder.open(journal.folder)
        train(journal, range(1, 51))
        server.kill()
        train(journal, range(51, 101), pause=0.05)
        server.start()
        journal.end("FINISHED")
        assert recorder.close(journal.folder) == 0
    assert sorted(recorded_steps(uri, "train/loss")) == list(range(1, 101))


@pytest.mark.slow
def test_a_server_that_is_no_mlflow_is_told_apart_from_one(tmp_path: Path, free_port: int) -> None:
    command = ["python3", "-m", "http.server", str(free_port), "--bind", "127.0.0.1"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as other:
        try:
            deadline = time.monotonic() + 20 * crowding()
            while time.monotonic() < deadline:
                try:
                    socket.create_connection(("127.0.0.1", free_port)).close()
                    break
                except OSError:
                    time.sleep(0.1)
            with (
                Recorder() as recorder,
                pytest.raises(EnvironmentFaultError, match=r"the tracking server http"),
            ):
                recorder.connect(f"http://127.0.0.1:{free_port}", experiment="pipeline")
        finally:
            other.kill()


@pytest.mark.slow
def test_the_server_of_the_same_folder_shows_the_artifacts_of_a_local_run(
    tmp_path: Path, database: str, begun: Begun, free_port: int
) -> None:
    journal = begun(database)
    (journal.folder / "artifacts").mkdir()
    (journal.folder / "artifacts" / "a.txt").write_text("what it holds")
    with Recorder() as recorder:
        recorder.connect(database, experiment="pipeline")
        recorder.open(journal.folder)
        journal.end("FINISHED")
        recorder.close(journal.folder)
    command = ["-m", "mlflow", "ui", "--port", str(free_port), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for_health(free_port)
        run_id = read_state(journal.folder).run_id
        where = f"http://127.0.0.1:{free_port}/get-artifact?path=a.txt&run_uuid={run_id}"
        with urlopen(where, timeout=30) as answer:
            assert answer.read() == b"what it holds"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
