"""A run's record: its folder, its journal, and a correct end in every case."""

from __future__ import annotations

import logging
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from pipeline.base.ends import End, TrialEnd
from pipeline.base.errors import ConfigError, EnvironmentFaultError, Interrupted
from pipeline.base.paths import CHECKPOINTS, create_run_folder, remove_leftovers
from pipeline.base.signals import stop
from pipeline.running.plan import Plan
from pipeline.running.resuming import remove_abandoned
from pipeline.running.run_end import explain, failed_end
from pipeline.running.run_log import LOG, RunLog, log_to
from pipeline.running.run_start import header_of, write_beginning
from pipeline.running.run_store import warn_of_unsent
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.folders import read_state
from pipeline.tracking.journal import Journal, resume_words
from pipeline.tracking.ownership import begin_own, next_order
from pipeline.tracking.uri import where_to_look

#: The end of a run that finishes.
COMPLETE = TrialEnd(end=End.COMPLETE)
_Item = TypeVar("_Item")


@dataclass(slots=True, kw_only=True)
class RunJournal:
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
    plan: Plan, recorder: RecorderClient | None, *, begins_later: bool = False
) -> Iterator[RunJournal]:
    """Record a run while the body trains it; the run's end is recorded whatever the body does.

    With `begins_later`, the body calls `RunJournal.begin`. If it refuses the run before that, with
    a ConfigError, nothing is written.
    """
    folder = plan.context.folder or plan.start.folder
    is_new = folder is None
    if folder is None:
        folder = create_run_folder(Path(plan.options.output), plan.name)
    record = RunJournal(folder=folder, journal=Journal(folder), uri=plan.uri or "")
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


def _begin(plan: Plan, record: RunJournal, recorder: RecorderClient | None, log: RunLog) -> None:
    """Write what is known of a run before its training, and let the recorder follow it."""
    if not plan.context.lean:
        remove_abandoned(Path(plan.options.output))
        remove_leftovers(record.checkpoints)
    is_new = plan.context.folder is None and plan.start.folder is None
    if is_new:
        begin_own(record.folder)
    if not plan.context.lean:
        write_beginning(record.artifacts, plan)
        if plan.command is not None:
            plan.command.save(record.folder)
    record.journal.begin(header_of(plan, record.uri, next_order() if is_new else None))
    log.write_held()
    if recorder is not None:
        record.run_id = recorder.open(record.folder) or None
        recorder.send_earlier(record.folder.parent)


def _end(plan: Plan, record: RunJournal, error: BaseException) -> BaseException:
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


def say_how_to_go_on(record: RunJournal) -> None:
    """Print how to resume a run that was stopped, if it has a checkpoint."""
    if (record.checkpoints / "last.ckpt").exists():
        epochs = max(record.journal.read().epochs, default=0)
        command = f"pipeline train {resume_words(record.folder)}"
        stop.report(f"stopped after epoch {epochs}; continue with: {command}")


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
