"""Sends one journal into an MLflow run; sending it again, from wherever, changes nothing."""

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.ends import End
from pipeline.base.paths import LEFTOVERS, files_below
from pipeline.base.processes.lease import BEAT_SECONDS, Lease, alive, working
from pipeline.base.redaction import redact
from pipeline.base.regular_files import folder_problem, is_regular, lock_regular, open_regular
from pipeline.tracking.fields import (
    EVALUATE,
    IDENTITY_TAGS,
    PARENT_TAG,
    SWEEP,
    data_set,
    final_prefixes,
    param_texts,
)
from pipeline.tracking.folders import FOREIGN, STATE, State, read_state, remove_marked, write_state
from pipeline.tracking.journal_events import BeginEvent, EpochEvent, RunEvent, TagEvent, parse_line
from pipeline.tracking.run_record import JOURNAL, LARGEST_JOURNAL, RunRecord
from pipeline.tracking.uri import StoreError

if TYPE_CHECKING:
    from pipeline.tracking.mlflow_store import Point, Store

ARTIFACTS = "artifacts"
LOCK = ".recorder.lock"
#: Number of values from which a batch takes no further line.
MOST_POINTS = 1000
#: Tag of a run that was sent from a foreign folder.
FOREIGN_TAG = "pipeline.foreign"
#: Error codes of a full disk and of a missing folder.
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.ENOENT)


class FolderGoneError(StoreError):
    """Another process has removed the folder, for example after sending all of it."""


class Replay:
    """The journal of one folder on its way into a store; it locks the folder until `release`.

    The journal file stays open, so a run is followed to its end even if its folder is removed.
    `registered` is the result of registering the model; `problem` says why MLflow will never have
    the model. The caller sets `is_refused` once the store has refused the run for good. Raises
    FolderGoneError if the folder is missing, and StoreError if the journal can't be read or if
    another process sends it (`waiting`, or `refused` after a `wait` in seconds), or if the folder
    holds a link or a pipe.

    A foreign run is sent as a run of its own: what its folder says of other runs, such as its id in
    MLflow, does not count, its model is not registered, and the model's code is left out.
    """

    def __init__(self, folder: Path, *, wait: float = 0.0, is_foreign: bool = False) -> None:
        self.folder = folder
        self._is_foreign = is_foreign
        self.registered: str | None = None
        self.problem: str | None = None
        self.is_refused = False
        self._path = folder / JOURNAL
        self._foreign_key: str | None = None
        self._is_attached = False
        self._beats = 0
        self._next_beat = 0.0
        problem = folder_problem(folder, is_written=True)
        if problem is not None:
            raise StoreError("refused", problem)
        with ExitStack() as stack:
            try:
                stack.callback(os.close, lock_regular(folder / LOCK, wait=wait))
                self._file = stack.enter_context(os.fdopen(open_regular(self._path), "rb"))
            except BlockingIOError as error:
                line = f"{str(folder)!r} is being recorded by another process"
                raise StoreError("refused" if wait else "waiting", line) from error
            except OSError as error:
                if not folder.exists():
                    raise FolderGoneError("refused", f"{str(folder)!r} was removed") from error
                raise self._unreadable(error) from error
            if os.fstat(self._file.fileno()).st_size > LARGEST_JOURNAL:
                raise StoreError("refused", f"{str(self._path)!r} is too large for a journal")
            self._rewind(State() if is_foreign else read_state(folder))
            self._open_files = stack.pop_all()

    def _rewind(self, state: State) -> None:
        """Read the journal from its beginning; `state` says how much of it the store has."""
        self.state = state
        self.record = RunRecord(folder=self.folder)
        self._offset = 0
        self.read()

    def read(self) -> None:
        """Read the lines that have been added to the journal."""
        try:
            self._file.seek(self._offset)
            content = self._file.read()
        except OSError as error:
            raise self._unreadable(error) from error
        complete = content[: content.rfind(b"\n") + 1]
        if complete:
            self._offset += len(complete)
            events = [self._parse(line) for line in complete.splitlines()]
            self.record = replace(self.record, lines=[*self.record.lines, *events])

    def _parse(self, line: bytes) -> RunEvent | None:
        """Return the event of a line, of a foreign run without claims on other runs and code."""
        event = parse_line(line)
        if not self._is_foreign or not isinstance(event, BeginEvent):
            return event
        if self._foreign_key is None:
            # The same journal gets the same key, so that it is not recorded twice.
            content = json.dumps(json.loads(line), sort_keys=True).encode()
            digest = hashlib.sha256(os.fsencode(self.folder.name) + b"\0" + content).hexdigest()
            self._foreign_key = f"{FOREIGN}-{digest[:32]}"
        tags = {name: text for name, text in event.tags.items() if name not in IDENTITY_TAGS}
        return replace(
            event,
            key=self._foreign_key,
            parent=None,
            parent_folder=None,
            register=None,
            trust=(),
            tags={**tags, FOREIGN_TAG: "true"},
        )

    @property
    def _pending(self) -> Sequence[RunEvent | None]:
        """The lines that the store lacks."""
        return self.record.lines[self.state.sent :]

    @property
    def lease(self) -> Lease | None:
        """Lease of the process that began the run last; `None` if none has."""
        return None if self.record.begin is None else self.record.begin.lease

    @property
    def leaves_model(self) -> bool:
        """Whether the run leaves a model if it finishes; a sweep leaves that of its winner."""
        return self.record.command in ("train", "sweep")

    @property
    def measures_system(self) -> bool:
        """Whether the run still goes on and asks for the load of its machine."""
        begin = self.record.begin
        if begin is None or not self.state.run_id or self.record.is_over:
            return False
        return bool(begin.params.get("tracking.system_metrics", False))

    def release(self) -> None:
        """Release the journal, so that another process can send it."""
        self._open_files.close()

    def unsent(self) -> int:
        """Count the values that the store lacks; an event without values counts as 1."""
        return self.record.unsent(self.state.sent)

    def advance(self, store: "Store") -> None:
        """Send at most one batch of new lines, and a heartbeat while the run's process works."""
        self.read()
        if self._next_batch():
            self.push(store)
        if time.monotonic() >= self._next_beat:
            self._beats += 1
            self._next_beat = time.monotonic() + BEAT_SECONDS
            if self.state.run_id and self.lease is not None and working(self.lease):
                lease = replace(self.lease, counter=self._beats)
                store.log(self.state.run_id, tags=lease.tags())

    def push(self, store: "Store") -> None:
        """Send one batch of at most about 1,000 values; the final `end` is left to `drain`."""
        self._attach(store)
        events = self._next_batch()
        if not events:
            return
        points = self._points_of(events)
        tags = self._tags_of(events)
        begin = events[0]
        if isinstance(begin, BeginEvent):
            is_new, begin_tags = self._begin(store, begin)
            tags = begin_tags | tags
            store.log(
                self.state.run_id, points=points, params=begin.params, tags=tags, is_new=is_new
            )
            # All trials of a study have the same data; the call takes a sixth of a trial's time.
            if begin.rows and begin.command != "trial" and "data.hash" in begin.tags:
                content = data_set(begin.params, digest=begin.tags["data.hash"], rows=begin.rows)
                context = "evaluation" if begin.command == EVALUATE else "training"
                store.log_data(self.state.run_id, content, context)
        else:
            store.log(self.state.run_id, points=points, tags=tags)
        self._write(replace(self.state, sent=self.state.sent + len(events), done=False))
        self._drop_sent()

    def _drop_sent(self) -> None:
        """Drop the values that the store has; the last line stays, for its time.

        A long run would else fill the memory.
        """
        lines = list(self.record.lines)
        for number, event in enumerate(lines[: self.state.sent - 1]):
            if isinstance(event, EpochEvent):
                lines[number] = None
        self.record = replace(self.record, lines=lines)

    def _points_of(self, events: Iterable[RunEvent | None]) -> list["Point"]:
        """Return the values of epochs; MLflow draws one of step 0 as a bar, others as a curve."""
        bars = final_prefixes()
        if self.record.command == SWEEP:  # the best value of a study is a curve
            bars = tuple(prefix for prefix in bars if prefix != "best/")
        points = []
        for event in events:
            if isinstance(event, EpochEvent):
                for key, value in event.values.items():
                    step = 0 if key.startswith(bars) else event.epoch
                    points.append((key, value, event.time, step))
        return points

    def _tags_of(self, events: Iterable[RunEvent | None]) -> dict[str, str]:
        tags = {}
        for event in events:
            if not isinstance(event, TagEvent):
                continue
            if not self._is_foreign or event.key not in IDENTITY_TAGS:
                tags[event.key] = event.value
        return tags

    def _next_batch(self) -> list[RunEvent | None]:
        """Return the lines of the next call, before the run's end or a second `begin`."""
        batch: list[RunEvent | None] = []
        points = 0
        for event in self._pending:
            is_end = event is not None and event is self.record.end
            if points >= MOST_POINTS or is_end or (batch and isinstance(event, BeginEvent)):
                break
            batch.append(event)
            if isinstance(event, EpochEvent):
                points += len(event.values)
        return batch

    def drain(self, store: "Store", *, is_over: bool) -> None:
        """Send the whole journal, and close the run if it has ended.

        A run without a recorded end is closed as lost if it `is_over` or if its process is gone.
        """
        self.read()
        is_gone = is_over or (self.lease is not None and not alive(self.lease))
        if self._pending or is_gone:
            self._attach(store)
        while self._next_batch():
            self.push(store)
        if not self._pending and (self.state.done or not is_gone):
            return
        self._upload_artifacts(store)
        end = self.record.end or End.LOST
        if self.record.has_finished:
            self._log_model(store)
        tags = self._tags_of(self._pending)
        if tags:
            store.log(self.state.run_id, tags=tags)
        store.terminate(self.state.run_id, end.status, reason=end.reason, end=self.record.last_ms)
        sent = self.state.sent + len(self._pending)
        self._write(replace(self.state, sent=sent, done=True, journal_bytes=self._offset))

    def _upload_artifacts(self, store: "Store") -> None:
        artifacts = self.folder / ARTIFACTS
        uploaded: dict[str, set[str]] = {}
        for file in sorted(filter(is_regular, files_below(artifacts))):
            if file.match(LEFTOVERS):  # of a process that was killed
                continue
            folder = file.parent.relative_to(artifacts).as_posix()
            if folder == ".":
                folder = ""
            store.upload(self.state.run_id, file, folder)
            uploaded.setdefault(folder, set()).add(file.name)
        for folder, names in uploaded.items():
            store.require_files(self.state.run_id, folder, names)

    def finish(self, store_of: "Callable[[str], Store | None]") -> StoreError | None:
        """Send the rest to `store_of(uri)`, release the journal, and remove a marked folder.

        Nothing is sent if `store_of` returns `None`. Returns the error if the store can't take the
        journal.
        """
        problem = None
        try:
            store = store_of(self.record.uri)
            if store is not None:
                self.drain(store, is_over=False)
        except StoreError as error:
            problem = error
        finally:
            self.release()
        if self.is_done() and not self._is_foreign:
            remove_marked(self.folder)
        return problem

    def is_done(self) -> bool:
        """Tell whether the store has all of the journal, and the run's end."""
        return self.state.done and not self._pending

    def _attach(self, store: "Store") -> None:
        """Start from the beginning if the store is another one or has lost the run; checks once."""
        if self._is_attached:
            return
        if self.state.run_id:
            is_other_store = self.state.uri != redact(store.uri)
            if is_other_store or store.run(self.state.run_id) is None:
                self._rewind(State())
        starts_with_run = bool(self.record.lines) and not self.record.is_damaged
        if not self.state.run_id and not starts_with_run:
            line = f"{str(self._path)!r} does not start with a run, so it can't be sent"
            raise StoreError("refused", line)
        self._is_attached = True

    def _begin(self, store: "Store", begin: BeginEvent) -> tuple[bool, dict[str, str]]:
        """Create or reopen the run; return whether it is new, and the tags still to be logged."""
        tags = {**begin.tags, **begin.lease.tags()}
        parent = begin.parent
        if begin.parent_folder:
            parent_folder = Path(begin.parent_folder)
            if not parent_folder.is_dir():  # the study of this trial was moved
                parent_folder = self.folder.absolute().parents[1]
            parent = _run_id(parent_folder, store)
        if parent:
            tags[PARENT_TAG] = parent
        if not self.state.run_id:
            experiment_id = store.experiment(begin.experiment)
            run_id, is_new = store.create(
                experiment_id,
                name=begin.name,
                key=begin.key or self.folder.name,
                tags=tags,
                start=begin.time,
            )
            self._write(State(uri=redact(store.uri), run_id=run_id, experiment_id=experiment_id))
            if is_new:
                return True, {}
        run = store.run(self.state.run_id)
        store.reopen(self.state.run_id)
        stored_params = {} if run is None else run.data.params
        # MLflow keeps the first value of a parameter that a resumed run changes.
        for key, text in sorted(param_texts(begin.params).items()):
            if stored_params.get(key, text) != text:
                tags[f"pipeline.changed.{key}"] = text
        return False, tags

    def _log_model(self, store: "Store") -> None:
        """Log and register the model that the run has left; only a transient fault is raised."""
        begin = self.record.begin
        figure = self.record.model
        if begin is None or figure is None:
            return
        # Its import takes a second, and only a run that leaves a model needs it.
        from pipeline.tracking.models import log_and_register

        try:
            self.registered = log_and_register(
                store,
                self.folder,
                self.state,
                begin=begin,
                figure=figure,
                has_code=not self._is_foreign,
            )
        except StoreError as error:
            if error.transient:
                raise
            self.problem = error.line
        tags = {}
        if self.registered:
            tags["registered"] = self.registered
        if self.problem:
            tags["model.problem"] = self.problem
        store.log(self.state.run_id, tags=tags)

    def _unreadable(self, error: OSError) -> StoreError:
        return StoreError("refused", f"{str(self._path)!r} can't be sent ({error.strerror})")

    def _write(self, state: State) -> None:
        """Write the state; if there is no room for it, the same lines are just sent again."""
        try:
            write_state(self.folder, state)
        except OSError as error:
            if error.errno not in NO_PLACE:
                line = f"{str(self.folder / STATE)!r} can't be written ({error.strerror})"
                raise StoreError("unwritable", line) from error
        self.state = state


def _run_id(folder: Path, store: "Store") -> str:
    """Return the id of a folder's run, which is created if the store lacks it.

    Raises StoreError of the kind `waiting` if another process has to create the run.
    """
    state = read_state(folder)
    if state.run_id and state.uri == redact(store.uri):
        return state.run_id
    line = f"the run of {str(folder)!r} is being created"
    if not (folder / JOURNAL).is_file():
        raise StoreError("waiting", line)
    try:
        replay = Replay(folder)
    except StoreError as error:
        if error.kind != "waiting":
            raise
        raise StoreError("waiting", line) from error
    try:
        replay.push(store)
    finally:
        replay.release()
    return replay.state.run_id
