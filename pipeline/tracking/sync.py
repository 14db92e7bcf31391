"""Sends what journals hold and their stores lack, once training is over."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.redaction import redact
from pipeline.tracking.faults import StoreError
from pipeline.tracking.forgetting import is_marked, remove
from pipeline.tracking.replay import InUseError, Replay
from pipeline.tracking.store import Store
from pipeline.tracking.uri import how_to_name


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


class StoreInForce:
    """Opens the store of a command once, and one that does not answer no second time.

    The address that a run's folder names is never opened by itself: the folder may be a
    stranger's, and what is sent carries the user's login.

    Args:
        uri: The address in force: of the command line, the environment or the default.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._opened: Store | StoreError | None = None

    def of(self, recorded: str) -> Store:
        """Return the store for a run that is recorded there.

        Args:
            recorded: Where its folder says that it is recorded, without a password.

        Raises:
            StoreError: It is recorded elsewhere, or the store can't be reached.
        """
        if redact(self._uri) != recorded:
            raise StoreError(
                "refused",
                f"recorded in {recorded}, which is used only if you name it: "
                f"{how_to_name(recorded)}",
            )
        if self._opened is None:
            self._opened = _opened(self._uri)
        if isinstance(self._opened, StoreError):
            raise self._opened
        return self._opened

    def give_up(self, error: StoreError) -> None:
        """Remember that the store does not answer, so that no other run waits for it."""
        if error.transient:
            self._opened = error


def sync(folders: Iterable[Path], uri: str) -> list[Synced]:
    """Send the journals of the tracked runs among folders to a store, where they name the same.

    A run whose process is gone without a word is closed as lost. A live one, and one that another
    process is sending, is left alone.
    """
    store = StoreInForce(uri)
    return [synced for folder in folders if (synced := _sync(folder, store)) is not None]


def _sync(folder: Path, store: StoreInForce) -> Synced | None:
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
        replay.drain(store.of(replay.backlog.uri), is_over=False)
    except StoreError as error:
        problem = error.line
        store.give_up(error)
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
