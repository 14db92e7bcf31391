"""The studies of a command line: the study itself, its tuning of cells, and its confirmation."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from omegaconf import DictConfig

from pipeline.base.errors import ConfigError
from pipeline.config.check import check
from pipeline.config.options import SweepOptions
from pipeline.config.overrides import key_of
from pipeline.config.plain import data_fingerprint, plain
from pipeline.config.values import written
from pipeline.study.ledger.definition import DATA, facts_on_record
from pipeline.study.ledger.storage import open_storage
from pipeline.study.ledger.storage_faults import odd_values
from pipeline.study.space.space_reading import read_space
from pipeline.study.space.trial_configs import TrialConfigs
from pipeline.study.space.trial_words import train_words
from pipeline.study.study_check import checked_study, value_problems
from pipeline.study.study_plan import SEED, StudyPlan, cell_of, plan_study
from pipeline.tracking.uri import sqlite_path

#: Seeds are smaller than this.
SEEDS = 2**32
#: Number of characters kept of a study's name, which has at most 64, when a word is appended.
LONGEST_STEM = 48


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
    space = read_space(trials, written(config.sweep))
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
            facts = facts_on_record(store, name)
            if facts is None:
                break
            has_data = plan.data in facts.get(DATA, {}).values()
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
        word for word in train_words(plan.trials, overrides) if key_of(word) not in excluded_keys
    ]
    trials = TrialConfigs(words, plan.trials.config_dir)
    space = read_space(trials, sweep)
    if problems := value_problems(space, trials):
        raise ConfigError(*problems)
    run = check(trials.config()).model_copy(update={"verbose": plan.run.verbose})
    return plan_study(SweepOptions(**sweep), run, space, trials)
