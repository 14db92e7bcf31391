"""Databases of studies that someone else has written: nothing of the user's is harmed by them."""

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from faults.refusals import content_of
from helpers.fixture_types import Capture
from study.ledgers import COMPLETE, dead_lease, failed, open_ledger, take
from study.recorded_trials import STUDY, assign_to_missing_process, begin_run, begin_trial, runs

from pipeline.base.ends import End
from pipeline.base.errors import ConfigError
from pipeline.report import main as report
from pipeline.runs import main
from pipeline.study.ledger.ledger import Ledger
from pipeline.sweep import main as sweep
from pipeline.tracking.folders import FORGET, trial_folder
from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import Header
from pipeline.tracking.run_record import JOURNAL

DATABASE = Path("optuna.db")
VICTIM = "victim-0000"


def execute(statement: str, *values: object) -> None:
    """Change `optuna.db` without the program."""
    with closing(sqlite3.connect(DATABASE)) as connection, connection:
        connection.execute(statement, values)


def set_attribute(key: str, value: object, *, study: str = STUDY) -> None:
    """Replace a user attribute of a study by a value, or by a text that need not be JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    execute(
        "UPDATE study_user_attributes SET value_json = ? WHERE key = ? AND study_id = "
        "(SELECT study_id FROM studies WHERE study_name = ?)",
        text,
        key,
        study,
    )


def begin(name: str, uri: str, tags: Mapping[str, str] | None = None) -> Path:
    """The folder of a finished run of the user's own."""
    with closing(begin_run(name, uri, tags)) as journal:
        journal.end(End.COMPLETE)
    return journal.folder


# ── reaping ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("uid", ["../../victim", "/tmp/victim", "C0FFEE", "", 5])
def test_study_id_that_is_a_path_reaps_nothing(
    uid: object, ledger: Ledger, uri: str, capsys: Capture
) -> None:
    folder = begin(VICTIM, "")
    content = (folder / JOURNAL).read_bytes()
    take(ledger, dead_lease())
    set_attribute("uid", json.dumps(uid))
    assert main(["action=reap", "grace=0.1", f"study={STUDY}"]) == 2
    printed = capsys.readouterr().err
    assert f"error: the study '{STUDY}' has an id that no sweep has given it" in printed
    assert (folder / JOURNAL).read_bytes() == content
    assert not (folder / FORGET).exists()
    assert [row.state for row in ledger.trials()] == ["running"]


@pytest.mark.parametrize("tags", [{}, {"pipeline.study": "abc123", "pipeline.trial": "0"}])
def test_reap_ends_no_journal_of_another_run(
    tags: Mapping[str, str], ledger: Ledger, uri: str
) -> None:
    number = take(ledger, dead_lease()).number
    folder = trial_folder(Path("runs", STUDY), ledger.uid, number)
    folder.mkdir(parents=True)
    with closing(Journal(folder)) as journal:
        journal.begin(Header(name="other", experiment="pipeline", uri="", tags=tags))
    content = (folder / JOURNAL).read_bytes()
    assert main(["action=reap", "grace=0.1"]) == 0
    assert [row.stage for row in ledger.trials()] == ["failed", "waiting"]
    assert (folder / JOURNAL).read_bytes() == content
    assert not (folder / FORGET).exists()


@pytest.mark.parametrize("has_lease", [True, False])
def test_reap_ends_no_trial_that_its_process_trains(
    has_lease: bool, ledger: Ledger, uri: str, capsys: Capture
) -> None:
    """What the database says of a trial's process is not what the trial's journal says."""
    number = take(ledger, dead_lease()).number
    if not has_lease:
        execute("DELETE FROM trial_user_attributes WHERE key = 'lease'")
    journal = begin_trial(Path("runs", STUDY), number, "", uid=ledger.uid)
    content = journal.path.read_bytes()
    words = ["action=reap", "grace=0.1"]
    assert main(words) == 0
    assert main([*words, f"study={STUDY}"]) == 0
    assert f"study {STUDY}: " not in capsys.readouterr().out
    assert journal.path.read_bytes() == content
    assert not (journal.folder / FORGET).exists()
    assert [row.state for row in ledger.trials()] == ["running"]
    assign_to_missing_process(journal.folder)
    assert main(words) == 0
    assert f"study {STUDY}: trial {number} was lost" in capsys.readouterr().out


# ── removing ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["{}/victim", "..", "../work/victim", "runs/victim"])
def test_clean_refuses_a_study_named_by_a_path(
    name: str, ledger: Ledger, uri: str, own_folder: Path, capsys: Capture
) -> None:
    for victim in (Path("victim"), Path("runs", "victim")):
        victim.mkdir()
        (victim / "thesis.txt").write_text("three years")
    path = name.format(own_folder)
    execute("UPDATE studies SET study_name = ?", path)
    assert main(["action=clean", f'study="{path}"', "apply=true"]) == 2
    assert f"error: study='{path}' is not a name; expected 1 to 64" in capsys.readouterr().err
    assert (Path("victim") / "thesis.txt").exists()
    assert (Path("runs", "victim") / "thesis.txt").exists()
    assert main([]) == 0


def test_clean_deletes_no_runs_of_another_study(ledger: Ledger, uri: str, capsys: Capture) -> None:
    tags = {"pipeline.command": "sweep", "pipeline.study": ledger.uid}
    begin("victim", uri, tags)
    begin("older", uri, {**tags, "study": "victim"})
    begin("evil", uri, {**tags, "study": "evil"})
    assert main(["action=sync"]) == 0
    open_ledger(Path("optuna.db"), name="evil").close()
    set_attribute("uid", json.dumps(ledger.uid), study="evil")
    capsys.readouterr()
    words = ["action=clean", "study=evil"]
    assert main(words) == 0
    assert "study evil: 0 trials, 1 runs, 0.0 MiB in runs/evil: " in capsys.readouterr().out
    assert main([*words, "apply=true"]) == 0
    assert {run.info.run_name for run in runs(uri)} == {"victim", "older"}
    assert not Path("runs", "evil").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (main, ["action=clean"]),
        (main, ["action=clean", "apply=true"]),
        (main, ["action=reap", "grace=0.1"]),
        (report, ["tracking=none"]),
    ],
)
def test_study_named_like_a_run_changes_no_run(
    command: Callable[[list[str]], int],
    words: list[str],
    ledger: Ledger,
    uri: str,
    capsys: Capture,
) -> None:
    name = "20261201-120000-mine-c0ffee"
    run = begin(name, uri)
    execute("UPDATE studies SET study_name = ?", name)
    before = content_of(run)
    assert command([f"study={name}", *words]) == 2
    assert content_of(run) == before
    assert (
        f"error: 'runs/{name}' is not the folder of study='{name}' in this database: it holds a "
        "run or another study; "
    ) in capsys.readouterr().err


def test_reap_sends_no_run_named_like_a_study(ledger: Ledger, uri: str, capsys: Capture) -> None:
    """Otherwise a foreign run would be registered like one of the user's own."""
    run = begin("theirs", uri)
    (run / "owner").unlink()
    execute("UPDATE studies SET study_name = 'theirs'")
    assert main(["action=reap", "grace=0.1", "study=theirs"]) == 2
    assert not (run / "mlflow.json").exists()


def test_sweep_writes_into_no_run_folder(own_folder: Path, capsys: Capture) -> None:
    run = begin("mine", "")
    before = content_of(run)
    words = ["model=mlp", "data=iris", "sweeps=quick", "sweep.name=mine", "sweep.workers=1"]
    assert sweep([*words, "sweep.n_trials=1", "tracking=none", "verbose=0"]) == 2
    assert content_of(run) == before
    assert capsys.readouterr().err == (
        "error: 'runs/mine' is the folder of a run; choose another sweep.name\n"
    )


@pytest.mark.parametrize("words", [[], ["apply=true"]])
def test_clean_keeps_foreign_folder_without_journal(
    words: list[str], ledger: Ledger, uri: str, capsys: Capture
) -> None:
    study = Path("runs", STUDY)
    (study / "owner").unlink()
    (study / "thesis.txt").write_text("three years")
    assert main(["action=clean", f"study={STUDY}", *words]) == 2
    assert f"error: 'runs/{STUDY}' has no journal that says whether it" in capsys.readouterr().err
    assert (study / "thesis.txt").exists()


def test_clean_reports_a_foreign_folder(ledger: Ledger, uri: str, capsys: Capture) -> None:
    study = Path("runs", STUDY)
    begin(STUDY, "", {"pipeline.command": "sweep", "pipeline.study": ledger.uid})
    (study / "owner").unlink()
    for words in ([], ["apply=true"]):
        assert main(["action=clean", f"study={STUDY}", *words]) == 0
        assert (
            f"0.0 MiB in runs/{STUDY}, which is foreign (a copy, or not begun here by you): remove"
        ) in capsys.readouterr().out
    assert not study.exists()


def test_clean_follows_no_link(ledger: Ledger, uri: str, tmp_path: Path, capsys: Capture) -> None:
    outside = tmp_path / "thesis.txt"
    outside.write_text("three years")
    link = Path("runs", STUDY, "link")
    link.symlink_to(outside)
    assert main(["action=clean", f"study={STUDY}", "apply=true"]) == 2
    assert f"error: '{link}' is a link; a run's folder holds" in capsys.readouterr().err
    assert link.is_symlink()
    assert outside.exists()


# ── values that no sweep has written ────────────────────────────────────────────────────────────

DEEP = "[" * 100_000 + "]" * 100_000
ATTRIBUTE = "UPDATE study_user_attributes SET value_json = ? WHERE study_id = 1 AND key = "
WAITING = "UPDATE trial_system_attributes SET value_json"
CHANGES = {
    "objectives": (f"{ATTRIBUTE} 'objectives'", "5"),
    "more objectives": (f"{ATTRIBUTE} 'objectives'", '[{"name": "a", "direction": "max", "x": 1}]'),
    "no objectives": (f"{ATTRIBUTE} 'objectives'", "[]"),
    "space": (f"{ATTRIBUTE} 'space'", "[1]"),
    "deep space": (f"{ATTRIBUTE} 'space'", DEEP),
    "uid": (f"{ATTRIBUTE} 'uid'", "{"),
    "date": ("UPDATE trials SET datetime_start = ? WHERE study_id = 1", "yesterday"),
    "number as date": ("UPDATE trials SET datetime_complete = ? WHERE study_id = 1", 5),
    "state": ("UPDATE trials SET state = ? WHERE study_id = 1", "ODD"),
    "direction": ("UPDATE study_directions SET direction = ? WHERE study_id = 1", "ODD"),
    "value": ("UPDATE trial_values SET value = ? WHERE trial_id = 1", "many"),
    "param": ("UPDATE trial_params SET param_value = ? WHERE trial_id = 1", "many"),
    "distribution": ("UPDATE trial_params SET distribution_json = ? WHERE trial_id = 1", "{}"),
    "deep distribution": (
        "UPDATE trial_params SET distribution_json = ? WHERE trial_id = 1",
        DEEP,
    ),
    "step of the space": (
        f"{ATTRIBUTE} 'space'",
        '{"optimizer.lr": {"kind": "float", "low": 0.1, "high": 0.2, "step": "x", "log": true, '
        '"choices": [], "off": false, "key": "lr", "name": "optimizer.lr", "when": null}}',
    ),
    "point of a waiting trial": (f"{WAITING} = ? WHERE trial_id = 3", '"x"'),
    "value of a waiting trial": (f"{WAITING} = ? WHERE trial_id = 3", '{"optimizer.lr": "x"}'),
}
#: Only a sweep reads them.
CHANGES_FOR_SWEEP = {
    "base": (f"{ATTRIBUTE} 'base'", "5"),
    "number of a trial": ("UPDATE trials SET number = ? WHERE trial_id = 3", 5),
    "tested": (
        "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (1, 'tested', ?)",
        "5",
    ),
    "grid point": (
        "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (1, 'point', ?)",
        "{}",
    ),
}


def add_trials(ledger: Ledger) -> None:
    """Add a trial that completed, one that was interrupted, and one that waits to repeat it."""
    ledger.finish(take(ledger), COMPLETE)
    ledger.finish(take(ledger), failed("interrupted"))
    assert [row.stage for row in ledger.trials()] == ["complete", "failed", "waiting"]


@pytest.mark.parametrize(("statement", "value"), CHANGES.values(), ids=CHANGES)
def test_study_with_invalid_values_is_skipped(
    statement: str, value: object, ledger: Ledger, uri: str, capsys: Capture
) -> None:
    add_trials(ledger)
    with closing(open_ledger(DATABASE, name="good")) as good:
        good.finish(take(good), COMPLETE)
    execute(statement, value)
    message = f"the study '{STUDY}' in the study database '{DATABASE.absolute()}' can't be read ("
    capsys.readouterr()
    assert main([]) == 0
    printed = capsys.readouterr()
    assert "good\t1 complete\tval/f1 0.5000\t" in printed.out
    assert f"{STUDY}\t" not in printed.out
    (warning,) = [line for line in printed.err.splitlines() if line.startswith("warning: ")]
    assert warning.startswith(f"warning: {message}")
    assert report([f"study={STUDY}", "tracking=none"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {message}")


ALL_CHANGES = CHANGES | CHANGES_FOR_SWEEP


@pytest.mark.parametrize(("statement", "value"), ALL_CHANGES.values(), ids=ALL_CHANGES)
def test_sweep_refuses_study_with_invalid_values(
    statement: str, value: object, ledger: Ledger
) -> None:
    add_trials(ledger)
    execute(statement, value)

    def go_on() -> None:
        with closing(open_ledger(DATABASE, name=STUDY, n_trials=10)) as again:
            again.trials()
            again.progress()
            assert again.facts
            take(again)

    with pytest.raises(ConfigError) as caught:
        go_on()
    assert caught.value.exit_code == 2
    (line,) = caught.value.problems
    assert "can't be read (" in line or "; choose another name for this study" in line


def test_sweep_over_file_names_study_with_invalid_values(ledger: Ledger, capsys: Capture) -> None:
    """The default name of a study depends on earlier studies of that name."""
    rows = [f"{x},{'ab'[x % 2]}" for x in range(60)]
    Path("rows.csv").write_text("\n".join(["x,y", *rows]) + "\n", encoding="utf-8")
    name = "sweep-mlp-rows"
    execute("UPDATE studies SET study_name = ?", name)
    set_attribute("base", 5, study=name)
    words = ["model=mlp", "data=table", "data.path=rows.csv", "data.target=y", "tracking=none"]
    assert sweep([*words, "optimizer.lr=interval(0.1,0.2)", "sweep.n_trials=1"]) == 2
    assert f"error: the study '{name}' in the study database" in capsys.readouterr().err


def test_reap_skips_an_unreadable_study(ledger: Ledger, uri: str, capsys: Capture) -> None:
    execute(f"{ATTRIBUTE} 'objectives'", "5")
    assert main(["action=reap", "grace=0.1"]) == 0
    assert f"warning: the study '{STUDY}' in the study database" in capsys.readouterr().err
    for action in ("reap", "check", "clean"):
        assert main([f"action={action}", f"study={STUDY}"]) == 2
        assert f"error: the study '{STUDY}' in the study database" in capsys.readouterr().err


@pytest.mark.parametrize("name", [b"\xff\xfe", "..", "/tmp/victim", "a\x1b[2J"])
def test_list_skips_an_invalid_study_name(
    name: str | bytes, ledger: Ledger, uri: str, capsys: Capture
) -> None:
    open_ledger(DATABASE, name="good").close()
    execute("UPDATE studies SET study_name = ? WHERE study_id = 1", name)
    assert main([]) == 0
    printed = capsys.readouterr()
    assert "good\tnone finished\t" in printed.out
    (warning,) = [line for line in printed.err.splitlines() if line.startswith("warning: ")]
    assert "is not a name; expected 1 to 64 letters" in warning
    assert "\x1b" not in warning


def test_database_text_cannot_start_a_line(ledger: Ledger, uri: str, capsys: Capture) -> None:
    harm = "a\nerror: FORGED\tx"
    ledger.finish(take(ledger), COMPLETE)
    ledger.finish(take(ledger), failed("error"))
    objective = {"name": f"val/f1{harm}", "direction": "max"}
    set_attribute("objectives", [objective])
    statement = "UPDATE trial_user_attributes SET value_json = ? WHERE key = 'end_reason'"
    execute(statement, json.dumps(harm))
    for command, words in (
        (main, []),
        (main, ["name=none"]),
        (main, ["action=check", f"study={STUDY}"]),
        (main, ["action=clean", f"study={STUDY}"]),
        (report, [f"study={STUDY}", "tracking=none"]),
    ):
        capsys.readouterr()
        command(words)
        printed = capsys.readouterr()
        lines = (printed.out + printed.err).splitlines()
        assert not [line for line in lines if line.startswith("error: FORGED")], words
        assert not [line for line in lines if "FORGED\t" in line], words


# ── statements in the database ──────────────────────────────────────────────────────────────────

ENDLESS = (
    "CREATE VIEW studies AS WITH RECURSIVE numbers(n) AS "
    "(SELECT 1 UNION ALL SELECT n + 1 FROM numbers) "
    "SELECT n AS study_id, 'a' || n AS study_name FROM numbers"
)
STATEMENTS = {
    "view": ("ALTER TABLE studies RENAME TO old_studies", ENDLESS),
    "trigger": ("CREATE TRIGGER studies AFTER UPDATE ON trials BEGIN DELETE FROM trials; END",),
    "virtual table": ("CREATE VIRTUAL TABLE studies_text USING fts5(content)",),
}


@pytest.mark.parametrize("statements", STATEMENTS.values(), ids=STATEMENTS)
def test_database_with_views_or_triggers_is_refused(
    statements: tuple[str, ...], ledger: Ledger, uri: str, capsys: Capture
) -> None:
    ledger.close()
    with closing(sqlite3.connect(DATABASE)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    for command, words in (
        (main, []),
        (main, ["action=reap"]),
        (main, ["action=clean", f"study={STUDY}"]),
        (report, [f"study={STUDY}", "tracking=none"]),
    ):
        assert command(words) == 2
        lines = capsys.readouterr().err.splitlines()
        (error,) = [line for line in lines if "INFO" not in line]
        assert error.startswith(f"error: '{DATABASE.absolute()}' has a view, a trigger or a")
