"""Drives a study: keeps its workers busy until it has its trials, and closes what has ended."""

import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.config.record import flatten, plain
from pipeline.errors import (
    ChangedDataError,
    DivergedError,
    EnvironmentFaultError,
    Interrupted,
    PipelineError,
)
from pipeline.paths import create_folder
from pipeline.processes.lease import BEAT_SECONDS, LOOKS
from pipeline.running.recording import warn_of_unsent
from pipeline.signals import stop
from pipeline.study.ledger.ledger import Ledger, Lost
from pipeline.study.ledger.rows import Row
from pipeline.study.ledger.search import rung_epochs
from pipeline.study.live import Live
from pipeline.study.messages import (
    Answer,
    Gone,
    Job,
    Rung,
    TrialEnd,
    changed_data_line,
    end_journal,
)
from pipeline.study.plan import StudyPlan
from pipeline.study.recorded_studies import leftovers, record_missing, write_run
from pipeline.study.study_run import StudyRun
from pipeline.study.workers.worker import Worker, WorkerPool, worker_pool
from pipeline.tracking.client import MlflowRecorder
from pipeline.tracking.folders import is_finished
from pipeline.tracking.journal import Scalar, has_begun

#: Noted with a stop, which ends one study within another but is told once.
TOLD = "a person knows how to go on"
TICK_SECONDS = 0.25
LOOK_SECONDS = 2.0
STOP_SECONDS = 15.0
#: Trials out of memory, one after another, after which a person is told what to lower.
OOMS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyProcesses:
    """The workers of studies, one study after another, and the recorder of their trials."""

    pool: WorkerPool
    recorder: MlflowRecorder


@contextmanager
def study_processes(plan: StudyPlan) -> Iterator[StudyProcesses]:
    """Start workers and reach MLflow, side by side; no process outlives the body.

    Raises EnvironmentFaultError where a tracking server that the run requires, or Ray, is down.
    """
    tracking = plan.run.tracking
    with (
        worker_pool(plan) as pool,
        MlflowRecorder(plan.uri, experiment=tracking.experiment) as recorder,
    ):
        pool.start(min(plan.workers, plan.total or plan.workers))
        problem = recorder.connect(required=tracking.required)
        if problem is not None:
            print(
                f"warning: {problem}; the trials' values wait in {str(plan.folder)!r}",
                file=sys.stderr,
            )
        try:
            yield StudyProcesses(pool=pool, recorder=recorder)
        finally:
            unsent, output = recorder.close(), Path(plan.run.output)
            warn_of_unsent(unsent, recorder.problem, place=plan.folder, output=output, uri=plan.uri)


@contextmanager
def conducted(plan: StudyPlan, processes: StudyProcesses) -> Iterator["Driver"]:
    """Work on a study until it has its trials; the body tells what it came to.

    Its own run in MLflow is ended with the body. Raises what `Ledger.open` and `Driver.work` do.
    """
    started_at = time.monotonic()
    ledger = Ledger.open(plan)
    driver = Driver(replace(plan, uid=ledger.uid), ledger, processes)
    try:
        driver.work()
        driver.seconds = time.monotonic() - started_at
        yield driver
        driver.run.end("FINISHED")
    except BaseException as raised:
        error = raised
        if stop.signal_number is not None and not isinstance(raised, Interrupted):
            error = Interrupted(stop.signal_number)  # a library has made another error of it
        if isinstance(error, Interrupted | KeyboardInterrupt):
            driver.run.end("KILLED", "interrupted")
        else:
            code = error.exit_code if isinstance(error, PipelineError) else None
            has_diverged = code == DivergedError.exit_code
            driver.run.end("FAILED", "diverged" if has_diverged else "error")
        if isinstance(error, Interrupted) and TOLD not in getattr(error, "__notes__", ()):
            progress = ledger.progress()
            print(
                f"stopped after {progress.counted} trials ({progress.words}); "
                "the same command goes on",
                file=sys.stderr,
            )
            error.add_note(TOLD)
        raise error from raised.__cause__
    finally:
        ledger.close()


class StudyFailedError(PipelineError):
    """Trials failed one after another: why in one line, and the exit code that they share."""

    def __init__(self, problem: str, exit_code: int) -> None:
        super().__init__(problem)
        self.exit_code = exit_code  # type: ignore[misc] # each failure has its own


class Driver:
    """One study, opened, on the workers of this process, beside those of any other.

    `leads` tells, once the trials have ended, whether this process reports them; `seconds` is the
    time that they took here.
    """

    def __init__(self, plan: StudyPlan, ledger: Ledger, processes: StudyProcesses) -> None:
        self.plan, self.ledger = plan, ledger
        self.leads = False
        self.seconds = 0.0
        header = partial(plan.study_header, register=plan.run.register, trust=plan.run.trust)
        begin = partial(header, plan.options, plan.base)
        self.run = StudyRun(plan, processes.recorder, begin)
        """The study's own run in MLflow."""
        self._pool, self._recorder = processes.pool, processes.recorder

    def work(self) -> None:
        """Repair the study, then work until it is settled, its time is over, or nobody wants more.

        Raises:
            Interrupted: A signal asked for a stop; what was running is queued again.
            StudyFailedError: Too many failures in a row, or no trial that has ended completed.
            EnvironmentFaultError: The disk is full, or no worker can live here.
        """
        with Live(self.plan) as live:
            self._closer = TrialCloser(self.plan, self.ledger, self._recorder, live)
            self._closer.repair()
            self._progress = self.ledger.progress()
            self._mended = self._progress.consecutive_failures
            self._started_at = self._look_at = self._beat_at = time.monotonic()
            try:
                with stop.deferred():
                    while not self._is_over():
                        self._advance()
                        live.show(self._progress, [one.number for one in self._pool.busy()])
            finally:
                self._leave()
            progress = self.ledger.progress()
        self.run.update(progress)
        self.leads = self.run.leads
        if progress.counted and not progress.counts.get("complete"):
            code = DivergedError.exit_code if progress.counts.get("diverged") else 1
            raise StudyFailedError(f"no trial completed: {progress.words}", code)

    def _advance(self) -> None:
        # As many workers as there is work for.
        self._pool.start(min(self.plan.workers, len(self._pool.busy()) + self._progress.left))
        self._fill()
        self._listen(TICK_SECONDS)
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._closer.close_lost()
            self._listen(0.0)  # how a worker died whose trial was just found lost
            self.run.update(self._progress)
        if now >= self._beat_at:
            self._beat_at = now + min(BEAT_SECONDS, self.plan.options.grace / LOOKS)
            self.ledger.beat(worker.number for worker in self._pool.busy() if worker.is_alive())
        for worker in self._pool.busy():
            worker.end_if_slower_than(self.plan.options.trial_timeout)
        self._progress = self.ledger.progress()

    def _is_over(self) -> bool:
        """Tell whether nothing is left to do or to be begun; too many failures in a row raise."""
        if stop.signal_number is not None:
            return True
        most, failure = self.plan.options.max_consecutive_failures, self._closer.failure
        in_a_row = self._progress.consecutive_failures
        self._mended = min(self._mended, in_a_row)  # none of them, once a trial has not failed
        if in_a_row - self._mended >= most and failure is not None:
            raise StudyFailedError(
                f"{most} trials failed one after another, the last one: {failure.message}; mend "
                "that, or allow more with sweep.max_consecutive_failures=",
                failure.exit_code,
            )
        return not self._pool.busy() if self._is_late() else self._progress.settled

    def _is_late(self) -> bool:
        timeout = self.plan.options.timeout
        return timeout is not None and time.monotonic() - self._started_at > timeout

    def _fill(self) -> None:
        """Give each idle worker a trial, as long as the study has one."""
        for worker in [] if self._is_late() else self._pool.idle():
            taken = self.ledger.take(worker.lease)
            if taken is None:
                return
            worker.taken = taken
            worker.train(self._job(taken))
            self._recorder.begin(self.plan.trial_folder(taken.number))

    def _job(self, taken: Row) -> Job:
        """Make the folder of a trial, and what its worker is told."""
        plan, number = self.plan, taken.number
        folder = plan.trial_folder(number)
        create_folder(folder)
        config = plan.trial_config(taken.overrides, number=number)
        epochs = config["trainer"]["max_epochs"]
        is_pruned = plan.prunes and isinstance(epochs, int)
        retry = {} if taken.retry_of is None else {"pipeline.retry_of": str(taken.retry_of)}
        header = plan.trial_header(number, {}, **retry)
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
            self._hear(worker, answer)

    def _hear(self, worker: Worker, answer: Answer) -> None:
        """Do what an answer asks for; raises where the next trial would end as this one did."""
        match answer:
            case Rung(step=step, value=value) if worker.is_busy:
                worker.verdict(prune=self.ledger.report(worker.taken, step=step, value=value))
            case TrialEnd() if worker.is_busy:
                ended = self._closer.end(worker, answer)
                how = ended.exit_code, ended.reason
                if how == (ChangedDataError.exit_code, "interrupted"):
                    raise ChangedDataError(ended.message or "the data have changed")
                if how == (EnvironmentFaultError.exit_code, "error"):
                    message = ended.message or "the environment ended a trial"
                    raise EnvironmentFaultError(message)
            case Gone():
                self._close_died(worker, answer)

    def _close_died(self, worker: Worker, gone: Gone) -> None:
        """Go on without a worker that has died, and give its trial up."""
        died = [worker.number] if worker.is_busy else []
        self._pool.dismiss(worker)  # first: a store that fails must not leave it among the busy
        if died and worker.is_overdue:
            self._closer.end(worker, TrialEnd(state="failed", reason="interrupted"))
        self._closer.close_lost(died, why=f"its process died ({gone.message})")
        self._pool.dismiss(worker, gone)  # again, to count one that was never ready

    def _leave(self) -> None:
        """Stop what still runs here; the study can be gone on with from anywhere."""
        self._pool.interrupt()
        died: list[int] = []
        deadline = time.monotonic() + STOP_SECONDS
        while self._pool.busy() and time.monotonic() < deadline:
            for worker, answer in self._pool.listen(TICK_SECONDS):
                if isinstance(answer, TrialEnd) and worker.is_busy:
                    self._closer.end(worker, answer)
                elif isinstance(answer, Gone):
                    died += [worker.number] if worker.is_busy else []
                    self._pool.dismiss(worker)
                elif isinstance(answer, Rung):
                    worker.verdict(prune=False)
        died += [worker.number for worker in self._pool.busy()]
        self._pool.kill()
        self._closer.close_lost(died)


class TrialCloser:
    """Closes trials so that the study and MLflow agree, and remembers the last failure."""

    def __init__(
        self, plan: StudyPlan, ledger: Ledger, recorder: MlflowRecorder, live: Live
    ) -> None:
        self.failure: TrialEnd | None = None
        self._plan, self._ledger = plan, ledger
        self._recorder, self._live = recorder, live
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
            record_missing(rows, self._plan, self._recorder, self._params)

    def end(self, worker: Worker, ended: TrialEnd) -> TrialEnd:
        """Close a trial whose worker has told how it ended, or was stopped for being too slow.

        Returns how it ended, which is as its worker says unless it took too long or trained on
        other data than a trial of the same config beside it.
        """
        worker.is_busy = False  # first: a store that fails must not leave it among the busy
        ended, number = self._on_its_data(worker.job, ended), worker.number
        if worker.is_overdue and ended.reason == "interrupted":
            message = f"took longer than sweep.trial_timeout={self._plan.options.trial_timeout:g}"
            ended = replace(ended, reason="error", message=message, exit_code=1)
        if ended.state == "failed":
            is_told = end_journal(self._plan.trial_folder(number), ended.state, ended.reason)
            ended = ended if is_told else replace(ended, reason="lost")
        if not self._ledger.finish(worker.taken, ended):
            self._drop(number)
            return ended
        self._live.ended(worker.taken, ended)
        if ended.state == "failed" and ended.reason != "interrupted":
            self.failure = ended
        self._ooms = self._ooms + 1 if ended.reason == "oom" else 0
        if self._ooms == OOMS:
            self._live.warn(f"{OOMS} trials in a row ran out of memory; lower data.batch_size")
        self._record(number, ended)
        return ended

    def close_lost(self, died: Collection[int] = (), *, why: str = "its process is gone") -> None:
        """Close the trials whose process is gone, silent, or was seen to die; tell of each."""
        lost = [one.number for one in self._close_lost(died) if not one.adopted]
        self._lost.update(lost)
        # One that died may have been closed as lost a moment before it was seen to die.
        if lost or not self._lost.isdisjoint(died):
            self.failure = TrialEnd(state="failed", reason="lost", message=why, exit_code=3)

    def _close_lost(self, died: Collection[int] = ()) -> list[Lost]:
        lost = self._ledger.close_lost(self._plan.trial_folder, died)
        for one in lost:
            end_journal(self._plan.trial_folder(one.number), one.end.state, one.end.reason)
            self._record(one.number, one.end)
            self._live.warn(one.line)
        return lost

    def _on_its_data(self, job: Job, ended: TrialEnd) -> TrialEnd:
        """Store the hash of the data of a config that is new to the study."""
        if ended.data is None or job.data is not None:
            return ended
        config = plain(job.config)
        noted = self._ledger.note_data(config, ended.data)
        if noted == ended.data:
            return ended
        return TrialEnd(
            state="failed",
            reason="interrupted",
            message=changed_data_line(config, noted, ended.data),
            exit_code=ChangedDataError.exit_code,
        )

    def _drop(self, number: int) -> None:
        """Record a trial in MLflow with the end that another process stored."""
        row, folder = self._ledger.trials()[number], self._plan.trial_folder(number)
        if row.reason == "lost":
            self._live.warn(
                f"trial {number} was given up while its process stood still; its late result "
                "is dropped"
            )
        if has_begun(folder):
            end_journal(folder, row.state, row.reason)
            self._record(number, row)
        else:
            self._recorder.forget(folder)

    def _record(self, number: int, end: TrialEnd | Row) -> None:
        """Let MLflow have a trial that has ended; the files of all but the best are removed then.

        Its process may have been killed before its run began.
        """
        keepers = self._keepers()
        folder = self._plan.trial_folder(number)
        if self._plan.uri is None or has_begun(folder):
            self._recorder.end(folder, lost=end.reason == "lost", forget=number not in keepers)
        else:
            row = self._ledger.trials()[number]
            with suppress(EnvironmentFaultError):  # on a full disk, the next start does it
                write_run(row, self._plan, self._recorder, self._params(row))
        for other in self._kept - keepers - {number}:
            self._recorder.forget(self._plan.trial_folder(other))
        self._kept = keepers

    def _keepers(self) -> set[int]:
        return self._plan.keepers(self._ledger.progress())

    def _params(self, row: Row) -> dict[str, Scalar]:
        plan = self._plan
        return flatten(plain(plan.trials.config(plan.with_tuned(row.overrides))))
