import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from ledgers import open_ledger, take
from mlflow.tracking import MlflowClient
from recorded_trials import database_in, ends, runs, trials

from pipeline.runs import main
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.rows import Row
from pipeline.study.mlflow_recorder import MlflowRecorder, RunDestination
from pipeline.study.recorded_studies import differences, record_missing, write_run
from pipeline.study.trial_end import TrialEnd, end_journal
from pipeline.tracking.fields import RecordedTrial
from pipeline.tracking.journal import Header, Journal
from pipeline.tracking.uri import sqlite_uri

NAME = "lr"
ENDS = (
    TrialEnd(state="complete", values=(0.75,), attributes={"epochs": 5, "test/f1": 0.5}),
    TrialEnd(state="pruned", reason="pruned"),
    TrialEnd(state="failed", reason="diverged"),
    TrialEnd(state="failed", reason="oom"),
    TrialEnd(state="failed", reason="error"),
    TrialEnd(state="failed", reason="interrupted"),
    TrialEnd(state="failed", reason="lost"),
)
RECORDED = {
    0: ("FINISHED", None),
    1: ("FINISHED", "pruned"),
    2: ("FAILED", "diverged"),
    3: ("FAILED", "oom"),
    4: ("FAILED", "error"),
    5: ("KILLED", "interrupted"),
    6: ("FAILED", "lost"),
}


def destination_of(ledger: Ledger, folder: Path, uri: str) -> RunDestination:
    return RunDestination(
        name=NAME,
        uid=ledger.uid,
        folder=folder,
        uri=uri,
        experiment="pipeline",
        objectives=("val/f1",),
    )


def train_all(ledger: Ledger) -> None:
    """Take and end a trial for each kind of end; the points of the last two are queued again."""
    for end in ENDS:
        taken = take(ledger)
        assert ledger.finish(taken, end)


def record_all(ledger: Ledger, folder: Path, uri: str) -> int:
    """Give a run to each trial that has none, under the study's own."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder)
    tags = {"pipeline.study": ledger.uid, "pipeline.command": "sweep"}
    journal.begin(Header(name=NAME, experiment="pipeline", uri=uri, tags=tags))
    destination = destination_of(ledger, folder, uri)
    with MlflowRecorder(uri, experiment="pipeline") as recorder:
        recorder.connect()
        recorder.follow(folder)
        count = record_missing(
            ledger.trials(), destination, recorder, lambda row: dict(row.overrides)
        )
        journal.end("FINISHED")
    return count


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of each kind of end, and its runs in MLflow."""
    folder = tmp_path_factory.mktemp("recorded")
    uri = database_in(folder, tmp_path_factory.getbasetemp())
    ledger = open_ledger(folder / "optuna.db", name=NAME, n_trials=10, max_retry=1)
    train_all(ledger)
    assert record_all(ledger, folder / "runs" / NAME, uri) == len(ENDS)
    ledger.close()
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


def run_id(folder: Path, number: int) -> str:
    return str(trials(sqlite_uri(folder / "mlflow.db"))[number].info.run_id)


def test_each_end_of_a_trial_has_its_status_and_reason_in_mlflow(recorded: Path) -> None:
    assert ends(sqlite_uri(recorded / "mlflow.db")) == RECORDED


def test_a_repaired_run_tells_what_the_study_knows_of_its_trial(recorded: Path) -> None:
    uri = sqlite_uri(recorded / "mlflow.db")
    run = trials(uri)[0]
    (row, *_) = open_ledger(recorded / "optuna.db", name=NAME, n_trials=10).trials()
    assert run.data.metrics == {"best/val/f1": 0.75, "test/f1": 0.5}
    assert run.data.params == dict(row.overrides)
    assert row.started is not None
    assert row.ended is not None
    times = (run.info.start_time, run.info.end_time)
    assert times == (round(1000 * row.started), round(1000 * row.ended))
    (parent,) = [one for one in runs(uri) if "pipeline.trial" not in one.data.tags]
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert not list((recorded / "runs" / NAME / "trials").iterdir())


def open_below(folder: Path) -> int:
    """How many of this process's open files lie in ``folder``."""
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile, such as the listing's own
            targets.append(descriptor.readlink())
    return sum(target.is_relative_to(folder) for target in targets)


def test_repairing_two_hundred_trials_leaves_no_file_open(tmp_path: Path) -> None:
    names = {"name": NAME, "uid": "0123", "experiment": "pipeline", "objectives": ("val/f1",)}
    destination = RunDestination(**names, folder=tmp_path, uri="sqlite:///nowhere.db")
    rows = [Row(number=n, state="failed", reason="oom") for n in range(200)]
    recorder = MlflowRecorder(None, experiment="pipeline")
    for row in rows:
        write_run(row, destination, recorder, {})
    assert open_below(tmp_path) == 0
    for row in rows:
        assert end_journal(destination.trial_folder(row.number), "failed", "lost")
    assert open_below(tmp_path) == 0


def test_a_study_without_missing_runs_is_left_as_it_is(own: Path) -> None:
    uri = sqlite_uri(own / "mlflow.db")
    ledger = open_ledger(own / "optuna.db", name=NAME, n_trials=10)
    assert record_all(ledger, own / "runs" / NAME, uri) == 0
    assert ends(uri) == RECORDED


def test_stores_that_agree_are_one_line(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(capsys) == (0, ["7 trials, 7 runs: they agree"])


def test_a_run_that_was_deleted_in_mlflow_is_missing_and_comes_back_with_the_next_start(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = sqlite_uri(own / "mlflow.db")
    MlflowClient(uri).delete_run(run_id(own, 1))
    assert checked(capsys) == (5, ["error: trial 1 (pruned) has no run"])
    ledger = open_ledger(own / "optuna.db", name=NAME, n_trials=10)
    assert record_all(ledger, own / "runs" / NAME, uri) == 1
    assert checked(capsys) == (0, ["7 trials, 7 runs: they agree"])


COMPLETED = Row(number=0, state="complete", values=(0.5,))


@pytest.mark.parametrize(
    ("row", "runs", "line"),
    [
        (COMPLETED, ["a FINISHED", "b FINISHED"], "trial 0 (complete) has 2 runs: a, b"),
        (COMPLETED, ["a FINISHED"], "trial 0 has val/f1=0.5; run a has no such value"),
        (COMPLETED, ["a FINISHED 0.75"], "trial 0 has val/f1=0.5; run a has 0.75"),
        (
            COMPLETED,
            ["a RUNNING 0.5"],
            "trial 0 (complete) should have a run that is FINISHED; run a is RUNNING",
        ),
        (
            Row(number=0, state="running"),
            ["a FINISHED"],
            "trial 0 (running) should have a run that is RUNNING; run a is FINISHED",
        ),
        (
            Row(number=0, state="failed", reason="oom"),
            ["a FAILED,lost"],
            "trial 0 (failed, oom) should have a run that is FAILED, oom; run a is FAILED, lost",
        ),
        (
            Row(number=0, state="pruned", reason="pruned"),
            ["a FAILED,diverged"],
            "trial 0 (pruned) should have a run that is FINISHED, pruned; "
            "run a is FAILED, diverged",
        ),
        (Row(number=0, state="pruned", reason="pruned"), [], "trial 0 (pruned) has no run"),
        (None, ["a FINISHED"], "run a is of trial 0, of which the study knows nothing"),
    ],
)
def test_what_differs_is_one_line_a_trial(row: Row | None, runs: list[str], line: str) -> None:
    runs_held = []
    for words in runs:
        run_id, end, *values = words.split()
        status, _, reason = end.partition(",")
        held = {"best/val/f1": float(values[0])} if values else {}
        runs_held.append(
            RecordedTrial(
                trial=0, run_id=run_id, status=status, end_reason=reason or None, metrics=held
            )
        )
    assert differences([] if row is None else [row], runs_held, ("val/f1",)) == [line]


@pytest.mark.parametrize("held", [{"best/val/f1": 0.5, "val/f1": 0.25}, {"val/f1": 0.5}])
def test_the_value_of_the_kept_weights_may_be_the_best_or_the_last(held: dict[str, float]) -> None:
    rows = [Row(number=0, state="complete", values=(0.5,))]
    runs_held = [RecordedTrial(trial=0, run_id="a", status="FINISHED", metrics=held)]
    assert differences(rows, runs_held, ("val/f1",)) == []


def test_trials_that_wait_or_have_just_begun_need_no_run() -> None:
    rows = [Row(number=0, state="running"), Row(number=1, state="waiting")]
    assert differences(rows, []) == []


def test_check_names_the_nearest_study(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["action=check", "study=lrr"]) == 2
    said = capsys.readouterr().err
    assert "study='lrr' is unknown in the study database" in said
    assert "there are lr. Did you mean 'lr'?" in said


def test_check_without_a_study_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["action=check"]) == 2
    said = capsys.readouterr().err
    assert said == "error: action=check needs the name of a study: study=NAME\n"


def test_a_study_database_that_is_gone_is_exit_code_3_and_is_not_created(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["action=check", f"study={NAME}"]) == 3
    assert f"the study database {str(own_folder / 'optuna.db')!r} is not there" in (
        capsys.readouterr().err
    )
    assert list(own_folder.iterdir()) == []


def test_a_study_database_of_text_is_exit_code_2(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_folder / "optuna.db").write_text("text\n" * 999)
    assert main(["action=check", f"study={NAME}"]) == 2
    assert f"{str(own_folder / 'optuna.db')!r} is no database" in capsys.readouterr().err
