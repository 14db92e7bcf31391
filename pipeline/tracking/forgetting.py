"""Run folders that nobody needs once MLflow has all that they hold."""

import shutil
from contextlib import suppress
from pathlib import Path

MARK = ".forget"


def mark(folder: Path) -> None:
    """Note that a folder is to go as soon as its journal has been sent."""
    with suppress(OSError):  # a folder that is gone by now, or a full disk: it stays a while
        (folder / MARK).touch()


def is_marked(folder: Path) -> bool:
    """Tell whether a folder is to go."""
    return (folder / MARK).exists()


def remove(folder: Path) -> None:
    """Remove a folder with all that it holds; another process may be doing the same."""
    shutil.rmtree(folder, ignore_errors=True)
