"""Faults F22 to F26 and F45: disks that are full, folders that can't be written or that go."""

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from helpers.fixture_types import Patch
from helpers.run_files import events

from faults.conftest import Mount, Start
from faults.processes import Training, checkpoint_epoch, ending, only_line, recorded_epochs
from faults.stores import FAILED, FINISHED, outcome, recorded_steps
from pipeline.runs import main as sync

ENDLESS = ("model=mlp", "data=iris", "trainer.max_epochs=100000", "scheduler=none")
SHORT = ("model=mlp", "data=iris", "trainer.max_epochs=2", "verbose=0")


def make_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


def fill(disk: Path, size: int) -> None:
    with pytest.raises(OSError, match="No space left"):
        (disk / "ballast").write_bytes(bytes(size + 1))


def refusal(training: Training) -> str:
    """Return the only line that is said, once the process has ended for a fault of its place."""
    assert training.end() == 3
    line = only_line(training.err)
    assert line.startswith("error: ")
    return line


def test_full_disk_keeps_the_last_whole_checkpoint(fork: Start, mount: Mount) -> None:
    disk = mount("disk", size="1m")
    (disk / "ballast").write_bytes(bytes(380_000))  # one checkpoint fits, no second beside it
    words = (f"output={disk}", "trainer.checkpoint_seconds=0")
    line = refusal(fork(*ENDLESS, *words, "tracking=none"))
    (run,) = (path for path in disk.iterdir() if path.is_dir())
    match = re.fullmatch(
        rf"error: {run}/checkpoints/last.ckpt can't be written \(No space left on device; "
        r"(\d+) bytes free\); make room or choose another folder with output=FOLDER",
        line,
    )
    assert match, line
    assert int(match[1]) < (run / "checkpoints" / "last.ckpt").stat().st_size
    assert ending(run) == FAILED
    assert checkpoint_epoch(run) == recorded_epochs(run)[-1] - 1
    assert not list(run.rglob("*.tmp"))


def test_completely_full_disk_leaves_no_run(fork: Start, mount: Mount) -> None:
    disk = mount("disk", size="1m")
    fill(disk, 2**20)
    assert str(disk) in refusal(fork(*ENDLESS, f"output={disk}", "tracking=none"))
    assert [path.name for path in disk.iterdir()] == ["ballast"]


@pytest.mark.parametrize("inodes", [1, 6])  # that of its own folder; 5 of the run's beginning too
def test_missing_inodes_are_named_instead_of_space(fork: Start, mount: Mount, inodes: int) -> None:
    disk = mount("disk", size="10m", nr_inodes=str(inodes))
    line = refusal(fork(*ENDLESS, f"output={disk}/runs", "tracking=none"))
    expected = "(no inodes free); remove files or choose another place"
    if inodes == 1:
        assert line == f"error: output='{disk}/runs' can't be written {expected}"
    assert str(disk) in line
    assert expected in line


@pytest.mark.slow
def test_file_size_limit_is_named_instead_of_space(start: Start) -> None:
    limit = ("prlimit", "--fsize=150000", "--")
    training = start(*ENDLESS, "tracking=none", prefix=limit)
    assert refusal(training) == (
        f"error: {training.run.relative_to(training.folder)}/checkpoints/last.ckpt can't be "
        "written (File too large; a file may have 150000 bytes at most); raise that limit with "
        "ulimit -f"
    )


def test_disk_filling_up_mid_run_is_reported(fork: Start, mount: Mount) -> None:
    """Each line of the journal stays whole."""
    disk = mount("disk", size="4m")
    training = fork(*ENDLESS, f"output={disk}", "tracking=none", "model.hidden=[4]")
    training.await_epoch(1)
    fill(disk, 2**22)
    line = refusal(training)
    assert line.startswith((f"error: {disk}", f"error: '{disk}"))
    assert "No space left on device" in line
    (run,) = (path for path in disk.iterdir() if path.is_dir())
    assert checkpoint_epoch(run) >= 1
    assert events(run)  # each line that is there is whole


def test_disk_filled_by_pictures_keeps_the_run(fork: Start, mount: Mount) -> None:
    disk = mount("disk", size="264k")  # about twice what the run takes without them
    words = (*SHORT, "model.hidden=[4]", f"output={disk}", "tracking=none", "pictures=true")
    training = fork(*words)
    assert training.end() == 0
    (run,) = disk.iterdir()
    assert only_line(training.err) == (
        "warning: the pictures could not be drawn (No space left on device); "
        f"try pipeline report run={run}"
    )
    assert ending(run) == FINISHED
    assert (run / "model" / "model.ckpt").is_file()
    assert not list(run.rglob("*.tmp"))


@pytest.mark.slow
def test_full_tracking_disk_costs_no_result(
    fork: Start, mount: Mount, empty_database: Path
) -> None:
    disk = mount("disk", size=f"{empty_database.stat().st_size + 450_000}")
    database = disk / "mlflow.db"
    shutil.copy(empty_database, database)
    training = fork(
        "model=mlp", "data=iris", "trainer.max_epochs=600", f"tracking.uri=sqlite:///{database}"
    )
    training.require_success()
    line = only_line(training.err)
    journal = training.run.relative_to(training.folder) / "journal.jsonl"
    assert re.fullmatch(
        rf"warning: the tracking database '{database}' can't be written; .*; "
        rf"\d+ values are kept in '{journal}'; "
        "send them with: pipeline runs action=sync output=runs "
        f"tracking.uri=sqlite:///{database}",
        line,
    ), line
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert recorded_epochs(training.run) == list(range(1, 601))
    assert (training.run / "artifacts" / "test_predictions.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "inodes", "expected_end"),
    [
        ("100k", "1000", ""),
        ("10m", "1", " (no inodes free); remove files or choose another place"),
    ],
)
def test_database_without_room_is_refused_at_start(
    fork: Start, mount: Mount, size: str, inodes: str, expected_end: str
) -> None:
    disk = mount("disk", size=size, nr_inodes=inodes)
    line = refusal(fork(*SHORT, f"tracking.uri=sqlite:///{disk}/mlflow.db"))
    assert line.startswith(f"error: the tracking database '{disk}/mlflow.db' can't be written")
    assert line.endswith(expected_end)
    assert not Path("runs").exists()


def test_read_only_output_is_refused_before_training(fork: Start, mount: Mount) -> None:
    disk = mount("disk", size="1m")
    make_read_only(disk)
    training = fork(*SHORT, f"output={disk}/runs")
    assert refusal(training) == (
        f"error: output='{disk}/runs' can't be written (Read-only file system); choose another: "
        "output=FOLDER"
    )
    assert training.out == ""


@pytest.mark.slow
def test_unreadable_data_are_a_permission_error(
    start: Start, own_folder: Path, unprivileged: Sequence[str]
) -> None:
    for source, file in (("table", "patients.csv"), ("series", "year.csv"), ("arrays", "x.npz")):
        (own_folder / file).write_text("a,b\n1,2\n", encoding="utf-8")
        (own_folder / file).chmod(0)
        words = ("model=mlp", f"data={source}", f"data.path={file}", "tracking=none")
        line = refusal(start(*words, prefix=unprivileged))
        assert file in line
        assert "permission" in line.lower()
    assert not (own_folder / "runs").exists()


@pytest.mark.slow
def test_run_works_from_a_read_only_folder(
    start: Start, own_folder: Path, tmp_path: Path, unprivileged: Sequence[str]
) -> None:
    """Its output and its records lie elsewhere."""
    runs = own_folder / "runs"
    runs.mkdir(mode=0o555)
    own_folder.chmod(0o555)
    refused = start(*SHORT, prefix=unprivileged)
    assert refused.end() == 3
    assert refused.err.splitlines() == [
        "error: output='runs' can't be written (Permission denied); choose another: output=FOLDER",
        f"error: the tracking database '{own_folder}/mlflow.db' can't be written (Permission "
        "denied); record elsewhere with tracking.uri=sqlite:///FILE, or not at all with "
        "tracking=none",
    ]
    uri = f"sqlite:///{tmp_path}/records/mlflow.db"
    allowed = start(
        *SHORT,
        f"output={tmp_path}/runs",
        f"tracking.uri={uri}",
        prefix=unprivileged,
        HOME=str(own_folder),
    )
    allowed.require_success()
    assert list(own_folder.rglob("*")) == [runs]
    assert outcome(uri) == FINISHED


@pytest.mark.parametrize("state", ["missing", "full", "read-only"])
def test_checkpoints_need_no_temporary_folder(
    fork: Start, mount: Mount, monkeypatch: Patch, state: str
) -> None:
    disk = mount("temporary", size="4k")
    if state == "full":
        fill(disk, 2**13)
    if state == "read-only":
        make_read_only(disk)
    monkeypatch.setenv("TMPDIR", f"{disk}/none" if state == "missing" else str(disk))
    training = fork(*SHORT, "tracking=none")
    training.require_success()
    assert training.err == ""
    assert checkpoint_epoch(training.run) == 2


@pytest.mark.slow
@pytest.mark.parametrize("change", ["removed", "renamed"])
def test_run_is_closed_when_its_folder_disappears(fork: Start, database: str, change: str) -> None:
    training = fork(*ENDLESS)
    training.await_epoch(2)
    run, elsewhere = training.run, training.folder / "elsewhere" / "run"
    training.wait_until((run / "mlflow.json").exists, what="its run in MLflow")
    elsewhere.parent.mkdir()
    run.rename(elsewhere)
    if change == "removed":
        shutil.rmtree(elsewhere)
    assert refusal(training).startswith(f"error: {run.relative_to(training.folder)}")
    assert outcome(database) == FAILED
    if change == "renamed":
        epochs = recorded_epochs(elsewhere)
        assert sync(["action=sync", "output=elsewhere"]) == 0
        assert outcome(database) == FAILED
        assert recorded_steps(database, "train/loss") == epochs
