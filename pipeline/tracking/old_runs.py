"""Runs that ended long ago, and how they are removed. Nothing here imports MLflow at its top."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.redaction import redact
from pipeline.tracking.forgetting import remove
from pipeline.tracking.listing import Listed, listed
from pipeline.tracking.state import read_state

if TYPE_CHECKING:
    from pipeline.tracking.store import Store
    from pipeline.tracking.sync import StoreInForce

DAY = 86_400.0
MIB = 1 << 20
ENDED = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Old:
    """A run that may go.

    Args:
        folder: Its folder.
        run_id: MLflow's id of it; '' where it has none.
        uri: The store that has it, without its password; '' where none has.
        days: How long ago it ended.
        size: Bytes of its folder.
    """

    folder: Path
    run_id: str
    uri: str
    days: float
    size: int

    def is_recorded_in(self, uri: str) -> bool:
        """Tell whether a store, given by its address, has the run, or none has."""
        return not self.run_id or self.uri == redact(uri)

    def __str__(self) -> str:
        return f"{self.folder}: {self.days:.0f} days old, {self.size / MIB:.1f} MiB"


def old_runs(output: Path, *, days: float) -> list[Old]:
    """Return the runs below `output` that ended at least so many days ago, oldest first.

    Those that hold values which MLflow lacks are left out, and so are studies.
    """
    return [_old(run) for run in listed(output) if _may_go(run, days)]


def _may_go(run: Listed, days: float) -> bool:
    ended = run.status in ENDED and run.unsent == 0
    return ended and run.age >= days * DAY and not run.is_study


def _old(run: Listed) -> Old:
    state = read_state(run.folder)
    return Old(
        folder=run.folder,
        run_id=state.run_id,
        uri=state.uri,
        days=run.age / DAY,
        size=size_of(run.folder),
    )


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(_size(path) for path in folder.rglob("*"))


def _size(path: Path) -> int:
    try:
        return 0 if path.is_dir() else path.lstat().st_size
    except OSError:  # removed meanwhile
        return 0


def remove_runs(runs: Iterable[Old], store: "StoreInForce") -> Iterator[Old]:
    """Remove runs, in MLflow first, and yield each that is gone.

    Raises:
        StoreError: The store can't be reached, or is another one; the folders stay.
    """
    for run in runs:
        if run.run_id:
            remove_record(store.of(run.uri), run.run_id)
        remove(run.folder)
        yield run


def remove_record(store: "Store", run_id: str) -> None:
    """Delete a run in MLflow, with the artifacts that lie beside its database."""
    files = store.files_of(run_id)
    store.delete(run_id)
    if files is not None:
        remove(files)
