"""A study from its plan to its last words, on workers and on record."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.errors import DivergedError, Interrupted, PipelineError
from pipeline.running.recording import warn_of_unsent
from pipeline.study.closing import TrialCloser
from pipeline.study.driver import Driver, StudyFailedError
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.rows import Progress
from pipeline.study.live import Live
from pipeline.study.mlflow_recorder import MlflowRecorder
from pipeline.study.plan import StudyPlan
from pipeline.study.study_run import StudyRun, study_params
from pipeline.study.workers.worker_pool import WorkerPool, worker_pool
from pipeline.tracking.journal import Figure, Header, Status

TOLD = "a person knows how to go on"
"""Noted with a stop, which ends one study within another but is told once."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Conducted:
    """A study whose trials have ended.

    Args:
        plan: The study.
        ledger: What is on record of it.
        leads: Whether this process tells what it came to; else another one does.
        left: Puts on record that the study's folder holds a model, and what it is compared by.
        describe: Puts the description of the study on record, which MLflow's page shows.
        seconds: Time that it took here.
    """

    plan: StudyPlan
    ledger: Ledger
    leads: bool
    left: Callable[[Figure], None]
    describe: Callable[[str], None]
    seconds: float


@contextmanager
def conducted(plan: StudyPlan, processes: StudyProcesses) -> Iterator[Conducted]:
    """Work on a study until it has its trials; the body tells what it came to.

    Its own run in MLflow ends with the body, truly whatever happens.

    Raises:
        ConfigError: The study on record is another one.
        EnvironmentFaultError: A store can't be read or written.
        Interrupted: A signal asked for a stop.
        StudyFailedError: Failure after failure, or no trial completed.
    """
    started_at = time.monotonic()
    ledger = open_ledger(plan)
    plan = plan.opened(ledger.uid)
    pool, recorder = processes.pool, processes.recorder
    run = StudyRun(plan.folder, recorder, partial(_study_header, plan))
    try:
        with Live(plan) as live:
            closer = TrialCloser(plan, ledger, recorder, live)
            closer.repair()
            driver = Driver(plan, ledger, pool, recorder, run=run, closer=closer, live=live)
            progress = driver.run()
        run.update(progress, plan.names)
        _require_result(progress)
        yield Conducted(
            plan=plan,
            ledger=ledger,
            leads=run.leads,
            left=run.left,
            describe=run.describe,
            seconds=time.monotonic() - started_at,
        )
        run.end("FINISHED")
    except BaseException as error:
        run.end(*_ending(error))
        if isinstance(error, Interrupted) and TOLD not in getattr(error, "__notes__", ()):
            _say_how_to_go_on(ledger.progress())
            error.add_note(TOLD)
        raise
    finally:
        ledger.close()


def _study_header(plan: StudyPlan) -> Header:
    return plan.destination.study_header(
        study_params(plan.options, plan.base), register=plan.run.register, trust=plan.run.trust
    )


def open_ledger(plan: StudyPlan) -> Ledger:
    """Begin the study of a plan, or find it."""
    return Ledger.open(
        url=plan.url,
        name=plan.name,
        options=plan.options,
        space=plan.space,
        base=plan.base,
        data=plan.data,
        objectives=plan.objectives,
        seed=plan.run.seed,
        base_point=plan.base_point,
    )


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


def _say_how_to_go_on(progress: Progress) -> None:
    print(
        f"stopped after {progress.counted} trials ({progress.words}); the same command goes on",
        file=sys.stderr,
    )
