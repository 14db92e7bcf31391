import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ledgers import BASE, options
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from recorded_trials import (
    STUDY,
    UID,
    begin_trial,
    database_in,
    finish_trial,
    runs,
    trials,
    wait_until,
)

from pipeline.study.ledger.rows import Progress, Row
from pipeline.study.mlflow_recorder import MlflowRecorder
from pipeline.study.study_run import RunDestination, StudyLock, StudyRun, study_params
from pipeline.tracking.folders import unfinished
from pipeline.tracking.sync import sync

LEADER = """
import sys, time
from pathlib import Path
from pipeline.study.study_run import StudyLock
leadership = StudyLock(Path(sys.argv[1]))
print("leads" if leadership.try_acquire() else "follows", flush=True)
time.sleep(60)
"""


@pytest.fixture
def uri(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return database_in(tmp_path, tmp_path_factory.getbasetemp())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / STUDY
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def recorder(uri: str) -> Iterator[MlflowRecorder]:
    with MlflowRecorder(uri, experiment="pipeline") as recorder:
        recorder.connect()
        yield recorder


def begun(folder: Path, recorder: MlflowRecorder, uri: str, **changed: object) -> StudyRun:
    """Lead a study, and begin its run or go on with it."""
    destination = RunDestination(
        name=STUDY,
        uid=UID,
        folder=folder,
        uri=uri,
        experiment="pipeline",
        objectives=("val/f1",),
    )
    params = study_params(options(name=STUDY, **changed), BASE)
    run = StudyRun(folder, recorder, lambda: destination.study_header(params))
    assert run.leads
    return run


def update(
    run: StudyRun, counts: dict[str, int], number: int, value: float, **overrides: str
) -> None:
    """Record how many trials have ended how, and which is the best."""
    best = Row(number=number, state="complete", values=(value,), overrides=overrides)
    progress = Progress(
        total=20, counts=counts, left=0, best=(number,), best_row=best, consecutive_failures=0
    )
    run.update(progress, ("val/f1",))


def study_run(uri: str) -> Run:
    (found,) = [run for run in runs(uri) if "pipeline.trial" not in run.data.tags]
    return found


def test_a_study_is_a_run_with_its_options_its_counts_and_its_winner(
    folder: Path, recorder: MlflowRecorder, uri: str
) -> None:
    run = begun(folder, recorder, uri)
    first = {"optimizer.lr": "0.1", "model.layers": "2"}
    update(run, {"complete": 1, "diverged": 0, "running": 1}, 0, 0.5, **first)
    second = {"optimizer.lr": "0.01"}
    update(run, {"complete": 2, "diverged": 1, "waiting": 1}, 2, 0.75, **second)
    (folder / "artifacts").mkdir()
    (folder / "artifacts" / "trials.csv").write_text("number\n")
    run.end("FINISHED")
    found = study_run(uri)
    assert (found.info.run_name, found.info.status) == (STUDY, "FINISHED")
    assert found.data.metrics == {"best/val/f1": 0.75, "trials/complete": 2, "trials/diverged": 1}
    assert (found.data.params["sweep.n_trials"], found.data.params["optimizer.lr"]) == (
        "20",
        "0.01",
    )
    tags = found.data.tags
    assert (tags["pipeline.command"], tags["pipeline.study"]) == ("sweep", UID)
    assert (tags["best.trial"], tags["best.optimizer.lr"]) == ("2", "0.01")
    assert tags["best.model.layers"] == ""
    assert "host" in tags
    files = MlflowClient(uri).list_artifacts(found.info.run_id)
    assert [file.path for file in files] == ["trials.csv"]


def test_the_latest_best_value_is_the_best_in_whatever_order_trials_end(
    folder: Path, recorder: MlflowRecorder, uri: str
) -> None:
    run = begun(folder, recorder, uri)
    for number, value in ((0, 0.25), (6, 0.5), (5, 0.75)):
        update(run, {}, number, value)
    run.end("FINISHED")
    found = study_run(uri)
    assert found.data.metrics["best/val/f1"] == 0.75
    history = MlflowClient(uri).get_metric_history(found.info.run_id, "best/val/f1")
    assert [(point.step, point.value) for point in history] == [(0, 0.25), (6, 0.5), (7, 0.75)]


def test_a_study_that_goes_on_keeps_its_run_and_repeats_nothing(
    folder: Path, recorder: MlflowRecorder, uri: str
) -> None:
    first = begun(folder, recorder, uri)
    update(first, {"complete": 4}, 3, 0.5, **{"optimizer.lr": "0.1"})
    first.end("KILLED", "interrupted")
    stopped = study_run(uri)
    assert (stopped.info.status, stopped.data.tags["end_reason"]) == ("KILLED", "interrupted")
    second = begun(folder, recorder, uri, n_trials=40)
    wait_until(lambda: study_run(uri).info.status == "RUNNING")
    update(second, {"complete": 4}, 3, 0.5, **{"optimizer.lr": "0.1"})
    second.end("FINISHED")
    found = study_run(uri)
    assert found.info.run_id == stopped.info.run_id
    assert (found.info.status, "end_reason" in found.data.tags) == ("FINISHED", False)
    assert found.data.tags["pipeline.changed.sweep.n_trials"] == "40"
    history = MlflowClient(uri).get_metric_history(found.info.run_id, "best/val/f1")
    assert len(history) == 1


def test_trials_fold_under_their_study(folder: Path, recorder: MlflowRecorder, uri: str) -> None:
    run = begun(folder, recorder, uri)
    for number in range(2):
        trial = finish_trial(begin_trial(folder, number, uri))
        recorder.end(trial, lost=False, forget=True)
    run.end("FINISHED")
    assert recorder.close() == 0
    parents = {trial.data.tags["mlflow.parentRunId"] for trial in trials(uri).values()}
    assert parents == {study_run(uri).info.run_id}


def test_the_parent_is_created_with_the_first_trial_where_its_driver_is_gone(
    folder: Path, recorder: MlflowRecorder, uri: str
) -> None:
    with MlflowRecorder(None, experiment="pipeline") as nobody:
        begun(folder, nobody, uri)
        recorder.end(finish_trial(begin_trial(folder, 0, uri)), lost=False, forget=True)
        assert recorder.close() == 0
    parent = study_run(uri)
    assert trials(uri)[0].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.data.params["sweep.n_trials"] == "20"


def test_a_study_that_was_moved_before_it_was_sent_keeps_its_trials(
    folder: Path, uri: str, tmp_path: Path
) -> None:
    with MlflowRecorder(None, experiment="pipeline") as nobody:
        begun(folder, nobody, uri).end("FINISHED")
    finish_trial(begin_trial(folder, 0, uri))
    moved = tmp_path / "elsewhere" / STUDY
    moved.parent.mkdir()
    folder.rename(moved)
    assert [synced.unsent for synced in sync(unfinished(moved.parent), uri)] == [0, 0]
    assert trials(uri)[0].data.tags["mlflow.parentRunId"] == study_run(uri).info.run_id


@pytest.fixture
def lead(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts processes that try to lead a study and live on."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", LEADER, str(tmp_path / "runs" / STUDY)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_one_driver_leads_until_it_dies(
    lead: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    leader = lead()
    assert says(leader) == "leads"
    mine = StudyLock(tmp_path / "runs" / STUDY)
    assert not mine.try_acquire()
    leader.kill()
    leader.wait()
    assert mine.try_acquire()


def test_of_those_that_begin_together_one_leads(
    lead: Callable[[], subprocess.Popen[str]],
) -> None:
    drivers = [lead() for _ in range(3)]
    assert sorted(says(driver) for driver in drivers) == ["follows", "follows", "leads"]
