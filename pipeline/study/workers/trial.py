"""Trains one trial after another in one process, each as a single run would be trained."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from pipeline.base.ends import TrialEnd
from pipeline.base.paths import CHECKPOINTS
from pipeline.running.datasets import Datasets
from pipeline.running.failures import exit_code
from pipeline.running.peers import Peers
from pipeline.running.plan import Plan, RunContext, free_memory, torch_settings_kept
from pipeline.running.run_end import explain, failed_end, one_line
from pipeline.running.run_findings import findings_of_winner
from pipeline.running.stored_weights import read_weights
from pipeline.running.training import train
from pipeline.study.messages import KEPT, Job, Rung, TestJob, TestResult
from pipeline.study.workers.trial_end import end_of_training, finite_value, record_failed_start
from pipeline.study.workers.trial_plan import plan_trial
from pipeline.tracking.facts import process_tags

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
                result = train(
                    plan, None, self._peers, concludes=partial(end_of_training, job, plan)
                )
            return result.record.ended
        except BaseException as error:
            ended = failed_end(error, perf_counter() - started_at)
            record_failed_start(job, context, error, ended)
            return ended

    def test(self, job: TestJob) -> TestResult:
        """Test an ended trial's kept weights, and save them as a model; errors are returned."""
        try:
            with torch_settings_kept():
                # A model contains a report on its data, which would take trials too much time.
                datasets = self._datasets if job.model_folder is None else Datasets()
                context = RunContext(datasets=datasets, lean=job.model_folder is None)
                plan = self._plan(job, context)
                run = read_weights(plan, Path(job.folder) / CHECKPOINTS / KEPT)
                test = None if job.tables_folder is None else run.test(Path(job.tables_folder))
                figure = None
                if job.model_folder is not None:
                    winner = findings_of_winner(run, Path(job.model_folder), test)
                    figure = asdict(run.write(Path(job.model_folder), winner))
            if test is None:
                return TestResult(figure=figure)
            ends = {} if test.intervals is None else test.intervals.ends
            return TestResult(
                metrics=test.metrics,
                baselines=test.baselines,
                comparison=test.comparison,
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
            value = finite_value(first, metrics)
            return prunes(Rung(step=job.rungs[epoch], epoch=epoch, value=value))

        return RunContext(
            datasets=self._datasets,
            folder=folder,
            key=job.key,
            parent_folder=job.parent_folder,
            tags=job.tags,
            made_with=self._made_with,
            lean=True,
            weights=folder / CHECKPOINTS / KEPT if job.keep else None,
            prunes=is_pruned if job.rungs else None,
            reached=reached and (lambda epoch, values: reached(epoch, values.get(first))),
        )

    def _plan(self, job: Job | TestJob, context: RunContext, **changes: Any) -> Plan:
        plan = plan_trial(job, context, **changes)
        self._compiled = isinstance(job, Job) and plan.options.trainer.compile
        return plan
