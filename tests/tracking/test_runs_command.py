import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.stores import free_port
from helpers.fixture_types import Capture, Patch
from helpers.pty_terminal import terminal
from mlflow.tracking import MlflowClient

from pipeline.base.ends import End
from pipeline.base.errors import ConfigError
from pipeline.base.processes.lease import own_lease
from pipeline.runs import main
from pipeline.tracking.folders import (
    State,
    find_run,
    read_runs,
    read_state,
    unfinished,
    write_state,
)
from pipeline.tracking.journal import Journal
from pipeline.tracking.run_record import JOURNAL

Begun = Callable[..., Journal]


def finished(begun: Begun, uri: str, name: str = "20260101-000000-lstm-abcdef") -> Journal:
    journal = begun(uri, name=name)
    journal.epoch(1, {"val/f1": 0.75, "best/val/f1": 0.8125, "test/f1": 0.875})
    journal.end(End.COMPLETE)
    return journal


def pretend_lost(journal: Journal) -> None:
    """Give the run to a process that never was."""
    path = journal.folder / JOURNAL
    path.write_text(path.read_text().replace(f'"{own_lease().started}"', '"1"'))


HEADINGS = ["name", "status", "end_reason", "validation", "test", "age", "run", "folder", "doctor"]


@pytest.fixture
def listed_runs(begun: Begun, tmp_path: Path, capsys: Capture) -> Callable[..., list[list[str]]]:
    """Lists a running, a lost, a stopped and two finished runs; returns the cells of all lines."""
    now = round(time.time() * 1000)
    begun("", name="running", at=now - 40 * 60_000)
    pretend_lost(begun("", name="lost", at=now - 3 * 3_600_000))
    stopped = begun("", name="stopped", at=now - 7_200_000)
    stopped.end(End.INTERRUPTED, at=now - 7_200_000)
    for name, f1, verdicts in (("b", 0.875, "class_collapse, overfitting"), ("a", 0.5, "healthy")):
        done = begun("", name=name)
        done.epoch(1, {"val/f1": 0.75, "best/val/f1": 0.8125, "test/f1": f1})
        done.end(End.COMPLETE)
        done.tag("doctor", verdicts)

    def lines(*words: str) -> list[list[str]]:
        assert main([f"output={tmp_path}/runs", *words]) == 0
        return [line.split("\t") for line in capsys.readouterr().out.splitlines()]

    return lines


def test_run_list_is_tab_separated_in_a_pipe(listed_runs: Callable[..., list[list[str]]]) -> None:
    """The newest run is first."""
    heading, *lines = listed_runs()
    assert heading == HEADINGS
    assert [[Path(line[7]).name, *line[1:6], line[8]] for line in lines[2:]] == [
        ["running", "RUNNING", "-", "-", "-", "40 min ago", "-"],
        ["stopped", "KILLED", "interrupted", "-", "-", "2 h ago", "-"],
        ["lost", "LOST", "-", "-", "-", "3 h ago", "-"],
    ]
    (done,) = (line for line in lines[:2] if line[8] == "class collapse, overfitting")
    assert done[:5] == ["lstm", "FINISHED", "-", "f1 0.8125", "f1 0.8750"]


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        ("sort=test", "b a running stopped lost"),
        ("sort=test limit=1", "b"),
        ("doctor=healthy", "a"),
        ("doctor=class_coll*fit", "b"),
        ("name=l?t sort=validation limit=3 doctor=y", "a"),
    ],
)
def test_run_list_is_sorted_limited_and_filtered(
    listed_runs: Callable[..., list[list[str]]], words: str, folders: str
) -> None:
    assert [Path(line[7]).name for line in listed_runs(*words.split())[1:]] == folders.split()


def test_run_list_fits_80_columns(
    listed_runs: Callable[..., list[list[str]]], tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with terminal() as shown:
        assert main([f"output={tmp_path}/runs", "limit=4", "sort=test"]) == 0
    lines = shown.frames()
    assert [re.sub(r" \d+ \w+ ago +-$", "", line).split() for line in lines] == [
        ["name", "status", "val", "test", "age", "run"],
        ["lstm", "class", "collapse", "+1", "f1", "0.8125", "0.8750"],
        ["lstm", "healthy", "f1", "0.8125", "0.5000"],
        ["lstm", "running", "-", "-"],
        ["lstm", "interrupted", "-", "-"],
        ["4", "of", "5;", "show", "all", "with", "limit=5"],
    ]
    assert max(map(len, lines)) <= 80


def test_empty_run_list_names_available_values(
    listed_runs: Callable[..., list[list[str]]],
    own_folder: Path,
    capsys: Capture,
) -> None:
    for word, there in (
        ("doctor=plateau", "verdicts are: class collapse (1), healthy (1), overfitting (1)"),
        ("name=gru", "names are: lstm (5)"),
    ):
        assert listed_runs(word) == [[f"no run matches; the {there}"]]
    assert main(["output=none"]) == 0
    assert capsys.readouterr().out == "no runs below output='none'\n"


def test_sync_sends_pending_runs_once(
    begun: Begun, database: str, tmp_path: Path, capsys: Capture
) -> None:
    journal = finished(begun, database)
    words = ["action=sync", f"output={tmp_path}/runs", f"tracking.uri={database}"]
    assert main(words) == 0
    assert "5 sent, 0 unsent" in capsys.readouterr().out
    run = MlflowClient(database).get_run(read_state(journal.folder).run_id)
    assert (run.info.status, run.data.metrics["test/f1"]) == ("FINISHED", 0.875)
    assert main(words) == 0
    assert capsys.readouterr().out == "nothing to send\n"


def test_sent_journals_are_not_read_again(
    begun: Begun, database: str, tmp_path: Path, capsys: Capture
) -> None:
    """Neither by the start of a run nor by a sync: the size on record tells that all is sent."""
    journal = begun(database)
    for epoch in range(1000):
        journal.epoch(epoch, {"val/f1": 0.75})
    journal.end(End.COMPLETE)
    output = tmp_path / "runs"
    words = ["action=sync", f"output={output}", f"tracking.uri={database}"]
    assert main(words) == 0
    before = bytes_read()
    assert unfinished(output) == []
    assert bytes_read() - before < journal.path.stat().st_size / 10
    with journal.path.open("ab") as file:  # of a run that was killed as it wrote
        file.write(b'{"event": "epo')
    assert unfinished(output) == []
    journal.tag("doctor", "healthy")
    journal.close()
    assert unfinished(output) == [journal.folder]
    capsys.readouterr()
    assert main(words) == 0
    assert "1 sent, 0 unsent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tags", "params"), [({}, {}), ({"data.hash": "0" * 64}, {"data._target_": "mine"})]
)
def test_run_without_facts_of_its_data_is_sent(
    begun: Begun, database: str, tmp_path: Path, tags: dict[str, str], params: dict[str, str]
) -> None:
    """As in a folder that another program has written."""
    journal = begun(database, rows={"train": 3}, tags=tags, params=params)
    journal.end(End.ERROR)
    words = [f"run={journal.folder}", f"output={tmp_path}/runs", f"tracking.uri={database}"]
    assert main(["action=sync", *words]) == 0
    assert read_state(journal.folder).done


def bytes_read() -> int:
    """Return the number of bytes that this process has read from files."""
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


def test_sync_without_server_or_password_exits_with_3(
    begun: Begun,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: Patch,
) -> None:
    def said(uri: str) -> str:
        for name in ("1", "2"):
            finished(begun, uri, name=name)
        assert main(["action=sync", f"output={tmp_path}/runs"]) == 3
        captured = capsys.readouterr()
        assert captured.err.count("error:") == 1
        assert "canary" not in captured.out + captured.err
        return captured.err

    host = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:canary@{host}")
    assert f"http://me:***@{host} does not answer" in said(f"http://me:canary@{host}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    database = "postgresql://me:{}@127.0.0.1/db"
    assert f"{database.format('***')} needs its password" in said(database.format("canary"))


def test_reap_closes_only_lost_runs(begun: Begun, database: str, tmp_path: Path) -> None:
    """That of an ended process is closed at once; `action=sync` closes none."""
    journals = [begun(database, name=name) for name in ("live", "lost")]
    for journal in journals:
        journal.epoch(1, {"val/f1": 0.75})
    pretend_lost(journals[1])
    where = [f"output={tmp_path}/runs", f"tracking.uri={database}"]
    began_at = time.monotonic()
    for words in (("action=reap", "grace=120"), ("action=sync",)):
        assert main([*words, *where]) == 0
        assert time.monotonic() - began_at < 120
        ids = [read_state(journal.folder).run_id for journal in journals]
        runs = [MlflowClient(database).get_run(run_id) for run_id in ids]
        ends = [(run.info.status, run.data.tags.get("end_reason")) for run in runs]
        assert ends == [("RUNNING", None), ("FAILED", "lost")]
        assert all(run.data.metrics == {"val/f1": 0.75} for run in runs)


def test_reap_of_invalid_database_exits_with_2(own_folder: Path, capsys: Capture) -> None:
    (own_folder / "mlflow.db").write_text("text\n" * 999)
    assert main(["action=reap"]) == 2
    assert "mlflow.db' is not a database" in capsys.readouterr().err


def test_wrong_values_are_reported_together(capsys: Capture) -> None:
    assert main(["clena"]) == 2
    line = "error: 'clena' is not KEY=VALUE. Did you mean 'action=clean'?\n"
    assert capsys.readouterr().err == line
    assert main(["action=lst", "grace=-1"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: action='lst' is not allowed")
    assert "Did you mean 'list'?" in first
    assert second.startswith("error: grace=-1 is not allowed; expected a number > 0")


@pytest.mark.parametrize(
    ("words", "problems"),
    [
        (
            "study=small",
            "study has no effect with action=list; it belongs to action=check, clean, reap",
        ),
        (
            "apply=true older_than=0 sort=age",
            "older_than has no effect with action=list; it belongs to action=clean\n"
            "apply has no effect with action=list; it belongs to action=clean",
        ),
        (
            "action=clean apply=true name=mlp*",
            "name has no effect with action=clean; it belongs to action=list",
        ),
        ("action=sync grace=9", "grace has no effect with action=sync; it belongs to action=reap"),
        (
            "action=clean study=small older_than=9",
            "older_than has no effect on a study; remove study or older_than",
        ),
    ],
)
def test_key_unused_by_the_action_is_refused(
    own_folder: Path, capsys: Capture, words: str, problems: str
) -> None:
    assert main(words.split()) == 2
    assert capsys.readouterr().err.replace("error: ", "") == f"{problems}\n"
    assert list(own_folder.iterdir()) == []


def add_run(
    begun: Begun, name: str, run_id: str, command: str = "train", at: int | None = None
) -> Path:
    folder = begun("", name, at=at, tags={"pipeline.command": command}).folder
    write_state(folder, State(run_id=run_id))
    return folder


def test_run_is_found_by_path_name_or_id(begun: Begun, tmp_path: Path, capsys: Capture) -> None:
    """Of several matches it is the newest."""
    output = tmp_path / "runs"

    def says(reference: str, line: str) -> None:
        with pytest.raises(ConfigError, match=line):
            find_run(reference, output)

    says("last", r"no runs below output='.*'; train one")
    folder = add_run(begun, "20260101-000000-lstm-aaaaaa", "12e45678" * 4, at=1)
    newest = add_run(begun, "20260102-000000-lstm-bbbbbb", "12f45678" * 4, at=2)
    for reference in (str(folder), folder.name, "12e45678" * 4, "12e"):
        assert find_run(reference, output) == folder
    assert capsys.readouterr().err == ""
    for reference in ("12", "lstm"):
        assert find_run(reference, output) == newest
        line = f"note: 2 runs match '{reference}'; using the newest, {newest}\n"
        assert capsys.readouterr().err == line
    add_run(begun, "20260103-000000-lstm-cccccc", "13f45678" * 4, "find_lr", at=3)
    for preferred, expected in ((folder, folder), (output, newest)):
        assert find_run("lstm", output, preferred=preferred.__eq__) == expected
    line = r"unknown below .* mean '20260101-000000-lstm-aaaaaa'"
    says("20260101-000000-lstm-aaaaab", line)
    trial = add_run(begun, "study/trials/abc-0001", "14f45678" * 4, at=4)
    assert find_run("lstm", output) == trial


def test_last_is_the_newest_training_run(begun: Begun, tmp_path: Path) -> None:
    output = tmp_path / "runs"
    folder = add_run(begun, "20260101-000000-lstm-aaaaaa", "a" * 32, at=2)
    older = add_run(begun, "20260102-000000-lstm-bbbbbb", "b" * 32, at=1)
    other = add_run(begun, "20260103-000000-lstm-cccccc", "c" * 32, command="evaluate", at=3)
    assert find_run("last", output) == folder
    assert [run.folder for run in read_runs(output)] == [older, folder, other]
    assert unfinished(output) == [older, folder, other]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("[" * 100_000, id="deep"),
        '{"event": "tag", "time": 1, "key": "doctor"}',
        '{"event": "tag", "time": 1, "key": "doctor", "value": "\\ud800"}',
        '{"event": "epoch", "time": 1, "epoch": 1, "values": {"val/f1": 1e400}}',
        '{"event": "epoch", "time": 1, "epoch": "1", "values": {}}',
        '{"event": "end", "time": null, "status": "KILLED", "reason": null}',
        '{"event": "end", "time": 99999999999999999999, "status": "KILLED", "reason": null}',
        '{"event": "begin", "time": 1, "name": "x", "lease": {"host": 1}}',
        '{"event": "begin", "time": 1, "name": "x", "experiment": "x", "uri": "", "params": {}, '
        '"tags": {}, "parent": null, "lease": {"host": "h", "boot_id": "b", "pid": 1, '
        '"started": "1", "counter": 0, "other": 1}}',
        '{"event": "model", "time": 1, "figure": {"data": "", "monitor": null, "value": null, '
        '"better": "max", "other": 1}}',
    ],
)
def test_journal_line_of_wrong_types_is_skipped(begun: Begun, capsys: Capture, line: str) -> None:
    journal = finished(begun, "")
    with journal.path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    assert main([f"output={journal.folder.parent}"]) == 0
    assert "lstm\tFINISHED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value"), [("tags", '["x"]'), ("name", "null"), ("time", '"x"'), ("lease", "[]")]
)
def test_damaged_run_is_named_and_others_listed(
    begun: Begun, capsys: Capture, key: str, value: str
) -> None:
    output = finished(begun, "").folder.parent
    damaged = begun("", name="damaged")
    content = json.loads(damaged.path.read_text(encoding="utf-8"))
    content[key] = json.loads(value)
    damaged.path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    assert main([f"output={output}"]) == 0
    printed = capsys.readouterr()
    assert "lstm\tFINISHED" in printed.out
    (line,) = [line for line in printed.err.splitlines() if line.startswith("warning: ")]
    assert line.startswith(f"warning: '{damaged.folder}' is passed over: its journal does not ")
