"""What studies are worked on with: workers and a recorder, shared by one study after another."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.running.recording import warn_of_unsent
from pipeline.study.hiring import staffing
from pipeline.study.mlflow_recorder import MlflowRecorder
from pipeline.study.plan import StudyPlan
from pipeline.study.workshop import Workshop


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What studies are worked on with: they share it, one after another.

    Args:
        workshop: The workers.
        recorder: Puts trials on record in MLflow.
    """

    workshop: Workshop
    recorder: MlflowRecorder


@contextmanager
def open_floor(plan: StudyPlan) -> Iterator[Floor]:
    """Hire workers and reach MLflow, side by side; nothing outlives the body.

    Raises:
        EnvironmentFaultError: The tracking server is down, and the run requires it; or workers are
            to run on a Ray cluster, and there is none.
    """
    tracking = plan.run.tracking
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop(stack.enter_context(staffing(plan))))
        recorder = stack.enter_context(MlflowRecorder(plan.uri, experiment=tracking.experiment))
        workshop.staff(min(plan.workers, plan.total or plan.workers))
        problem = recorder.connect(required=tracking.required)
        if problem is not None:
            print(
                f"warning: {problem}; the trials' values wait in {str(plan.folder)!r}",
                file=sys.stderr,
            )
        try:
            yield Floor(workshop=workshop, recorder=recorder)
        finally:
            unsent, output = recorder.close(), Path(plan.run.output)
            warn_of_unsent(unsent, recorder.problem, place=plan.folder, output=output, uri=plan.uri)
