"""The log of a run, which takes the messages and warnings of libraries."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.base.redaction import redact
from pipeline.base.regular_files import open_regular

#: Name of the file in the run's folder.
LOG = "run.log"


class RunLog(logging.FileHandler):
    """Appends to a run's log, with masked secrets; a full disk does not end the run.

    If it `is_held`, nothing is written before `write_held`.
    """

    def __init__(self, path: Path, *, is_held: bool) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self._held: list[logging.LogRecord] | None = [] if is_held else None
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def _open(self) -> io.TextIOWrapper:
        """Open the file, unless it is a link or has a second name."""
        descriptor = open_regular(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return os.fdopen(descriptor, "a", encoding=self.encoding, errors=self.errors)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without secrets."""
        return redact(super().format(record))

    def write_held(self) -> None:
        """Write the lines that were held back; later ones are written at once."""
        records = self._held or []
        self._held = None
        for record in records:
            self.emit(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line unless the file can't be opened."""
        if self._held is not None:
            self._held.append(record)
            return
        with suppress(OSError):  # the file could not be opened
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Ignore errors of the log without printing them."""

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what could not be written can't be flushed
            super().close()


@contextmanager
def log_to(path: Path, *, lean: bool = False, is_held: bool = False) -> Iterator[RunLog]:
    """Redirect messages and warnings of libraries to a run's log; with `lean`, only warnings."""
    handler = RunLog(path, is_held=is_held)
    handler.setLevel(logging.WARNING if lean else logging.NOTSET)
    root = logging.getLogger()
    libraries = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    settings = [(library, library.handlers, library.propagate) for library in libraries]
    for library in libraries:
        library.handlers = []
        library.propagate = True
    root.addHandler(handler)
    logging.captureWarnings(capture=True)
    try:
        yield handler
    finally:
        logging.captureWarnings(capture=False)
        root.removeHandler(handler)
        handler.close()
        for library, handlers, propagate in settings:
            library.handlers = handlers
            library.propagate = propagate
