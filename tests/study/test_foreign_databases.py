"""Databases of studies that someone else has written: nothing of the user's is harmed by them."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from ledgers import dead_lease, open_ledger, take
from recorded_trials import STUDY, database_in

from pipeline.runs import main
from pipeline.study.ledger.ledger import Ledger
from pipeline.tracking.folders import FORGET, trial_folder
from pipeline.tracking.journal import JOURNAL, Header, Journal
from pipeline.tracking.ownership import adopt

DATABASE = Path("optuna.db")
VICTIM = "victim-0000"


@pytest.fixture
def uri(own_folder: Path, empty_database: Path) -> str:
    """The address of `mlflow.db` in the current folder."""
    return database_in(own_folder, empty_database)


@pytest.fixture
def ledger(own_folder: Path) -> Ledger:
    """A study in `optuna.db` in the current folder, with a folder that is the user's own."""
    ledger = open_ledger(own_folder / DATABASE, name=STUDY, n_trials=10)
    study = Path("runs", STUDY)
    study.mkdir(parents=True)
    adopt(study)
    return ledger


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
    folder = Path("runs", name)
    folder.mkdir(parents=True)
    journal = Journal(adopt(folder))
    journal.begin(Header(name=name, experiment="pipeline", uri=uri, tags=tags or {}, key=name))
    journal.end("FINISHED")
    journal.close()
    return folder


# ── reaping ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("uid", ["../../victim", "/tmp/victim", "C0FFEE", "", 5])
def test_an_id_that_is_a_path_reaps_nothing(
    uid: object, ledger: Ledger, uri: str, capsys: pytest.CaptureFixture[str]
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
    assert [row.state for row in ledger.trials()] == ["failed", "waiting"]
    assert (folder / JOURNAL).read_bytes() == content
    assert not (folder / FORGET).exists()
