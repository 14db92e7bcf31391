"""The file that takes what libraries say during a run."""

import logging
from contextlib import suppress
from pathlib import Path

from pipeline.redaction import redact


class RunLog(logging.FileHandler):
    """Appends to a run's log, secrets masked; where the disk is full, the run goes on without.

    Args:
        path: The file; it is made at the first line.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without secrets."""
        return redact(super().format(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line if there is room for it."""
        with suppress(OSError):  # the file could not be opened
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Say nothing: the terminal is no place for it either."""

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what could not be written can't be flushed
            super().close()
