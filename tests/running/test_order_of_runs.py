"""Which of several runs is the newest, also after the clock was set back."""

import time
from pathlib import Path

import pytest
from helpers.fixture_types import Capture, Train

from pipeline.runs import main as runs
from pipeline.tracking.folders import find_run, run_folders
from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import Header

QUICK = ("model=mlp", "data=iris", "trainer.max_epochs=1", "test=false", "tracking=none")
HOUR = 3600


def test_newest_run_began_last_despite_the_clock(
    train: Train, own_folder: Path, capsys: Capture
) -> None:
    assert train(*QUICK, "verbose=0", "name=first") == 0
    seconds, nanoseconds = time.time, time.time_ns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: seconds() - HOUR)
        patch.setattr(time, "time_ns", lambda: nanoseconds() - HOUR * 10**9)
        assert train(*QUICK, "verbose=0", "name=second") == 0
    assert "-second-" in find_run("last", Path("runs")).name
    capsys.readouterr()
    assert runs([]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.partition("\t")[0] for line in lines] == ["second", "first"]


def test_old_version_runs_are_ordered_by_time(tmp_path: Path) -> None:
    for name, at, order in (("new", 10, 35), ("old", 30, None), ("older", 20, None)):
        folder = tmp_path / name
        folder.mkdir()
        journal = Journal(folder)
        journal.begin(Header(name=name, experiment="", uri="", order=order), at=at)
        journal.close()
    assert [folder.name for folder in run_folders(tmp_path)] == ["older", "old", "new"]
