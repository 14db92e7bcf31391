"""The processes that consecutive studies of a sweep share: workers, and the recorder of MLflow."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.processes.fork_server import ForkServer
from pipeline.base.terminal import console, say, shown_verbosity, waiting_for
from pipeline.running.run_store import warn_of_unsent
from pipeline.study.ledger.rows import FEWEST_TRIALS
from pipeline.study.live import STARTING
from pipeline.study.outcome.comparison import is_comparison
from pipeline.study.outcome.pictures import load
from pipeline.study.study_plan import StudyPlan
from pipeline.study.workers.pool import WorkerPool, worker_pool
from pipeline.tracking.client import RecorderClient


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
