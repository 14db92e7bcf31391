"""Studies that belong to another: the tuning of each cell, the winner over several seeds."""

from collections.abc import Mapping
from typing import Any

from pipeline.config.check import check
from pipeline.config.options import SweepOptions
from pipeline.config.record import data_fingerprint, plain
from pipeline.errors import ConfigError
from pipeline.study.plan import SEED, StudyPlan, cell_of, plan_study
from pipeline.study.space.reading import read_space
from pipeline.study.space.trees import Trees
from pipeline.study.space.values import value_problems

LONGEST_STEM = 48
"""Of a study's name of at most 64 characters, what is left when another word is joined to it."""
CONFIG_DIR = "--config-dir="
SEEDS = 2**32
"""A seed is smaller than this."""


def confirmation(plan: StudyPlan, config: Mapping[str, Any], number: int) -> StudyPlan:
    """Plan the winner over seeds other than the one that it was chosen with, each run tested.

    Args:
        plan: The study that it won.
        config: The winner's run as plain values.
        number: Of the winning trial.
    """
    return _substudy(
        plan,
        f"confirm-{number}",
        config,
        space={SEED: _other_seeds(config[SEED], plan.options.confirm_seeds)},
        sampler="grid",
        pruner="none",
        n_trials=None,
        test_trials=True,
    )


def _other_seeds(seed: int, count: int) -> str:
    """Return the range of the seeds that follow one, or of the first where none follow."""
    first = seed + 1 if seed + count < SEEDS else 0
    return f"range({first}, {first + count})"


def tunings(plan: StudyPlan) -> dict[str, StudyPlan]:
    """Plan the tuning of each cell and split of a comparison, on validation alone.

    Raises:
        ConfigError: The cells would be compared on the rows that they are tuned on.
    """
    if not plan.options.tune:
        return {}
    _require_rows_beside_tuning(plan)
    cells = {cell_of(point): point for point in map(plan.space.overrides, plan.space.points())}
    return {
        cell: _substudy(
            plan,
            f"tune-{number}",
            plain(plan.trees.config({k: v for k, v in point.items() if k != SEED})),
            space=plan.options.tune_space,
            sampler="tpe",
            pruner="median",
            n_trials=plan.options.tune,
            test_trials=False,
        )
        for number, (cell, point) in enumerate(cells.items())
    }


def _require_rows_beside_tuning(plan: StudyPlan) -> None:
    tune = f"sweep.tune={plan.options.tune}"
    if not (plan.options.test_trials and plan.run.test):
        raise ConfigError(
            f"{tune} chooses by the validation rows, and without a test the cells would be "
            "compared on the same rows; add sweep.test_trials=true test=true"
        )
    other = plain(plan.trees.config({SEED: str(plan.run.seed + 1)}))
    if SEED in plan.space.keys and data_fingerprint(other) != data_fingerprint(plan.base):
        raise ConfigError(
            f"{tune} tunes once for all seeds, but the data depend on seed, so that validation "
            "rows of one seed are test rows of another; vary data.split_seed instead"
        )


def _substudy(
    plan: StudyPlan, word: str, config: Mapping[str, Any], **changes: object
) -> StudyPlan:
    sweep = {
        **plan.options.model_dump(),
        "name": f"{plan.name[:LONGEST_STEM]}-{word}",
        "when": {},
        "enqueue": [],
        "base_trial": None,
        "confirm_seeds": 0,
        "tune": 0,
        **changes,
    }
    varied = changes["space"]
    assert isinstance(varied, Mapping)
    words = [
        word
        for word in plan.trees.train_words(config)
        if not word.startswith(CONFIG_DIR) and word.partition("=")[0].lstrip("+") not in varied
    ]
    trees = Trees(words, plan.trees.config_dir)
    space = read_space(sweep, trees.source, words)
    if problems := value_problems(space, trees):
        raise ConfigError(*problems)
    return plan_study(SweepOptions(**sweep), space, trees, check(trees.base()))
