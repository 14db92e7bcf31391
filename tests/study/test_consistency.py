"""Studies on record: compared with MLflow, given missing runs, listed, reaped and removed."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.fixture_types import Capture, Patch
from mlflow.tracking import MlflowClient
from study.ledgers import dead_lease, failed, far_lease, open_ledger, space_of, take
from study.recorded_trials import (
    STUDY,
    assign_to_missing_process,
    begin_run,
    begin_trial,
    database_in,
    destination,
    ends,
    runs,
    trials,
)

from pipeline.base.ends import End, TrialEnd
from pipeline.base.processes.lease import own_lease
from pipeline.report import main as report
from pipeline.runs import main
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.rows import Row
from pipeline.study.messages import end_journal
from pipeline.study.missing_runs import record_missing, write_run
from pipeline.study.store_differences import differences
from pipeline.study.study_run import leader_lock
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.fields import MlflowTrial
from pipeline.tracking.folders import find_run, read_state
from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import Header
from pipeline.tracking.ownership import adopt
from pipeline.tracking.sync import remove_record
from pipeline.tracking.uri import sqlite_uri

NAME = "lr"
TRAIN = {"pipeline.command": "train"}
SWEEP = {"pipeline.command": "sweep"}
ENDS = (
    (
        TrialEnd(end=End.COMPLETE, values=(0.75,), attributes={"epochs": 5, "test/f1": 0.5}),
        ("FINISHED", None),
    ),
    (TrialEnd(end=End.PRUNED), ("FINISHED", "pruned")),
    *((failed(reason), ("FAILED", reason)) for reason in ("diverged", "oom", "error")),
    (failed("interrupted"), ("KILLED", "interrupted")),
    (failed("lost"), ("FAILED", "lost")),
)
"""Each end of a trial, and that of its run; the points of the last two are queued again."""
RECORDED = dict(enumerate(run for _, run in ENDS))


def open_study(folder: Path) -> Ledger:
    return open_ledger(folder / "optuna.db", name=NAME, n_trials=10, max_retry=1)


def record_all(folder: Path) -> int:
    """Give a run to each trial that has none, under the study's own."""
    ledger, uri = open_study(folder), sqlite_uri(folder / "mlflow.db")
    study = folder / "runs" / NAME
    study.mkdir(parents=True, exist_ok=True)
    journal = Journal(adopt(study))
    tags = {"pipeline.study": ledger.uid, "pipeline.command": "sweep"}
    journal.begin(Header(name=NAME, experiment="pipeline", uri=uri, tags=tags))
    with RecorderClient() as recorder:
        recorder.connect(uri, experiment="pipeline")
        recorder.follow(study)
        where = destination(study, uri, ledger.uid)
        rows = ledger.trials()
        count = record_missing(rows, where, recorder, lambda row: dict(row.overrides))
        journal.end(End.COMPLETE)
        assert recorder.finish() == 0
    ledger.close()
    return count


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A folder with a study of each kind of end, and its runs in MLflow."""
    folder = tmp_path_factory.mktemp("recorded")
    database_in(folder, empty_database)
    ledger = open_study(folder)
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


def run_check(capsys: Capture) -> tuple[int, list[str]]:
    code = main(["action=check", f"study={NAME}"])
    printed = capsys.readouterr()
    lines = [*printed.out.splitlines(), *printed.err.splitlines()]
    return code, [line for line in lines if "INFO mlflow" not in line]  # of this very process


def test_repaired_runs_match_the_ends_of_trials(recorded: Path) -> None:
    uri = sqlite_uri(recorded / "mlflow.db")
    assert ends(uri) == RECORDED
    run, row = trials(uri)[0], open_study(recorded).trials()[0]
    assert run.data.metrics == {"best/val/f1": 0.75, "test/f1": 0.5}
    assert run.data.params == dict(row.overrides)
    assert row.started is not None
    assert row.ended is not None
    times = (run.info.start_time, run.info.end_time)
    assert times == (round(1000 * row.started), round(1000 * row.ended))
    (parent,) = [
        candidate for candidate in runs(uri) if "pipeline.trial" not in candidate.data.tags
    ]
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert not list((recorded / "runs" / NAME / "trials").iterdir())


def test_repairing_many_trials_leaves_no_file_open(tmp_path: Path) -> None:
    where = destination(tmp_path, "sqlite:///nowhere.db")
    recorder = RecorderClient()
    before = psutil.Process().num_fds()
    for number in range(200):
        write_run(Row(number=number, state=End.OOM), where, recorder, {})
        assert end_journal(where.trial_folder(number), TrialEnd(end=End.LOST))
    assert psutil.Process().num_fds() < before + 100


def test_run_deleted_in_mlflow_is_recorded_again(own: Path, capsys: Capture) -> None:
    """Until then action=check reports it as missing."""
    agreed = (0, ["7 trials, 7 runs: they agree"])
    uri = sqlite_uri(own / "mlflow.db")
    assert run_check(capsys) == agreed
    assert record_all(own) == 0
    assert ends(uri) == RECORDED
    MlflowClient(uri).delete_run(trials(uri)[1].info.run_id)
    assert run_check(capsys) == (5, ["error: trial 1 (pruned) has no run"])
    assert record_all(own) == 1
    assert run_check(capsys) == agreed


COMPLETED = Row(number=0, state=End.COMPLETE, values=(0.5,))
PRUNED = Row(number=0, state=End.PRUNED)
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
            Row(number=0, state=End.OOM),
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
        (None, ["a FINISHED"], ["run a is of trial 0, which is not in the study"]),
        (RUNNING, [], []),
        (Row(number=0, state="waiting"), [], []),
    ],
)
def test_each_trial_that_differs_has_one_line(
    row: Row | None, runs: list[str], lines: list[str]
) -> None:
    recorded_trials = []
    for words in runs:
        run_id, end, *values = words.split()
        status, _, reason = end.partition(",")
        metrics = dict(zip(("best/val/f1", "val/f1"), map(float, values), strict=False))
        run = MlflowTrial(
            trial=0, run_id=run_id, status=status, end_reason=reason or None, metrics=metrics
        )
        recorded_trials.append(run)
    assert differences([] if row is None else [row], recorded_trials, ("val/f1",)) == lines


@pytest.mark.parametrize(
    ("prepare", "words", "code", "line"),
    [
        (lambda _: None, [], 2, "error: action=check needs a study: study=NAME\n"),
        (lambda _: None, [f"study={NAME}"], 3, "the study database '{}/optuna.db' does not exist"),
        (
            lambda folder: open_study(folder).close(),
            ["study=lrr"],
            2,
            "study='lrr' is unknown in the study database '{}/optuna.db'; known: lr. Did "
            "you mean 'lr'?",
        ),
    ],
    ids=["no study", "gone", "another"],
)
def test_check_without_a_known_study_creates_nothing(
    prepare: Callable[[Path], None],
    words: list[str],
    code: int,
    line: str,
    own_folder: Path,
    capsys: Capture,
) -> None:
    prepare(own_folder)
    before = {path.name for path in own_folder.glob("*.db")}
    assert main(["action=check", *words]) == code
    assert line.format(own_folder) in capsys.readouterr().err
    assert {path.name for path in own_folder.glob("*.db")} == before


def test_study_without_trials_has_a_report(own_folder: Path) -> None:
    open_study(own_folder).close()
    assert report([f"study={NAME}", "output=page.html", "tracking=none"]) == 0
    assert (own_folder / "page.html").exists()


# ── listed, reaped and removed ──────────────────────────────────────────────────────────────


def complete(ledger: Ledger, value: float) -> None:
    trial = take(ledger)
    assert ledger.finish(trial, TrialEnd(end=End.COMPLETE, values=(value,)))


def begun(ledger: Ledger, number: int, uri: str) -> Journal:
    """The journal of a trial, which this process trains."""
    return begin_trial(Path("runs") / STUDY, number, uri, parent=False, uid=ledger.uid)


def test_list_shows_studies_before_runs(ledger: Ledger, capsys: Capture) -> None:
    """The study's own run is shown once."""
    for value in (0.5, 0.75):
        complete(ledger, value)
    trial = take(ledger)
    ledger.finish(trial, TrialEnd(end=End.DIVERGED))
    take(ledger, own_lease())
    begin_run(STUDY, tags=SWEEP)
    begin_run("1-mlp", tags=TRAIN).end(End.COMPLETE)
    assert main([]) == 0
    heading, study, gap, headings, run = capsys.readouterr().out.splitlines()
    assert heading.split("\t") == ["study", "trials", "value", "age", "folder"]
    cells = study.split("\t")
    assert cells[:3] == [STUDY, "2 complete, 1 diverged, 1 running", "val/f1 0.7500"]
    assert cells[4] == f"runs/{STUDY}"
    assert gap == ""
    assert headings.startswith("name\tstatus")
    assert run.split("\t")[:2] == ["1-mlp", "FINISHED"]


def test_list_shows_mean_and_sd_over_seeds(own_folder: Path, capsys: Capture) -> None:
    seeds = space_of({"seed": "range(0, 3)"})
    with closing(open_ledger(Path("optuna.db"), space=seeds, sampler="grid")) as ledger:
        for value in (0.5, 0.75, 1.0):
            complete(ledger, value)
    assert main([]) == 0
    assert "\t3 complete\tval/f1 0.7500 ± 0.2500\t" in capsys.readouterr().out


def test_reap_closes_and_queues_lost_trials(ledger: Ledger, uri: str, capsys: Capture) -> None:
    """It closes them in MLflow too."""
    lost, ended, alive = (
        take(ledger, lease).number for lease in (dead_lease(), dead_lease(), own_lease())
    )
    for number in (lost, ended):
        journal = begun(ledger, number, uri)
        if number == ended:
            journal.end(End.DIVERGED)
        assign_to_missing_process(journal.folder)
    begun(ledger, alive, uri)
    silent = take(ledger, far_lease()).number  # on another machine
    assert main(["action=reap", "grace=0.5"]) == 0
    printed = capsys.readouterr().out
    assert f"study {STUDY}: trial {lost} was lost because its process died" in printed
    assert f"study {STUDY}: trial {ended} had ended (diverged)" in printed
    assert f"study {STUDY}: trial {silent} was lost because its process died" in printed
    rows = [row.state for row in ledger.trials()]
    assert rows == [
        End.LOST,
        End.DIVERGED,
        "running",
        End.LOST,
        "waiting",
        "waiting",
    ]
    assert ends(uri) == {
        lost: ("FAILED", "lost"),
        ended: ("FAILED", "diverged"),
        alive: ("RUNNING", None),
    }


def test_clean_removes_old_runs_only_with_apply(uri: str, capsys: Capture) -> None:
    output = Path("runs")
    old = begin_run("1-old", uri, TRAIN)
    (old.folder / "artifacts").mkdir()
    (old.folder / "artifacts" / "history.csv").write_text("epoch\n" * 999)
    old.end(End.COMPLETE)
    begin_run("2-running", uri, TRAIN)
    begin_run(STUDY, uri, SWEEP).end(End.COMPLETE)
    assert main(["action=sync"]) == 0
    begin_run("3-unsent", uri, TRAIN).end(End.COMPLETE)
    capsys.readouterr()

    assert main(["action=clean"]) == 0
    assert "no run below output='runs' ended more than 30 days ago" in capsys.readouterr().out
    assert main(["action=clean", "older_than=0"]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith("runs/1-old: 0 days old, 0.0 MiB\n1 runs, 0.0 MiB: remove them with")
    assert (old.folder.exists(), len(runs(uri))) == (True, 3)
    files = Path("mlartifacts") / "pipeline"
    assert [path.name for path in files.rglob("*.csv")] == ["history.csv"]

    assert main(["action=clean", "older_than=0", "apply=true"]) == 0
    assert "removed; delete them from MLflow with: mlflow gc" in capsys.readouterr().out
    folder_names = {path.name for path in output.iterdir()}
    assert folder_names == {"2-running", "3-unsent", STUDY}
    assert {run.info.run_name for run in runs(uri)} == {"2-running", STUDY}
    assert list(files.rglob("*.csv")) == []


def test_clean_removes_a_study_unless_it_runs(
    ledger: Ledger,
    uri: str,
    capsys: Capture,
    monkeypatch: Patch,
) -> None:
    complete(ledger, 0.5)
    journal = begun(ledger, 0, uri)
    journal.end(End.COMPLETE)
    assert main(["action=sync"]) == 0
    for reference in (read_state(journal.folder).run_id[:10], journal.folder.name):
        assert find_run(reference, Path("runs")) == journal.folder
    words = ["action=clean", f"study={STUDY}"]
    trial = take(ledger)
    capsys.readouterr()
    assert main([*words, "apply=true"]) == 2
    assert f"study='{STUDY}' is running; stop it, or wait until it ends" in capsys.readouterr().err
    ledger.finish(trial, TrialEnd(end=End.ERROR))

    assert main(words) == 0
    assert f"study {STUDY}: 2 trials, 1 runs, 0.0 MiB in runs/{STUDY}" in capsys.readouterr().out
    assert len(trials(uri)) == 1
    leaders: list[object] = []

    def removed(*arguments: Any) -> None:
        leaders.append(leader_lock(Path("runs") / STUDY))
        remove_record(*arguments)

    monkeypatch.setattr("pipeline.study.study_removal.remove_record", removed)
    assert main([*words, "apply=true"]) == 0
    assert leaders == [None]  # a sweep that starts meanwhile does not lead it
    assert trials(uri) == {}
    assert not (Path("runs") / STUDY).exists()
    assert main(["action=check", f"study={STUDY}"]) == 2
    assert "known: none" in capsys.readouterr().err
