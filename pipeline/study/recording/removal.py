"""Removes a whole study: its trials, its runs in MLflow, its folder."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.study.ledger.stored import Studies
from pipeline.study.recording.study_run import Leadership
from pipeline.tracking.forgetting import remove
from pipeline.tracking.old_runs import MIB, remove_record, size_of
from pipeline.tracking.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """A study that may go.

    Args:
        name: Its name.
        folder: Its folder, which may be gone.
        trials: How many trials it has.
        run_ids: MLflow's ids of its own run and of its trials'.
        size: Bytes of its folder.
    """

    name: str
    folder: Path
    trials: int
    run_ids: tuple[str, ...]
    size: int

    def __str__(self) -> str:
        size = f"{self.size / MIB:.1f} MiB in {self.folder}"
        return f"study {self.name}: {self.trials} trials, {len(self.run_ids)} runs, {size}"


def doomed_study(studies: Studies, store: Store, name: str, folder: Path) -> Doomed:
    """Look at a study that is to go.

    Raises:
        ConfigError: There is none of this name, or it is at work.
    """
    study = studies.open(name)
    if study.is_live() or _is_led(folder):
        raise ConfigError(f"study={name!r} is at work; stop it, or wait for its end")
    return Doomed(
        name=name,
        folder=folder,
        trials=len(study.ledger.trials()),
        run_ids=tuple(run.info.run_id for run in store.of_study(study.ledger.uid)),
        size=size_of(folder),
    )


def remove_study(studies: Studies, store: Store, doomed: Doomed) -> None:
    """Remove a study, its own record last, so that a removal that was cut short can be repeated."""
    for run_id in doomed.run_ids:
        remove_record(store, run_id)
    remove(doomed.folder)
    studies.delete(doomed.name)


def _is_led(folder: Path) -> bool:
    """Tell whether a driver works on the study of this folder at this moment."""
    if not folder.is_dir():
        return False
    leadership = Leadership(folder)
    if not leadership.try_acquire():
        return True
    leadership.release()
    return False
