"""How a trial ends: its objective values, or the record of one that failed before its run began."""

import logging
import math
import traceback
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import ValidationError

from pipeline.base.ends import End, TrialEnd
from pipeline.base.errors import ConfigError, DivergedError, EnvironmentFaultError
from pipeline.config.options import TrackingOptions
from pipeline.config.plain import flatten, plain
from pipeline.config.values import resolved
from pipeline.running.plan import Plan, RunContext
from pipeline.running.results import Result
from pipeline.running.run_log import LOG, log_to
from pipeline.study.messages import Job
from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import Header
from pipeline.tracking.run_record import JOURNAL
from pipeline.tracking.uri import store_uri


def objective_values(result: Result, names: list[str]) -> tuple[float, ...]:
    """Return the named values for the weights that a trial keeps.

    Raises ConfigError if one is missing, and DivergedError if one is not finite.
    """
    values = {**result.metrics, **result.kept, "model/parameters": float(result.parameters)}
    return tuple(finite_value(name, values) for name in names)


def finite_value(name: str, values: Mapping[str, float]) -> float:
    """Return a value of the best epoch; raise as `objective_values` does."""
    if name not in values:
        raise ConfigError(
            f"{name} has no value in the trial's best epoch; expected one of "
            f"{', '.join(sorted(values))}"
        )
    value = values[name]
    if not math.isfinite(value):
        raise DivergedError(f"{name} is {value} at the end of the trial: training diverged")
    return float(value)


def end_of_training(job: Job, plan: Plan, result: Result) -> TrialEnd:
    """Return how a trial ended whose training is over; raises as `objective_values` does."""
    attributes: dict[str, Any] = {
        "seconds": perf_counter() - plan.started_at,
        "epochs": result.epochs,
        "threads": plan.options.trainer.threads,
        **{key: value for key, value in result.metrics.items() if math.isfinite(value)},
    }
    data = plan.prepared.content_hash
    if result.pruned:
        return TrialEnd(end=End.PRUNED, attributes=attributes, data=data)
    values = objective_values(result, job.objectives)
    return TrialEnd(end=End.COMPLETE, values=values, attributes=attributes, data=data)


def record_failed_start(
    job: Job, context: RunContext, error: BaseException, ended: TrialEnd
) -> None:
    """Write the journal of a trial that failed before its run began: its config and its end."""
    folder = Path(job.folder)
    if (folder / JOURNAL).exists():
        return
    with log_to(folder / LOG, lean=True):
        logging.getLogger("pipeline").error("".join(traceback.format_exception(error)))
    try:
        tracking = TrackingOptions.model_validate(resolved(job.config)[0]["tracking"])
    except (ValidationError, KeyError):
        tracking = None
    header = Header(
        name=job.name,
        experiment="" if tracking is None else tracking.experiment,
        uri="" if tracking is None else store_uri(tracking) or "",
        params=flatten(plain(job.config)),
        tags={**(context.made_with or {}), **context.tags},
        parent_folder=context.parent_folder,
        key=context.key,
    )
    # If the disk is full, this fails too; the driver learns it from the message that follows.
    with suppress(EnvironmentFaultError), closing(Journal(folder)) as journal:
        journal.begin(header)
        journal.end(ended)
