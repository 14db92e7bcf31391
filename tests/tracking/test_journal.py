import os
import re
import time
from collections.abc import Callable
from math import inf, nan
from pathlib import Path

import pytest
from helpers.fixture_types import Patch
from helpers.server_processes import run_script

from pipeline.base.ends import End
from pipeline.base.processes.lease import own_lease
from pipeline.running.recording import RunJournal
from pipeline.running.training import JournalLogger
from pipeline.tracking.fields import COMMAND_TAG, field_name, param_text
from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import BeginEvent, EndEvent, Header
from pipeline.tracking.run_record import RunRecord

Begun = Callable[..., Journal]


def times_of(journal: Journal) -> list[int]:
    return [event.time for event in journal.read().lines if event is not None]


@pytest.mark.parametrize("damage", [b'{"event": "epoch", "time": 17, "epo', b"\x00\xff[]\n"])
def test_damaged_journal_line_hides_no_other(tmp_path: Path, damage: bytes) -> None:
    """A torn last line is removed when the journal is opened again."""
    Journal(tmp_path).epoch(1, {"train/loss": 0.5})
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(damage)
    resumed = Journal(tmp_path)
    assert resumed.read().epochs == {1: {"train/loss": 0.5}}
    resumed.epoch(2, {"train/loss": 0.25})
    assert resumed.read().epochs == {1: {"train/loss": 0.5}, 2: {"train/loss": 0.25}}
    lines = (tmp_path / "journal.jsonl").read_bytes().splitlines()
    assert len(lines) == 2 + damage.count(b"\n")


def test_record_of_a_resumed_run(begun: Begun) -> None:
    """The last beginning and its end count; an epoch keeps its time and first values."""
    journal = begun("sqlite:///a.db", name="first", at=1000, order=7)
    journal.epoch(1, {"val/f1": 0.5}, at=2000)
    journal.end(End.INTERRUPTED, at=3000)
    stopped = journal.read()
    assert (stopped.status, stopped.end_reason, stopped.lease) == ("KILLED", "interrupted", None)
    resumed = begun("sqlite:///b.db", name="first", at=4000, tags={COMMAND_TAG: "train"})
    resumed.epoch(1, {"val/f1": 0.75, "val/loss": 2.0}, at=5000)
    resumed.epoch(2, {"val/f1": 0.25}, at=6000)
    resumed.tag("doctor", "healthy")
    record = RunRecord.read(journal.folder)
    assert (record.status, record.end_reason) == ("RUNNING", "")
    assert record.lease == own_lease()
    assert record.is_training
    assert not record.is_lost
    assert (record.uri, record.order, record.command) == ("sqlite:///b.db", 7, "train")
    assert record.epochs == {1: {"val/f1": 0.5, "val/loss": 2.0}, 2: {"val/f1": 0.25}}
    assert times_of(resumed)[:6] == [1000, 2000, 3000, 4000, 2000, 6000]
    assert record.values == {"val/f1": 0.25, "val/loss": 2.0}
    assert record.tags == {"doctor": "healthy"}
    assert record.unsent(2) == 5  # an end, a beginning, two new values and a tag


def test_status_of_a_long_journal(begun: Begun) -> None:
    """It is that of the whole journal, whether a bound lies among the last lines or not."""
    journal = begun("")
    for end in (None, End.INTERRUPTED, End.COMPLETE):
        for epoch in range(500):
            journal.epoch(epoch, {f"val/{end}": 0.5})
        if end is not None:
            journal.end(end)
            journal.tag("doctor", "healthy")
        status = RunRecord.read_status(journal.folder)
        record = journal.read()
        assert (status.status, status.lease) == (record.status, record.lease)
        assert (len(status.lines) < len(record.lines)) == (end is not None)
        journal.begin(Header(name="n", experiment="e", uri=""))


def test_record_of_missing_folder_is_empty(tmp_path: Path) -> None:
    assert RunRecord.read_status(tmp_path / "gone").lease is None
    record = RunRecord.read(tmp_path / "gone")
    assert (record.begin, record.lease, record.end, record.epochs) == (None, None, None, {})
    assert {record.has_begun, record.is_lost, record.is_damaged} == {False}


def test_finish_does_not_end_another_process_run(begun: Begun) -> None:
    """The run goes on in a process that resumed it."""
    journal = begun("")
    record = RunJournal(folder=journal.folder, journal=journal, uri="")
    record.finish()
    begin, end = journal.path.read_text(encoding="utf-8").splitlines(keepends=True)
    resumed = begin.replace(f'"pid": {os.getpid()}', '"pid": 1')
    journal.path.write_text(begin + end + resumed, encoding="utf-8")
    record.finish()
    kinds = [type(event) for event in journal.read().lines]
    assert kinds == [BeginEvent, EndEvent, BeginEvent]


def test_nonfinite_values_are_counted(begun: Begun) -> None:
    """As parameters they become texts."""
    journal = begun("", params={"a": nan, "b": inf, "c": None})
    assert journal.read().begins[0].params == {"a": "nan", "b": "inf", "c": None}
    journal.epoch(1, {"train/loss": nan, "val/loss": -inf, "val/f1": 0.0})
    assert journal.read().epochs == {1: {"val/f1": 0.0, "nonfinite": 2.0}}


def test_journal_times_never_decrease(tmp_path: Path, monkeypatch: Patch) -> None:
    hour = 3600 * 10**9
    now = time.time_ns()
    first = Journal(tmp_path)
    first.epoch(1, {"train/loss": 0.5})
    monkeypatch.setattr(time, "time_ns", lambda: now - hour)
    first.epoch(2, {"train/loss": 0.4})
    resumed = Journal(tmp_path)
    resumed.epoch(3, {"train/loss": 0.3})
    resumed.end(End.COMPLETE)
    assert times_of(resumed) == sorted(times_of(resumed))


def test_no_secret_reaches_the_file(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "canary-in-variable")
    journal = Journal(tmp_path)
    journal.begin(
        Header(
            name="n",
            experiment="e",
            uri="postgresql://me:canary1@host/db",
            params={"data.db_password": "canary2", "data.path": "/x/canary-in-variable"},
            tags={"command": "train api_key=canary3 tracking.uri=http://u:canary4@h"},
        )
    )
    journal.tag("note", "--token canary5")
    text = (tmp_path / "journal.jsonl").read_text()
    assert "canary" not in text
    assert "postgresql://me:***@host/db" in text


def test_full_disk_is_one_line_error(tmp_path: Path) -> None:
    """The journal keeps its whole lines."""
    script = """
import resource, sys
from pathlib import Path
from pipeline.base.errors import EnvironmentFaultError
from pipeline.tracking.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.epoch(1, {"train/loss": 0.5})
resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150))
try:
    journal.epoch(2, {f"metric/{number}": 0.5 for number in range(50)})
except EnvironmentFaultError as error:
    print(error)
"""
    said, _ = run_script(script, str(tmp_path), cwd=tmp_path).communicate(timeout=60)
    assert re.search(
        r"journal.jsonl' can't be written \(File too large; a file may have 150 bytes at most\); "
        "raise that limit with ulimit -f, then continue with the same command",
        said,
    )
    assert Journal(tmp_path).read().epochs == {1: {"train/loss": 0.5}}
    assert (tmp_path / "journal.jsonl").read_bytes().endswith(b"\n")


def test_lightning_epochs_are_counted_from_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    logger = JournalLogger(journal, lambda: 1)
    logger.log_metrics({"epoch": 0, "train/loss": 0.5}, step=125)
    logger.log_metrics({"lr-Adam": 0.001}, step=126)  # of the epoch in progress
    logger.log_metrics({"epoch": 1, "train/loss": 0.4}, step=250)
    logger.log_metrics({"epoch": 2, "test/f1": 0.9}, step=250)  # of the last finished one
    assert journal.read().epochs == {
        1: {"train/loss": 0.5},
        2: {"lr-Adam": 0.001, "train/loss": 0.4, "test/f1": 0.9},
    }


def test_names_and_values_are_adapted_to_mlflow() -> None:
    for name in ("val/f1", "optimizer.lr", "损失", "a b:c-d_e"):
        assert field_name(name) == name
    assert (field_name("f(x)=1"), field_name("../a//b")) == ("f_x__1", "a/b")
    one, two = field_name("k" * 300 + "1"), field_name("k" * 300 + "2")
    assert len(one) == len(two) == 250
    assert one != two
    texts = [param_text(value) for value in (None, True, 1e-3, [1])]
    assert texts == ["null", "true", "0.001", "[1]"]
