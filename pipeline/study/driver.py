"""Drives a study: keeps its workers busy until it has its trials, or until it must stop."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipeline.config.record import plain
from pipeline.errors import (
    ChangedDataError,
    DivergedError,
    EnvironmentFaultError,
    Interrupted,
    PipelineError,
)
from pipeline.paths import create_folder
from pipeline.running.recording import warn_of_unsent
from pipeline.signals import stop
from pipeline.study.closing import TrialCloser
from pipeline.study.ledger.ledger import Ledger, Taken
from pipeline.study.ledger.rows import Progress
from pipeline.study.ledger.search import rung_epochs
from pipeline.study.live import Live
from pipeline.study.mlflow_recorder import MlflowRecorder, StudyRun, study_params
from pipeline.study.plan import StudyPlan
from pipeline.study.trial_end import TrialEnd
from pipeline.study.workers.messages import Answer, Gone, Job, Rung
from pipeline.study.workers.worker_pool import Assignment, Worker, WorkerPool, worker_pool
from pipeline.tracking.journal import Status

TOLD = "a person knows how to go on"
"""Noted with a stop, which ends one study within another but is told once."""
TICK_SECONDS = 0.25
LOOK_SECONDS = 2.0
BEAT_SECONDS = 10.0
STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyProcesses:
    """The processes that work for studies, one study after another.

    Args:
        pool: The workers.
        recorder: Brings trials into MLflow.
    """

    pool: WorkerPool
    recorder: MlflowRecorder


@contextmanager
def study_processes(plan: StudyPlan) -> Iterator[StudyProcesses]:
    """Start workers and reach MLflow, side by side; no process outlives the body.

    Raises:
        EnvironmentFaultError: The tracking server is down, and the run requires it; or workers are
            to run on a Ray cluster, and there is none.
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

    Its own run in MLflow is ended when the body exits, also by an error.

    Raises:
        ConfigError: The study on record is another one.
        EnvironmentFaultError: A store can't be read or written.
        Interrupted: A signal asked for a stop.
        StudyFailedError: Failure after failure, or no trial completed.
    """
    started_at = time.monotonic()
    ledger = Ledger.open(plan)
    driver = Driver(plan.opened(ledger.uid), ledger, processes)
    try:
        _require_result(driver.work())
        driver.seconds = time.monotonic() - started_at
        yield driver
        driver.run.end("FINISHED")
    except BaseException as error:
        driver.run.end(*_ending(error))
        if isinstance(error, Interrupted) and TOLD not in getattr(error, "__notes__", ()):
            progress = ledger.progress()
            print(
                f"stopped after {progress.counted} trials ({progress.words}); "
                "the same command goes on",
                file=sys.stderr,
            )
            error.add_note(TOLD)
        raise
    finally:
        ledger.close()


def _require_result(progress: Progress) -> None:
    """Refuse a study that came to nothing.

    Raises:
        StudyFailedError: Trials have ended, and none of them completed.
    """
    if progress.counts.get("complete") or not progress.counted:
        return
    code = DivergedError.exit_code if progress.counts.get("diverged") else 1
    raise StudyFailedError(f"no trial completed: {progress.words}", code)


def _ending(error: BaseException) -> tuple[Status, str]:
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "KILLED", "interrupted"
    diverged = isinstance(error, PipelineError) and error.exit_code == DivergedError.exit_code
    return "FAILED", "diverged" if diverged else "error"


class StudyFailedError(PipelineError):
    """Trials failed one after another, so the study was stopped.

    Args:
        problem: One line for people.
        exit_code: That of the failure they share.
    """

    def __init__(self, problem: str, exit_code: int) -> None:
        super().__init__(problem)
        self.exit_code = exit_code  # type: ignore[misc] # each failure has its own


@dataclass(slots=True)
class Clock:
    """When something is to be done again, by the monotonic clock."""

    seconds: float
    due_at: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Tell whether it is time, and wait anew."""
        now = time.monotonic()
        if now < self.due_at:
            return False
        self.due_at = now + self.seconds
        return True


class Driver:
    """One study on the workers of this process, beside those of any other.

    `leads` tells, once the trials have ended, whether this process tells what they came to, else
    another one does; `seconds` is the time that they took here.

    Args:
        plan: The study, opened.
        ledger: What is on record of it.
        processes: The workers, and the recorder of their trials.
    """

    def __init__(self, plan: StudyPlan, ledger: Ledger, processes: StudyProcesses) -> None:
        self.plan = plan
        self.ledger = ledger
        self.leads = False
        self.seconds = 0.0
        header = partial(
            plan.destination.study_header,
            study_params(plan.options, plan.base),
            register=plan.run.register,
            trust=plan.run.trust,
        )
        self.run = StudyRun(plan.destination, processes.recorder, header)
        """The study's own run in MLflow."""
        self._pool = processes.pool
        self._recorder = processes.recorder

    def work(self) -> Progress:
        """Repair the study, then work until it is settled, its time is over, or nobody wants more.

        Raises:
            Interrupted: A signal asked for a stop; what was running is queued again.
            StudyFailedError: Too many failures in a row.
            EnvironmentFaultError: The disk is full, or no worker can live here.
        """
        with Live(self.plan) as self._live:
            self._closer = TrialCloser(self.plan, self.ledger, self._recorder, self._live)
            self._closer.repair()
            self._progress = self.ledger.progress()
            self._mended = self._progress.consecutive_failures
            self._started_at = time.monotonic()
            self._look, self._beat = Clock(LOOK_SECONDS), Clock(BEAT_SECONDS)
            try:
                with stop.deferred():
                    while not self._is_over():
                        self._advance()
            finally:
                self._leave()
            progress = self.ledger.progress()
        self.run.update(progress)
        self.leads = self.run.leads
        return progress

    def _advance(self) -> None:
        self._pool.start(self._wanted())
        self._fill()
        self._listen(TICK_SECONDS)
        if self._look.is_due():
            self._closer.close_lost()
            self._listen(0.0)  # how a worker died whose trial was just found lost
            self.run.update(self._progress)
        if self._beat.is_due():
            self.ledger.beat(worker.number for worker in self._pool.busy() if worker.is_alive())
        if (seconds := self.plan.options.trial_timeout) is not None:
            for worker in self._pool.busy():
                worker.end_if_slower_than(seconds)
        self._progress = self.ledger.progress()
        self._live.show(self._progress, [worker.number for worker in self._pool.busy()])

    def _is_over(self) -> bool:
        if stop.signal_number is not None:
            return True
        self._require_hope()
        if self._is_late():
            return not self._pool.busy()
        return self._progress.settled

    def _is_late(self) -> bool:
        timeout = self.plan.options.timeout
        return timeout is not None and time.monotonic() - self._started_at > timeout

    def _wanted(self) -> int:
        """Return how many workers there is work for."""
        busy = len(self._pool.busy())
        return min(self.plan.workers, busy + self._progress.left)

    def _fill(self) -> None:
        """Give each idle worker a trial, as long as the study has one."""
        if self._is_late():
            return
        for worker in self._pool.idle():
            taken = self.ledger.take(worker.lease)
            if taken is None:
                return
            assignment = self._assignment(taken)
            worker.give(assignment)
            self._recorder.begin(assignment.folder)

    def _assignment(self, taken: Taken) -> Assignment:
        """Make the folder of a trial, and what its worker is told."""
        plan, number = self.plan, taken.number
        folder = plan.trial_folder(number)
        create_folder(folder)
        config = plan.trial_config(taken.overrides, number=number)
        epochs = config["trainer"]["max_epochs"]
        is_pruned = plan.prunes and isinstance(epochs, int)
        retry = {} if taken.retry_of is None else {"pipeline.retry_of": str(taken.retry_of)}
        header = plan.destination.trial_header(number, {}, **retry)
        job = Job(
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
        return Assignment(taken=taken, job=job)

    # ── what workers say ────────────────────────────────────────────────────────────────────

    def _listen(self, seconds: float) -> None:
        for worker, answer in self._pool.listen(seconds):
            self._hear(worker, answer)

    def _hear(self, worker: Worker, answer: Answer) -> None:
        match answer:
            case Rung(step=step, value=value) if worker.assignment is not None:
                prune = self.ledger.report(worker.assignment.taken, step=step, value=value)
                worker.verdict(prune=prune)
            case TrialEnd() if worker.assignment is not None:
                _require_environment(self._closer.end(worker.finish(), answer))
            case Gone():
                self._close_died(worker, answer)

    def _close_died(self, worker: Worker, gone: Gone) -> None:
        """Go on without a worker that has died, and give its trial up."""
        assignment = worker.assignment
        self._pool.dismiss(worker)  # first: a store that fails must not leave it among the busy
        if assignment is not None and assignment.overdue:
            self._closer.end(assignment, TrialEnd(state="failed", reason="interrupted"))
        why = f"its process died ({gone.message})"
        self._closer.close_lost([] if assignment is None else [assignment.number], why=why)
        self._pool.dismiss(worker, gone)  # again, to count one that was never ready

    # ── what must not go on ─────────────────────────────────────────────────────────────────

    def _require_hope(self) -> None:
        """Stop where one failure follows another.

        Raises:
            StudyFailedError: `sweep.max_consecutive_failures` trials failed in a row.
        """
        most = self.plan.options.max_consecutive_failures
        failure = self._closer.failure
        in_a_row = self._progress.consecutive_failures
        self._mended = min(self._mended, in_a_row)  # none of them, once a trial has not failed
        if in_a_row - self._mended < most or failure is None:
            return
        raise StudyFailedError(
            f"{most} trials failed one after another, the last one: {failure.message}; mend that, "
            "or allow more with sweep.max_consecutive_failures=",
            failure.exit_code,
        )

    def _leave(self) -> None:
        """Stop what still runs here; the study can be gone on with from anywhere."""
        self._pool.interrupt()
        died: list[int] = []
        deadline = time.monotonic() + STOP_SECONDS
        while self._pool.busy() and time.monotonic() < deadline:
            for worker, answer in self._pool.listen(TICK_SECONDS):
                if isinstance(answer, TrialEnd) and worker.assignment is not None:
                    self._closer.end(worker.finish(), answer)
                elif isinstance(answer, Gone):
                    died += [] if worker.assignment is None else [worker.number]
                    self._pool.dismiss(worker)
                elif isinstance(answer, Rung):
                    worker.verdict(prune=False)
        died += [worker.number for worker in self._pool.busy()]
        self._pool.kill()
        self._closer.close_lost(died)


def _require_environment(ended: TrialEnd) -> None:
    """Stop where the next trial would end as this one did.

    Raises:
        EnvironmentFaultError: The disk is full, say.
        ChangedDataError: The data are others than those of the trials before.
    """
    if ended.exit_code == ChangedDataError.exit_code and ended.reason == "interrupted":
        raise ChangedDataError(ended.message or "the data have changed")
    if ended.exit_code == EnvironmentFaultError.exit_code and ended.reason == "error":
        raise EnvironmentFaultError(ended.message or "the environment ended a trial")
