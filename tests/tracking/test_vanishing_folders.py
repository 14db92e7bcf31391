"""Folders of runs that another process removes while they are listed or sent."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from pipeline.base.ends import End
from pipeline.running.resuming import remove_abandoned
from pipeline.tracking.folders import read_runs, run_folders, size_of, unfinished, with_trials
from pipeline.tracking.journal import Journal
from pipeline.tracking.replay import FolderGoneError, Replay
from pipeline.tracking.run_record import JOURNAL
from pipeline.tracking.sync import sync

Begun = Callable[..., Journal]


@contextmanager
def removed_again_and_again(study: Path, text: str) -> Iterator[None]:
    """Make and remove the folder of a study with two trials, as a sweep and its user do."""
    over = Event()

    def run() -> None:
        while not over.is_set():
            for folder in (study, study / "trials" / "abc-0000", study / "trials" / "abc-0001"):
                (folder / "artifacts" / "inner").mkdir(parents=True)
                (folder / JOURNAL).write_text(text, encoding="utf-8")
            shutil.rmtree(study)

    thread = Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_folder_removed_while_listing_is_skipped(begun: Begun, tmp_path: Path) -> None:
    kept = begun("", name="kept")
    kept.end(End.COMPLETE)
    kept.close()
    output, study = tmp_path / "runs", tmp_path / "runs" / "study"
    with removed_again_and_again(study, kept.path.read_text(encoding="utf-8")):
        for _ in range(200):
            assert kept.folder in run_folders(output)
            assert kept.folder in unfinished(output)
            assert kept.folder in [run.folder for run in read_runs(output)]
            with_trials(study)
            size_of(output)
            remove_abandoned(output)


def test_missing_folder_is_neither_sent_nor_created(database: str, tmp_path: Path) -> None:
    study = tmp_path / "runs" / "study"
    trial = study / "trials" / "abc-0000"
    assert sync([trial], database) == []
    with pytest.raises(FolderGoneError):
        Replay(trial)
    assert not study.exists()
