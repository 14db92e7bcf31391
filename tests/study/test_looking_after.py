from pathlib import Path

import pytest
from ledgers import dead_lease, far_lease, open_ledger, take
from recorded_trials import (
    STUDY,
    database_in,
    ends,
    give_to_a_process_that_never_was,
    runs,
    trials,
)

from pipeline.processes.lease import own_lease
from pipeline.runs import main
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.messages import TrialEnd
from pipeline.tracking.folders import find_run, read_state
from pipeline.tracking.journal import Header, Journal


@pytest.fixture
def uri(own_folder: Path, empty_database: Path) -> str:
    """The address of `mlflow.db` in the current folder."""
    return database_in(own_folder, empty_database)


@pytest.fixture
def ledger(own_folder: Path) -> Ledger:
    """A study in `optuna.db` in the current folder."""
    return open_ledger(own_folder / "optuna.db", name=STUDY, n_trials=10)


def complete(ledger: Ledger, value: float) -> None:
    taken = take(ledger)
    assert ledger.finish(taken, TrialEnd(state="complete", values=(value,)))


def folder_of(ledger: Ledger, number: int) -> Path:
    return Path("runs") / STUDY / "trials" / f"{ledger.uid}-{number:04}"


def begin(folder: Path, uri: str, *, key: str, tags: dict[str, str]) -> Journal:
    folder.mkdir(parents=True)
    journal = Journal(folder)
    journal.begin(Header(name=key, experiment="pipeline", uri=uri, tags=tags, key=key))
    return journal


def begun(ledger: Ledger, number: int, uri: str) -> Journal:
    """The journal of a trial, which this process trains."""
    tags = {"pipeline.study": ledger.uid, "pipeline.trial": str(number)}
    return begin(folder_of(ledger, number), uri, key=f"{STUDY}-{number}", tags=tags)


def test_the_list_shows_studies_before_runs_and_a_studys_own_run_once(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in (0.5, 0.75):
        complete(ledger, value)
    taken = take(ledger)
    ledger.finish(taken, TrialEnd(state="failed", reason="diverged"))
    take(ledger, own_lease())
    begin(Path("runs") / STUDY, "", key=STUDY, tags={"pipeline.command": "sweep"})
    begin(Path("runs") / "1-mlp", "", key="mlp", tags={}).end("FINISHED")
    assert main([]) == 0
    heading, study, gap, headings, run = capsys.readouterr().out.splitlines()
    assert heading.split("\t") == ["study", "trials", "best", "age", "folder"]
    cells = study.split("\t")
    assert cells[:3] == [STUDY, "2 complete, 1 diverged, 1 running", "val/f1 0.7500"]
    assert cells[4] == f"runs/{STUDY}"
    assert gap == ""
    assert headings.startswith("name\tstatus")
    assert run.split("\t")[:2] == ["mlp", "FINISHED"]


def test_a_trial_is_found_by_the_beginning_of_its_id_and_by_its_folder(
    ledger: Ledger, uri: str
) -> None:
    complete(ledger, 0.5)
    journal = begun(ledger, 0, uri)
    journal.end("FINISHED")
    assert main(["action=sync"]) == 0
    folder, output = journal.folder, Path("runs")
    run_id = read_state(folder).run_id
    assert find_run(run_id[:10], output) == folder
    assert find_run(folder.name, output) == folder
    assert find_run(str(folder), output) == folder


def test_reap_closes_lost_trials_in_the_study_and_in_mlflow_and_queues_them_again(
    ledger: Ledger, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lost, ended, alive = (
        take(ledger, lease).number for lease in (dead_lease(), dead_lease(), own_lease())
    )
    for number in (lost, ended):
        journal = begun(ledger, number, uri)
        if number == ended:
            journal.end("FAILED", "diverged")
        give_to_a_process_that_never_was(journal.folder)
    begun(ledger, alive, uri)
    silent = take(ledger, far_lease()).number  # on another machine
    assert main(["action=reap", "grace=0.5"]) == 0
    said = capsys.readouterr().out
    assert f"study {STUDY}: trial {lost} was lost with its process" in said
    assert f"study {STUDY}: trial {ended} had ended (diverged)" in said
    assert f"study {STUDY}: trial {silent} was lost with its process" in said
    rows = [(row.state, row.reason) for row in ledger.trials()]
    assert rows == [
        ("failed", "lost"),
        ("failed", "diverged"),
        ("running", None),
        ("failed", "lost"),
        ("waiting", None),
        ("waiting", None),
    ]
    assert ends(uri) == {
        lost: ("FAILED", "lost"),
        ended: ("FAILED", "diverged"),
        alive: ("RUNNING", None),
    }


def test_clean_lists_what_is_old_and_removes_it_only_when_told_to(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path("runs")
    old = begin(output / "1-old", uri, key="old", tags={})
    (old.folder / "artifacts").mkdir()
    (old.folder / "artifacts" / "history.csv").write_text("epoch\n" * 999)
    old.end("FINISHED")
    begin(output / "2-running", uri, key="running", tags={})
    begin(output / STUDY, uri, key=STUDY, tags={"pipeline.command": "sweep"}).end("FINISHED")
    assert main(["action=sync"]) == 0
    begin(output / "3-unsent", uri, key="unsent", tags={}).end("FINISHED")
    capsys.readouterr()

    assert main(["action=clean"]) == 0
    assert "no run below output='runs' ended 30 days ago" in capsys.readouterr().out
    assert main(["action=clean", "older_than=0"]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith("runs/1-old: 0 days old, 0.0 MiB\n1 runs, 0.0 MiB: remove them with")
    assert (old.folder.exists(), len(runs(uri))) == (True, 3)
    files = Path("mlartifacts") / "pipeline"
    assert [path.name for path in files.rglob("*.csv")] == ["history.csv"]

    assert main(["action=clean", "older_than=0", "apply=true"]) == 0
    assert "removed; MLflow forgets them for good with: mlflow gc" in capsys.readouterr().out
    kept = {path.name for path in output.iterdir()}
    assert kept == {"2-running", "3-unsent", STUDY}
    assert {run.info.run_name for run in runs(uri)} == {"running", STUDY}
    assert list(files.rglob("*.csv")) == []


def test_clean_removes_a_study_whole_and_never_one_at_work(
    ledger: Ledger, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    complete(ledger, 0.5)
    begun(ledger, 0, uri).end("FINISHED")
    assert main(["action=sync"]) == 0
    words = ["action=clean", f"study={STUDY}"]
    taken = take(ledger)
    capsys.readouterr()
    assert main([*words, "apply=true"]) == 2
    assert f"study='{STUDY}' is at work; stop it, or wait for its end" in capsys.readouterr().err
    ledger.finish(taken, TrialEnd(state="failed", reason="error"))

    assert main(words) == 0
    assert f"study {STUDY}: 2 trials, 1 runs, 0.0 MiB in runs/{STUDY}" in capsys.readouterr().out
    assert len(trials(uri)) == 1
    assert main([*words, "apply=true"]) == 0
    assert trials(uri) == {}
    assert not (Path("runs") / STUDY).exists()
    assert main(["action=check", f"study={STUDY}"]) == 2
    assert "there are none" in capsys.readouterr().err
