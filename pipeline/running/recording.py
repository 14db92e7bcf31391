"""A run's record: its folder, its files, its log, its journal, and a correct end in every case."""

from __future__ import annotations

import errno
import io
import logging
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Any, TypeVar

import torch
from omegaconf import OmegaConf

from pipeline.base.ends import End, TrialEnd, end_of
from pipeline.base.errors import (
    ChangedDataError,
    ConfigError,
    EnvironmentFaultError,
    Interrupted,
    OutOfMemoryFaultError,
    PipelineError,
    named,
    text_override,
)
from pipeline.base.findings import LAYERS_FILE
from pipeline.base.paths import (
    CHECKPOINTS,
    create_run_folder,
    remove_leftovers,
    replace_json,
    replace_text,
)
from pipeline.base.redaction import redact
from pipeline.base.regular_files import open_regular
from pipeline.base.signals import stop
from pipeline.config.options import RunConfig, TrackingOptions
from pipeline.config.plain import flatten
from pipeline.networks.inspection import layers_text
from pipeline.running.failures import exit_code
from pipeline.running.plan import Plan
from pipeline.running.resuming import remove_abandoned
from pipeline.serving.files import write_csv
from pipeline.tracking.client import Recorder
from pipeline.tracking.facts import environment_tags, write_environment
from pipeline.tracking.folders import read_state
from pipeline.tracking.journal import Header, Journal, resume_words
from pipeline.tracking.ownership import begin_own, next_order
from pipeline.tracking.uri import sqlite_path, store_uri, uri_words, where_to_look

LOG = "run.log"
#: Time within which a closed port refuses a connection, in seconds; too short to be noticed.
REFUSAL_SECONDS = 0.1
#: The end of a run that finishes.
COMPLETE = TrialEnd(end=End.COMPLETE)
_Item = TypeVar("_Item")


# ── the store ───────────────────────────────────────────────────────────────────────────────


def writable_store(options: RunConfig) -> str | None:
    """Return the address of the tracking store (`None` = no tracking) after checking write access.

    Raises:
        EnvironmentFaultError: `output` or the store's database can't be written.
    """
    uri = store_uri(options.tracking)
    output = Path(options.output)
    problems = []
    reason = _refusal(output)
    if reason is not None:
        problems.append(
            f"output={str(output)!r} can't be written ({reason}); choose another: output=FOLDER"
        )
    database = None if uri is None else sqlite_path(uri)
    if database is not None:
        reason = _refusal(database) or _refusal(database.parent)
        if reason is not None:
            problems.append(
                f"the tracking database {str(database)!r} can't be written ({reason}); record "
                "elsewhere with tracking.uri=sqlite:///FILE, or not at all with tracking=none"
            )
    if problems:
        raise EnvironmentFaultError(*problems)
    return uri


def _refusal(path: Path) -> str | None:
    """Return why a path, or its nearest existing parent, can't be written; `None` if it can."""
    absolute = path.absolute()
    for nearest in (absolute, *absolute.parents):
        if nearest.exists():
            break
    else:
        return None
    mode = os.W_OK | os.X_OK if nearest.is_dir() else os.W_OK
    if os.access(nearest, mode):
        return None
    is_read_only = os.statvfs(nearest).f_flag & os.ST_RDONLY
    return os.strerror(errno.EROFS if is_read_only else errno.EACCES)


@contextmanager
def connecting(
    recorder: Recorder | None, options: TrackingOptions, uri: str | None
) -> Iterator[None]:
    """Connect the recorder while the body runs; a stop does not wait for the connection.

    Raises:
        EnvironmentFaultError: The store does not answer, and the run requires it.
    """
    if recorder is None or uri is None:
        yield
        return
    connected: Future[str | None] = Future()

    def connect() -> None:
        try:
            connected.set_result(
                recorder.connect(uri, experiment=options.experiment, required=options.required)
            )
        except Exception as error:  # the waiting thread raises it
            connected.set_exception(error)

    Thread(target=connect, daemon=True).start()
    try:
        if wait([connected], timeout=REFUSAL_SECONDS).done:
            connected.result()  # raises at once if the server is down
        yield
        problem = connected.result()
    except BaseException:
        if not connected.done():
            recorder.abandon()
        raise
    if problem is not None:
        print(f"warning: {problem}; the values are kept in the run folder", file=sys.stderr)


def warn_of_unsent(
    unsent: int, problem: str | None, *, place: Path, output: Path, uri: str | None
) -> None:
    """Warn about values that MLflow lacks, if there are any, and print how to send them.

    Args:
        unsent: Number of values.
        problem: The cause in one line; `None` = unknown.
        place: Where the values wait.
        output: The folder that contains a folder for each run.
        uri: The store that they are for; `None` = nothing is tracked.
    """
    if unsent:
        cause = f"{problem}; " if problem else ""
        overrides = shlex.join([text_override("output", str(output)), *uri_words(uri or "")])
        print(
            f"warning: {cause}{unsent} values are kept in {str(place)!r}; send them with: "
            f"pipeline runs action=sync {overrides}",
            file=sys.stderr,
        )


# ── the record ──────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True, kw_only=True)
class Record:
    """Folder and journal of a running training.

    Args:
        folder: The run's folder.
        journal: Receives the values of each epoch and the final ones.
        uri: Address of the store; empty if nothing is tracked.
        run_id: MLflow's id of the run; `None` if nothing is tracked.
        unsent: Number of values that the server lacks; known once the record is closed.
        ended: How the run ends if it finishes.
        registered: Result of the model's registration; known once the record is closed.
        begins: Writes the beginning of the run; `None` = that was done.
        saves: Writes the checkpoints that wait in memory; `None` = there is no training yet.
    """

    folder: Path
    journal: Journal
    uri: str
    run_id: str | None = None
    unsent: int = 0
    ended: TrialEnd = COMPLETE
    registered: str | None = None
    begins: Callable[[], None] | None = None
    saves: Callable[[], None] | None = None

    @property
    def where_to_look(self) -> tuple[str, ...]:
        """Command and address that show the runs; empty if nothing is tracked."""
        if self.run_id is None:
            return ()
        return where_to_look(self.uri, read_state(self.folder).experiment_id)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / CHECKPOINTS

    @property
    def artifacts(self) -> Path:
        """Folder of the files that are sent to MLflow."""
        return self.folder / "artifacts"

    @property
    def report(self) -> Path:
        """The run's report, which is written with its pictures."""
        return self.artifacts / "report.html"

    def begin(self) -> None:
        """Put the beginning of the run on record, unless that was done."""
        begins = self.begins
        self.begins = None
        if begins is not None:
            begins()

    def finish(self) -> None:
        """Record that the run has finished, unless that is on record or a stop was requested."""
        if not self.journal.has_ended:
            stop.check()
            self.journal.end(self.ended)


@contextmanager
def recorded_run(
    plan: Plan, recorder: Recorder | None, *, begins_later: bool = False
) -> Iterator[Record]:
    """Record a run while the body trains it; the run's end is recorded whatever the body does.

    With `begins_later`, the body calls `Record.begin`. If it refuses the run before that, with a
    ConfigError, nothing is written.
    """
    folder = plan.context.folder or plan.start.folder
    is_new = folder is None
    if folder is None:
        folder = create_run_folder(Path(plan.options.output), plan.name)
    record = Record(folder=folder, journal=Journal(folder), uri=plan.uri or "")
    try:
        with log_to(folder / LOG, lean=plan.context.lean, is_held=True) as log:
            record.begins = partial(_begin, plan, record, recorder, log)
            try:
                if not begins_later:
                    record.begin()
                yield record
                record.finish()
            except BaseException as error:
                if not isinstance(error, ConfigError):
                    record.begin()
                if not record.journal.is_begun:
                    raise
                raise _end(plan, record, error) from error
    finally:
        record.journal.close()
        if is_new and not record.journal.is_begun:
            shutil.rmtree(folder, ignore_errors=True)
        elif recorder is not None and record.journal.is_begun:
            record.unsent = recorder.close(folder)
            record.registered = recorder.registered
            if recorder.model_problem is not None:
                print(f"warning: {recorder.model_problem}", file=sys.stderr)
            warn_of_unsent(
                record.unsent,
                recorder.problem,
                place=record.journal.path,
                output=folder.parent,
                uri=record.uri,
            )


def _begin(plan: Plan, record: Record, recorder: Recorder | None, log: RunLog) -> None:
    """Write what is known of a run before its training, and let the recorder follow it."""
    if not plan.context.lean:
        remove_abandoned(Path(plan.options.output))
        remove_leftovers(record.checkpoints)
    is_new = plan.context.folder is None and plan.start.folder is None
    if is_new:
        begin_own(record.folder)
    if not plan.context.lean:
        record.artifacts.mkdir(mode=0o750, exist_ok=True)
        write_config(record.artifacts, plan.config)
        replace_text(record.artifacts / LAYERS_FILE, layers_text(plan.layers) + "\n")
        write_environment(record.artifacts)
        report = plan.prepared.report
        if report is not None:
            replace_json(record.artifacts / "data_report.json", report.to_dict(), has_nan=False)
        if plan.command is not None:
            plan.command.save(record.folder)
    record.journal.begin(_header(plan, record.uri, next_order() if is_new else None))
    log.write_held()
    if recorder is not None:
        record.run_id = recorder.open(record.folder) or None
        recorder.send_earlier(record.folder.parent)


def _header(plan: Plan, uri: str, order: int | None) -> Header:
    options = plan.options
    context = plan.context
    parent = plan.start.parent
    tags = options.tags
    if isinstance(tags, list):
        tags = dict.fromkeys(tags, "true")
    resolved = {
        "monitor": options.monitor,
        "keep": options.keep,
        "trainer": {
            **plan.config["trainer"],
            "threads": options.trainer.threads,
            "accelerator": options.trainer.accelerator,
        },
    }
    return Header(
        name=plan.name,
        experiment=options.tracking.experiment,
        uri=uri,
        params=flatten({**plan.config, **resolved}),
        tags={
            **(environment_tags() if context.made_with is None else context.made_with),
            "data.hash": plan.prepared.content_hash,
            "device": plan.devices.words,
            "seed": str(options.seed),
            **{str(key): str(value) for key, value in tags.items()},
            **context.tags,
        },
        parent=None if parent is None else read_state(parent).run_id or None,
        parent_folder=context.parent_folder,
        key=context.key,
        register=None if context.lean else options.register,
        trust=options.trust,
        rows=plan.prepared.rows,
        order=order,
    )


def _end(plan: Plan, record: Record, error: BaseException) -> BaseException:
    """Record how the run ended, and return the error as it is shown to the user."""
    logging.getLogger("pipeline").error("".join(traceback.format_exception(error)))
    explained = explain(error)
    if record.journal.has_ended:
        stop.report(f"stopped after the test; the run has finished: {record.folder}")
        return explained
    # On a full disk this line may not fit; the recorder then closes the run as lost.
    with suppress(EnvironmentFaultError):
        record.journal.end(failed_end(error, perf_counter() - plan.started_at))
    if isinstance(explained, Interrupted) and not plan.context.lean:
        say_how_to_go_on(record)
        if not stop.is_reported:
            stop.report(
                "stopped before the end of the first epoch; run the same command to start again"
            )
    return explained


def failed_end(error: BaseException, seconds: float) -> TrialEnd:
    """Return how a run ended that raised an error so many seconds after its start.

    A run that found other data than its study has counts as interrupted, since it is tried again.
    """
    explained = explain(error)
    is_retried = isinstance(explained, ChangedDataError)
    return TrialEnd(
        end=End.INTERRUPTED if is_retried else end_of(explained),
        message=one_line(explained),
        attributes={"seconds": seconds},
        exit_code=exit_code(explained),
    )


def one_line(error: BaseException) -> str:
    """Return a message of one line, which any file can hold, about the error that ended a run."""
    if isinstance(error, Interrupted):
        return "interrupted"
    message = named(error)
    if isinstance(error, PipelineError):
        lines: list[str] = []
        for problem in error.problems:
            lines += problem.splitlines()
        message = "; ".join(lines)
    return redact(message).encode(errors="backslashreplace").decode()


def explain(error: BaseException) -> BaseException:
    """Return an error of torch as a one-line error for the user; return others unchanged."""
    if stop.signal_number is not None and not isinstance(error, Interrupted):
        # After a signal, the data loader or Lightning may raise another error.
        return Interrupted(stop.signal_number)
    is_memory_error = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if is_memory_error or "can't allocate memory" in str(error):
        return OutOfMemoryFaultError(
            f"out of memory ({_first_line(error)}); try a smaller data.batch_size"
        )
    # The death of a process that loads data is raised in whatever this one does at that moment,
    # such as writing a checkpoint, which takes it for an error of the disk.
    for raised in (error, error.__cause__):
        if raised is None:
            continue
        is_named = isinstance(raised, RuntimeError) and "DataLoader worker" in str(raised)
        if is_named or _fetches_from_dead_reader(raised):
            return EnvironmentFaultError(
                f"a data loading process died ({_first_line(raised)}); try data.num_workers=0, or "
                "more shared memory"
            )
    return error


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's message; without a message, the name of its class."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _fetches_from_dead_reader(error: BaseException) -> bool:
    """Return whether the memory of a batch was asked for from a process that has died."""
    if not isinstance(error, OSError | EOFError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).name == "resource_sharer.py" for frame in frames)


def say_how_to_go_on(record: Record) -> None:
    """Print how to resume a run that was stopped, if it has a checkpoint."""
    if (record.checkpoints / "last.ckpt").exists():
        epochs = max(record.journal.read().epochs, default=0)
        command = f"pipeline train {resume_words(record.folder)}"
        stop.report(f"stopped after epoch {epochs}; continue with: {command}")


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the whole configuration, with unresolved references to the environment."""
    replace_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))


def write_history(folder: Path, history: Mapping[int, Mapping[str, float]]) -> None:
    """Write a table with one line per epoch and a column for each value."""
    keys: dict[str, None] = {}  # in the order of their first epoch
    for values in history.values():
        keys.update(dict.fromkeys(values))
    lines = []
    for epoch, values in history.items():
        lines.append([epoch, *(values.get(key, "") for key in keys)])
    write_csv(folder / "history.csv", ["epoch", *keys], lines)


class RunLog(logging.FileHandler):
    """Appends to a run's log, with masked secrets; a full disk does not end the run.

    If it `is_held`, nothing is written before `write_held`.
    """

    def __init__(self, path: Path, *, is_held: bool) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace", delay=True)
        self._held: list[logging.LogRecord] | None = [] if is_held else None
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def _open(self) -> io.TextIOWrapper:
        """Open the file, unless it is a link or has a second name."""
        descriptor = open_regular(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return os.fdopen(descriptor, "a", encoding=self.encoding, errors=self.errors)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without secrets."""
        return redact(super().format(record))

    def write_held(self) -> None:
        """Write the lines that were held back; later ones are written at once."""
        records = self._held or []
        self._held = None
        for record in records:
            self.emit(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line unless the file can't be opened."""
        if self._held is not None:
            self._held.append(record)
            return
        with suppress(OSError):  # the file could not be opened
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Ignore errors of the log without printing them."""

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what could not be written can't be flushed
            super().close()


@contextmanager
def log_to(path: Path, *, lean: bool = False, is_held: bool = False) -> Iterator[RunLog]:
    """Redirect messages and warnings of libraries to a run's log; with `lean`, only warnings."""
    handler = RunLog(path, is_held=is_held)
    handler.setLevel(logging.WARNING if lean else logging.NOTSET)
    root = logging.getLogger()
    libraries = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    settings = [(library, library.handlers, library.propagate) for library in libraries]
    for library in libraries:
        library.handlers = []
        library.propagate = True
    root.addHandler(handler)
    logging.captureWarnings(capture=True)
    try:
        yield handler
    finally:
        logging.captureWarnings(capture=False)
        root.removeHandler(handler)
        handler.close()
        for library, handlers, propagate in settings:
            library.handlers = handlers
            library.propagate = propagate


def unless_it_fails(call: Callable[[], _Item], consequence: str) -> _Item | None:
    """Return the result of a call; if it fails, print a warning and return `None`.

    The warning begins with the consequence.
    """
    try:
        return call()
    except Exception as error:  # a user's own network may raise anything
        logging.getLogger("pipeline").exception("%s", consequence)
        reason = " ".join(str(error).split())[:200]
        print(f"warning: {consequence}: {type(error).__name__}: {reason}", file=sys.stderr)
        return None
