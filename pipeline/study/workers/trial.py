"""One trial after another in one process, each as `run` would train it by itself."""

import gc
import json
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from pipeline.config.check import check
from pipeline.config.options import RunConfig
from pipeline.config.record import as_tree, plain
from pipeline.errors import ChangedDataError, ConfigError, DivergedError, Interrupted
from pipeline.failures import exit_code
from pipeline.ranks import ALONE
from pipeline.running.datasets import Datasets, KeptDatasets
from pipeline.running.participant import follow
from pipeline.running.plan import Occasion, Plan, make_plan, torch_settings_kept
from pipeline.running.process_group import is_cut, process_group
from pipeline.running.recording import ending, explain
from pipeline.running.results import Result
from pipeline.running.resuming import CHECKPOINTS
from pipeline.running.saved_model import StoredWeights, read_weights
from pipeline.running.training import train
from pipeline.study.trial_end import VALUES, TrialEnd, changed_data_line, end_in_journal
from pipeline.study.workers.job import KEPT, Job, TestJob
from pipeline.study.workers.messages import Rung, Tested
from pipeline.study.workers.unplanned import one_line, put_on_record
from pipeline.tracking.facts import process_tags
from pipeline.tracking.uri import tracking_uri

Prunes = Callable[[Rung], bool]


class Bench:
    """Trains trials and keeps for the next one what it would find out again: data, versions."""

    def __init__(self) -> None:
        self._datasets = KeptDatasets()
        self._made_with = process_tags()
        self._compiled = False
        # Lightning's own business with torch, once a process: no trial's log is the place for it.
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`")
        warnings.filterwarnings("ignore", message="The number of training batches")

    def train(self, job: Job, prunes: Prunes) -> TrialEnd:
        """Train a trial, on record; whatever ends it is told, not raised.

        Args:
            job: The trial.
            prunes: Judges it at a rung.
        """
        started_at = perf_counter()
        occasion = _occasion(job, prunes, self._datasets, self._made_with)
        try:
            with torch_settings_kept():
                plan = _plan(job, occasion, started_at, name=job.name, test=job.test)
                self._compiled = plan.options.trainer.compile
                result = train(plan, None, _uri(plan.options))
            return _ended(job, plan, result)
        except BaseException as error:
            put_on_record(job, occasion, error)
            return _failed(job, error, perf_counter() - started_at)

    def follow(self, job: Job) -> dict[str, Any]:
        """Train a trial as one of its ranks; return how it ended here, as `Fellows.tell` takes it.

        Args:
            job: The trial, which the first rank leads and records.
        """
        try:
            with torch_settings_kept():
                plan = _plan(job, _followed(job, self._datasets), perf_counter(), test=job.test)
                self._compiled = plan.options.trainer.compile
                with process_group(plan.rank, plan.devices, None):
                    follow(plan)
        except Exception as error:
            return _word(error)
        return {"reason": None}

    def test(self, job: TestJob) -> Tested:
        """Take up the kept weights of an ended trial: test them once, leave them as a model."""
        try:
            with torch_settings_kept():
                # A model holds a report on its data, which trials have no time for.
                datasets = self._datasets if job.leave is None else Datasets()
                occasion = Occasion(datasets=datasets, lean=job.leave is None)
                plan = _plan(job, occasion, perf_counter())
                return _looked_after(job, read_weights(plan, Path(job.folder) / CHECKPOINTS / KEPT))
        except BaseException as error:
            explained = explain(error)
            return Tested(problem=one_line(explained), exit_code=exit_code(explained))

    def tidy(self) -> None:
        """Let go of what the last trial has left, so that the next one finds things as it did."""
        self._datasets.forget_changed()
        if self._compiled:  # the compiler gives up on a class that it has compiled several times
            torch.compiler.reset()
            self._compiled = False
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _looked_after(job: TestJob, run: StoredWeights) -> Tested:
    said, test = Tested(), None
    if job.into is not None:
        test = run.test(Path(job.into))
        said = Tested(
            metrics=test.metrics,
            classes=tuple(asdict(scores) for scores in test.classes),
            baselines=test.baselines,
        )
    if job.leave is None:
        return said
    figure = run.write_model(Path(job.leave), test)
    return replace(said, figure=asdict(figure))


def objective_values(result: Result, names: list[str]) -> tuple[float, ...]:
    """Return what a trial comes to, of the weights that it keeps.

    Args:
        result: What it left.
        names: A metric of the kept epoch, `model/parameters`, `time/fit`, or a test metric.

    Raises:
        ConfigError: It has no such value.
        DivergedError: A value is no number.
    """
    known = {**result.metrics, **result.kept, "model/parameters": float(result.parameters)}
    return tuple(_finite(name, known) for name in names)


def _finite(name: str, known: Mapping[str, float]) -> float:
    if name not in known:
        raise ConfigError(
            f"{name} has no value in the epoch that the trial keeps; expected one of "
            f"{', '.join(sorted(known))}"
        )
    if not math.isfinite(known[name]):
        raise DivergedError(f"{name} is {known[name]} at the end of the trial: it diverged")
    return float(known[name])


def _followed(job: Job, datasets: KeptDatasets) -> Occasion:
    """Return what a trial is done for, seen from a rank that neither records nor decides."""
    return Occasion(datasets=datasets, lean=True, prunes=(lambda *_: False) if job.rungs else None)


def _word(error: Exception) -> dict[str, Any]:
    explained = explain(error)
    reason = "cut" if is_cut(error) else ending(explained, error)[1]
    return {"reason": reason, "message": one_line(explained), "exit_code": exit_code(explained)}


def _occasion(
    job: Job, prunes: Prunes, datasets: KeptDatasets, made_with: Mapping[str, str]
) -> Occasion:
    folder = Path(job.folder)

    def ends_here(epoch: int, kept: Mapping[str, float]) -> bool:
        name = job.objectives[0]
        if epoch not in job.rungs or name not in kept:  # nothing was validated yet
            return False
        return prunes(Rung(step=job.rungs[epoch], epoch=epoch, value=_finite(name, kept)))

    def last_tags(result: Result) -> dict[str, str]:
        if result.pruned:
            return {}
        return {VALUES: json.dumps(objective_values(result, job.objectives))}

    return Occasion(
        datasets=datasets,
        folder=folder,
        key=job.key,
        parent_folder=job.parent_folder,
        tags=job.tags,
        made_with=made_with,
        lean=True,
        weights=folder / CHECKPOINTS / KEPT if job.keep else None,
        prunes=ends_here if job.rungs else None,
        concludes=last_tags,
    )


def _plan(job: Job | TestJob, occasion: Occasion, started_at: float, **changes: Any) -> Plan:
    """Plan a run as its command would; nothing is printed, and nothing gone on with."""
    tree = as_tree(job.config)
    options = check(tree, trust=job.trust)
    options = options.model_copy(update={"verbose": 0, "resume": None, **changes})
    if isinstance(job, TestJob):  # several processes would not make it faster
        options = options.on_one_device()
    rank = ALONE if isinstance(job, TestJob) else None
    plan = make_plan(options, plain(tree), started_at=started_at, occasion=occasion, rank=rank)
    found = plan.prepared.content_hash
    if job.data not in (None, found):
        raise ChangedDataError(changed_data_line(plan.config, job.data, found))
    return plan


def _uri(options: RunConfig) -> str | None:
    return None if options.tracking.kind == "none" else tracking_uri(options.tracking)


def _ended(job: Job, plan: Plan, result: Result) -> TrialEnd:
    attributes: dict[str, Any] = {
        "seconds": result.seconds,
        "epochs": result.epochs,
        "threads": plan.options.trainer.threads,
        **{key: value for key, value in result.metrics.items() if math.isfinite(value)},
    }
    data = plan.prepared.content_hash
    if result.pruned:
        return TrialEnd(state="pruned", reason="pruned", attributes=attributes, data=data)
    values = objective_values(result, job.objectives)
    return TrialEnd(state="complete", values=values, attributes=attributes, data=data)


def _failed(job: Job, error: BaseException, seconds: float) -> TrialEnd:
    explained = explain(error)
    end = end_in_journal(Path(job.folder))
    if isinstance(explained, Interrupted) and end is not None and end.state != "failed":
        return end  # the stop came when all was on record
    _, reason = ending(explained, error.__cause__ or error)
    return TrialEnd(
        state="failed",
        reason=reason,
        message=one_line(explained),
        attributes={"seconds": seconds},
        exit_code=exit_code(explained),
    )
