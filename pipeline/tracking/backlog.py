"""The lines of a journal that its store lacks.

Its file stays open, so that a run whose folder is removed or renamed is followed to its end.
"""

from collections import deque
from pathlib import Path
from typing import BinaryIO

from pipeline.processes.lease import Lease
from pipeline.tracking.faults import StoreError
from pipeline.tracking.journal import JOURNAL, Event, parse_line


class Backlog:
    """What of a journal is still to be sent, and what its lines say about the run.

    Args:
        folder: The run's folder.
        skip: Lines that the store holds.
    """

    def __init__(self, folder: Path, *, skip: int) -> None:
        self.lease: Lease | None = None
        self.uri = ""
        self.begun: Event = {}
        self.model: Event | None = None
        self.last_ms = 0
        self.pending: deque[Event] = deque()
        self._path = folder / JOURNAL
        self._skip = skip
        self._file: BinaryIO | None = None
        self._offset = 0

    def read(self) -> None:
        """Take in the lines that have been added to the journal.

        Raises:
            StoreError: It can't be read.
        """
        try:
            if self._file is None:
                self._file = self._path.open("rb")
            self._file.seek(self._offset)
            content = self._file.read()
        except OSError as error:
            raise StoreError("refused", unreadable(self._path, error)) from error
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(parse_line(line))

    def close(self) -> None:
        """Close the journal; the next read opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def unsent(self) -> int:
        """Count the values that the store lacks; an event without values is 1."""
        return sum(max(1, len(event.get("values", ()))) for event in self.pending)

    def ready(self) -> bool:
        """Tell whether there is something to send before the run ends."""
        return bool(self.pending) and not self.only_end_left()

    def only_end_left(self) -> bool:
        """Tell whether the run's end is all that is left."""
        return len(self.pending) == 1 and self.pending[0]["event"] == "end"

    def begins(self) -> bool:
        """Tell whether what is left begins with the run."""
        return bool(self.pending) and self.pending[0]["event"] == "begin"

    def reason(self) -> str | None:
        """Return why the run ended early, where its end is known by now."""
        last = self.pending[-1]
        return last["reason"] if last["event"] == "end" else None

    def drop(self, lines: int) -> None:
        """Forget lines that the store has got."""
        for _ in range(lines):
            self.pending.popleft()

    def _take(self, event: Event) -> None:
        self.last_ms = max(self.last_ms, event["time"])
        if event["event"] == "begin":
            self.lease = Lease(**event["lease"])
            self.uri = event["uri"]
            self.begun = event
        elif event["event"] == "model":
            self.model = event
        if self._skip > 0:
            self._skip -= 1
        else:
            self.pending.append(event)


def unreadable(path: Path, error: OSError) -> str:
    """Say that a journal can't be read, and why."""
    return f"{str(path)!r} can't be sent ({error.strerror})"
