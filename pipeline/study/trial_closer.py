"""How trials end on record: in the study, in their journals and in MLflow, also after a crash."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from pipeline.base.ends import End, TrialEnd
from pipeline.base.errors import ChangedDataError, EnvironmentFaultError
from pipeline.config.plain import Scalar, flatten, plain
from pipeline.study.ledger.ledger import Ledger, LostTrial
from pipeline.study.ledger.rows import Row
from pipeline.study.live import Live
from pipeline.study.messages import Job, changed_data_line, end_journal
from pipeline.study.missing_runs import leftovers, record_missing, write_run
from pipeline.study.study_plan import StudyPlan
from pipeline.study.workers.pool import Worker
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.folders import is_finished
from pipeline.tracking.run_record import RunRecord

#: Number of out-of-memory trials in a row after which a warning says what to lower.
OOMS = 3


class TrialCloser:
    """Records how trials end, in the study and in MLflow, and keeps the last failure."""

    def __init__(
        self, plan: StudyPlan, ledger: Ledger, recorder: RecorderClient, live: Live
    ) -> None:
        self.failure: TrialEnd | None = None
        self._plan = plan
        self._ledger = ledger
        self._recorder = recorder
        self._live = live
        self._kept = self._trials_to_keep()
        self._lost: set[int] = set()
        self._ooms = 0

    def repair(self) -> None:
        """Repair what earlier processes left: lost trials, unsent folders and missing runs."""
        self._close_lost()
        rows = self._ledger.trials()
        kept_folders = {self._plan.trial_folder(number) for number in self._trials_to_keep()}
        for folder in leftovers(self._plan.folder):
            is_kept = folder in kept_folders
            if not (is_kept and is_finished(folder)):
                self._recorder.deliver(folder, is_lost=True, forget=not is_kept)
        if self._plan.uri is not None:
            record_missing(rows, self._plan, self._recorder, self._params)

    def end(self, worker: Worker, ended: TrialEnd) -> TrialEnd:
        """Close a trial whose worker has reported its end, or that was stopped for being too slow.

        Returns the end to record. It is the reported one unless the trial took too long, trained
        on other data than another trial of the same config, or its journal can't be ended.
        """
        worker.is_busy = False  # first, so that a failing store can't leave it busy
        ended = self._check_data(worker.job, ended)
        number = worker.number
        if worker.is_overdue and ended.end is End.INTERRUPTED:
            message = f"took longer than sweep.trial_timeout={self._plan.options.trial_timeout:g}"
            ended = replace(ended, end=End.ERROR, message=message, exit_code=None)
        if ended.end.is_failure and not end_journal(self._plan.trial_folder(number), ended):
            ended = replace(ended, end=End.LOST)
        if not self._ledger.finish(worker.taken, ended):
            self._record_end_of_other_process(number)
            return replace(ended, end=End.LOST)  # whatever befell it without its folder
        self._live.ended(worker.taken, ended)
        if ended.end.is_failure and ended.end is not End.INTERRUPTED:
            self.failure = ended
        if ended.end is End.OOM:
            self._ooms += 1
        else:
            self._ooms = 0
        if self._ooms == OOMS:
            self._live.warn(f"{OOMS} trials in a row ran out of memory; lower data.batch_size")
        self._record(number, ended.end)
        return ended

    def close_lost(
        self,
        died: Collection[int] = (),
        *,
        why: str = "its process has ended",
        end: End = End.LOST,
    ) -> None:
        """Close the trials whose process is gone or silent, with a warning for each.

        `died` are the numbers of trials whose process was seen to die; `why` says how it died.
        """
        lost = [trial.number for trial in self._close_lost(died, end) if not trial.adopted]
        self._lost.update(lost)
        # A trial may have been closed as lost a moment before its process was seen to die.
        if lost or not self._lost.isdisjoint(died):
            self.failure = TrialEnd(end=End.LOST, message=why)

    def _close_lost(self, died: Collection[int] = (), end: End = End.LOST) -> list[LostTrial]:
        lost = self._ledger.close_lost(self._plan.trial_folder, died, end)
        for trial in lost:
            end_journal(self._plan.trial_folder(trial.number), trial.ended)
            self._record(trial.number, trial.ended.end)
            self._live.warn(trial.line)
        return lost

    def _check_data(self, job: Job, ended: TrialEnd) -> TrialEnd:
        """Store the data hash of a config new to the study; return a failure if it has another."""
        if ended.data is None or job.data is not None:
            return ended
        config = plain(job.config)
        stored_data = self._ledger.note_data(config, ended.data)
        if stored_data == ended.data:
            return ended
        return TrialEnd(
            end=End.INTERRUPTED,
            message=changed_data_line(config, stored_data, ended.data),
            exit_code=ChangedDataError.exit_code,
        )

    def _record_end_of_other_process(self, number: int) -> None:
        """Record a trial in MLflow with the end that another process has stored."""
        row = self._ledger.trials()[number]
        folder = self._plan.trial_folder(number)
        if row.end is End.LOST:
            self._live.warn(
                f"trial {number} was closed as lost because its process did not respond; "
                "its later result is ignored"
            )
        if row.end is not None and RunRecord.read(folder).has_begun:
            end_journal(folder, TrialEnd(end=row.end))
            self._record(number, row.end)
        else:
            self._recorder.deliver(folder, forget=True)

    def _record(self, number: int, end: End) -> None:
        """Send a trial that has ended to MLflow, then remove the files of all but the best trials.

        The run is written from the trial's row if its process was killed before the run began.
        """
        kept = self._trials_to_keep()
        folder = self._plan.trial_folder(number)
        record = RunRecord.read(folder)
        if record.is_trial or (self._plan.uri is None and not record.has_begun):
            is_lost = end is End.LOST
            self._recorder.deliver(folder, is_lost=is_lost, forget=number not in kept)
        elif not record.has_begun:
            row = self._ledger.trials()[number]
            with suppress(EnvironmentFaultError):  # if the disk is full, the next start does it
                write_run(row, self._plan, self._recorder, self._params(row))
        for replaced in self._kept - kept - {number}:
            self._recorder.deliver(self._plan.trial_folder(replaced), forget=True)
        self._kept = kept

    def _trials_to_keep(self) -> set[int]:
        """Return the trials whose weights are kept: the best ones, and that of the base config."""
        progress = self._ledger.progress()
        numbers = set(progress.best)
        if progress.base_row is not None:
            numbers.add(progress.base_row.number)
        return numbers

    def _params(self, row: Row) -> dict[str, Scalar]:
        plan = self._plan
        return flatten(plain(plan.trials.config(plan.with_tuned(row.overrides))))
