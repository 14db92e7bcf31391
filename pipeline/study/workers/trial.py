"""Trains one trial after another in one process, each as a single run would be trained."""

import logging
import math
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import ValidationError

from pipeline.base import errors
from pipeline.base.ends import End, TrialEnd
from pipeline.base.paths import CHECKPOINTS
from pipeline.base.ranks import ALONE
from pipeline.config.check import check
from pipeline.config.options import TrackingOptions
from pipeline.config.plain import flatten, plain
from pipeline.config.values import as_tree, resolved
from pipeline.running.failures import exit_code
from pipeline.running.peers import Peers
from pipeline.running.plan import (
    Datasets,
    Plan,
    RunContext,
    free_memory,
    make_plan,
    torch_settings_kept,
)
from pipeline.running.results import Result
from pipeline.running.run_end import explain, failed_end, one_line
from pipeline.running.run_findings import findings_of_winner
from pipeline.running.run_log import LOG, log_to
from pipeline.running.stored_weights import read_weights
from pipeline.running.training import train
from pipeline.study import messages
from pipeline.study.messages import Job, Rung, TestJob, TestResult
from pipeline.tracking.facts import process_tags
from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import Header
from pipeline.tracking.run_record import JOURNAL
from pipeline.tracking.uri import store_uri

Prunes = Callable[[Rung], bool]
Reached = Callable[[int, float | None], None]


class TrialTrainer:
    """Trains trials, and caches for the next one what does not change: data and versions.

    Args:
        peers: The other processes that train each trial; `None` = this one trains alone.
    """

    def __init__(self, peers: Peers | None = None) -> None:
        self._peers = peers
        self._datasets = Datasets(keeps=True)
        self._made_with = process_tags()
        self._compiled = False
        # Lightning's warnings, once per process, about itself: they don't belong in a trial's log.
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`")
        warnings.filterwarnings("ignore", message="The number of training batches")

    def train(self, job: Job, prunes: Prunes, reached: Reached | None = None) -> TrialEnd:
        """Train a trial that `prunes` judges at its rungs; errors are returned and not raised.

        `reached` takes each epoch that has ended, and the value of the first objective after it.
        """
        started_at = perf_counter()
        context = self._context(job, prunes, reached)
        try:
            with torch_settings_kept():
                plan = self._plan(job, context, name=job.name, test=job.test)
                if self._peers is not None:
                    self._peers.prepare(plan)
                result = train(plan, None, self._peers, concludes=partial(_end, job, plan))
            return result.record.ended
        except BaseException as error:
            ended = failed_end(error, perf_counter() - started_at)
            _put_on_record(job, context, error, ended)
            return ended

    def test(self, job: TestJob) -> TestResult:
        """Test an ended trial's kept weights, and save them as a model; errors are returned."""
        try:
            with torch_settings_kept():
                # A model contains a report on its data, which would take trials too much time.
                datasets = self._datasets if job.leave is None else Datasets()
                context = RunContext(datasets=datasets, lean=job.leave is None)
                plan = self._plan(job, context)
                run = read_weights(plan, Path(job.folder) / CHECKPOINTS / messages.KEPT)
                test = None if job.into is None else run.test(Path(job.into))
                figure = None
                if job.leave is not None:
                    winner = findings_of_winner(run, Path(job.leave), test)
                    figure = asdict(run.write(Path(job.leave), winner))
            if test is None:
                return TestResult(figure=figure)
            ends = {} if test.intervals is None else test.intervals.ends
            return TestResult(
                metrics=test.metrics,
                baselines=test.baselines,
                intervals=ends,
                rows=test.words(plan.prepared.schema),
                figure=figure,
            )
        except BaseException as error:
            explained = explain(error)
            return TestResult(problem=one_line(explained), exit_code=exit_code(explained))

    def tidy(self) -> None:
        """Free the memory of the last trial, forget changed data, and reset the compiler."""
        free_memory(self._datasets, was_compiled=self._compiled)
        self._compiled = False

    def _context(self, job: Job, prunes: Prunes, reached: Reached | None) -> RunContext:
        folder = Path(job.folder)
        first = job.objectives[0] if job.objectives else ""

        def is_pruned(epoch: int, metrics: Mapping[str, float]) -> bool:
            if epoch not in job.rungs or first not in metrics:  # nothing was validated yet
                return False
            value = _finite(first, metrics)
            return prunes(Rung(step=job.rungs[epoch], epoch=epoch, value=value))

        return RunContext(
            datasets=self._datasets,
            folder=folder,
            key=job.key,
            parent_folder=job.parent_folder,
            tags=job.tags,
            made_with=self._made_with,
            lean=True,
            weights=folder / CHECKPOINTS / messages.KEPT if job.keep else None,
            prunes=is_pruned if job.rungs else None,
            reached=reached and (lambda epoch, values: reached(epoch, values.get(first))),
        )

    def _plan(self, job: Job | TestJob, context: RunContext, **changes: Any) -> Plan:
        """Plan a run as its command would, but without printing or resuming.

        Raises ChangedDataError if the data are not those of the job.
        """
        started_at = perf_counter()
        tree = as_tree(job.config)
        options = check(tree, trust=job.trust)
        options = options.model_copy(update={"verbose": 0, "resume": None, **changes})
        if isinstance(job, TestJob):  # several processes would not make it faster
            options = options.on_one_device()
        rank = ALONE if isinstance(job, TestJob) else None
        plan = make_plan(options, plain(tree), started_at=started_at, context=context, rank=rank)
        data = plan.prepared.content_hash
        if job.data not in (None, data):
            raise errors.ChangedDataError(messages.changed_data_line(plan.config, job.data, data))
        self._compiled = isinstance(job, Job) and plan.options.trainer.compile
        return plan


# ── how a trial ends ────────────────────────────────────────────────────────────────────────────


def objective_values(result: Result, names: list[str]) -> tuple[float, ...]:
    """Return the named values for the weights that a trial keeps.

    Raises ConfigError if one is missing, and DivergedError if one is not finite.
    """
    values = {**result.metrics, **result.kept, "model/parameters": float(result.parameters)}
    return tuple(_finite(name, values) for name in names)


def _finite(name: str, values: Mapping[str, float]) -> float:
    if name not in values:
        raise errors.ConfigError(
            f"{name} has no value in the trial's best epoch; expected one of "
            f"{', '.join(sorted(values))}"
        )
    value = values[name]
    if not math.isfinite(value):
        raise errors.DivergedError(f"{name} is {value} at the end of the trial: training diverged")
    return float(value)


def _end(job: Job, plan: Plan, result: Result) -> TrialEnd:
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


def _put_on_record(job: Job, context: RunContext, error: BaseException, ended: TrialEnd) -> None:
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
    with suppress(errors.EnvironmentFaultError), closing(Journal(folder)) as journal:
        journal.begin(header)
        journal.end(ended)
