"""Fills one MLflow run from a journal, however often and from wherever it is called."""

from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import filelock

from pipeline.redaction import redact
from pipeline.tracking.faults import StoreError
from pipeline.tracking.fields import param_texts
from pipeline.tracking.journal import JOURNAL, Event, Status, parse_line
from pipeline.tracking.lease import Lease, alive, working
from pipeline.tracking.state import STATE, State, read_state, write_state
from pipeline.tracking.store import MAX_METRICS, PARENT_TAG, Point, Store

ARTIFACTS = "artifacts"
LOCK = ".recorder.lock"
CHANGED_PREFIX = "pipeline.changed."

Ending = Literal["recorded", "lost", "open"]


class InUseError(Exception):
    """Another process is sending this folder's journal."""


@dataclass(slots=True)
class Batch:
    """What some lines of a journal say together."""

    lines: int = 0
    begin: Event | None = None
    points: list[Point] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take one more line in."""
        self.lines += 1
        if event["event"] == "begin":
            self.begin = event
        elif event["event"] == "epoch":
            at, epoch = event["time"], event["epoch"]
            self.points += [(key, value, at, epoch) for key, value in event["values"].items()]
        elif event["event"] == "tag":
            self.tags[event["key"]] = event["value"]


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
        self.state = read_state(folder)
        self.lease: Lease | None = None
        self.uri = ""
        self.last_ms = 0
        self._pending: deque[Event] = deque()
        self._skip = self.state.sent
        self._offset = 0
        self._attached = False
        self._lock = filelock.FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=wait)
            self.read()
        except filelock.Timeout as error:
            raise InUseError(str(folder)) from error
        except OSError as error:
            raise StoreError("refused", _unreadable(folder, error)) from error
        except StoreError:
            self._lock.release()
            raise

    def release(self) -> None:
        """Let another process send this journal."""
        self._lock.release()

    def read(self) -> None:
        """Take in the lines that have been added to the journal."""
        try:
            with (self.folder / JOURNAL).open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except OSError as error:
            raise StoreError("refused", _unreadable(self.folder, error)) from error
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(parse_line(line))

    def unsent(self) -> int:
        """Count the values that the store lacks; an event without values is 1."""
        return sum(max(1, len(event.get("values", ()))) for event in self._pending)

    def ready(self) -> bool:
        """Tell whether there is something to send before the run ends."""
        return bool(self._pending) and not self._only_end_left()

    def push(self, store: Store) -> None:
        """Send one batch, of about a thousand values at most; the final `end` is left for later."""
        self._attach(store)
        batch = self._batch()
        if batch.begin is not None:
            self._begin(store, batch.begin)
        if batch.points or batch.tags:
            store.log(self.state.run_id, points=batch.points, tags=batch.tags)
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
        while self.ready():
            self.push(store)
        ending = self.ending()
        if ending == "open" and is_over:
            ending = "lost"
        if ending != "open":
            self.terminate(store, ending)

    def ending(self) -> Ending:
        """Tell how the run stands: its end is recorded, its process is gone, or it goes on."""
        if self._only_end_left():
            return "recorded"
        return "lost" if self.lease is not None and not alive(self.lease) else "open"

    def terminate(self, store: Store, ending: Ending) -> None:
        """Upload the artifacts and close the run, once everything else has been sent."""
        self._attach(store)
        if self.state.done and not self._pending:
            return
        self._upload(store)
        end = self._pending[0] if ending == "recorded" else None
        status: Status = end["status"] if end else "FAILED"
        reason = end["reason"] if end else "lost"
        store.terminate(self.state.run_id, status, reason=reason, end=self.last_ms)
        self._write(replace(self.state, sent=self.state.sent + len(self._pending), done=True))
        self._pending.clear()

    def beat(self, store: Store, counter: int) -> None:
        """Move the lease's counter, unless the training process is gone or stopped."""
        if self.state.run_id and self.lease is not None and working(self.lease):
            store.log(self.state.run_id, tags=replace(self.lease, counter=counter).tags())

    def _attach(self, store: Store) -> None:
        """Begin anew where the store is another one, or has lost the run; once."""
        if self._attached:
            return
        elsewhere = self.state.uri != redact(store.uri)
        if self.state.run_id and (elsewhere or store.run(self.state.run_id) is None):
            self.state, self._skip, self._offset = State(), 0, 0
            self._pending.clear()
            self.read()
        if not self.state.run_id and (not self._pending or self._pending[0]["event"] != "begin"):
            path = str(self.folder / JOURNAL)
            raise StoreError("refused", f"{path!r} does not begin with a run; it can't be sent")
        self._attached = True

    def _take(self, event: Event) -> None:
        self.last_ms = max(self.last_ms, event["time"])
        if event["event"] == "begin":
            self.lease = Lease(**event["lease"])
            self.uri = event["uri"]
        if self._skip > 0:
            self._skip -= 1
        else:
            self._pending.append(event)

    def _only_end_left(self) -> bool:
        return len(self._pending) == 1 and self._pending[0]["event"] == "end"

    def _batch(self) -> Batch:
        batch = Batch()
        last = len(self._pending) - 1
        for index, event in enumerate(self._pending):
            again = event["event"] == "begin" and batch.lines > 0
            final = event["event"] == "end" and index == last
            if len(batch.points) >= MAX_METRICS or again or final:
                break
            batch.add(event)
        return batch

    def _begin(self, store: Store, begin: Event) -> None:
        tags = {**begin["tags"], **Lease(**begin["lease"]).tags()}
        if begin["parent"]:
            tags[PARENT_TAG] = begin["parent"]
        if not self.state.run_id:
            self._create(store, begin, tags)
        elif (known := store.run(self.state.run_id)) is not None:
            store.reopen(self.state.run_id)
            tags |= _changes(known.data.params, param_texts(begin["params"]))
        store.log(self.state.run_id, params=begin["params"], tags=tags)

    def _create(self, store: Store, begin: Event, tags: dict[str, str]) -> None:
        experiment_id = store.experiment(begin["experiment"])
        run_id = store.create(
            experiment_id,
            name=begin["name"],
            folder=self.folder.name,
            tags=tags,
            start=begin["time"],
        )
        self._write(State(uri=redact(store.uri), run_id=run_id, experiment_id=experiment_id))

    def _upload(self, store: Store) -> None:
        top = self.folder / ARTIFACTS
        for file in sorted(path for path in top.rglob("*") if path.is_file()):
            below = file.parent.relative_to(top).as_posix()
            store.upload(self.state.run_id, file, "" if below == "." else below)

    def _write(self, state: State) -> None:
        try:
            write_state(self.folder, state)
        except OSError as error:
            line = f"{str(self.folder / STATE)!r} can't be written ({error.strerror})"
            raise StoreError("unwritable", line) from error
        self.state = state


def _changes(known: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """Return tags for the parameters that a resumed run changed: MLflow keeps the first value."""
    changed = {key for key, text in now.items() if key in known and known[key] != text}
    return {f"{CHANGED_PREFIX}{key}": now[key] for key in sorted(changed)}


def _unreadable(folder: Path, error: OSError) -> str:
    return f"{str(folder / JOURNAL)!r} can't be sent ({error.strerror})"
