import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
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
from pipeline.study.mlflow_recorder import MlflowRecorder, leftovers
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
