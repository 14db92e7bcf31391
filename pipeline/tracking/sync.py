"""The store of a command: opened, sent what journals hold, cleared of lost runs and old ones."""

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipeline.config.options import TrackingOptions
from pipeline.processes.lease import BEAT_SECONDS, LeaseWatch, lease_of
from pipeline.redaction import redact
from pipeline.tracking.folders import ListedRun, State, remove
from pipeline.tracking.replay import Replay
from pipeline.tracking.uri import StoreError, as_error, how_to_name, quiet_mlflow, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipeline.tracking.store import Store

#: How often a counter is read within the grace time.
LOOKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What became of one folder: values sent now and still unsent, and what is in the way."""

    folder: Path
    sent: int = 0
    unsent: int = 0
    problem: str | None = None


class StoreInForce:
    """Opens the store of a command once, and one that does not answer no second time.

    The address in a run's folder is never opened by itself: the folder may be a stranger's, and
    what is sent carries the user's login.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._opened: Store | StoreError | None = None

    def of(self, recorded: str) -> "Store":
        """Return the store for a run recorded there; a StoreError: elsewhere, or no answer."""
        if redact(self._uri) != recorded:
            way = f"which is used only if you name it: {how_to_name(recorded)}"
            raise StoreError("refused", f"recorded in {recorded}, {way}")
        if self._opened is None:
            quiet_mlflow()
            from pipeline.tracking.store import Store

            try:
                self._opened = Store(self._uri)
            except StoreError as error:
                self._opened = error
        if isinstance(self._opened, StoreError):
            raise self._opened
        return self._opened

    def give_up(self, error: StoreError) -> None:
        """Remember that the store does not answer, so that no other run waits for it."""
        if error.transient:
            self._opened = error


@contextmanager
def opened_store(uri: str) -> "Iterator[Store]":
    """Open the store at an absolute address; a call to it that fails is an error of the command."""
    try:
        yield StoreInForce(uri).of(redact(uri))
    except StoreError as error:
        raise as_error(error.kind, error.line) from error


# ── sending ─────────────────────────────────────────────────────────────────────────────────────


def sync(folders: Iterable[Path], uri: str) -> list[Synced]:
    """Send the journals of the tracked runs among folders to a store, where they name the same.

    A run whose process is gone is closed as lost; a live one, and one being sent, is left alone.
    """
    store, results = StoreInForce(uri), []
    for folder in folders:
        try:
            replay = Replay(folder)
        except StoreError as error:
            if error.kind != "waiting":
                results.append(Synced(folder=folder, problem=error.line))
            continue
        if not replay.uri:
            replay.release()
            continue
        before, refused = replay.unsent(), replay.finish(store.of)
        if refused is not None:
            store.give_up(refused)
        left, problem = replay.unsent(), None if refused is None else refused.line
        results.append(Synced(folder=folder, sent=before - left, unsent=left, problem=problem))
    return results


def attach(state: State, file: Path, options: TrackingOptions, *, name: str) -> str | None:
    """Put a file among a run's artifacts, in place of one of its name.

    A run that MLflow lacks, or that is recorded in another store than the options name, is left
    alone. Returns what was in the way, in one line; `None` = nothing.
    """
    if not state.run_id:
        return None
    try:
        store = StoreInForce(tracking_uri(options)).of(state.uri)
        with TemporaryDirectory() as place:
            named = Path(place) / name  # an artifact is called as its file is
            shutil.copyfile(file, named)
            store.upload(state.run_id, named, "")
    except StoreError as error:
        return error.line
    except OSError as error:
        return f"{str(file)!r} can't be copied ({error.strerror})"
    return None


# ── closing and removing ────────────────────────────────────────────────────────────────────────


def reap(store: "Store", *, grace: float) -> "list[Run]":
    """Close lost runs as FAILED, `end_reason=lost`, and return them. A live one is never touched.

    A run of this machine is lost when its process is gone; one that can't be judged so, when its
    counter has not moved for `grace` seconds of this process's clock, so this may take that long.
    """
    closed: list[Run] = []
    watch, running = LeaseWatch(grace), store.running()
    while running:
        doubtful = []
        for run in running:
            run_id, lease = run.info.run_id, lease_of(run.data.tags)
            is_lost = False if lease is None else watch.judge(run_id, lease)
            if is_lost:
                closed += _closed_as_lost(store, run_id)
            elif is_lost is None:
                doubtful.append(run_id)
        if doubtful:
            time.sleep(min(grace / LOOKS, BEAT_SECONDS))
        again = [store.run(run_id) for run_id in doubtful]
        running = [run for run in again if run is not None and run.info.status == "RUNNING"]
    return closed


def _closed_as_lost(store: "Store", run_id: str) -> "list[Run]":
    run = store.run(run_id)
    if run is None or run.info.status != "RUNNING":  # its own recorder has closed it
        return []
    end = max(time.time_ns() // 1_000_000, run.info.start_time)
    store.terminate(run_id, "FAILED", reason="lost", end=end)
    return [run]


def remove_runs(runs: Iterable[ListedRun], uri: str) -> Iterator[ListedRun]:
    """Remove runs, in MLflow first, and yield each that is gone.

    An EnvironmentFaultError or ConfigError: the store can't be reached or is another one.
    """
    store = StoreInForce(uri)
    try:
        for run in runs:
            if run.state.run_id:
                remove_record(store.of(run.state.uri), run.state.run_id)
            remove(run.folder)
            yield run
    except StoreError as error:
        raise as_error(error.kind, error.line) from error


def remove_record(store: "Store", run_id: str) -> None:
    """Delete a run in MLflow, with the artifacts that lie beside its database."""
    files = store.files_of(run_id)
    store.delete(run_id)
    if files is not None:
        remove(files)
