"""What the journal of a run says: its beginnings, its end, its kind, its epochs, its model."""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from pipeline.base.ends import End
from pipeline.base.processes.lease import Lease, alive
from pipeline.base.regular_files import open_regular, read_regular
from pipeline.tracking.fields import STUDY_TAG, SWEEP, TRIAL_TAG
from pipeline.tracking.journal_events import (
    BeginEvent,
    EndEvent,
    EpochEvent,
    ModelEvent,
    ModelScore,
    RunEvent,
    TagEvent,
    parse_line,
)

JOURNAL = "journal.jsonl"
#: Bytes of a journal, far more than any run writes.
LARGEST_JOURNAL = 1 << 30
#: Bytes at the end of a journal in which its last beginning or end is looked for first.
LAST_BYTES = 1 << 14


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What the journal in a run's folder says, from one reading of it.

    Args:
        folder: The run's folder.
        lines: The events in order; `None` for a damaged line. There are none before the run begins
            (a full disk can leave its journal empty), and if the folder is gone.
    """

    folder: Path
    lines: Sequence[RunEvent | None] = ()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the journal in a run's folder; an incomplete last line, left by a kill, is skipped.

        Raises:
            OSError: The journal can't be read, such as one of another user.
        """
        path = folder / JOURNAL
        content = b""
        if is_journal(path):
            with suppress(FileNotFoundError):  # removed meanwhile
                content = read_regular(path)
        complete = content[: content.rfind(b"\n") + 1]
        return cls(folder=folder, lines=[parse_line(line) for line in complete.splitlines()])

    @classmethod
    def read_first_line(cls, folder: Path) -> Self:
        """Read the first line only; a journal that can't be read has none."""
        with suppress(OSError), os.fdopen(open_regular(folder / JOURNAL), "rb") as file:
            return cls(folder=folder, lines=[parse_line(file.readline())])
        return cls(folder=folder)

    @classmethod
    def read_status(cls, folder: Path) -> Self:
        """Read what tells `status` and `lease`: if possible, some lines at the end only.

        Raises:
            OSError: The journal can't be read.
        """
        with suppress(OSError), os.fdopen(open_regular(folder / JOURNAL), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_BYTES))
            complete_lines = file.read().split(b"\n")[1:-1]
            record = cls(folder=folder, lines=[parse_line(line) for line in complete_lines])
            if record.begins or record.end:
                return record
        return cls.read(folder)

    # ── beginning and end ───────────────────────────────────────────────────────────────────

    @cached_property
    def begins(self) -> Sequence[BeginEvent]:
        """All beginnings: the first one, and that of each process that has resumed the run."""
        return [event for event in self.lines if isinstance(event, BeginEvent)]

    @property
    def begin(self) -> BeginEvent | None:
        """The last beginning; `None` if there is none."""
        return self.begins[-1] if self.begins else None

    @cached_property
    def end(self) -> EndEvent | None:
        """The end; `None` if there is none, or the run has begun again since."""
        for event in reversed(self.lines):
            if isinstance(event, EndEvent):
                return event
            if isinstance(event, BeginEvent):
                return None
        return None

    @property
    def has_begun(self) -> bool:
        """Whether there is a line."""
        return bool(self.lines)

    @property
    def is_over(self) -> bool:
        """Whether the run has ended on record."""
        return self.end is not None

    @property
    def has_finished(self) -> bool:
        """Whether the run has ended as complete or pruned, which is FINISHED in MLflow."""
        return self.status == End.COMPLETE.status

    @property
    def lease(self) -> Lease | None:
        """Lease of the process that trains the run; `None` if it has ended, or not begun."""
        return None if self.begin is None or self.is_over else self.begin.lease

    @property
    def is_training(self) -> bool:
        """Whether the process that trains the run exists; one on another machine counts as such."""
        return self.lease is not None and alive(self.lease)

    @property
    def is_lost(self) -> bool:
        """Whether the run has no end on record, and its process is gone."""
        return self.lease is not None and not alive(self.lease)

    @property
    def status(self) -> str:
        """FINISHED, FAILED, KILLED, RUNNING, or LOST; that of MLflow but for the last."""
        if self.end is not None:
            return self.end.status
        return "LOST" if self.is_lost else "RUNNING"

    @property
    def end_reason(self) -> str:
        """Why the run ended early; empty if it did not."""
        return "" if self.end is None else self.end.reason or ""

    # ── what kind of run it is ──────────────────────────────────────────────────────────────

    @property
    def name(self) -> str:
        """Name of the run; without a beginning, that of its folder."""
        return self.folder.name if self.begin is None else self.begin.name

    @property
    def command(self) -> str:
        """Command that the run belongs to; without a beginning, `train`."""
        return "train" if self.begin is None else self.begin.command

    @property
    def uri(self) -> str:
        """Address of the store, without a password; empty if it named none."""
        return "" if self.begin is None else self.begin.uri

    @property
    def order(self) -> int:
        """Place among other runs, larger if the run began later; 0 if that is unknown."""
        event = self.lines[0] if self.lines else None
        if event is None:
            return 0
        if isinstance(event, BeginEvent) and event.order:
            return event.order
        return event.time

    @property
    def is_damaged(self) -> bool:
        """Whether the journal does not begin with the beginning of a run."""
        return bool(self.lines) and not isinstance(self.lines[0], BeginEvent)

    @property
    def is_run(self) -> bool:
        """Whether it is a run that is not a study."""
        return any(begin.command != SWEEP for begin in self.begins)

    @property
    def is_trial(self) -> bool:
        """Whether it is the trial that its folder is named after.

        Names and numbers of folders may come from a database that anyone has written.
        """
        if not self.begins:
            return False
        for begin in self.begins:
            study = begin.tags.get(STUDY_TAG)
            number = begin.tags.get(TRIAL_TAG, "")
            if self.folder.name != f"{study}-{number:0>4}":
                return False
        return True

    def is_study(self, uid: str) -> bool:
        """Return whether the journal, if there is one, is that of a study with this id.

        A database that anyone has written may name its studies like folders of runs.
        """
        if self.begin is None:
            return not (self.folder / JOURNAL).exists()
        return not self.is_run and self.begin.tags.get(STUDY_TAG) == uid

    # ── what it has recorded ────────────────────────────────────────────────────────────────

    @property
    def tags(self) -> dict[str, str]:
        """Tags that were recorded after a beginning."""
        return {event.key: event.value for event in self.lines if isinstance(event, TagEvent)}

    @property
    def model(self) -> ModelScore | None:
        """Score of the model that the folder holds; `None` if it holds none."""
        for event in reversed(self.lines):
            if isinstance(event, ModelEvent):
                return event.figure
        return None

    @cached_property
    def epochs(self) -> dict[int, dict[str, float]]:
        """Values of each epoch, in the order of the epochs; a name keeps its first value."""
        merged: dict[int, dict[str, float]] = {}
        for event in self._epoch_events:
            merged[event.epoch] = {**event.values, **merged.get(event.epoch, {})}
        return dict(sorted(merged.items()))

    @property
    def values(self) -> dict[str, float]:
        """Value of each name in its latest epoch."""
        latest: dict[str, float] = {}
        for values in self.epochs.values():
            latest |= values
        return latest

    @property
    def epoch_times(self) -> dict[int, int]:
        """Time of the first record of each epoch, in ms since 1970."""
        return {event.epoch: event.time for event in reversed(self._epoch_events)}

    @property
    def last_ms(self) -> int:
        """Time of the last event, in ms since 1970; 0 if there is none."""
        return max((event.time for event in self.lines if event is not None), default=0)

    @property
    def _epoch_events(self) -> list[EpochEvent]:
        return [event for event in self.lines if isinstance(event, EpochEvent)]

    def unsent(self, sent: int) -> int:
        """Count the values after the first `sent` lines; a line without values counts as 1."""
        unsent = 0
        for event in self.lines[sent:]:
            count = len(event.values) if isinstance(event, EpochEvent) else 1
            unsent += max(1, count)
        return unsent


def is_journal(path: Path) -> bool:
    """Return whether a path may be a journal: a regular file, no link, of a possible size."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_JOURNAL
