"""Finds the folder of a run by what a person calls it. Nothing here imports MLflow."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ConfigError, did_you_mean, some
from pipeline.tracking.journal import JOURNAL, read_events
from pipeline.tracking.state import read_state, run_folders, trial_folders

LAST = "last"
COMMAND_TAG = "pipeline.command"
FIND_LR = "find_lr"
"""What that tag holds for a range test."""
SHOWN = 5


def find_run(reference: str, output: Path, *, key: str = "output") -> Path:
    """Return the folder of a run.

    Args:
        reference: A run folder (its path, or its name below `output`), an MLflow run id or its
            beginning, or `last` for the newest training run.
        output: The folder that holds a folder for each run.
        key: What the command calls that folder.

    Raises:
        ConfigError: No run is called so, or several are.
    """
    for folder in (Path(reference), output / reference, *_trials_named(reference, output)):
        if reference and (folder / JOURNAL).is_file():
            return folder
    folders = run_folders(output)
    if reference == LAST:
        return _newest(folders, f"{key}={str(output)!r}")
    folders += trial_folders(output)
    found = [one for one in folders if reference and read_state(one).run_id.startswith(reference)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"run {reference!r} is not the beginning of one id; it fits {_some(found)}"
        )
    names = [folder.name for folder in folders]
    raise ConfigError(
        f"run {reference!r} is unknown below {key}={str(output)!r}; expected a run folder, the "
        f"beginning of an MLflow run id, or {LAST}; there are {_some(folders)}."
        f"{did_you_mean(reference, names)}"
    )


def _trials_named(reference: str, output: Path) -> list[Path]:
    return [folder for folder in trial_folders(output) if folder.name == reference]


def _newest(folders: list[Path], place: str) -> Path:
    for folder in reversed(folders):
        if _is_training(folder):
            return folder
    raise ConfigError(f"there is no run below {place} yet; train one first")


def _is_training(folder: Path) -> bool:
    begins: Iterator[dict[str, str]] = (
        event["tags"] for event in read_events(folder / JOURNAL) if event["event"] == "begin"
    )
    return next(begins, {}).get(COMMAND_TAG, "train") == "train"


def _some(folders: list[Path]) -> str:
    """Name the newest few folders, each with its run id."""
    words = [f"{one.name} ({read_state(one).run_id[:8] or '-'})" for one in reversed(folders)]
    return some(words, most=SHOWN) or "none"
