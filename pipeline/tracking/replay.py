"""Fills one MLflow run from a journal, however often and from wherever it is called."""

import errno
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from pipeline.processes.lease import BEAT_SECONDS, Lease, alive, working
from pipeline.redaction import redact
from pipeline.tracking.fields import PARENT_TAG, param_texts
from pipeline.tracking.folders import FORGET, STATE, State, read_state, remove, write_state
from pipeline.tracking.journal import JOURNAL, Event, Figure, count_values, parse_line
from pipeline.tracking.uri import StoreError

if TYPE_CHECKING:
    from pipeline.tracking.store import Store

ARTIFACTS = "artifacts"
LOCK = ".recorder.lock"
#: Values from which on a batch takes no further line.
MOST_POINTS = 1000
#: Codes of a disk that is full, and of a folder that is gone.
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.ENOENT)


class Replay:
    """One folder's journal on its way into a store; holds the folder's lock while it is open.

    The journal stays open, so a run whose folder goes is followed to its end. `registered` is the
    result of the registration of its model, `problem` why MLflow will never have that model; the
    caller sets `is_refused` once the store has refused the run for good. A StoreError: the journal
    can't be read, or another process sends it (`waiting`; `refused` after a `wait`).
    """

    def __init__(self, folder: Path, *, wait: float = 0.0) -> None:
        self.folder = folder
        self.registered: str | None = None
        self.problem: str | None = None
        self.is_refused = False
        self._path = folder / JOURNAL
        self._is_attached = False
        self._beats = 0
        self._next_beat = 0.0
        self._lock = filelock.FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=wait)
            self._file = self._path.open("rb")
            self._rewind(read_state(folder))
        except filelock.Timeout as error:
            line = f"{str(folder)!r} is recorded by another process"
            raise StoreError("refused" if wait else "waiting", line) from error
        except OSError as error:
            self._lock.release()
            raise self._unreadable(error) from error
        except StoreError:
            self.release()
            raise

    def _rewind(self, state: State) -> None:
        """Read the journal from its beginning, of which the store has what `state` says."""
        self.state = state
        self.lease: Lease | None = None
        self.uri = ""
        self._begun: Event = {}
        self._model: Event | None = None
        self._last_ms = 0
        self._pending: list[Event] = []
        self._skip = state.sent
        self._offset = 0
        self.read()

    def read(self) -> None:
        """Take in the lines that have been added to the journal."""
        try:
            self._file.seek(self._offset)
            content = self._file.read()
        except OSError as error:
            raise self._unreadable(error) from error
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        for event in map(parse_line, whole.splitlines()):
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

    def release(self) -> None:
        """Let another process send this journal."""
        self._file.close()
        self._lock.release()

    def unsent(self) -> int:
        """Count the values that the store lacks; an event without values is 1."""
        return count_values(self._pending)

    def advance(self, store: "Store") -> None:
        """Send at most one batch of what is new, and a beat while its process works."""
        self.read()
        if self._next_batch():
            self.push(store)
        if time.monotonic() >= self._next_beat:
            self._beats += 1
            self._next_beat = time.monotonic() + BEAT_SECONDS
            if self.state.run_id and self.lease is not None and working(self.lease):
                beaten = replace(self.lease, counter=self._beats)
                store.log(self.state.run_id, tags=beaten.tags())

    def push(self, store: "Store") -> None:
        """Send one batch, of about a thousand values at most; the final `end` is left for later."""
        self._attach(store)
        if not (events := self._next_batch()):
            return
        points = [
            (key, value, event["time"], event["epoch"])
            for event in events
            if event["event"] == "epoch"
            for key, value in event["values"].items()
        ]
        params, is_new, more = {}, False, dict[str, str]()
        if events[0]["event"] == "begin":
            params = events[0]["params"]
            is_new, more = self._begin(store, events[0])
        tags = more | {one["key"]: one["value"] for one in events if one["event"] == "tag"}
        store.log(self.state.run_id, points=points, params=params, tags=tags, is_new=is_new)
        self._write(replace(self.state, sent=self.state.sent + len(events), done=False))
        del self._pending[: len(events)]

    def _next_batch(self) -> list[Event]:
        """Return the lines that one call can take: the run's end waits, a second begin too."""
        batch: list[Event] = []
        points = 0
        for event in self._pending:
            kind = event["event"]
            is_last = kind == "end" and len(batch) == len(self._pending) - 1
            if points >= MOST_POINTS or is_last or (kind == "begin" and batch):
                break
            batch.append(event)
            points += len(event["values"]) if kind == "epoch" else 0
        return batch

    def drain(self, store: "Store", *, is_over: bool) -> None:
        """Send all that the journal holds, and close the run if it has ended.

        Where the run `is_over`, one without a recorded end is lost.
        """
        self.read()
        is_gone = is_over or (self.lease is not None and not alive(self.lease))
        if self._pending or is_gone:
            self._attach(store)
        while self._next_batch():
            self.push(store)
        if not self._pending and (self.state.done or not is_gone):
            return
        top = self.folder / ARTIFACTS
        for file in sorted(path for path in top.rglob("*") if path.is_file()):
            below = file.parent.relative_to(top).as_posix()
            store.upload(self.state.run_id, file, "" if below == "." else below)
        lost: Event = {"status": "FAILED", "reason": "lost"}
        end = self._pending[0] if self._pending else lost
        if end["status"] == "FINISHED":
            self._leave_model(store)
        store.terminate(self.state.run_id, end["status"], reason=end["reason"], end=self._last_ms)
        self._write(replace(self.state, sent=self.state.sent + len(self._pending), done=True))
        self._pending.clear()

    def finish(self, store_of: "Callable[[str], Store | None]") -> StoreError | None:
        """Send what is left to `store_of(uri)`, if any; then remove a marked folder."""
        problem = None
        try:
            store = store_of(self.uri)
            if store is not None:
                self.drain(store, is_over=False)
        except StoreError as error:
            problem = error
        finally:
            self.release()
        if self.is_done() and (self.folder / FORGET).exists():
            remove(self.folder)
        return problem

    def is_done(self) -> bool:
        """Tell whether the store has all of the journal, and the run's end."""
        return self.state.done and not self._pending

    def _attach(self, store: "Store") -> None:
        """Begin anew where the store is another one, or has lost the run; once."""
        if self._is_attached:
            return
        elsewhere = self.state.uri != redact(store.uri)
        if self.state.run_id and (elsewhere or store.run(self.state.run_id) is None):
            self._rewind(State())
        if not self.state.run_id and [one["event"] for one in self._pending[:1]] != ["begin"]:
            line = f"{str(self._path)!r} does not begin with a run; it can't be sent"
            raise StoreError("refused", line)
        self._is_attached = True

    def _begin(self, store: "Store", begin: Event) -> tuple[bool, dict[str, str]]:
        """Have a run that goes on; tell whether it is a new one, and which tags are left to log."""
        tags = {**begin["tags"], **Lease(**begin["lease"]).tags()}
        parent = begin["parent"]
        if folder := begin.get("parent_folder"):
            moved = self.folder.absolute().parents[1]  # where a trial's study lies in any case
            parent = _run_id(Path(folder) if Path(folder).is_dir() else moved, store)
        if parent:
            tags[PARENT_TAG] = parent
        if not self.state.run_id:
            experiment_id = store.experiment(begin["experiment"])
            run_id, is_new = store.create(
                experiment_id,
                name=begin["name"],
                key=begin.get("key") or self.folder.name,
                tags=tags,
                start=begin["time"],
            )
            self._write(State(uri=redact(store.uri), run_id=run_id, experiment_id=experiment_id))
            if is_new:
                return True, {}
        known = store.run(self.state.run_id)
        store.reopen(self.state.run_id)
        held = {} if known is None else known.data.params
        now = param_texts(begin["params"])
        # MLflow keeps the first value of a parameter that a resumed run changes.
        changed = sorted(key for key, text in now.items() if key in held and held[key] != text)
        return False, tags | {f"pipeline.changed.{key}": now[key] for key in changed}

    def _leave_model(self, store: "Store") -> None:
        """Log the model that the run has left and register it; only a transient fault is raised."""
        if self._model is None:
            return
        # It takes a second to import, and only a run that leaves a model needs it.
        from pipeline.tracking.models import log_and_register

        figure = Figure(**self._model["figure"])
        try:
            self.registered = log_and_register(
                store, self.folder, self.state, begin=self._begun, figure=figure
            )
        except StoreError as error:
            if error.transient:
                raise
            self.problem = error.line
        tags = {"registered": self.registered, "model.problem": self.problem}
        store.log(self.state.run_id, tags={key: line for key, line in tags.items() if line})

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


def _run_id(folder: Path, store: "Store") -> str:
    """Return the id of a folder's run; StoreError (`waiting`): another process creates it."""
    state = read_state(folder)
    if state.run_id and state.uri == redact(store.uri):
        return state.run_id
    awaited = StoreError("waiting", f"the run of {str(folder)!r} is being created")
    if not (folder / JOURNAL).is_file():
        raise awaited
    try:
        replay = Replay(folder)
    except StoreError as error:
        raise (awaited if error.kind == "waiting" else error) from error
    try:
        replay.push(store)
    finally:
        replay.release()
    return replay.state.run_id
