"""Sends what journals hold and their stores lack, once training is over."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.redaction import MASK, redact
from pipeline.tracking.faults import StoreError
from pipeline.tracking.forgetting import is_marked, remove
from pipeline.tracking.replay import InUseError, Replay
from pipeline.tracking.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What became of one folder.

    Args:
        folder: The run's folder.
        run_id: MLflow's id of the run; '' where it has none yet.
        sent: Values that have been sent now.
        unsent: Values that the store still lacks.
        problem: What is in the way, in one line.
    """

    folder: Path
    run_id: str
    sent: int
    unsent: int
    problem: str | None = None


class Stores:
    """Opens each store once, and one that does not answer no second time.

    Args:
        uri: The address in force now; it stands in for one on record without its password.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._opened: dict[str, Store | StoreError] = {}

    def at(self, recorded: str) -> Store:
        """Return the store that a journal names.

        Raises:
            StoreError: It can't be reached, or its password is not known here.
        """
        uri = self._uri if redact(self._uri) == recorded else recorded
        if MASK in uri:
            raise StoreError("refused", f"{uri} needs its password; give tracking.uri= whole")
        if uri not in self._opened:
            self._opened[uri] = _opened(uri)
        store = self._opened[uri]
        if isinstance(store, StoreError):
            raise store
        return store

    def give_up(self, recorded: str, error: StoreError) -> None:
        """Remember that a store does not answer, so that no other run waits for it."""
        for uri in {self._uri, recorded} & self._opened.keys():
            if error.transient and redact(uri) == recorded:
                self._opened[uri] = error


def sync(folders: Iterable[Path], uri: str) -> list[Synced]:
    """Send the journals of folders to the stores that they name; a tracked run alone has one.

    A run whose process is gone without a word is closed as lost. A live one, and one that another
    process is sending, is left alone.
    """
    stores = Stores(uri)
    return [synced for folder in folders if (synced := _sync(folder, stores)) is not None]


def _sync(folder: Path, stores: Stores) -> Synced | None:
    try:
        replay = Replay(folder)
    except InUseError:
        return None
    except StoreError as error:
        return Synced(folder=folder, run_id="", sent=0, unsent=0, problem=error.line)
    before, problem = replay.backlog.unsent(), None
    try:
        if not replay.backlog.uri:
            return None
        replay.drain(stores.at(replay.backlog.uri), is_over=False)
    except StoreError as error:
        problem = error.line
        stores.give_up(replay.backlog.uri, error)
    finally:
        replay.release()
    if replay.is_done() and is_marked(folder):
        remove(folder)
    left = replay.backlog.unsent()
    return Synced(
        folder=folder,
        run_id=replay.state.run_id,
        sent=before - left,
        unsent=left,
        problem=problem,
    )


def _opened(uri: str) -> Store | StoreError:
    try:
        return Store(uri)
    except StoreError as error:
        return error
