"""The file that takes what libraries say during a run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def log_to(path: Path, *, lean: bool = False) -> Iterator[None]:
    """Send what libraries log and warn to the run's log instead of the terminal.

    Args:
        path: The run's log.
        lean: Leave out what is no warning.
    """
    handler = RunLog(path)
    handler.setLevel(logging.WARNING if lean else logging.NOTSET)
    root = logging.getLogger()
    libraries = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    kept = [(library, library.handlers, library.propagate) for library in libraries]
    for library in libraries:
        library.handlers, library.propagate = [], True
    root.addHandler(handler)
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.removeHandler(handler)
        handler.close()
        for library, handlers, propagate in kept:
            library.handlers, library.propagate = handlers, propagate
