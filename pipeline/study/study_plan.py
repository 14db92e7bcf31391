"""Plans of a study and of its substudies: everything is checked, and nothing is created."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from omegaconf import DictConfig, open_dict

from pipeline.base.errors import ConfigError
from pipeline.base.ranks import ALONE
from pipeline.base.redaction import redact
from pipeline.config.check import check
from pipeline.config.options import RunConfig, SweepOptions
from pipeline.config.overrides import key_of
from pipeline.config.plain import data_fingerprint, flatten, plain
from pipeline.config.values import validated, written
from pipeline.data.preparation.report_text import few_rows
from pipeline.running.devices import WorkerGpus, worker_devices
from pipeline.running.plan import Plan, make_plan
from pipeline.running.run_store import writable_store
from pipeline.study.ledger import definition
from pipeline.study.ledger.search import search_problems
from pipeline.study.ledger.storage import open_storage, storage_url
from pipeline.study.ledger.storage_faults import odd_values
from pipeline.study.space.space import Space
from pipeline.study.space.trial_configs import TrialConfigs, device_problems, value_problems
from pipeline.study.study_run import RunDestination
from pipeline.tracking.facts import environment_tags
from pipeline.tracking.fields import COMMAND_TAG, STUDY_TAG
from pipeline.tracking.journal_events import Header
from pipeline.tracking.ownership import next_order
from pipeline.tracking.uri import sqlite_path

SEED = "seed"
#: Seeds are smaller than this.
SEEDS = 2**32
#: Number of characters kept of a study's name, which has at most 64, when a word is appended.
LONGEST_STEM = 48
#: Keys of a space that may give trials other data; a model brings data of its own.
_MAY_CHANGE_DATA = re.compile(r"data\b|(experiment|model)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan(definition.StudyDefinition, RunDestination):
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
        tags = {COMMAND_TAG: "sweep", STUDY_TAG: self.uid, "study": self.name}
        if self.rows:
            tags["data.hash"] = self.data
        params = flatten({**self.base, "sweep": self.options.model_dump()})
        swept = tuple(f"{key}." for key in self.space.keys)
        for key in list(params):
            if f"{key}.".startswith(swept):
                del params[key]  # each trial has its own value
        return Header(
            name=self.name,
            experiment=self.experiment,
            uri=self.uri or "",
            params=params,
            tags={**environment_tags(), **tags},
            key=f"{self.name}-{self.uid}",
            register=self.run.register,
            trust=self.run.trust,
            rows=self.rows,
            order=next_order(),
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


def make_study_plan(config: DictConfig, words: Sequence[str], config_dir: str | None) -> StudyPlan:
    """Check a sweep's config, read its data, and resolve all `null` defaults.

    `words` are the overrides that `config` was composed with, and `config_dir` is the folder of
    the user's YAML.

    Raises:
        ConfigError: Values are wrong; the error has one line for each.
        DataError: A model can't be trained on the data.
        EnvironmentFaultError: A device does not exist, or a folder can't be written.
    """
    devices = config.sweep.devices_per_trial
    if isinstance(devices, int) and devices > 1:  # every trial trains on several devices
        keys = {word.partition("=")[0] for word in words}
        words = list(words)
        if "trainer.devices" not in keys:
            words.append(f"trainer.devices={devices}")
        if "trainer.strategy" not in keys:
            words.append("trainer.strategy=ddp")
    trials = TrialConfigs(words, config_dir)
    space = trials.read_space(written(config.sweep))
    plan = plan_study(*checked_study(config, space, trials), space, trials)
    file = sqlite_path(plan.url)
    is_named = trials.tree().sweep.name is not None
    is_first = file is not None and not file.is_file()
    is_shipped = plan.base["data"].get("path") is None
    if is_named or is_shipped or is_first:
        return plan
    return _with_name_of_data(plan)


def _with_name_of_data(plan: StudyPlan) -> StudyPlan:
    """Return a plan with a default name, numbered if studies of other files have that name.

    A study on record is of the same file if its path or the hash of its data is the same: whether
    a file that was changed or moved continues a study is decided when the study is opened.
    """
    options = plan.options
    path = plan.base["data"]["path"]
    store = open_storage(
        plan.url, patience=options.storage_patience, from_start=options.await_storage
    )
    for number in itertools.count(1):
        # The name of a substudy keeps the number.
        name = f"{plan.name[: LONGEST_STEM - 8]}-data{number}" if number > 1 else plan.name
        with odd_values(plan.url, name):
            facts = definition.facts_on_record(store, name)
            if facts is None:
                break
            has_data = plan.data in facts.get(definition.DATA, {}).values()
            if has_data or facts.get("base", plan.base)["data"].get("path") == path:
                break
    if name == plan.name or (options.allow_change and facts is None):
        return plan
    note = f"note: {plan.name} is a study of another file, so this one is {name}"
    return replace(
        plan,
        name=name,
        folder=plan.folder.with_name(name),
        options=options.model_copy(update={"name": name}),
        notes=(note, *plan.notes),
    )


def checked_study(
    config: DictConfig, space: Space, trials: TrialConfigs
) -> tuple[SweepOptions, RunConfig]:
    """Return the options of a study and the run that it varies, without reading its data.

    Raises ConfigError with one line for each wrong value of the tree and the space.
    """
    problems: list[str] = []
    options: SweepOptions | None = None
    run: RunConfig | None = None
    try:
        options = validated(SweepOptions, config.sweep, prefix="sweep.")
    except ConfigError as error:
        problems += error.problems
    try:
        run = check(trials.config())
    except ConfigError as error:
        problems += error.problems
    if options is not None:
        count = len(options.objective) if isinstance(options.objective, list) else 1
        is_fixed = run is not None and "trainer.max_epochs" not in space.keys
        epochs = run.trainer.max_epochs if run is not None and is_fixed else None
        problems += search_problems(options, objectives=count, max_epochs=epochs)
        if options.tune and not options.tune_space:
            problems.append(
                f"sweep.tune={options.tune} has nothing to tune: sweep.tune_space has no range of "
                "a key that the command line does not set; give one, or remove sweep.tune."
            )
    problems += value_problems(space, trials)
    if options is not None:
        problems += device_problems(space, trials, devices_per_trial=options.devices_per_trial)
    if problems or options is None or run is None:
        raise ConfigError(*dict.fromkeys(problems))
    return options, run


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


def _objectives(options: SweepOptions, planned: Plan) -> tuple[definition.Objective, ...]:
    validated = planned.prepared.validation is not None
    monitor = str(planned.options.monitor)
    if monitor == "val/loss":  # trials may differ in loss or class weights
        monitor = planned.usual_monitor
    if options.test_trials and not validated:
        # A study that tests every trial does not choose among them, so it needs no validation rows.
        monitor = "train/loss"
    return definition.read_objectives(
        options.objective,
        monitor,
        task=planned.prepared.schema.task,
        validated=validated,
        metrics=planned.options.metrics,
    )


# Substudies: the winner over several seeds, and the tuning of each cell.


def confirmation(plan: StudyPlan, overrides: Mapping[str, str], number: int) -> StudyPlan:
    """Plan the training and test of the winner with seeds other than the one it was chosen with.

    `overrides` has the winner's values as Hydra's texts by key or group, `number` is its number.
    """
    seed = plan.trials.config(overrides)[SEED]
    count = plan.options.confirm_seeds
    first = seed + 1 if seed + count < SEEDS else 0  # the seeds that follow, or the first ones
    space = {SEED: f"range({first}, {first + count})"}
    changes = {
        "sampler": "grid",
        "pruner": "none",
        "n_trials": None,
        "test_trials": True,
        "space": space,
    }
    return _substudy(plan, f"confirm-{number}", overrides, changes)


def tunings(plan: StudyPlan) -> dict[str, StudyPlan]:
    """Plan the tuning, on validation rows, of each cell of a comparison; empty without tuning.

    Raises ConfigError if the cells would be compared on the rows that they are tuned on.
    """
    if not plan.options.tune:
        return {}
    tune = f"sweep.tune={plan.options.tune}"
    if not (plan.options.test_trials and plan.run.test):
        raise ConfigError(
            f"{tune} selects on validation rows, so trials must be tested; "
            "add sweep.test_trials=true test=true"
        )
    other = plain(plan.trials.config({SEED: str(plan.run.seed + 1)}))
    if SEED in plan.space.keys and data_fingerprint(other) != data_fingerprint(plan.base):
        raise ConfigError(
            f"{tune} tunes once for all seeds, but the split depends on the seed, so tuning "
            "would see test rows; vary data.split_seed instead"
        )
    changes: dict[str, object] = {
        "sampler": "tpe",
        "pruner": "median",
        "test_trials": False,
        "space": plan.options.tune_space,
        "n_trials": plan.options.tune,
    }
    plans: dict[str, StudyPlan] = {}
    for point in plan.space.points():
        overrides = plan.space.overrides(point)
        overrides.pop(SEED, None)
        cell = cell_of(overrides)
        if cell not in plans:
            plans[cell] = _substudy(plan, f"tune-{len(plans)}", overrides, changes)
    return plans


def _substudy(
    plan: StudyPlan, word: str, overrides: Mapping[str, str], changes: Mapping[str, object]
) -> StudyPlan:
    sweep = plan.options.model_dump() | {"when": {}, "enqueue": [], "base_trial": None}
    sweep |= {"confirm_seeds": 0, "tune": 0, "name": f"{plan.name[:LONGEST_STEM]}-{word}"}
    sweep |= changes
    excluded_keys = {"--config-dir", *sweep["space"]}
    words = [
        word for word in plan.trials.train_words(overrides) if key_of(word) not in excluded_keys
    ]
    trials = TrialConfigs(words, plan.trials.config_dir)
    space = trials.read_space(sweep)
    if problems := value_problems(space, trials):
        raise ConfigError(*problems)
    run = check(trials.config()).model_copy(update={"verbose": plan.run.verbose})
    return plan_study(SweepOptions(**sweep), run, space, trials)
