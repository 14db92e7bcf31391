import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import pytest
from faults.processes import crowding
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from real_processes import stop_server, wait_for_health, youngest_child

from pipeline.errors import EnvironmentFaultError
from pipeline.tracking.client import Recorder
from pipeline.tracking.folders import read_state, unfinished
from pipeline.tracking.journal import Journal
from pipeline.tracking.sync import sync

Server = Callable[[int], subprocess.Popen[bytes]]
Begun = Callable[..., Journal]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and reads, but never answers."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for connection in taken:
        connection.close()


@pytest.fixture(autouse=True)
def _fail_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clients in this process, too, give up at once."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def only_run(uri: str) -> Run:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("pipeline")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1
    return runs[0]


def steps(uri: str, key: str) -> list[int]:
    points = MlflowClient(uri).get_metric_history(only_run(uri).info.run_id, key)
    return sorted(point.step for point in points)


def train(journal: Journal, epochs: range, *, pause: float = 0.02) -> None:
    for epoch in epochs:
        journal.epoch(epoch, {"train/loss": 1 / epoch, "val/f1": 1 - 1 / epoch})
        time.sleep(pause)


@pytest.mark.slow
def test_a_server_killed_in_mid_run_loses_nothing_and_gets_nothing_twice(
    server: Server, free_port: int, begun: Begun
) -> None:
    uri = f"http://127.0.0.1:{free_port}"
    process = server(free_port)
    journal = begun(uri)
    (journal.folder / "artifacts").mkdir()
    (journal.folder / "artifacts" / "config.yaml").write_text("seed: 0\n")
    with Recorder() as recorder:
        recorder.connect(uri, experiment="pipeline")
        run_id = recorder.open(journal.folder)
        train(journal, range(1, 101))
        stop_server(process)
        train(journal, range(101, 201))
        journal.end("FINISHED")
        started_at = time.monotonic()
        assert recorder.close(journal.folder) > 0
        assert time.monotonic() - started_at < 12 * crowding()
        assert recorder.problem is not None
        assert f"{uri} does not answer" in recorder.problem

    server(free_port)
    for _ in range(2):
        sync(unfinished(journal.folder.parent), uri)
    run = only_run(uri)
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    assert steps(uri, "train/loss") == list(range(1, 201))
    assert steps(uri, "val/f1") == list(range(1, 201))
    assert [file.path for file in MlflowClient(uri).list_artifacts(run_id)] == ["config.yaml"]
    assert unfinished(journal.folder.parent) == []


@pytest.mark.slow
def test_an_outage_that_passes_is_caught_up_before_the_end(
    server: Server, free_port: int, begun: Begun
) -> None:
    uri = f"http://127.0.0.1:{free_port}"
    process = server(free_port)
    journal = begun(uri)
    with Recorder() as recorder:
        recorder.connect(uri, experiment="pipeline")
        recorder.open(journal.folder)
        train(journal, range(1, 51))
        stop_server(process)
        train(journal, range(51, 101), pause=0.05)
        server(free_port)
        journal.end("FINISHED")
        assert recorder.close(journal.folder) == 0
    assert steps(uri, "train/loss") == list(range(1, 101))


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up_within_ten_seconds(
    silent_port: int, begun: Begun
) -> None:
    uri = f"http://127.0.0.1:{silent_port}"
    journal = begun(uri)
    with Recorder() as recorder:
        recorder.mend(journal.folder)  # which waits for its imports
        started_at = time.monotonic()
        with pytest.raises(EnvironmentFaultError, match=r"does not answer \(no answer in time\)"):
            recorder.connect(uri, experiment="pipeline")
        assert time.monotonic() - started_at < 10 * crowding()
        recorder.connect(uri, experiment="pipeline", required=False)
        assert recorder.open(journal.folder) == ""
        train(journal, range(1, 11))
        journal.end("FINISHED")
        started_at = time.monotonic()
        assert recorder.close(journal.folder) == 22
        assert time.monotonic() - started_at < 15 * crowding()


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


@pytest.mark.slow
def test_a_disk_full_for_the_database_keeps_it_whole_and_the_values_in_the_journal(
    tmp_path: Path, database: str, begun: Begun
) -> None:
    """A limit of the size of files stands in for a full disk."""
    path = Path(database.removeprefix("sqlite:///"))
    with Recorder() as recorder:
        recorder.connect(database, experiment="pipeline")
        journal = begun(database)
        recorder.open(journal.folder)
        room = path.stat().st_size + 4096
        resource.prlimit(youngest_child(), resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        for epoch in range(1, 400):
            journal.epoch(epoch, {f"metric/{number}": 0.5 for number in range(20)})
        journal.end("FINISHED")
        started_at = time.monotonic()
        assert recorder.close(journal.folder) > 0
        assert time.monotonic() - started_at < 20 * crowding()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert [result.unsent for result in sync([journal.folder], database)] == [0]
    assert steps(database, "metric/19") == list(range(1, 400))
