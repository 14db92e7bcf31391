"""Drives a study: keeps its workers busy until it has its trials."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pipeline.base.ends import End, TrialEnd, end_of
from pipeline.base.errors import ChangedDataError, EnvironmentFaultError, Interrupted, PipelineError
from pipeline.base.processes.lease import BEAT_SECONDS, LOOKS
from pipeline.base.signals import stop
from pipeline.base.terminal import waiting_for
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.rows import Row
from pipeline.study.live import Live
from pipeline.study.messages import Answer, Job, Rung, WorkerDied
from pipeline.study.outcome.summary import value_words
from pipeline.study.study_plan import StudyPlan
from pipeline.study.study_processes import StudyProcesses
from pipeline.study.study_run import StudyRun, begin_study_folder, require_study_folder
from pipeline.study.trial_closer import TrialCloser
from pipeline.study.workers.pool import Worker

TICK_SECONDS = 0.25
LOOK_SECONDS = 2.0
STOP_SECONDS = 15.0
SENDING = "sending to MLflow"


@contextmanager
def running_study(plan: StudyPlan, processes: StudyProcesses) -> Iterator["Driver"]:
    """Train a study until it has its trials, and yield its driver; the body reports the results.

    The study's own MLflow run ends with the body. Raises what `Ledger.open` and `Driver.work`
    raise.
    """
    require_study_folder(plan.folder)
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

    Once the trials have ended, `leads` tells whether this process reports the results. `pool` has
    its workers.
    """

    def __init__(self, plan: StudyPlan, ledger: Ledger, processes: StudyProcesses) -> None:
        self.plan = plan
        self.ledger = ledger
        self.leads = False
        self.run = StudyRun(plan, processes.recorder, plan.study_header)
        """The study's own run in MLflow."""
        self.pool = processes.pool
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
                        self._live.show(self._progress, self.pool.busy())
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
        self.pool.start(min(self.plan.workers, len(self.pool.busy()) + self._progress.left))
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
            self.ledger.beat(worker.number for worker in self.pool.busy() if worker.is_alive())
        self._recorder.poll()
        for worker in self.pool.busy():
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
            return not self.pool.busy()
        return self._progress.settled

    def _is_late(self) -> bool:
        timeout = self.plan.options.timeout
        return timeout is not None and time.monotonic() - self._started_at > timeout

    def _fill(self) -> None:
        """Give a trial to each idle worker while the study has trials left."""
        if self._is_late():
            return
        for worker in self.pool.idle():
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
        folder = plan.create_trial_folder(number)
        config = plan.trial_config(row.overrides, number=number)
        epochs = config["trainer"]["max_epochs"]
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
            rungs=self.ledger.rungs_of(epochs),
            data=self.ledger.data_of(config),
            test=plan.run.test and plan.options.test_trials,
        )

    def _listen(self, seconds: float) -> None:
        for worker, answer in self.pool.listen(seconds):
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
        self.pool.dismiss(worker)  # first, so that a failing store can't leave it busy
        if died and worker.is_overdue:
            self._closer.end(worker, TrialEnd(end=End.INTERRUPTED))
        # The death of the server says nothing of the trials, which don't count as failures.
        end = End.INTERRUPTED if self.pool.has_lost_server else End.LOST
        self._closer.close_lost(died, why=f"its process died ({gone.message})", end=end)
        self.pool.dismiss(worker, gone)  # again, to count a worker that was never ready

    def _leave(self) -> None:
        """Stop the trials that still run here; any process can continue the study."""
        self._live.stopping(self.pool.busy())
        for worker in self.pool.busy():
            worker.interrupt()
        died: list[int] = []
        deadline = time.monotonic() + STOP_SECONDS
        while self.pool.busy() and time.monotonic() < deadline:
            for worker, answer in self.pool.listen(TICK_SECONDS):
                if isinstance(answer, TrialEnd) and worker.is_busy:
                    self._closer.end(worker, answer)
                elif isinstance(answer, WorkerDied):
                    if worker.is_busy:
                        died.append(worker.number)
                    self.pool.dismiss(worker)
                elif isinstance(answer, Rung):
                    worker.verdict(prune=False)
        died += [worker.number for worker in self.pool.busy()]
        self.pool.kill()
        self._closer.close_lost(died)
