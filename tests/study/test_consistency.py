"""A study's trials and their runs in MLflow: compared, and given where they are missing."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from ledgers import F1, failed, open_ledger, take
from mlflow.tracking import MlflowClient
from recorded_trials import database_in, ends, runs, trials

from pipeline.runs import main
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.rows import Row
from pipeline.study.messages import TrialEnd, end_journal
from pipeline.study.recorded_studies import differences, record_missing, write_run
from pipeline.study.study_run import RunDestination
from pipeline.tracking.client import MlflowRecorder
from pipeline.tracking.fields import RecordedTrial
from pipeline.tracking.journal import Header, Journal
from pipeline.tracking.uri import sqlite_uri

NAME = "lr"
ENDS = (
    (
        TrialEnd(state="complete", values=(0.75,), attributes={"epochs": 5, "test/f1": 0.5}),
        ("FINISHED", None),
    ),
    (TrialEnd(state="pruned", reason="pruned"), ("FINISHED", "pruned")),
    *((failed(reason), ("FAILED", reason)) for reason in ("diverged", "oom", "error")),
    (failed("interrupted"), ("KILLED", "interrupted")),
    (failed("lost"), ("FAILED", "lost")),
)
"""Each end of a trial, and that of its run; the points of the last two are queued again."""
RECORDED = dict(enumerate(run for _, run in ENDS))


def opened(folder: Path) -> Ledger:
    return open_ledger(folder / "optuna.db", name=NAME, n_trials=10, max_retry=1)


def destination_in(folder: Path, uid: str, uri: str) -> RunDestination:
    names = {"name": NAME, "experiment": "pipeline", "objectives": F1}
    return RunDestination(**names, uid=uid, folder=folder, uri=uri)


def record_all(folder: Path) -> int:
    """Give a run to each trial that has none, under the study's own."""
    ledger, uri = opened(folder), sqlite_uri(folder / "mlflow.db")
    study = folder / "runs" / NAME
    study.mkdir(parents=True, exist_ok=True)
    journal = Journal(study)
    tags = {"pipeline.study": ledger.uid, "pipeline.command": "sweep"}
    journal.begin(Header(name=NAME, experiment="pipeline", uri=uri, tags=tags))
    with MlflowRecorder(uri, experiment="pipeline") as recorder:
        recorder.connect()
        recorder.follow(study)
        destination = destination_in(study, ledger.uid, uri)
        rows = ledger.trials()
        count = record_missing(rows, destination, recorder, lambda row: dict(row.overrides))
        journal.end("FINISHED")
    ledger.close()
    return count


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A folder with a study of each kind of end, and its runs in MLflow."""
    folder = tmp_path_factory.mktemp("recorded")
    database_in(folder, empty_database)
    ledger = opened(folder)
    for end, _ in ENDS:
        assert ledger.finish(take(ledger), end)
    ledger.close()
    assert record_all(folder) == len(ENDS)
    return folder


@pytest.fixture
def own(recorded: Path, own_folder: Path) -> Path:
    """The current folder, with databases of its own."""
    for name in ("optuna.db", "mlflow.db"):
        source, target = sqlite3.connect(recorded / name), sqlite3.connect(own_folder / name)
        with closing(source), closing(target):
            source.backup(target)
    return own_folder


def checked(capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = main(["action=check", f"study={NAME}"])
    said = capsys.readouterr()
    lines = [*said.out.splitlines(), *said.err.splitlines()]
    return code, [line for line in lines if "INFO mlflow" not in line]  # of this very process


def test_each_end_has_its_status_in_mlflow_and_a_repaired_run_tells_what_the_study_knows(
    recorded: Path,
) -> None:
    uri = sqlite_uri(recorded / "mlflow.db")
    assert ends(uri) == RECORDED
    run, row = trials(uri)[0], opened(recorded).trials()[0]
    assert run.data.metrics == {"best/val/f1": 0.75, "test/f1": 0.5}
    assert run.data.params == dict(row.overrides)
    assert row.started is not None
    assert row.ended is not None
    times = (run.info.start_time, run.info.end_time)
    assert times == (round(1000 * row.started), round(1000 * row.ended))
    (parent,) = [one for one in runs(uri) if "pipeline.trial" not in one.data.tags]
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert not list((recorded / "runs" / NAME / "trials").iterdir())


def test_repairing_two_hundred_trials_leaves_no_file_open(tmp_path: Path) -> None:
    destination = destination_in(tmp_path, "0123", "sqlite:///nowhere.db")
    recorder = MlflowRecorder(None, experiment="pipeline")
    before = psutil.Process().num_fds()
    for number in range(200):
        write_run(Row(number=number, state="failed", reason="oom"), destination, recorder, {})
        assert end_journal(destination.trial_folder(number), "failed", "lost")
    assert psutil.Process().num_fds() < before + 100


def test_a_run_that_was_deleted_in_mlflow_is_missing_and_comes_back_with_the_next_start(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agreed = (0, ["7 trials, 7 runs: they agree"])
    uri = sqlite_uri(own / "mlflow.db")
    assert checked(capsys) == agreed
    assert record_all(own) == 0
    assert ends(uri) == RECORDED
    MlflowClient(uri).delete_run(trials(uri)[1].info.run_id)
    assert checked(capsys) == (5, ["error: trial 1 (pruned) has no run"])
    assert record_all(own) == 1
    assert checked(capsys) == agreed


COMPLETED = Row(number=0, state="complete", values=(0.5,))
PRUNED = Row(number=0, state="pruned", reason="pruned")
RUNNING = Row(number=0, state="running")


@pytest.mark.parametrize(
    ("row", "runs", "lines"),
    [
        (COMPLETED, ["a FINISHED", "b FINISHED"], ["trial 0 (complete) has 2 runs: a, b"]),
        (COMPLETED, ["a FINISHED"], ["trial 0 has val/f1=0.5; run a has no such value"]),
        (COMPLETED, ["a FINISHED 0.75"], ["trial 0 has val/f1=0.5; run a has 0.75"]),
        # The value of the weights that are kept may be the best or the last.
        (COMPLETED, ["a FINISHED 0.5 0.25"], []),
        (COMPLETED, ["a FINISHED 0.25 0.5"], []),
        (
            COMPLETED,
            ["a RUNNING 0.5"],
            ["trial 0 (complete) should have a run that is FINISHED; run a is RUNNING"],
        ),
        (
            RUNNING,
            ["a FINISHED"],
            ["trial 0 (running) should have a run that is RUNNING; run a is FINISHED"],
        ),
        (
            Row(number=0, state="failed", reason="oom"),
            ["a FAILED,lost"],
            ["trial 0 (failed, oom) should have a run that is FAILED, oom; run a is FAILED, lost"],
        ),
        (
            PRUNED,
            ["a FAILED,diverged"],
            [
                "trial 0 (pruned) should have a run that is FINISHED, pruned; "
                "run a is FAILED, diverged"
            ],
        ),
        (PRUNED, [], ["trial 0 (pruned) has no run"]),
        (None, ["a FINISHED"], ["run a is of trial 0, of which the study knows nothing"]),
        (RUNNING, [], []),
        (Row(number=0, state="waiting"), [], []),
    ],
)
def test_what_differs_is_one_line_a_trial(
    row: Row | None, runs: list[str], lines: list[str]
) -> None:
    held = []
    for words in runs:
        run_id, end, *values = words.split()
        status, _, reason = end.partition(",")
        metrics = dict(zip(("best/val/f1", "val/f1"), map(float, values), strict=False))
        run = RecordedTrial(
            trial=0, run_id=run_id, status=status, end_reason=reason or None, metrics=metrics
        )
        held.append(run)
    assert differences([] if row is None else [row], held, ("val/f1",)) == lines


def write_text(path: Path) -> None:
    path.write_text("text\n" * 999)


def an_empty_study(folder: Path) -> None:
    opened(folder).close()
    write_text(folder / "mlflow.db")


@pytest.mark.parametrize(
    ("prepare", "words", "code", "line"),
    [
        (lambda _: None, [], 2, "error: action=check needs the name of a study: study=NAME\n"),
        (lambda _: None, [f"study={NAME}"], 3, "the study database '{}/optuna.db' is not there"),
        (
            lambda folder: opened(folder).close(),
            ["study=lrr"],
            2,
            "study='lrr' is unknown in the study database '{}/optuna.db'; there are lr. Did you "
            "mean 'lr'?",
        ),
        (
            lambda folder: write_text(folder / "optuna.db"),
            [f"study={NAME}"],
            2,
            "'{}/optuna.db' is no database",
        ),
        (
            an_empty_study,
            [f"study={NAME}", "tracking.uri=sqlite:///mlflow.db"],
            2,
            "mlflow.db' is no database",
        ),
    ],
    ids=["no study", "gone", "another", "studies of text", "runs of text"],
)
def test_check_names_what_it_lacks_and_creates_nothing(
    prepare: Callable[[Path], None],
    words: list[str],
    code: int,
    line: str,
    own_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepare(own_folder)
    before = {path.name for path in own_folder.glob("*.db")}
    assert main(["action=check", *words]) == code
    assert line.format(own_folder) in capsys.readouterr().err
    assert {path.name for path in own_folder.glob("*.db")} == before
