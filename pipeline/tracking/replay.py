"""Fills one MLflow run from a journal, however often and from wherever it is called."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Literal

import filelock

from pipeline.processes.lease import Lease, alive, working
from pipeline.redaction import redact
from pipeline.tracking.backlog import Backlog, unreadable
from pipeline.tracking.batch import next_batch
from pipeline.tracking.books import END_TAG, PARENT_TAG
from pipeline.tracking.faults import StoreError
from pipeline.tracking.fields import param_texts
from pipeline.tracking.journal import JOURNAL, Event, Status
from pipeline.tracking.settling import Left, Settled, settle
from pipeline.tracking.state import STATE, State, read_state, write_state
from pipeline.tracking.store import Store

ARTIFACTS = "artifacts"
LOCK = ".recorder.lock"
CHANGED_PREFIX = "pipeline.changed."
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.ENOENT)
"""Codes of a disk that is full, and of a folder that is gone."""

Ending = Literal["recorded", "lost", "open"]


class InUseError(Exception):
    """Another process is sending this folder's journal."""


class Replay:
    """One folder's journal on its way into a store; holds the folder's lock while it is open.

    Args:
        folder: The run's folder.
        wait: Seconds to wait for another process that sends the same journal.

    Raises:
        InUseError: Another process sends the same journal.
    """

    def __init__(self, folder: Path, *, wait: float = 0.0) -> None:
        self.folder = folder
        self._attached = False
        self.settled = Settled()
        self._lock = filelock.FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=wait)
            self.state = read_state(folder)
            self.backlog = Backlog(folder, skip=self.state.sent)
            self.backlog.read()
        except filelock.Timeout as error:
            raise InUseError(str(folder)) from error
        except OSError as error:
            raise StoreError("refused", unreadable(folder / JOURNAL, error)) from error
        except StoreError:
            self._lock.release()
            raise

    def release(self) -> None:
        """Let another process send this journal."""
        self.backlog.close()
        self._lock.release()

    def push(self, store: Store) -> None:
        """Send one batch, of about a thousand values at most; the final `end` is left for later."""
        self._attach(store)
        batch = next_batch(self.backlog.pending)
        is_new = batch.begin is not None and self._begin(store, batch.begin, batch.tags)
        params = batch.begin["params"] if batch.begin is not None else {}
        store.log(
            self.state.run_id, points=batch.points, params=params, tags=batch.tags, is_new=is_new
        )
        if batch.lines:
            self._write(replace(self.state, sent=self.state.sent + batch.lines, done=False))
            self.backlog.drop(batch.lines)

    def drain(self, store: Store, *, is_over: bool) -> None:
        """Send all that the journal holds, and close the run if it has ended.

        Args:
            store: Where to.
            is_over: The run goes on no more: without a recorded end it is lost.
        """
        self.backlog.read()
        while self.backlog.ready():
            self.push(store)
        ending = self.ending()
        if ending == "open" and is_over:
            ending = "lost"
        if ending != "open":
            self.terminate(store, ending)

    def ending(self) -> Ending:
        """Tell how the run stands: its end is recorded, its process is gone, or it goes on."""
        if self.backlog.only_end_left():
            return "recorded"
        lease = self.backlog.lease
        return "lost" if lease is not None and not alive(lease) else "open"

    def terminate(self, store: Store, ending: Ending) -> None:
        """Upload the artifacts and close the run, once everything else has been sent."""
        self._attach(store)
        pending = self.backlog.pending
        if self.state.done and not pending:
            return
        self._upload(store)
        end = pending[0] if ending == "recorded" else None
        status: Status = end["status"] if end else "FAILED"
        if status == "FINISHED":
            self._settle(store)
        reason = end["reason"] if end else "lost"
        last_ms = self.backlog.last_ms
        store.terminate(self.state.run_id, status, reason=reason, end=last_ms)
        self._write(replace(self.state, sent=self.state.sent + len(pending), done=True))
        pending.clear()

    def is_done(self) -> bool:
        """Tell whether the store has all of the journal, and the run's end."""
        return self.state.done and not self.backlog.pending

    def beat(self, store: Store, counter: int) -> None:
        """Move the lease's counter, unless the training process is gone or stopped."""
        lease = self.backlog.lease
        if self.state.run_id and lease is not None and working(lease):
            store.log(self.state.run_id, tags=replace(lease, counter=counter).tags())

    def _attach(self, store: Store) -> None:
        """Begin anew where the store is another one, or has lost the run; once."""
        if self._attached:
            return
        elsewhere = self.state.uri != redact(store.uri)
        if self.state.run_id and (elsewhere or store.run(self.state.run_id) is None):
            self.backlog.close()
            self.state, self.backlog = State(), Backlog(self.folder, skip=0)
            self.backlog.read()
        if not self.state.run_id and not self.backlog.begins():
            path = str(self.folder / JOURNAL)
            raise StoreError("refused", f"{path!r} does not begin with a run; it can't be sent")
        self._attached = True

    def _begin(self, store: Store, begin: Event, more: dict[str, str]) -> bool:
        """Have a run that goes on; tell whether it is a new one, which has its tags by now.

        Args:
            store: Where it is.
            begin: How it begins, or begins again.
            more: Takes the tags that are left to log; those in it are later ones.
        """
        tags = {**begin["tags"], **Lease(**begin["lease"]).tags(), **self._parent(store, begin)}
        if not self.state.run_id and self._create(store, begin, tags):
            return True
        known = store.run(self.state.run_id)
        store.reopen(self.state.run_id)
        held = {} if known is None else known.data.params
        later = dict(more)
        more |= tags | _changes(held, param_texts(begin["params"])) | later
        return False

    def _parent(self, store: Store, begin: Event) -> dict[str, str]:
        known, folder = begin["parent"], begin.get("parent_folder")
        if folder:
            moved = self.folder.absolute().parents[1]  # where a trial's study lies in any case
            known = run_id_of(Path(folder) if Path(folder).is_dir() else moved, store)
        return {PARENT_TAG: known} if known else {}

    def _create(self, store: Store, begin: Event, tags: dict[str, str]) -> bool:
        experiment_id = store.experiment(begin["experiment"])
        reason = self.backlog.reason()
        run_id, is_new = store.create(
            experiment_id,
            name=begin["name"],
            key=begin.get("key") or self.folder.name,
            tags={**tags, END_TAG: reason} if reason else tags,
            start=begin["time"],
        )
        self._write(State(uri=redact(store.uri), run_id=run_id, experiment_id=experiment_id))
        return is_new

    def _upload(self, store: Store) -> None:
        top = self.folder / ARTIFACTS
        for file in sorted(path for path in top.rglob("*") if path.is_file()):
            below = file.parent.relative_to(top).as_posix()
            store.upload(self.state.run_id, file, "" if below == "." else below)

    def _settle(self, store: Store) -> None:
        """Let the store have the model that the run has left, where it has left one."""
        model, begun = self.backlog.model, self.backlog.begun
        if model is None:
            return
        left = Left(
            folder=self.folder,
            run_id=self.state.run_id,
            experiment_id=self.state.experiment_id,
            trust=begun.get("trust", ()),
        )
        self.settled = settle(store, left, model=model, register=begun.get("register"))

    def _write(self, state: State) -> None:
        """Note how far the store is; what finds no place is sent again, which changes nothing."""
        try:
            write_state(self.folder, state)
        except OSError as error:
            if error.errno not in NO_PLACE:
                line = f"{str(self.folder / STATE)!r} can't be written ({error.strerror})"
                raise StoreError("unwritable", line) from error
        self.state = state


def run_id_of(folder: Path, store: Store) -> str:
    """Return the id of a folder's run in a store, created where it has none there.

    Raises:
        StoreError: It has none yet, and it is for another process to create it.
    """
    state = read_state(folder)
    if state.run_id and state.uri == redact(store.uri):
        return state.run_id
    awaited = StoreError("waiting", f"the run of {str(folder)!r} is being created")
    if not (folder / JOURNAL).is_file():
        raise awaited
    try:
        replay = Replay(folder)
    except InUseError as error:
        raise awaited from error
    try:
        replay.push(store)
    finally:
        replay.release()
    return replay.state.run_id


def _changes(known: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """Return tags for the parameters that a resumed run changed: MLflow keeps the first value."""
    changed = {key for key, text in now.items() if key in known and known[key] != text}
    return {f"{CHANGED_PREFIX}{key}": now[key] for key in sorted(changed)}
