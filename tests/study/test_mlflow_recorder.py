import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
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
    ends,
    finish_trial,
    free_port,
    give_to_a_process_that_never_was,
    recorder_pid,
    runs,
    trial_folder,
    trials,
    wait_until,
)

from pipeline.errors import EnvironmentFaultError
from pipeline.study.ledger.rows import Progress, Row
from pipeline.study.mlflow_recorder import (
    MlflowRecorder,
    RunDestination,
    StudyLock,
    StudyRun,
    leftovers,
)
from pipeline.tracking.folders import unfinished
from pipeline.tracking.journal import Header, Journal
from pipeline.tracking.sync import sync


@pytest.fixture
def uri(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return database_in(tmp_path, tmp_path_factory.getbasetemp())


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return tmp_path / "runs" / STUDY


@pytest.fixture
def recorder(uri: str) -> Iterator[MlflowRecorder]:
    with MlflowRecorder(uri, experiment="pipeline") as recorder:
        recorder.connect()
        yield recorder


def test_a_finished_trial_is_a_finished_run_and_its_folder_goes(
    recorder: MlflowRecorder, study: Path, uri: str
) -> None:
    folder = finish_trial(begin_trial(study, 3, uri, parent=False), 0.75)
    recorder.begin(folder)
    recorder.end(folder, lost=False, forget=True)
    assert recorder.close() == 0
    run = trials(uri)[3]
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"val/f1": 0.75})
    assert float(run.data.params["optimizer.lr"]) == pytest.approx(0.4)
    assert run.data.tags["pipeline.study"] == UID
    assert not folder.exists()


def test_the_folder_of_a_trial_worth_keeping_stays_until_it_is_forgotten(
    recorder: MlflowRecorder, study: Path, uri: str
) -> None:
    folder = finish_trial(begin_trial(study, 0, uri, parent=False))
    recorder.end(folder, lost=False, forget=False)
    wait_until(lambda: ends(uri) == {0: ("FINISHED", None)})
    assert folder.exists()
    recorder.forget(folder)
    assert recorder.close() == 0
    assert not folder.exists()


def test_a_trial_that_takes_long_shows_as_running(
    recorder: MlflowRecorder, study: Path, uri: str
) -> None:
    journal = begin_trial(study, 0, uri, parent=False)
    recorder.begin(journal.folder)
    wait_until(lambda: ends(uri) == {0: ("RUNNING", None)})
    recorder.end(finish_trial(journal), lost=False, forget=True)
    assert recorder.close() == 0
    assert ends(uri) == {0: ("FINISHED", None)}
    assert not journal.folder.exists()


def test_a_trial_whose_worker_died_is_lost_unless_its_journal_has_its_end(
    recorder: MlflowRecorder, study: Path, uri: str
) -> None:
    cut_short = begin_trial(study, 0, uri, parent=False).folder
    just_ended = finish_trial(begin_trial(study, 1, uri, parent=False))
    for folder in (cut_short, just_ended):
        recorder.end(folder, lost=True, forget=True)
    assert recorder.close() == 0
    assert ends(uri) == {0: ("FAILED", "lost"), 1: ("FINISHED", None)}


def test_a_trial_that_never_began_leaves_neither_run_nor_folder(
    recorder: MlflowRecorder, study: Path, uri: str
) -> None:
    folder = trial_folder(study, 0)
    folder.mkdir(parents=True)
    recorder.begin(folder)
    recorder.end(folder, lost=True, forget=True)
    assert recorder.close() == 0
    assert not folder.exists()


def test_recording_a_trial_again_makes_no_second_run(
    recorder: MlflowRecorder, study: Path, uri: str
) -> None:
    folder = finish_trial(begin_trial(study, 0, uri, parent=False))
    recorder.end(folder, lost=False, forget=False)
    wait_until(lambda: ends(uri) == {0: ("FINISHED", None)})
    (folder / "mlflow.json").unlink()  # as if the recorder had died before it was written
    recorder.end(folder, lost=False, forget=True)
    assert recorder.close() == 0
    assert ends(uri) == {0: ("FINISHED", None)}


def test_trials_outlive_a_recorder_that_is_killed_between_them(
    recorder: MlflowRecorder, study: Path, uri: str
) -> None:
    long = begin_trial(study, 0, uri, parent=False)
    recorder.begin(long.folder)
    wait_until(lambda: ends(uri) == {0: ("RUNNING", None)})
    os.kill(recorder_pid(), signal.SIGKILL)
    for number in range(1, 4):
        short = finish_trial(begin_trial(study, number, uri, parent=False))
        recorder.end(short, lost=False, forget=True)
    recorder.end(finish_trial(long), lost=False, forget=True)
    assert recorder.close() == 0
    assert ends(uri) == dict.fromkeys(range(4), ("FINISHED", None))
    assert leftovers(study) == []


def test_a_server_that_is_down_is_one_line_at_the_start(study: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    with (
        MlflowRecorder(uri, experiment="pipeline") as recorder,
        pytest.raises(EnvironmentFaultError, match=rf"{uri} does not answer .*tracking=local"),
    ):
        recorder.connect()


def test_an_outage_keeps_all_trials_in_their_folders_until_they_are_sent(
    study: Path, uri: str
) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    with MlflowRecorder(down, experiment="pipeline") as recorder:
        warning = recorder.connect(required=False)
        assert warning is not None
        assert "does not answer" in warning
        for number in range(3):
            folder = finish_trial(begin_trial(study, number, down, parent=False))
            recorder.begin(folder)
            recorder.end(folder, lost=False, forget=number != 2)
        assert recorder.close() == 3 * 4  # each: begin, two values, end
        assert recorder.problem is not None
    assert len(leftovers(study)) == 3
    for folder in leftovers(study):
        path = folder / "journal.jsonl"
        path.write_text(path.read_text().replace(down, uri))
    assert [synced.unsent for synced in sync(leftovers(study), uri)] == [0, 0, 0]
    assert ends(uri) == dict.fromkeys(range(3), ("FINISHED", None))
    assert leftovers(study) == [trial_folder(study, 2)]


def test_without_tracking_folders_are_kept_and_forgotten_all_the_same(study: Path) -> None:
    kept, gone = (finish_trial(begin_trial(study, n, "", parent=False)) for n in range(2))
    with MlflowRecorder(None, experiment="pipeline") as recorder:
        assert recorder.connect() is None
        recorder.end(kept, lost=False, forget=False)
        recorder.end(gone, lost=False, forget=True)
        assert recorder.close() == 0
    assert (kept.exists(), gone.exists()) == (True, False)


def test_what_a_killed_driver_left_is_found_and_what_others_train_is_not(
    study: Path, uri: str
) -> None:
    finished = finish_trial(begin_trial(study, 0, uri))
    lost = begin_trial(study, 1, uri).folder
    give_to_a_process_that_never_was(lost)
    begin_trial(study, 2, uri)  # by this process, which lives
    assert leftovers(study) == [finished, lost]


def test_a_trial_waits_for_the_run_of_its_study(
    recorder: MlflowRecorder, study: Path, uri: str
) -> None:
    folder = finish_trial(begin_trial(study, 0, uri))
    recorder.end(folder, lost=False, forget=True)
    wait_until(lambda: recorder.problem is not None)
    assert "is being created" in str(recorder.problem)
    Journal(study).begin(Header(name=STUDY, experiment="pipeline", uri=uri))
    assert recorder.close() == 0
    parent = next(run for run in runs(uri) if "pipeline.trial" not in run.data.tags)
    assert trials(uri)[0].data.tags["mlflow.parentRunId"] == parent.info.run_id


LEADER = """
import sys, time
from pathlib import Path
from pipeline.study.mlflow_recorder import StudyLock
leadership = StudyLock(Path(sys.argv[1]))
print("leads" if leadership.try_acquire() else "follows", flush=True)
time.sleep(60)
"""


def begun(study: Path, recorder: MlflowRecorder, uri: str, **changed: object) -> StudyRun:
    """Lead a study, and begin its run or go on with it."""
    destination = RunDestination(
        name=STUDY,
        uid=UID,
        folder=study,
        uri=uri,
        experiment="pipeline",
        objectives=("val/f1",),
    )
    header = partial(destination.study_header, options(name=STUDY, **changed), BASE)
    run = StudyRun(destination, recorder, header)
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
    run.update(progress)


def study_run(uri: str) -> Run:
    (found,) = [run for run in runs(uri) if "pipeline.trial" not in run.data.tags]
    return found


def test_a_study_is_a_run_with_its_options_its_counts_and_its_winner(
    study: Path, recorder: MlflowRecorder, uri: str
) -> None:
    run = begun(study, recorder, uri)
    first = {"optimizer.lr": "0.1", "model.layers": "2"}
    update(run, {"complete": 1, "diverged": 0, "running": 1}, 0, 0.5, **first)
    second = {"optimizer.lr": "0.01"}
    update(run, {"complete": 2, "diverged": 1, "waiting": 1}, 2, 0.75, **second)
    (study / "artifacts").mkdir()
    (study / "artifacts" / "trials.csv").write_text("number\n")
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
    study: Path, recorder: MlflowRecorder, uri: str
) -> None:
    run = begun(study, recorder, uri)
    for number, value in ((0, 0.25), (6, 0.5), (5, 0.75)):
        update(run, {}, number, value)
    run.end("FINISHED")
    found = study_run(uri)
    assert found.data.metrics["best/val/f1"] == 0.75
    history = MlflowClient(uri).get_metric_history(found.info.run_id, "best/val/f1")
    assert [(point.step, point.value) for point in history] == [(0, 0.25), (6, 0.5), (7, 0.75)]


def test_a_study_that_goes_on_keeps_its_run_and_repeats_nothing(
    study: Path, recorder: MlflowRecorder, uri: str
) -> None:
    first = begun(study, recorder, uri)
    update(first, {"complete": 4}, 3, 0.5, **{"optimizer.lr": "0.1"})
    first.end("KILLED", "interrupted")
    stopped = study_run(uri)
    assert (stopped.info.status, stopped.data.tags["end_reason"]) == ("KILLED", "interrupted")
    second = begun(study, recorder, uri, n_trials=40)
    wait_until(lambda: study_run(uri).info.status == "RUNNING")
    update(second, {"complete": 4}, 3, 0.5, **{"optimizer.lr": "0.1"})
    second.end("FINISHED")
    found = study_run(uri)
    assert found.info.run_id == stopped.info.run_id
    assert (found.info.status, "end_reason" in found.data.tags) == ("FINISHED", False)
    assert found.data.tags["pipeline.changed.sweep.n_trials"] == "40"
    history = MlflowClient(uri).get_metric_history(found.info.run_id, "best/val/f1")
    assert len(history) == 1


def test_trials_fold_under_their_study(study: Path, recorder: MlflowRecorder, uri: str) -> None:
    run = begun(study, recorder, uri)
    for number in range(2):
        trial = finish_trial(begin_trial(study, number, uri))
        recorder.end(trial, lost=False, forget=True)
    run.end("FINISHED")
    assert recorder.close() == 0
    parents = {trial.data.tags["mlflow.parentRunId"] for trial in trials(uri).values()}
    assert parents == {study_run(uri).info.run_id}


def test_the_parent_is_created_with_the_first_trial_where_its_driver_is_gone(
    study: Path, recorder: MlflowRecorder, uri: str
) -> None:
    with MlflowRecorder(None, experiment="pipeline") as nobody:
        begun(study, nobody, uri)
        recorder.end(finish_trial(begin_trial(study, 0, uri)), lost=False, forget=True)
        assert recorder.close() == 0
    parent = study_run(uri)
    assert trials(uri)[0].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.data.params["sweep.n_trials"] == "20"


def test_a_study_that_was_moved_before_it_was_sent_keeps_its_trials(
    study: Path, uri: str, tmp_path: Path
) -> None:
    with MlflowRecorder(None, experiment="pipeline") as nobody:
        begun(study, nobody, uri).end("FINISHED")
    finish_trial(begin_trial(study, 0, uri))
    moved = tmp_path / "elsewhere" / STUDY
    moved.parent.mkdir()
    study.rename(moved)
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
