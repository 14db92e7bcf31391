"""Closes trials so that the study and MLflow agree, and repairs what killed processes left."""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from pipeline.config.record import flatten, plain
from pipeline.errors import ChangedDataError, EnvironmentFaultError
from pipeline.paths import create_folder
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.rows import Row
from pipeline.study.live import Live
from pipeline.study.mlflow_recorder import MlflowRecorder, RunDestination, leftovers
from pipeline.study.plan import StudyPlan
from pipeline.study.trial_end import (
    Lost,
    TrialEnd,
    changed_data_line,
    end_in_journal,
    has_begun,
    run_end,
)
from pipeline.study.workers.worker_pool import Assignment
from pipeline.tracking.folders import is_finished
from pipeline.tracking.journal import Journal, Scalar

OOMS = 3
"""Trials out of memory, one after another, after which a person is told what to lower."""


class TrialCloser:
    """Closes trials in both stores, and remembers the last failure.

    Args:
        plan: The study, opened.
        ledger: Its record in Optuna's database.
        recorder: Brings runs into MLflow.
        live: Shows it.
    """

    def __init__(
        self, plan: StudyPlan, ledger: Ledger, recorder: MlflowRecorder, live: Live
    ) -> None:
        self.failure: TrialEnd | None = None
        self._plan = plan
        self._ledger = ledger
        self._recorder = recorder
        self._live = live
        self._kept = self._keepers()
        self._lost: set[int] = set()
        self._ooms = 0

    def repair(self) -> None:
        """Repair what earlier processes left: lost trials, unsent folders, and missing runs."""
        self._close_lost()
        rows = self._ledger.trials()
        kept = {self._plan.trial_folder(number) for number in self._keepers()}
        for folder in leftovers(self._plan.folder):
            if has_begun(folder) and not (folder in kept and is_finished(folder)):
                self._recorder.end(folder, lost=True, forget=folder not in kept)
        if self._plan.uri is not None:
            record_missing(rows, self._plan.destination, self._recorder, self._params)

    def end(self, assignment: Assignment, ended: TrialEnd) -> TrialEnd:
        """Close a trial whose worker has told how it ended, or was stopped for being too slow.

        Returns:
            How it ended, which is as its worker says unless it took too long or trained on other
            data than a trial of the same config beside it.
        """
        ended = self._on_its_data(assignment, ended)
        if assignment.overdue and ended.reason == "interrupted":
            message = f"took longer than sweep.trial_timeout={self._plan.options.trial_timeout:g}"
            ended = replace(ended, reason="error", message=message, exit_code=1)
        if ended.state == "failed" and not end_journal(assignment.folder, ended):
            ended = replace(ended, reason="lost")
        if self._ledger.finish(assignment.taken, ended):
            self._note(assignment, ended)
            self._record(assignment.number, ended)
        else:
            self._drop(assignment)
        return ended

    def close_lost(self, died: Collection[int] = (), *, why: str = "its process is gone") -> None:
        """Close the trials whose process is gone or silent, and tell of each.

        Args:
            died: Trials whose process was seen to die, maybe on another machine.
            why: What is known of it.
        """
        lost = [one.number for one in self._close_lost(died) if not one.adopted]
        self._lost.update(lost)
        # One that died may have been closed as lost a moment before it was seen to die.
        if lost or not self._lost.isdisjoint(died):
            self.failure = TrialEnd(state="failed", reason="lost", message=why, exit_code=3)

    def _close_lost(self, died: Collection[int] = ()) -> list[Lost]:
        lost = self._ledger.close_lost(self._plan.trial_folder, died)
        for one in lost:
            end_journal(self._plan.trial_folder(one.number), one.end)
            self._record(one.number, one.end)
            self._live.warn(one.line)
        return lost

    def _on_its_data(self, assignment: Assignment, ended: TrialEnd) -> TrialEnd:
        """Store the hash of the data of a config that is new to the study."""
        if ended.data is None or assignment.job.data is not None:
            return ended
        config = plain(assignment.job.config)
        noted = self._ledger.note_data(config, ended.data)
        if noted == ended.data:
            return ended
        return TrialEnd(
            state="failed",
            reason="interrupted",
            message=changed_data_line(config, noted, ended.data),
            exit_code=ChangedDataError.exit_code,
        )

    def _note(self, assignment: Assignment, ended: TrialEnd) -> None:
        self._live.ended(assignment, ended)
        if ended.state == "failed" and ended.reason != "interrupted":
            self.failure = ended
        self._ooms = self._ooms + 1 if ended.reason == "oom" else 0
        if self._ooms == OOMS:
            self._live.warn(f"{OOMS} trials in a row ran out of memory; lower data.batch_size")

    def _drop(self, assignment: Assignment) -> None:
        """Record a trial in MLflow with the end that another process stored."""
        row = self._ledger.trials()[assignment.number]
        if row.reason == "lost":
            self._live.warn(
                f"trial {row.number} was given up while its process stood still; its late result "
                "is dropped"
            )
        if has_begun(assignment.folder):
            end_journal(assignment.folder, row)
            self._record(row.number, row)
        else:
            self._recorder.forget(assignment.folder)

    def _record(self, number: int, end: TrialEnd | Row) -> None:
        """Let MLflow have a trial that has ended; the files of all but the best are removed then.

        Args:
            number: The trial's.
            end: How it ended, by the study; it may have been killed before its run began.
        """
        keepers = self._keepers()
        folder = self._plan.trial_folder(number)
        if self._plan.uri is None or has_begun(folder):
            self._recorder.end(folder, lost=end.reason == "lost", forget=number not in keepers)
        else:
            row = self._ledger.trials()[number]
            with suppress(EnvironmentFaultError):  # on a full disk, the next start does it
                write_run(row, self._plan.destination, self._recorder, self._params(row))
        for other in self._kept - keepers - {number}:
            self._recorder.forget(self._plan.trial_folder(other))
        self._kept = keepers

    def _keepers(self) -> set[int]:
        return self._plan.keepers(self._ledger.progress())

    def _params(self, row: Row) -> dict[str, Scalar]:
        plan = self._plan
        return flatten(plain(plan.trials.config(plan.with_tuned(row.overrides))))


def end_journal(folder: Path, end: TrialEnd | Row) -> bool:
    """Let a trial's journal, where it has begun, end as the study says; tell whether it does."""
    known, wanted = end_in_journal(folder), run_end(end.state, end.reason)
    if not has_begun(folder) or wanted is None:
        return True
    if known is not None and run_end(known.state, known.reason) == wanted:
        return True
    try:
        with closing(Journal(folder)) as journal:
            journal.end(*wanted)
    except EnvironmentFaultError:
        return False
    return True


def record_missing(
    rows: Iterable[Row],
    destination: RunDestination,
    recorder: MlflowRecorder,
    params_of: Callable[[Row], Mapping[str, Scalar]],
) -> int:
    """Give a run to each trial that has ended without one, and return how many those are.

    MLflow is asked only where trials have ended. A trial whose journal is still there is not
    missing: it is recorded from that.

    Args:
        rows: The study's trials, read before this driver took any.
        destination: Where its runs belong.
        recorder: Brings them there.
        params_of: Returns the flattened configuration of a trial.
    """
    ended = [row for row in rows if row.state not in ("running", "waiting")]
    known = {run.trial for run in recorder.trial_runs(destination.uid)} if ended else set()
    missing = [
        row
        for row in ended
        if row.number not in known and not has_begun(destination.trial_folder(row.number))
    ]
    for row in missing:
        write_run(row, destination, recorder, params_of(row))
    return len(missing)


def write_run(
    row: Row,
    destination: RunDestination,
    recorder: MlflowRecorder,
    params: Mapping[str, Scalar],
) -> None:
    """Write the journal of a trial that has none from its row, and send it."""
    folder = destination.trial_folder(row.number)
    create_folder(folder)
    began, ended = _milliseconds(row.started), _milliseconds(row.ended)
    values = {f"best/{k}": v for k, v in zip(destination.objectives, row.values, strict=False)}
    for key, value in row.attributes.items():
        if "/" in key and isinstance(value, int | float) and not isinstance(value, bool):
            values[key] = float(value)
    with closing(Journal(folder)) as journal:
        tags = {"pipeline.repaired": "true"}
        journal.begin(destination.trial_header(row.number, params, **tags), at=began)
        journal.epoch(int(row.attributes.get("epochs", 0)), values, at=ended)
        status, reason = run_end(row.state, row.reason) or ("FAILED", "lost")
        journal.end(status, reason, at=ended)
    recorder.end(folder, lost=False, forget=True)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(1000 * seconds)
