"""Trials that have ended and wait to be recorded, in the order of their ends."""

import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.tracking.client import Recorded, Recorder
from pipeline.tracking.forgetting import mark, remove
from pipeline.tracking.journal import JOURNAL
from pipeline.tracking.state import is_finished, unsent

PAUSE_SECONDS = 1.0


@dataclass(slots=True)
class Waiting:
    """What is to become of a trial's folder."""

    lost: bool
    forget: bool


class Outbox:
    """Sends one trial after another; one that can't be sent now is tried again later.

    Args:
        recorder: Fills MLflow; `None` where nothing is tracked.
    """

    def __init__(self, recorder: Recorder | None) -> None:
        self.problem: str | None = None
        self.unsent = 0
        self._recorder = recorder
        self._waiting: dict[Path, Waiting] = {}
        self._retry_at = 0.0

    @property
    def is_moving(self) -> bool:
        """Whether something waits that can be sent now."""
        return bool(self._waiting) and time.monotonic() >= self._retry_at

    def add(self, folder: Path, *, lost: bool, forget: bool) -> None:
        """Put a trial in, behind the others; one that waits already is not told of twice."""
        known = self._waiting.get(folder, Waiting(lost=False, forget=False))
        self._waiting[folder] = Waiting(lost=lost or known.lost, forget=forget or known.forget)

    def forget(self, folder: Path) -> None:
        """Remove the folder of a trial, now or once it has been sent."""
        if (folder / JOURNAL).is_file() and self._recorder is not None and not is_finished(folder):
            self.add(folder, lost=False, forget=True)
        else:
            self._waiting.pop(folder, None)
            remove(folder)

    def send(self) -> None:
        """Send the first that waits, unless that failed a moment ago."""
        if self.is_moving:
            folder = next(iter(self._waiting))
            self._settle(folder, self._record(folder, is_over=False, patient=False))

    def close(self) -> None:
        """Send all that waits; the first that fails after some seconds ends the waiting."""
        patient = True
        for folder in list(self._waiting):
            recorded = self._record(folder, is_over=True, patient=patient)
            patient = patient and recorded.done
            self._settle(folder, recorded)
        for folder, waiting in self._waiting.items():
            self._give_up(folder, waiting)

    def _record(self, folder: Path, *, is_over: bool, patient: bool) -> Recorded:
        if self._recorder is None or not (folder / JOURNAL).is_file():
            return Recorded(done=True, unsent=0)
        lost = is_over or self._waiting[folder].lost
        return self._recorder.record(folder, is_over=lost, patient=patient)

    def _settle(self, folder: Path, recorded: Recorded) -> None:
        self.problem = recorded.problem
        if recorded.done:
            if self._waiting.pop(folder).forget:
                remove(folder)
        elif recorded.problem is None or recorded.later:
            self._waiting[folder] = self._waiting.pop(folder)  # one may be stuck, not all
            self._retry_at = time.monotonic() + PAUSE_SECONDS
        else:
            self._give_up(folder, self._waiting.pop(folder))

    def _give_up(self, folder: Path, waiting: Waiting) -> None:
        self.unsent += unsent(folder)
        if waiting.forget:
            mark(folder)
