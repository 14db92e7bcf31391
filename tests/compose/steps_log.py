"""How long each step of the test of the services takes, for whoever reads a log."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "PIPELINE_COMPOSE_LOG"


def note(line: str) -> None:
    """Print a line, and append it to the file that the environment names."""
    print(line, flush=True)
    if os.environ.get(VARIABLE):
        with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')}  {line}\n")


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Note how many seconds the body takes, also when it fails."""
    started_at = time.monotonic()
    result = "failed"
    try:
        yield
        result = "done"
    finally:
        note(f"{step}: {result} after {time.monotonic() - started_at:.1f} s")
