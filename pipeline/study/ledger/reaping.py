"""Closes the trials of studies whose process is gone; a live one is never touched."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pipeline.study.ledger.lost import Lost
from pipeline.study.ledger.stored import Recorded, Studies
from pipeline.study.trial_end import has_begun
from pipeline.tracking.forgetting import mark
from pipeline.tracking.journal import Journal
from pipeline.tracking.state import trial_folder

LOOKS = 10
"""How often a silent trial is looked at within the grace time."""


def reap_trials(studies: Studies, output: Path, *, grace: float) -> Iterator[tuple[str, Lost]]:
    """Give up the lost trials of all studies, and yield each with the name of its study.

    A trial of another machine, or whose process a signal has stopped, is lost when it has given
    no sign of life for `grace` seconds, so this may take that long.

    Args:
        studies: Those of a database.
        output: The folder that holds a folder for each study.
        grace: Seconds.
    """
    opened = [studies.open(name, grace=grace) for name in studies.names()]
    deadline = time.monotonic() + 2 * grace
    while True:
        for study in opened:
            for lost in _swept(study, output):
                yield study.ledger.name, lost
        if not any(study.is_doubtful() for study in opened) or time.monotonic() > deadline:
            return
        time.sleep(grace / LOOKS)


def _swept(study: Recorded, output: Path) -> list[Lost]:
    ledger = study.ledger

    def folder_of(number: int) -> Path:
        return trial_folder(output / ledger.name, ledger.uid, number)

    found = ledger.sweep_lost(folder_of)
    for lost in found:
        folder = folder_of(lost.number)
        if not lost.adopted and has_begun(folder):
            with closing(Journal(folder)) as journal:
                journal.end("FAILED", "lost")  # whatever it had written of its own
            mark(folder)
    return found
