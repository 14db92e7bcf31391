"""Fills one MLflow run from a journal, however often and from wherever it is called."""

import errno
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal

import filelock

from pipeline.processes.lease import Lease, alive, working
from pipeline.redaction import redact
from pipeline.tracking.faults import StoreError
from pipeline.tracking.fields import END_TAG, PARENT_TAG, param_texts
from pipeline.tracking.folders import STATE, State, read_state, write_state
from pipeline.tracking.journal import JOURNAL, Event, Status, count_values, parse_line
from pipeline.tracking.store import Point, Store

ARTIFACTS = "artifacts"
LOCK = ".recorder.lock"
CHANGED_PREFIX = "pipeline.changed."
REGISTERED_TAG = "registered"
PROBLEM_TAG = "model.problem"
MOST_POINTS = 1000
"""Values from which on a batch takes no further line."""
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.ENOENT)
"""Codes of a disk that is full, and of a folder that is gone."""

Ending = Literal["recorded", "lost", "open"]


class InUseError(Exception):
    """Another process is sending this folder's journal."""


@dataclass(slots=True)
class Batch:
    """Lines of a journal that one call to a store can take; at most the first begins the run."""

    lines: int = 0
    begin: Event | None = None
    points: list[Point] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


def next_batch(pending: Collection[Event]) -> Batch:
    """Return what can be sent next: the run's end stays for later, a second begin too."""
    batch = Batch()
    for index, event in enumerate(pending):
        kind = event["event"]
        is_last = kind == "end" and index == len(pending) - 1
        if len(batch.points) >= MOST_POINTS or is_last or (kind == "begin" and index > 0):
            break
        batch.lines += 1
        if kind == "begin":
            batch.begin = event
        elif kind == "epoch":
            at, epoch = event["time"], event["epoch"]
            batch.points += [(key, value, at, epoch) for key, value in event["values"].items()]
        elif kind == "tag":
            batch.tags[event["key"]] = event["value"]
    return batch


class Replay:
    """One folder's journal on its way into a store; holds the folder's lock while it is open.

    The journal stays open, so that a run whose folder is removed or renamed is followed to its end.

    `registered` is what the registration of the run's model came to, in one line; `problem` why
    MLflow will never have that model; `uri` where the run is to be recorded.

    Args:
        folder: The run's folder.
        wait: Seconds to wait for another process that sends the same journal.

    Raises:
        InUseError: Another process sends the same journal.
        StoreError: The journal can't be read.
    """

    def __init__(self, folder: Path, *, wait: float = 0.0) -> None:
        self.folder = folder
        self.registered: str | None = None
        self.problem: str | None = None
        self._path = folder / JOURNAL
        self._file: BinaryIO | None = None
        self._attached = False
        self._lock = filelock.FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=wait)
            self._rewind(read_state(folder))
        except filelock.Timeout as error:
            raise InUseError(str(folder)) from error
        except OSError as error:
            raise self._unreadable(error) from error
        except StoreError:
            self._lock.release()
            raise

    def _rewind(self, state: State) -> None:
        """Read the journal from its beginning, of which the store has what `state` says."""
        self.state = state
        self.lease: Lease | None = None
        self.uri = ""
        self._begun: Event = {}
        self._model: Event | None = None
        self._last_ms = 0
        self._pending: deque[Event] = deque()
        self._skip = state.sent
        self._offset = 0
        self._close()
        self.read()

    def read(self) -> None:
        """Take in the lines that have been added to the journal.

        Raises:
            StoreError: It can't be read.
        """
        try:
            if self._file is None:
                self._file = self._path.open("rb")
            self._file.seek(self._offset)
            content = self._file.read()
        except OSError as error:
            raise self._unreadable(error) from error
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(parse_line(line))

    def release(self) -> None:
        """Let another process send this journal; it may still be read."""
        self._close()
        self._lock.release()

    def unsent(self) -> int:
        """Count the values that the store lacks; an event without values is 1."""
        return count_values(self._pending)

    @property
    def is_ready(self) -> bool:
        """Whether there is something to send before the run ends."""
        return bool(self._pending) and not self._only_end_left

    @property
    def _only_end_left(self) -> bool:
        return len(self._pending) == 1 and self._pending[0]["event"] == "end"

    def push(self, store: Store) -> None:
        """Send one batch, of about a thousand values at most; the final `end` is left for later."""
        self._attach(store)
        batch = next_batch(self._pending)
        is_new = batch.begin is not None and self._begin(store, batch.begin, batch.tags)
        params = batch.begin["params"] if batch.begin is not None else {}
        store.log(
            self.state.run_id, points=batch.points, params=params, tags=batch.tags, is_new=is_new
        )
        if batch.lines:
            self._write(replace(self.state, sent=self.state.sent + batch.lines, done=False))
            for _ in range(batch.lines):
                self._pending.popleft()

    def drain(self, store: Store, *, is_over: bool) -> None:
        """Send all that the journal holds, and close the run if it has ended.

        Args:
            store: Where to.
            is_over: The run goes on no more: without a recorded end it is lost.
        """
        self.read()
        while self.is_ready:
            self.push(store)
        ending = self.ending()
        if ending == "open" and is_over:
            ending = "lost"
        if ending != "open":
            self._terminate(store, ending)

    def ending(self) -> Ending:
        """Tell how the run stands: its end is recorded, its process is gone, or it goes on."""
        if self._only_end_left:
            return "recorded"
        lease = self.lease
        return "lost" if lease is not None and not alive(lease) else "open"

    def is_done(self) -> bool:
        """Tell whether the store has all of the journal, and the run's end."""
        return self.state.done and not self._pending

    def beat(self, store: Store, counter: int) -> None:
        """Move the lease's counter, unless the training process is gone or stopped."""
        lease = self.lease
        if self.state.run_id and lease is not None and working(lease):
            store.log(self.state.run_id, tags=replace(lease, counter=counter).tags())

    def _terminate(self, store: Store, ending: Ending) -> None:
        """Upload the artifacts and close the run, once everything else has been sent."""
        self._attach(store)
        if self.is_done():
            return
        self._upload(store)
        end = self._pending[0] if ending == "recorded" else None
        status: Status = end["status"] if end else "FAILED"
        if status == "FINISHED":
            self._settle(store)
        reason = end["reason"] if end else "lost"
        store.terminate(self.state.run_id, status, reason=reason, end=self._last_ms)
        self._write(replace(self.state, sent=self.state.sent + len(self._pending), done=True))
        self._pending.clear()

    def _attach(self, store: Store) -> None:
        """Begin anew where the store is another one, or has lost the run; once."""
        if self._attached:
            return
        elsewhere = self.state.uri != redact(store.uri)
        if self.state.run_id and (elsewhere or store.run(self.state.run_id) is None):
            self._rewind(State())
        pending = self._pending
        if not self.state.run_id and not (pending and pending[0]["event"] == "begin"):
            line = f"{str(self._path)!r} does not begin with a run; it can't be sent"
            raise StoreError("refused", line)
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
            known = _run_id(Path(folder) if Path(folder).is_dir() else moved, store)
        return {PARENT_TAG: known} if known else {}

    def _create(self, store: Store, begin: Event, tags: dict[str, str]) -> bool:
        experiment_id = store.experiment(begin["experiment"])
        last = self._pending[-1]
        reason = last["reason"] if last["event"] == "end" else None
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
        """Log the model that the run has left and register it; no run fails by that.

        Raises:
            StoreError: The store does not answer; a later try may help.
        """
        model, begun = self._model, self._begun
        if model is None:
            return
        # It takes a second to import, and only a run that leaves a model needs it.
        from pipeline.tracking.models import LeftModel, log_and_register

        left = LeftModel(
            folder=self.folder,
            run_id=self.state.run_id,
            experiment_id=self.state.experiment_id,
            trust=begun.get("trust", ()),
        )
        try:
            self.registered = log_and_register(store, left, begun.get("register"), model["figure"])
        except StoreError as error:
            if error.transient:
                raise
            self.problem = error.line
        tags = {REGISTERED_TAG: self.registered, PROBLEM_TAG: self.problem}
        store.log(self.state.run_id, tags={key: line for key, line in tags.items() if line})

    def _take(self, event: Event) -> None:
        self._last_ms = max(self._last_ms, event["time"])
        if event["event"] == "begin":
            self.lease = Lease(**event["lease"])
            self.uri = event["uri"]
            self._begun = event
        elif event["event"] == "model":
            self._model = event
        if self._skip > 0:
            self._skip -= 1
        else:
            self._pending.append(event)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _unreadable(self, error: OSError) -> StoreError:
        return StoreError("refused", f"{str(self._path)!r} can't be sent ({error.strerror})")

    def _write(self, state: State) -> None:
        """Note how far the store is; what finds no place is sent again, which changes nothing."""
        try:
            write_state(self.folder, state)
        except OSError as error:
            if error.errno not in NO_PLACE:
                line = f"{str(self.folder / STATE)!r} can't be written ({error.strerror})"
                raise StoreError("unwritable", line) from error
        self.state = state


def _run_id(folder: Path, store: Store) -> str:
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
