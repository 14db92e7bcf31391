"""Removing a study with its folder, its trials and its runs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.errors import ConfigError
from pipeline.base.processes.lease import alive
from pipeline.base.regular_files import require_plain_folder
from pipeline.study.stored_studies import Studies, require_study
from pipeline.study.study_run import leader_lock
from pipeline.tracking.folders import MIB, remove, size_of
from pipeline.tracking.ownership import forget_own, is_own
from pipeline.tracking.run_record import JOURNAL
from pipeline.tracking.sync import remove_record

if TYPE_CHECKING:
    from pipeline.tracking.mlflow_store import Store


@contextmanager
def removal_of(
    studies: Studies, store: "Store", name: str, folder: Path
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield a line that describes a study, and a function that removes it.

    No other process can lead the study during the body. The function removes the study from its
    database last. Runs of another study in MLflow are kept, even if the database says that they
    have the same id. Raises ConfigError if there is no such study, a process works on it, or its
    folder holds a link or is not a study's.
    """
    study = studies.open(name)
    if folder.exists() or folder.is_symlink():
        require_plain_folder(folder, is_written=True)
        require_study(folder, study)
        if not (folder / JOURNAL).exists() and not is_own(folder):
            raise ConfigError(
                f"{str(folder)!r} has no journal that says whether it is the folder of "
                f"study={name!r}; move it away, then repeat the command"
            )
    with ExitStack() as stack:
        lock = leader_lock(folder) if folder.is_dir() else None
        if lock is not None:
            stack.callback(lock.release)
        is_led = folder.is_dir() and lock is None
        with studies.reading(name):
            # A lease of another machine may be alive, and counts as alive.
            is_trained = any(lease is not None and alive(lease) for lease in study.leases())
        if is_led or is_trained:
            raise ConfigError(f"study={name!r} is running; stop it, or wait until it ends")
        run_ids = []
        for run in store.of_study(study.uid):
            if run.data.tags.get("study", run.info.run_name) == name:
                run_ids.append(run.info.run_id)
        size = f"{size_of(folder) / MIB:.1f} MiB in {folder}"
        if folder.is_dir() and not is_own(folder):
            size += ", which is foreign (a copy, or not begun here by you)"

        def remove_all() -> None:
            for run_id in run_ids:
                remove_record(store, run_id)
            forget_own(folder)
            remove(folder)
            studies.delete(name)

        yield f"study {name}: {len(study.trials())} trials, {len(run_ids)} runs, {size}", remove_all
