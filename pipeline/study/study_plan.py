"""The plan of a study: its data are read and all defaults are resolved, but nothing is created."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from omegaconf import open_dict

from pipeline.base.errors import ConfigError
from pipeline.base.ranks import ALONE
from pipeline.base.redaction import redact
from pipeline.config.options import RunConfig, SweepOptions
from pipeline.config.plain import flatten, plain
from pipeline.config.values import written
from pipeline.data.preparation.report_text import few_rows
from pipeline.running.devices import WorkerGpus, worker_devices
from pipeline.running.plan import Plan, make_plan
from pipeline.running.run_store import writable_store
from pipeline.study.ledger.definition import Objective, StudyDefinition, read_objectives
from pipeline.study.ledger.storage import storage_url
from pipeline.study.space.space import Space
from pipeline.study.space.trial_configs import TrialConfigs
from pipeline.study.study_run import RunDestination
from pipeline.tracking.journal_events import Header

SEED = "seed"
#: Keys of a space that may give trials other data; a model brings data of its own.
_MAY_CHANGE_DATA = re.compile(r"data\b|(experiment|model)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan(StudyDefinition, RunDestination):
    """A checked study that is ready to start.

    Args:
        run: Options of the run that the study varies, with all `null` defaults resolved.
        data: Hash of the run's data.
        rows: Rows of each part of the data; empty if trials may have other data.
        trials: Composes the run of each trial.
        gpus: GPUs of each worker.
        tuned: Further overrides by cell of a comparison, as `cell_of` names it, from its tuning.
        notes: Lines to print at the start, each beginning with `warning: ` or `note: `.
    """

    run: RunConfig
    data: str
    rows: Mapping[str, int]
    trials: TrialConfigs
    gpus: tuple[WorkerGpus, ...]
    tuned: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def workers(self) -> int:
        """Number of workers that train in parallel."""
        return len(self.gpus)

    def study_header(self) -> Header:
        """Return the header of the journal of the study's own run."""
        params = flatten({**self.base, "sweep": self.options.model_dump()})
        swept = tuple(f"{key}." for key in self.space.keys)
        for key in list(params):
            if f"{key}.".startswith(swept):
                del params[key]  # each trial has its own value
        return self.header_of_study(
            params,
            data=self.data,
            rows=self.rows,
            register=self.run.register,
            trust=self.run.trust,
        )

    def with_tuned(self, overrides: Mapping[str, str]) -> Mapping[str, str]:
        """Return the overrides of a trial, and those that tuning has found for its cell."""
        return {**self.tuned.get(cell_of(overrides), {}), **overrides}

    def trial_config(self, overrides: Mapping[str, str], *, number: int) -> dict[str, Any]:
        """Return the run of a trial, with unresolved references to the environment."""
        tree = self.trials.config(self.with_tuned(overrides))
        with open_dict(tree):
            tree.name = self.trial_header(number, {}).name
        return written(tree)


def cell_of(overrides: Mapping[str, str]) -> str:
    """Return the name of a cell that is tuned separately: all overrides but the seed.

    Each split is a cell of its own, since its validation rows are test rows of another split.
    """
    return " ".join(f"{key}={text}" for key, text in overrides.items() if key != SEED)


def plan_study(
    options: SweepOptions, run: RunConfig, space: Space, trials: TrialConfigs
) -> StudyPlan:
    """Read the data of a checked study, and resolve all `null` defaults.

    Raises:
        ConfigError: `sweep.base_trial=true`, but the config lies outside of the space.
        DataError: A model can't be trained on the data.
        EnvironmentFaultError: The data, the output folder or the store can't be used.
    """
    base_point = None
    notes: list[str] = []
    if options.base_trial is not False and options.sampler != "grid":
        base_point, outside = space.point_of(trials.config(), trials.choices)
        if base_point is None and options.base_trial:
            raise ConfigError(
                "sweep.base_trial=true, but the base config is outside of the space; widen the "
                "space, or skip that trial with sweep.base_trial=false"
            )
        if outside:
            verb = "is" if len(outside) == 1 else "are"
            values = redact(", ".join(outside))
            notes.append(
                f"the default is not tried or compared: {values} {verb} outside of the space"
            )
    uri = writable_store(run)
    base = plain(trials.config())
    planned = make_plan(run, base, started_at=perf_counter(), rank=ALONE)
    prepared = planned.prepared
    gpus, shortfall = worker_devices(
        options,
        planned.options.trainer,
        accelerator=planned.devices.accelerator,
        parameters=sum(layer.parameters for layer in planned.layers),
    )
    notes = [*planned.notes, *prepared.notes, *prepared.warnings, *shortfall, *notes]
    lines = []
    weighs = "loss.class_weights" in space.keys or planned.options.loss.class_weights is not None
    if prepared.report is not None and not weighs:
        lines += [f"warning: {warning}" for warning in few_rows(prepared.report)]
    lines += [f"note: {note}" for note in notes]
    return StudyPlan(
        name=str(options.name),
        folder=Path(run.output) / str(options.name),
        experiment=run.tracking.experiment,
        options=options,
        run=planned.options,
        base=base,
        data=prepared.content_hash,
        rows={} if any(map(_MAY_CHANGE_DATA.match, space.keys)) else prepared.rows,
        space=space,
        trials=trials,
        objectives=_objectives(options, planned),
        seed=planned.options.seed,
        url=storage_url(options.storage),
        uri=uri,
        gpus=gpus,
        base_point=base_point,
        notes=tuple(lines),
    )


def _objectives(options: SweepOptions, planned: Plan) -> tuple[Objective, ...]:
    validated = planned.prepared.validation is not None
    monitor = str(planned.options.monitor)
    if monitor == "val/loss":  # trials may differ in loss or class weights
        monitor = planned.usual_monitor
    if options.test_trials and not validated:
        # A study that tests every trial does not choose among them, so it needs no validation rows.
        monitor = "train/loss"
    return read_objectives(
        options.objective,
        monitor,
        task=planned.prepared.schema.task,
        validated=validated,
        metrics=planned.options.metrics,
    )
