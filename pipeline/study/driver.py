"""Drives a study: keeps its workers busy until it has its trials, and records how each ended."""

import sys
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.base.ends import End, TrialEnd, end_of
from pipeline.base.errors import (
    ChangedDataError,
    ConfigError,
    EnvironmentFaultError,
    Interrupted,
    PipelineError,
)
from pipeline.base.paths import create_folder
from pipeline.base.processes.fork_server import ForkServer
from pipeline.base.processes.lease import BEAT_SECONDS, LOOKS
from pipeline.base.regular_files import require_plain_folder
from pipeline.base.signals import stop
from pipeline.base.terminal import console, say, shown_verbosity, waiting_for
from pipeline.config.plain import flatten, plain
from pipeline.running.run_store import warn_of_unsent
from pipeline.study.ledger.ledger import Ledger, LostTrial
from pipeline.study.ledger.rows import FEWEST_TRIALS, Row
from pipeline.study.ledger.search import rung_epochs
from pipeline.study.live import STARTING, Live
from pipeline.study.messages import Answer, Job, Rung, WorkerDied, changed_data_line, end_journal
from pipeline.study.outcome.comparison import is_comparison
from pipeline.study.outcome.pictures import load
from pipeline.study.outcome.summary import value_words
from pipeline.study.stored_studies import leftovers, record_missing, write_run
from pipeline.study.study_plan import StudyPlan
from pipeline.study.study_run import StudyRun, begin_study_folder
from pipeline.study.workers.pool import Worker, WorkerPool, worker_pool
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.folders import is_finished
from pipeline.tracking.journal_events import Scalar
from pipeline.tracking.run_record import RunRecord

TICK_SECONDS = 0.25
LOOK_SECONDS = 2.0
STOP_SECONDS = 15.0
SENDING = "sending to MLflow"
#: Number of out-of-memory trials in a row after which a warning says what to lower.
OOMS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyProcesses:
    """Workers shared by consecutive studies, and the recorder of their trials in MLflow."""

    pool: WorkerPool
    recorder: RecorderClient


@contextmanager
def study_processes(
    plan: StudyPlan, server: ForkServer | None, recorder: RecorderClient | None
) -> Iterator[StudyProcesses]:
    """Start workers and connect to MLflow in parallel; all processes end with the body.

    `server` is that of `worker_pool`, `recorder` is given if its process was started before.

    Raises EnvironmentFaultError if Ray, or a tracking server that the run requires, is down.
    """
    tracking = plan.run.tracking
    recorder = recorder or RecorderClient()
    with ExitStack() as stack:
        pool = stack.enter_context(worker_pool(plan, server))
        stack.callback(recorder.quit)
        if plan.uri is not None and recorder.pid is None:
            recorder.start()
        # While the workers and the recorder load. A pruner ends about half of the trials early.
        fewest = FEWEST_TRIALS * (1 + plan.prunes)
        is_large = plan.total is None or plan.total >= fewest
        if shown_verbosity(plan.run.verbose) == 2:
            say(console(), STARTING)
        with waiting_for(STARTING, plan.run.verbose):
            pool.start(min(plan.workers, plan.total or plan.workers))
            load(importances=is_large and not is_comparison(plan))
            problem = None
            if plan.uri is not None:
                problem = recorder.connect(
                    plan.uri, experiment=tracking.experiment, required=tracking.required
                )
        if problem is not None:
            print(
                f"warning: {problem}; the trials' values are kept in {str(plan.folder)!r}",
                file=sys.stderr,
            )
        try:
            yield StudyProcesses(pool=pool, recorder=recorder)
        finally:
            warn_of_unsent(
                recorder.finish(),
                recorder.problem,
                place=plan.folder,
                output=Path(plan.run.output),
                uri=plan.uri,
            )


@contextmanager
def running_study(plan: StudyPlan, processes: StudyProcesses) -> Iterator["Driver"]:
    """Train a study until it has its trials, and yield its driver; the body reports the results.

    The study's own MLflow run ends with the body. Raises what `Ledger.open` and `Driver.work`
    raise.
    """
    if plan.folder.exists():
        require_plain_folder(plan.folder, is_written=True)
        if RunRecord.read(plan.folder).is_run:
            raise ConfigError(
                f"{str(plan.folder)!r} is the folder of a run; choose another sweep.name"
            )
    ledger = Ledger.open(plan)
    begin_study_folder(plan.folder)
    driver = Driver(replace(plan, uid=ledger.uid), ledger, processes)
    try:
        driver.work()
        yield driver
        driver.run.end(End.COMPLETE)
    except BaseException as raised:
        error = raised
        if stop.signal_number is not None and not isinstance(raised, Interrupted):
            error = Interrupted(stop.signal_number)  # a library has raised its own error
        try:
            if isinstance(error, Interrupted) and not stop.is_reported:
                stop.report(f"stopped: {_so_far(ledger, plan)}; run the same command to continue")
        finally:
            with waiting_for(SENDING, plan.run.verbose):
                driver.run.end(end_of(error))
        raise error from raised.__cause__
    finally:
        ledger.close()


def _so_far(ledger: Ledger, plan: StudyPlan) -> str:
    """Return what a stopped study has, and what the same command will repeat.

    For example `7 complete, 4 pruned; 2 interrupted trials will be repeated; best trial 3, …`.
    """
    progress = ledger.progress()
    parts = [progress.words_of(end for end in End if end.counts)]
    repeats = 0
    for row in ledger.trials():
        if row.state == "waiting" and row.retry_of is not None:
            repeats += 1
    if repeats:
        trials = "trial" if repeats == 1 else "trials"
        parts.append(f"{repeats} interrupted {trials} will be repeated")
    best = progress.best_row
    if best is not None:
        parts.append(f"best trial {best.number}, {value_words(best.values, plan.names)}")
    return "; ".join(parts)


class StudyFailedError(PipelineError):
    """Too many trials failed in a row, or none completed; the exit code is that of the trials."""

    def __init__(self, problem: str, exit_code: int) -> None:
        super().__init__(problem)
        self.exit_code = exit_code  # type: ignore[misc] # each failure has its own


class Driver:
    """An open study and the workers of this process; other processes may work on it as well.

    Once the trials have ended, `leads` tells whether this process reports the results.
    """

    def __init__(self, plan: StudyPlan, ledger: Ledger, processes: StudyProcesses) -> None:
        self.plan = plan
        self.ledger = ledger
        self.leads = False
        self.run = StudyRun(plan, processes.recorder, plan.study_header)
        """The study's own run in MLflow."""
        self._pool = processes.pool
        self._recorder = processes.recorder

    def work(self) -> None:
        """Repair the study, then train trials until it is settled, times out or is stopped.

        Raises:
            Interrupted: A signal asked for a stop; the trials that were running are queued again.
            StudyFailedError: Too many trials failed in a row, or no trial has completed.
            ChangedDataError: A trial found other data than the study has on record.
            EnvironmentFaultError: The disk is full, or workers can't be started.
        """
        self._live = Live(self.plan)
        with self._live.screen:
            self._closer = TrialCloser(self.plan, self.ledger, self._recorder, self._live)
            self._closer.repair()
            self._progress = self.ledger.progress()
            self._earlier_failures = self._progress.consecutive_failures
            self._started_at = self._look_at = self._beat_at = time.monotonic()
            try:
                with stop.deferred():
                    while not self._is_over():
                        self._advance()
                        self._live.show(self._progress, self._pool.busy())
            finally:
                self._leave()
            progress = self.ledger.progress()
        self.run.update(progress)
        self.leads = self.run.leads
        if progress.counted and not progress.counts.get(End.COMPLETE):
            end = End.DIVERGED if progress.counts.get(End.DIVERGED) else End.ERROR
            raise StudyFailedError(f"no trial completed: {progress.words}", end.exit_code)

    def _advance(self) -> None:
        # No more workers than trials that are running here or left.
        self._pool.start(min(self.plan.workers, len(self._pool.busy()) + self._progress.left))
        self._fill()
        self._listen(TICK_SECONDS)
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._closer.close_lost()
            self._listen(0.0)  # tells how a worker died whose trial was just found lost
            self.run.update(self._progress)
        if now >= self._beat_at:
            self._beat_at = now + min(BEAT_SECONDS, self.plan.options.grace / LOOKS)
            self.ledger.beat(worker.number for worker in self._pool.busy() if worker.is_alive())
        self._recorder.poll()
        for worker in self._pool.busy():
            worker.end_if_slower_than(self.plan.options.trial_timeout)
        self._progress = self.ledger.progress()

    def _is_over(self) -> bool:
        """Return whether work ends; raise StudyFailedError if too many trials failed in a row."""
        if stop.signal_number is not None:
            return True
        most = self.plan.options.max_consecutive_failures
        failure = self._closer.failure
        failures = self._progress.consecutive_failures
        self._earlier_failures = min(self._earlier_failures, failures)  # 0 after a success
        if failures - self._earlier_failures >= most and failure is not None:
            raise StudyFailedError(
                f"{most} trials failed in a row, the last with: {failure.message}; fix this, "
                "or raise sweep.max_consecutive_failures",
                failure.code,
            )
        if self._is_late():
            return not self._pool.busy()
        return self._progress.settled

    def _is_late(self) -> bool:
        timeout = self.plan.options.timeout
        return timeout is not None and time.monotonic() - self._started_at > timeout

    def _fill(self) -> None:
        """Give a trial to each idle worker while the study has trials left."""
        if self._is_late():
            return
        for worker in self._pool.idle():
            row = self.ledger.take(worker.lease)
            if row is None:
                return
            worker.taken = row
            worker.train(self._job(row))
            self._recorder.watch(self.plan.trial_folder(row.number))

    def _job(self, row: Row) -> Job:
        """Create the folder of a trial, and return the job for its worker."""
        plan = self.plan
        number = row.number
        folder = plan.trial_folder(number)
        create_folder(folder)
        config = plan.trial_config(row.overrides, number=number)
        epochs = config["trainer"]["max_epochs"]
        is_pruned = plan.prunes and isinstance(epochs, int)
        tags = {} if row.retry_of is None else {"pipeline.retry_of": str(row.retry_of)}
        header = plan.trial_header(number, {}, **tags)
        return Job(
            number=number,
            folder=str(folder),
            name=header.name,
            config=config,
            trust=list(plan.run.trust),
            parent_folder=str(plan.folder),
            key=str(header.key),
            tags=dict(header.tags),
            objectives=plan.names,
            rungs=rung_epochs(epochs, plan.options.pruner_warmup) if is_pruned else {},
            data=self.ledger.data_of(plain(config)),
            test=plan.run.test and plan.options.test_trials,
        )

    def _listen(self, seconds: float) -> None:
        for worker, answer in self._pool.listen(seconds):
            self._accept(worker, answer)

    def _accept(self, worker: Worker, answer: Answer) -> None:
        """Handle an answer of a worker.

        Raises ChangedDataError or EnvironmentFaultError if the next trial would fail as this one.
        """
        match answer:
            case Rung(step=step, value=value) if worker.is_busy:
                worker.verdict(prune=self.ledger.report(worker.taken, step=step, value=value))
            case TrialEnd() if worker.is_busy:
                ended = self._closer.end(worker, answer)
                code = ended.code
                if ended.end is End.INTERRUPTED and code == ChangedDataError.exit_code:
                    raise ChangedDataError(ended.message or "the data have changed")
                if ended.end is End.ERROR and code == EnvironmentFaultError.exit_code:
                    message = ended.message or "the environment stopped a trial"
                    raise EnvironmentFaultError(message)
            case WorkerDied():
                self._close_died(worker, answer)

    def _close_died(self, worker: Worker, gone: WorkerDied) -> None:
        """Dismiss a worker that has died, and close its trial."""
        died = [worker.number] if worker.is_busy else []
        self._pool.dismiss(worker)  # first, so that a failing store can't leave it busy
        if died and worker.is_overdue:
            self._closer.end(worker, TrialEnd(end=End.INTERRUPTED))
        # The death of the server says nothing of the trials, which don't count as failures.
        end = End.INTERRUPTED if self._pool.has_lost_server else End.LOST
        self._closer.close_lost(died, why=f"its process died ({gone.message})", end=end)
        self._pool.dismiss(worker, gone)  # again, to count a worker that was never ready

    def _leave(self) -> None:
        """Stop the trials that still run here; any process can continue the study."""
        self._live.stopping(self._pool.busy())
        for worker in self._pool.busy():
            worker.interrupt()
        died: list[int] = []
        deadline = time.monotonic() + STOP_SECONDS
        while self._pool.busy() and time.monotonic() < deadline:
            for worker, answer in self._pool.listen(TICK_SECONDS):
                if isinstance(answer, TrialEnd) and worker.is_busy:
                    self._closer.end(worker, answer)
                elif isinstance(answer, WorkerDied):
                    if worker.is_busy:
                        died.append(worker.number)
                    self._pool.dismiss(worker)
                elif isinstance(answer, Rung):
                    worker.verdict(prune=False)
        died += [worker.number for worker in self._pool.busy()]
        self._pool.kill()
        self._closer.close_lost(died)


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
