"""The store of a command: sending journals to it, closing lost runs, and removing runs."""

import shutil
import time
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipeline.base.ends import End
from pipeline.base.paths import replace_file
from pipeline.base.processes.lease import BEAT_SECONDS, LeaseWatch, lease_of
from pipeline.base.redaction import redact
from pipeline.config.options import TrackingOptions
from pipeline.tracking.folders import ListedRun, State, read_state, remove
from pipeline.tracking.ownership import adopt_words, forget_own, is_own
from pipeline.tracking.replay import FolderGoneError, Replay
from pipeline.tracking.uri import (
    StoreError,
    as_error,
    how_to_name,
    local_artifacts,
    quiet_mlflow,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipeline.tracking.mlflow_store import Store

#: Number of times a counter is read within the grace time.
LOOKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """Result of sending one folder: values sent now, values still unsent, and the problem."""

    folder: Path
    sent: int = 0
    unsent: int = 0
    problem: str | None = None


class StoreInForce:
    """Opens the store of a command once; a store that did not answer is not asked again.

    An address that only a run's folder names is never opened: the folder may be a stranger's, and
    what is sent carries the user's login.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._opened: Store | StoreError | None = None

    def of(self, recorded: str) -> "Store":
        """Return the store for a run with a recorded address.

        Raises StoreError if the run is recorded in another store, or if the store does not answer.
        """
        self.require(recorded)
        return self.in_force()

    def in_force(self, _recorded: str = "") -> "Store":
        """Return the store. Raises StoreError if it does not answer."""
        if self._opened is None:
            quiet_mlflow()
            from pipeline.tracking.mlflow_store import Store

            try:
                self._opened = Store(self._uri)
            except StoreError as error:
                self._opened = error
        if isinstance(self._opened, StoreError):
            raise self._opened
        return self._opened

    def require(self, recorded: str) -> None:
        """Raise StoreError if a run with a recorded address is in another store."""
        if redact(self._uri) != recorded:
            raise StoreError(
                "refused",
                f"recorded in {recorded}, which is used only if set: {how_to_name(recorded)}",
            )

    def give_up(self, error: StoreError) -> None:
        """Remember that the store does not answer, so that no other run waits for it."""
        if error.transient:
            self._opened = error


@contextmanager
def opened_store(uri: str) -> "Iterator[Store]":
    """Context with the store at an absolute address; its errors become those of the command.

    Raises ConfigError if the file is not a database, else EnvironmentFaultError.
    """
    try:
        yield StoreInForce(uri).of(redact(uri))
    except StoreError as error:
        raise as_error(error.kind, error.line) from error


# ── sending ─────────────────────────────────────────────────────────────────────────────────────


def sync(folders: Iterable[Path], uri: str, *, foreign: Container[Path] = ()) -> list[Synced]:
    """Send the journals of the tracked runs among folders, if they are recorded in this store.

    A run whose process is gone is closed as lost. A live run, and a run that another process sends,
    is left alone. Those in `foreign` are sent as `Replay` says, wherever they are recorded.
    """
    store = StoreInForce(uri)
    results = []
    for folder in folders:
        is_foreign = folder in foreign
        try:
            replay = Replay(folder, is_foreign=is_foreign)
        except FolderGoneError:
            continue
        except StoreError as error:
            if error.kind != "waiting":
                results.append(Synced(folder=folder, problem=error.line))
            continue
        if not replay.record.uri:
            replay.release()
            continue
        store_of = store.in_force if is_foreign else store.of
        unsent_before = replay.unsent()
        error_of_store = replay.finish(store_of)
        problem = None
        if error_of_store is not None:
            store.give_up(error_of_store)
            problem = error_of_store.line
        unsent = replay.unsent()
        sent = unsent_before - unsent
        results.append(Synced(folder=folder, sent=sent, unsent=unsent, problem=problem))
    return results


def attach_to_own(folder: Path, file: Path, options: TrackingOptions, *, name: str) -> str | None:
    """Upload a file as `attach` does to the run in a folder; the id in a foreign one may be false.

    Returns the problem in one line, such as a foreign folder; `None` if there is none.
    """
    state = read_state(folder)
    if state.run_id and not is_own(folder):
        return f"{str(folder)!r} is foreign; make it your own with: {adopt_words(folder)}"
    return attach(state, file, options, name=name)


def attach(state: State, file: Path, options: TrackingOptions, *, name: str) -> str | None:
    """Upload a file to a run's artifacts as `name`, in place of an earlier one.

    Does nothing if MLflow lacks the run. Returns the problem in one line, such as a run that is
    recorded in another store than that of `options`; `None` if there is none.
    """
    if not state.run_id:
        return None
    try:
        uri = tracking_uri(options)
        store = StoreInForce(uri)
        store.require(state.uri)
        folder = local_artifacts(uri, state.run_id)
        if folder is not None:
            # MLflow would copy the file to the same place, and takes 2 s to import.
            replace_file(folder / name, lambda copy: copy.write(file.read_bytes()))
            return None
        with TemporaryDirectory() as temporary:
            copy = Path(temporary) / name  # an artifact has the name of its file
            shutil.copyfile(file, copy)
            store.of(state.uri).upload(state.run_id, copy, "")
    except StoreError as error:
        return error.line
    except OSError as error:
        return f"{str(file)!r} can't be copied ({error.strerror})"
    return None


# ── closing and removing ────────────────────────────────────────────────────────────────────────


def reap(store: "Store", *, grace: float) -> "list[Run]":
    """Close lost runs as FAILED, `end_reason=lost`, and return them; live runs are not touched.

    A run of this machine is lost if its process is gone. If that can't be seen, a run is lost when
    its counter has not moved for `grace` seconds of this process's clock, so this may take that
    long.
    """
    closed: list[Run] = []
    watch = LeaseWatch(grace)
    running = store.running()
    while running:
        doubtful = []
        for run in running:
            run_id = run.info.run_id
            lease = lease_of(run.data.tags)
            is_lost = False if lease is None else watch.judge(run_id, lease)
            if is_lost is None:
                doubtful.append(run_id)
            elif is_lost:
                lost_run = _run_if_running(store, run_id)
                if lost_run is not None:  # otherwise its own recorder has closed it
                    _close_as_lost(store, lost_run)
                    closed.append(lost_run)
        if doubtful:
            time.sleep(min(grace / LOOKS, BEAT_SECONDS))
        running = []
        for run_id in doubtful:
            doubtful_run = _run_if_running(store, run_id)
            if doubtful_run is not None:
                running.append(doubtful_run)
    return closed


def _run_if_running(store: "Store", run_id: str) -> "Run | None":
    """Return a run as the store has it now; `None` if it is gone or has ended."""
    run = store.run(run_id)
    return run if run is not None and run.info.status == "RUNNING" else None


def _close_as_lost(store: "Store", run: "Run") -> None:
    end = max(time.time_ns() // 1_000_000, run.info.start_time)
    store.terminate(run.info.run_id, End.LOST.status, reason=End.LOST.reason, end=end)


def remove_runs(runs: Iterable[ListedRun], uri: str) -> Iterator[ListedRun]:
    """Remove runs, in MLflow first, and yield each removed run.

    Raises EnvironmentFaultError if the store can't be reached or is another one, ConfigError if its
    file is not a database.
    """
    store = StoreInForce(uri)
    try:
        for run in runs:
            if run.state.run_id:
                remove_record(store.of(run.state.uri), run.state.run_id)
            forget_own(run.folder)
            remove(run.folder)
            yield run
    except StoreError as error:
        raise as_error(error.kind, error.line) from error


def remove_record(store: "Store", run_id: str) -> None:
    """Delete a run in MLflow, and its artifacts if they lie beside the database."""
    files = store.files_of(run_id)
    store.delete(run_id)
    if files is not None:
        remove(files)
