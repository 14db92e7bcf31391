import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.processes import wait_until
from faults.stores import free_port
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from study.ledgers import BASE, options
from study.recorded_trials import (
    STUDY,
    UID,
    assign_to_missing_process,
    begin_trial,
    destination,
    ends,
    finish_trial,
    recorder_pid,
    runs,
    trials,
)

from pipeline.base.ends import End
from pipeline.base.errors import EnvironmentFaultError
from pipeline.config.plain import flatten
from pipeline.study.ledger.rows import Progress, Row, RowState
from pipeline.study.missing_runs import leftovers
from pipeline.study.study_run import StudyRun
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.folders import unfinished
from pipeline.tracking.journal_events import Header
from pipeline.tracking.sync import sync

FINISHED = ("FINISHED", None)
BEGINNING: dict[RowState, int] = {End.COMPLETE: 1, End.DIVERGED: 0, "running": 1}
LATER: dict[RowState, int] = {End.COMPLETE: 2, End.DIVERGED: 1}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return tmp_path / "runs" / STUDY


@pytest.fixture
def recorder(uri: str) -> Iterator[RecorderClient]:
    with RecorderClient() as recorder:
        recorder.connect(uri, experiment="pipeline")
        yield recorder


def test_each_trial_is_recorded_as_one_run(recorder: RecorderClient, study: Path, uri: str) -> None:
    """Its folder is removed once it is sent."""
    kept_folder, finished_folder, just_ended = (
        finish_trial(begin_trial(study, number, uri, parent=False), 0.75) for number in range(3)
    )
    cut_short = begin_trial(study, 3, uri, parent=False).folder
    never_begun = destination(study, uri).trial_folder(4)
    never_begun.mkdir()
    for folder in (finished_folder, never_begun):
        recorder.watch(folder)
    recorder.deliver(kept_folder)
    recorder.deliver(finished_folder, forget=True)
    for folder in (just_ended, cut_short, never_begun):
        recorder.deliver(folder, is_lost=True, forget=True)
    wait_until(lambda: 3 in ends(uri), what="the run that was cut short")
    (kept_folder / "mlflow.json").unlink()  # as if the recorder had died before it was written
    recorder.deliver(kept_folder)
    recorder.deliver(kept_folder, forget=True)
    assert recorder.finish() == 0
    assert ends(uri) == {**dict.fromkeys(range(3), FINISHED), 3: ("FAILED", "lost")}
    run = trials(uri)[0]
    assert run.data.metrics == {"val/f1": 0.75}
    assert float(run.data.params["optimizer.lr"]) == pytest.approx(0.1)
    assert run.data.tags["pipeline.study"] == UID
    assert list(study.glob("trials/*")) == []


def test_long_trial_survives_a_killed_recorder(
    recorder: RecorderClient, study: Path, uri: str
) -> None:
    """It is shown as running before."""
    long = begin_trial(study, 0, uri, parent=False)
    recorder.watch(long.folder)
    wait_until(lambda: ends(uri) == {0: ("RUNNING", None)}, what="a run")
    os.kill(recorder_pid(), signal.SIGKILL)
    for number in range(1, 4):
        short = finish_trial(begin_trial(study, number, uri, parent=False))
        recorder.deliver(short, forget=True)
    recorder.deliver(finish_trial(long), forget=True)
    assert recorder.finish() == 0
    assert ends(uri) == dict.fromkeys(range(4), FINISHED)
    assert leftovers(study) == []


def test_trials_keep_folders_until_they_are_sent(study: Path, uri: str) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    with RecorderClient() as recorder:
        with pytest.raises(EnvironmentFaultError, match=f"{down} does not .*tracking=local"):
            recorder.connect(down, experiment="pipeline")
        warning = recorder.connect(down, experiment="pipeline", required=False)
        assert warning is not None
        assert "does not answer" in warning
        for number in range(3):
            folder = finish_trial(begin_trial(study, number, down, parent=False))
            recorder.watch(folder)
            recorder.deliver(folder, forget=number != 2)
        assert recorder.finish() == 3 * 4  # each: begin, two values, end
        assert recorder.problem is not None
    assert len(leftovers(study)) == 3
    for folder in leftovers(study):
        path = folder / "journal.jsonl"
        path.write_text(path.read_text().replace(down, uri))
    assert [synced.unsent for synced in sync(leftovers(study), uri)] == [0, 0, 0]
    assert ends(uri) == dict.fromkeys(range(3), FINISHED)
    assert leftovers(study) == [folder]


def test_folders_are_removed_without_tracking_as_well(study: Path) -> None:
    kept_folder, removed_folder = (
        finish_trial(begin_trial(study, n, "", parent=False)) for n in range(2)
    )
    recorder = RecorderClient()
    recorder.deliver(kept_folder)
    recorder.deliver(removed_folder, forget=True)
    assert recorder.finish() == 0
    assert (kept_folder.exists(), removed_folder.exists()) == (True, False)


def test_leftovers_exclude_trials_in_training(study: Path, uri: str) -> None:
    finished = finish_trial(begin_trial(study, 0, uri))
    lost = begin_trial(study, 1, uri).folder
    assign_to_missing_process(lost)
    begin_trial(study, 2, uri)  # by this process, which lives
    assert leftovers(study) == [finished, lost]


# ── the study's own run ─────────────────────────────────────────────────────────────────────


def begun(study: Path, recorder: RecorderClient, uri: str, **changed: object) -> StudyRun:
    """Lead a study, and begin its run or go on with it."""
    base = {**BASE, "data": {"_target_": "pipeline.data.iris.Iris"}}
    header = Header(
        name=STUDY,
        experiment="pipeline",
        uri=uri,
        params=flatten({**base, "sweep": options(name=STUDY, **changed).model_dump()}),
        tags={"pipeline.command": "sweep", "pipeline.study": UID, "data.hash": "ab" * 32},
        key=f"{STUDY}-{UID}",
        rows={"train": 60, "test": 20},
    )
    run = StudyRun(destination(study, uri), recorder, lambda: header)
    assert run.leads
    return run


def update(
    run: StudyRun, counts: dict[RowState, int], number: int, value: float, **overrides: str
) -> None:
    """Record how many trials have ended how, and which is the best."""
    best = Row(number=number, state=End.COMPLETE, values=(value,), overrides=overrides)
    progress = Progress(
        total=20,
        counts=counts,
        left=0,
        best=(number,),
        best_row=best,
        base_row=None,
        consecutive_failures=0,
    )
    run.update(progress)


def study_run(uri: str) -> Run:
    (study,) = [run for run in runs(uri) if "pipeline.trial" not in run.data.tags]
    return study


def test_study_is_one_run_across_drivers(study: Path, recorder: RecorderClient, uri: str) -> None:
    """It has the options, the counts and the winner."""
    run = begun(study, recorder, uri)
    first = {"optimizer.lr": "0.1", "model.layers": "2"}
    update(run, BEGINNING, 0, 0.25, **first)
    update(run, BEGINNING, 6, 0.5, **first)
    update(run, LATER, 5, 0.75, **{"optimizer.lr": "0.01"})
    run.tested({"test/f1": 0.75, "linear/f1": 0.5})
    (study / "artifacts").mkdir()
    (study / "artifacts" / "trials.csv").write_text("number\n")
    run.end(End.INTERRUPTED)
    stopped = study_run(uri)
    assert (stopped.info.status, stopped.data.tags["end_reason"]) == ("KILLED", "interrupted")
    again = begun(study, recorder, uri, n_trials=40)
    wait_until(lambda: study_run(uri).info.status == "RUNNING", what="the run again")
    update(again, LATER, 5, 0.75, **{"optimizer.lr": "0.01"})
    for score in (0.75, 0.625):
        again.tested({"test/f1": score, "linear/f1": 0.5})
    again.end(End.COMPLETE)
    recorded_run = study_run(uri)
    assert recorded_run.info.run_id == stopped.info.run_id
    assert (recorded_run.info.run_name, recorded_run.info.status) == (STUDY, "FINISHED")
    counts = {"trials/complete": 2, "trials/diverged": 1}
    tested = {"test/f1": 0.625, "linear/f1": 0.5}  # of the latest winner, better or not
    assert recorded_run.data.metrics == {"best/val/f1": 0.75, **counts, **tested}
    assert recorded_run.inputs is not None
    (data,) = recorded_run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("iris", "ab" * 6)
    client = MlflowClient(uri)
    # The highest step is that of the best value, in whatever order trials end, and none is twice.
    history = client.get_metric_history(recorded_run.info.run_id, "best/val/f1")
    assert [(point.step, point.value) for point in history] == [(0, 0.25), (6, 0.5), (7, 0.75)]
    history = client.get_metric_history(recorded_run.info.run_id, "test/f1")
    assert [(point.step, point.value) for point in history] == [(0, 0.75), (0, 0.625)]
    params, tags = recorded_run.data.params, recorded_run.data.tags
    assert (params["sweep.n_trials"], params["optimizer.lr"]) == ("20", "0.01")
    assert tags["pipeline.changed.sweep.n_trials"] == "40"
    assert (tags["best.trial"], tags["best.optimizer.lr"]) == ("5", "0.01")
    assert tags["best.model.layers"] == ""
    assert "end_reason" not in tags
    assert [file.path for file in client.list_artifacts(recorded_run.info.run_id)] == ["trials.csv"]


def test_trials_wait_for_the_run_of_their_study(
    recorder: RecorderClient, study: Path, uri: str
) -> None:
    folders = [finish_trial(begin_trial(study, number, uri)) for number in range(2)]
    recorder.deliver(folders[0], forget=True)

    def has_problem() -> bool:
        recorder.poll()
        return recorder.problem is not None

    wait_until(has_problem, what="a problem")
    assert "is being created" in str(recorder.problem)
    begun(study, RecorderClient(), uri)  # its driver, which records nothing
    recorder.deliver(folders[1], forget=True)
    assert recorder.finish() == 0
    parent = study_run(uri)
    parents = [trial.data.tags["mlflow.parentRunId"] for trial in trials(uri).values()]
    assert parents == [parent.info.run_id] * 2
    assert parent.data.params["sweep.n_trials"] == "20"


def test_study_moved_before_sending_keeps_its_trials(study: Path, uri: str, tmp_path: Path) -> None:
    begun(study, RecorderClient(), uri).end(End.COMPLETE)
    finish_trial(begin_trial(study, 0, uri))
    moved = tmp_path / "elsewhere" / STUDY
    moved.parent.mkdir()
    study.rename(moved)
    assert [synced.unsent for synced in sync(unfinished(moved.parent), uri)] == [0, 0]
    assert trials(uri)[0].data.tags["mlflow.parentRunId"] == study_run(uri).info.run_id
