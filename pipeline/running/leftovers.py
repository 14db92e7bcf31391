"""What a killed run leaves: whether its process is really gone, and files that it half wrote."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.tracking.journal import JOURNAL, read_events
from pipeline.tracking.lease import Lease, alive, exists, is_local

PLACES = ("*", "*/checkpoints", "*/model", "*/artifacts", "*/artifacts/*")


def trainer_of(folder: Path) -> Lease | None:
    """Return the lease of the process that trains a run; `None` once the run has ended."""
    lease = None
    for event in read_events(folder / JOURNAL):
        if event["event"] == "begin":
            lease = Lease(**event["lease"])
        elif event["event"] == "end":
            lease = None
    return lease


def live_trainer_of(folder: Path) -> Lease | None:
    """Return the lease of a process of this machine that trains a run at this moment."""
    lease = trainer_of(folder)
    return lease if lease is not None and is_local(lease) and alive(lease) else None


def remove_abandoned(output: Path) -> None:
    """Remove the half-written files of all runs below `output` whose processes are gone."""
    for file in list(_half_written(output)):
        run = output / file.relative_to(output).parts[0]
        if not _may_be_written(run, file):
            with suppress(OSError):
                file.unlink()


def _half_written(output: Path) -> Iterator[Path]:
    for place in PLACES:
        yield from output.glob(f"{place}/.*.tmp")


def _may_be_written(run: Path, file: Path) -> bool:
    lease = trainer_of(run)
    if lease is not None and alive(lease):  # one of another machine counts as alive
        return True
    writer = file.name.split(".")[-2]
    return writer.isdigit() and exists(int(writer))
