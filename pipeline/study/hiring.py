"""Who trains the trials of a study: which process, on which devices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.devices import worker_environment
from pipeline.study.workers.crew import Worker
from pipeline.study.workers.local_process import LocalProcess, worker_command

if TYPE_CHECKING:
    from pipeline.study.plan import StudyPlan

Hire = Callable[[int], Worker]
"""Makes the worker of a slot, counted from 0; its successor gets the same slot."""


def seated(plan: "StudyPlan") -> "StudyPlan":
    """Return the plan with as many workers as there is room for, wherever they are to run.

    Raises:
        ConfigError: They are to run on a Ray cluster, and that can't be.
        EnvironmentFaultError: It is not there, or has no room for a single worker.
    """
    if plan.options.launcher != "ray":
        return plan
    from pipeline.study.cluster import seated_on_ray

    return seated_on_ray(plan)


@contextmanager
def staffing(plan: "StudyPlan") -> Iterator[Hire]:
    """Yield what makes the workers of a study, wherever they run, while the body does.

    Raises:
        EnvironmentFaultError: They are to run on a Ray cluster, and there is none.
    """
    if plan.options.launcher != "ray":
        yield hiring(plan)
        return
    from pipeline.study.cluster import hired_on_ray

    with hired_on_ray(plan) as hire:
        yield hire


def hiring(plan: "StudyPlan") -> Hire:
    """Return what makes the workers of a study, not started yet, each with devices of its own."""
    command = worker_command(plan.options.devices_per_trial)

    def hire(slot: int) -> Worker:
        # A study within this one, the tuning of a cell say, may find room for more than it did.
        environment = worker_environment(plan.gpus[slot % plan.workers])
        return Worker(transport=LocalProcess(environment, command))

    return hire


def ordinary(_slot: int) -> Worker:
    """Make a worker on whatever this machine has."""
    return Worker()
