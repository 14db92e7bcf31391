import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread

import pytest
from faults.processes import crowding, wait_until
from faults.stores import only_run, outcome, recorded_steps
from helpers.fixture_types import Patch
from helpers.server_processes import run_script, youngest_child
from mlflow.tracking import MlflowClient

from pipeline.base.ends import End
from pipeline.base.errors import EnvironmentFaultError
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.fields import view_tag
from pipeline.tracking.folders import STATE, State, read_state, write_state
from pipeline.tracking.journal import Journal
from pipeline.tracking.replay import Replay
from pipeline.tracking.sync import sync
from pipeline.tracking.uri import sqlite_uri, where_to_look

Begun = Callable[..., Journal]

TRAINING = """
import sys
from pathlib import Path
from pipeline.base.ends import End
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.journal import Header, Journal

uri, folder = sys.argv[1], Path(sys.argv[2])
folder.mkdir(parents=True)
with RecorderClient() as recorder:
    recorder.connect(uri, experiment="pipeline")
    journal = Journal(folder)
    journal.begin(Header(name="lstm", experiment="pipeline", uri=uri))
    recorder.open(folder)
    journal.epoch(1, {"train/loss": 0.5})
    journal.end(End.COMPLETE)
    recorder.close(folder)
"""


def test_run_holds_params_tags_artifacts_and_metrics(
    recorder: RecorderClient, database: str, begun: Begun
) -> None:
    """The values of an epoch are shown soon after it."""
    journal = begun(database, params={"optimizer.lr": 0.001}, tags={"host": "here"})
    below = journal.folder / "artifacts" / "report"
    below.mkdir(parents=True)
    (below / "classes.csv").write_text("class,f1\n")
    (journal.folder / "artifacts" / "config.yaml").write_text("seed: 0\n")
    run_id = recorder.open(journal.folder)
    began_at, values = time.monotonic(), {"train/loss": 0.5}
    journal.epoch(1, values)
    wait_until(lambda: only_run(database).data.metrics == values, what="the values of an epoch")
    assert time.monotonic() - began_at < 10 * crowding()
    assert only_run(database).info.status == "RUNNING"
    journal.epoch(2, {"train/loss": 0.25})
    journal.tag("data.hash", "abc")
    journal.end(End.COMPLETE)
    assert recorder.close(journal.folder) == 0

    run = only_run(database)
    assert (run.info.run_id, run.info.run_name, run.info.status) == (run_id, "lstm", "FINISHED")
    assert run.data.params == {"optimizer.lr": "0.001"}
    assert (run.data.tags["host"], run.data.tags["data.hash"]) == ("here", "abc")
    assert "end_reason" not in run.data.tags
    client = MlflowClient(database)
    points = client.get_metric_history(run_id, "train/loss")
    assert [(point.step, point.value) for point in points] == [(1, 0.5), (2, 0.25)]
    assert {file.path for file in client.list_artifacts(run_id)} == {"config.yaml", "report"}
    inner = client.list_artifacts(run_id, "report")
    assert [file.path for file in inner] == ["report/classes.csv"]
    assert run.info.experiment_id != "0"


def test_run_has_dataset_and_single_values(
    recorder: RecorderClient, database: str, begun: Begun
) -> None:
    """Single values of a training are at step 0, those of a study at their own step."""
    params = {"data._target_": "pipeline.data.table.Table", "data.path": "in/churn.csv"}
    rows = {"train": 60, "validation": 20, "test": 20}
    for command, step in (("train", 0), ("sweep", 3)):
        tags = {"data.hash": "ab" * 32, "pipeline.command": command}
        journal = begun(database, command, params=params, tags=tags, rows=rows)
        journal.epoch(3, {"val/f1": 0.5, "best/val/f1": 0.6})
        journal.end(End.COMPLETE)
        recorder.deliver(journal.folder, is_lost=True)
        assert recorder.finish() == 0
        run = MlflowClient(database).get_run(read_state(journal.folder).run_id)
        assert run.inputs is not None
        (data,) = run.inputs.dataset_inputs
        shown = (data.dataset.name, data.dataset.digest, data.tags[0].value)
        assert shown == ("churn", "abababababab", "training")
        assert json.loads(str(data.dataset.profile)) == {"num_rows": 100, **rows}
        for key, expected in (("val/f1", 3), ("best/val/f1", step)):
            points = MlflowClient(database).get_metric_history(run.info.run_id, key)
            assert [point.step for point in points] == [expected]


def test_experiment_view_keeps_user_changes(running: RecorderClient, database: str) -> None:
    """The view is the one that links open."""
    client = MlflowClient(database)
    number = client.create_experiment("pipeline", tags={"mlflow.experimentKind": "own"})
    ((key, value),) = view_tag().items()
    assert f"&viewStateShareKey={key.rpartition('.')[2]}" in where_to_look(database, number)[-1]
    for set_by_users in (None, "changed"):
        if set_by_users is not None:
            client.set_experiment_tag(number, key, set_by_users)
        running.connect(database, experiment="pipeline")
        tags = client.get_experiment(number).tags
        assert (tags[key], tags["mlflow.experimentKind"]) == (set_by_users or value, "own")


def test_system_metrics_are_logged_during_the_run(
    recorder: RecorderClient, database: str, begun: Begun
) -> None:
    journal = begun(database, params={"tracking.system_metrics": True})
    recorder.open(journal.folder)
    wait_until(
        lambda: "system/cpu_utilization_percentage" in only_run(database).data.metrics,
        what="the load of the CPU",
    )
    journal.end(End.COMPLETE)
    assert recorder.close(journal.folder) == 0
    assert outcome(database) == ("FINISHED", None)


@pytest.mark.usefixtures("quick_children")
def test_failed_system_metrics_do_not_affect_the_run(
    database: str, begun: Begun, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "no number")
    journal = begun(database, params={"tracking.system_metrics": True})
    journal.epoch(1, {"train/loss": 0.5})
    with RecorderClient() as recorder:
        recorder.connect(database, experiment="pipeline")
        pid, run_id = recorder.pid, recorder.open(journal.folder)
        journal.end(End.COMPLETE)
        assert recorder.close(journal.folder) == 0
        assert (recorder.pid, only_run(database).info.run_id) == (pid, run_id)
    assert outcome(database) == ("FINISHED", None)
    assert only_run(database).data.metrics == {"train/loss": 0.5}


def test_resumed_run_continues_without_repeated_steps(
    recorder: RecorderClient, database: str, begun: Begun
) -> None:
    first = begun(database, params={"seed": 0, "trainer.max_epochs": 2})
    recorder.open(first.folder)
    first.epoch(1, {"train/loss": 1.0})
    first.epoch(2, {"train/loss": 0.5})
    first.end(End.INTERRUPTED)
    recorder.close(first.folder)
    assert outcome(database) == ("KILLED", "interrupted")

    resumed = begun(database, params={"seed": 0, "trainer.max_epochs": 3})
    assert recorder.open(first.folder) == only_run(database).info.run_id
    assert outcome(database) == ("RUNNING", None)
    resumed.epoch(2, {"train/loss": 0.5, "time/epoch": 1.0})
    resumed.epoch(3, {"train/loss": 1 / 3})
    resumed.end(End.COMPLETE)
    assert recorder.close(first.folder) == 0

    run = only_run(database)
    assert outcome(database) == ("FINISHED", None)
    assert recorded_steps(database, "train/loss") == [1, 2, 3]
    assert run.data.params["trainer.max_epochs"] == "2"
    assert run.data.tags["pipeline.changed.trainer.max_epochs"] == "3"


def test_sending_journal_again_stores_nothing_twice(database: str, begun: Begun) -> None:
    def sent_again() -> State:
        assert [result.unsent for result in sync([journal.folder], database)] == [0]
        return read_state(journal.folder)

    journal = begun(database)
    for epoch in range(1, 6):
        journal.epoch(epoch, {"train/loss": 1 / epoch})
    journal.end(End.COMPLETE)
    before = sent_again()
    (journal.folder / STATE).unlink()
    assert sent_again() == before
    assert outcome(database) == ("FINISHED", None)
    assert recorded_steps(database, "train/loss") == [1, 2, 3, 4, 5]
    # A store that has lost the run is given all of it again: its end alone, then one more line.
    for more in (False, True):
        if more:
            journal.tag("note", "one more line")
        sent = before.sent - 1 + more
        write_state(journal.folder, State(uri=database, run_id="f" * 32, sent=sent))
        assert sent_again().run_id == before.run_id


@pytest.mark.usefixtures("quick_children")
def test_unclosed_run_is_lost_when_recorder_quits(database: str, begun: Begun) -> None:
    with RecorderClient() as recorder:
        recorder.connect(database, experiment="pipeline")
        recorder.open(begun(database).folder)
    assert outcome(database) == ("FAILED", "lost")


def test_recorder_without_mlflow_states_the_reason(tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "mlflow.py").write_text("raise ImportError('torn')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with RecorderClient() as recorder, pytest.raises(EnvironmentFaultError) as refused:
        recorder.connect(sqlite_uri(tmp_path / "new.db"), experiment="pipeline")
    assert str(refused.value).endswith(
        "new.db': a library can't be imported; install it, or reinstall this program. "
        "ImportError: torn (mlflow.py:1)"
    )


@pytest.mark.parametrize(
    "signals", [(signal.SIGINT, signal.SIGTERM, signal.SIGHUP), (signal.SIGKILL,)]
)
def test_recorder_survives_signals_or_is_replaced(
    recorder: RecorderClient, database: str, begun: Begun, signals: Sequence[int]
) -> None:
    """Only a kill ends it, and a new recorder takes over."""
    journal = begun(database)
    recorder.open(journal.folder)
    pid = recorder.pid
    assert pid is not None
    for number in signals:
        os.kill(pid, number)
    journal.epoch(1, {"train/loss": 0.5})
    journal.end(End.COMPLETE)
    assert recorder.close(journal.folder) == 0
    assert (recorder.pid == pid) == (signal.SIGKILL not in signals)
    assert outcome(database) == ("FINISHED", None)
    assert only_run(database).data.metrics == {"train/loss": 0.5}


def test_unsent_values_of_earlier_run_are_sent_later(
    recorder: RecorderClient, database: str, begun: Begun
) -> None:
    earlier = begun(database, "earlier")
    earlier.epoch(1, {"train/loss": 0.5})
    earlier.end(End.DIVERGED)
    recorder.send_earlier(earlier.folder.parent)
    wait_until(lambda: read_state(earlier.folder).done, what="the earlier run")
    assert only_run(database).data.metrics == {"train/loss": 0.5}
    assert outcome(database) == ("FAILED", "diverged")


def test_folder_sent_by_another_process_is_awaited(
    recorder: RecorderClient, database: str, begun: Begun
) -> None:
    journal = begun(database)
    journal.end(End.COMPLETE)
    held = Replay(journal.folder)
    recorder.deliver(journal.folder)

    def has_problem() -> bool:
        recorder.poll()
        return recorder.problem is not None

    wait_until(has_problem, what="the other process")
    held.release()
    assert (recorder.finish(), recorder.problem) == (0, None)


def test_repeatedly_hanging_recorder_is_abandoned(
    database: str, begun: Begun, monkeypatch: Patch
) -> None:
    journal = begun(database)
    with RecorderClient() as recorder:
        recorder.connect(database, experiment="pipeline")
        for name in ("CLOSE_SECONDS", "START_SECONDS"):
            monkeypatch.setattr(f"pipeline.tracking.client.{name}", 1.0)
        monkeypatch.setattr("pipeline.tracking.client.RESTART_SECONDS", 0.0)
        begin = recorder.start

        def hang() -> None:
            begin()
            os.kill(youngest_child(), signal.SIGSTOP)

        monkeypatch.setattr(recorder, "start", hang)
        os.kill(youngest_child(), signal.SIGSTOP)
        assert recorder.close(journal.folder) == 1  # the run's begin
        assert recorder.problem is not None


def test_database_of_newer_mlflow_is_left_unchanged(
    running: RecorderClient, tmp_path: Path, database: str
) -> None:
    """The message does not advise an upgrade of the database."""
    path = tmp_path / "mlflow.db"

    def refusal(*statements: str) -> str:
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)
        before = path.read_bytes()
        with pytest.raises(EnvironmentFaultError) as raised:
            running.connect(database, experiment="pipeline")
        assert path.read_bytes() == before
        return str(raised.value)

    version = "UPDATE alembic_version SET version_num = '{}'"
    older = refusal(version.format("451aebb31d03"))
    assert older.endswith(f"mlflow db upgrade sqlite:///{path}")
    assert refusal(version.format("ffff00001111"), "DROP TABLE webhook_events") == (
        f"the tracking database '{path}' was created by a newer MLflow, and MLflow "
        f"{metadata.version('mlflow')} is too old for it; upgrade it: "
        "pip install --upgrade mlflow, or record elsewhere with "
        "tracking.uri=sqlite:///FILE"
    )


def test_deleted_or_default_experiment_is_refused(running: RecorderClient, database: str) -> None:
    client = MlflowClient(database)
    client.delete_experiment(client.create_experiment("pipeline"))
    for name, line in (
        ("pipeline", r"has been deleted .* experiments restore -x 1$"),
        ("Default", r"tracking.experiment='Default' is MLflow's default"),
    ):
        with pytest.raises(EnvironmentFaultError, match=line):
            running.connect(database, experiment=name)


def test_deleted_run_keeps_values_in_the_journal(
    recorder: RecorderClient, database: str, begun: Begun
) -> None:
    journal = begun(database)
    MlflowClient(database).delete_run(recorder.open(journal.folder))
    journal.epoch(1, {"train/loss": 0.5})
    journal.end(End.COMPLETE)
    assert recorder.close(journal.folder) == 2
    assert "refuses" in str(recorder.problem)


def test_server_other_than_mlflow_is_recognized(running: RecorderClient) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(EnvironmentFaultError, match=r"the tracking server http"):
            running.connect(f"http://127.0.0.1:{other.server_port}", experiment="pipeline")
        other.shutdown()


@pytest.mark.slow
def test_four_processes_share_one_new_database(tmp_path: Path) -> None:
    uri = sqlite_uri(tmp_path / "new" / "mlflow.db")
    started = [
        run_script(TRAINING, uri, str(tmp_path / "runs" / str(number)), cwd=tmp_path)
        for number in range(4)
    ]
    for process in started:
        process.communicate(timeout=300)
    assert [process.returncode for process in started] == [0] * 4
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["mlflow.db"]
    client = MlflowClient(uri)
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert [run.info.status for run in found] == ["FINISHED"] * 4
    assert (tmp_path / "new" / "mlflow.db").stat().st_mode & 0o777 == 0o600
