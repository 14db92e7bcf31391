"""How much of a journal its MLflow run holds: `mlflow.json` in the run folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.paths import replace_file
from pipeline.tracking.journal import JOURNAL, parse_line, read_events

STATE = "mlflow.json"
TRIALS = "trials"
"""Folder of a study's trials within the study's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a run is recorded, and how far.

    Args:
        uri: The store, without its password.
        run_id: MLflow's id of the run; an empty string before it is created.
        experiment_id: MLflow's id of its experiment.
        sent: Lines of the journal that the store holds.
        done: The run's end is on record.
    """

    uri: str = ""
    run_id: str = ""
    experiment_id: str = ""
    sent: int = 0
    done: bool = False


def trial_folder(study: Path, uid: str, number: int) -> Path:
    """Return the folder of a trial's run.

    Args:
        study: The study's folder.
        uid: Tells the study from an earlier one of its name.
        number: The trial's.
    """
    return study / TRIALS / f"{uid}-{number:04}"


def read_state(folder: Path) -> State:
    """Read a folder's state; one that is missing or damaged is that of a run never sent."""
    try:
        return State(**json.loads((folder / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return State()


def write_state(folder: Path, state: State) -> None:
    """Replace a folder's state, without waiting for the disk: one that is lost is found again."""
    text = json.dumps(asdict(state)) + "\n"
    replace_file(folder / STATE, lambda file: file.write(text.encode()), synced=False)


def unsent(folder: Path) -> int:
    """Count the values of a folder's journal that its store lacks; an event without values is 1."""
    events = list(read_events(folder / JOURNAL))[read_state(folder).sent :]
    return sum(max(1, len(event.get("values", ()))) for event in events)


def unfinished(output: Path) -> list[Path]:
    """Return the folders below `output` whose store lacks values or an end, oldest first.

    Those of trials are among them, each after that of its study.
    """
    folders = run_folders(output) + trial_folders(output)
    return [folder for folder in folders if not is_finished(folder)]


def run_folders(output: Path) -> list[Path]:
    """Return the run folders below `output`, oldest first.

    Their journals say when they began. Their names tell local times, which a container and its
    host may count differently.
    """
    folders = [path.parent for path in output.glob(f"*/{JOURNAL}")]
    return sorted(folders, key=lambda folder: (_begun_at(folder), folder.name))


def trial_folders(output: Path) -> list[Path]:
    """Return the folders of the trials below `output` that are still there, study by study."""
    return sorted(path.parent for path in output.glob(f"*/{TRIALS}/*/{JOURNAL}"))


def _begun_at(folder: Path) -> int:
    """Return when a run first began, in milliseconds since 1970; 0 where that is unknown."""
    try:
        with (folder / JOURNAL).open("rb") as file:
            return int(parse_line(file.readline())["time"])
    except (OSError, TypeError, ValueError):
        return 0


def is_finished(folder: Path) -> bool:
    """Tell whether the store holds all of a folder's journal and the run's end."""
    state = read_state(folder)
    return state.done and (folder / JOURNAL).read_bytes().count(b"\n") == state.sent
