"""Studies that belong to another: the tuning of each cell, the winner over several seeds."""

from collections.abc import Mapping
from typing import Any

from pipeline.config.check import check
from pipeline.config.record import plain
from pipeline.config.sweep_options import SweepOptions
from pipeline.errors import ConfigError
from pipeline.study.plan import StudyPlan, cell_of, plan_study
from pipeline.study.space.reading import read_space
from pipeline.study.space.trees import Trees
from pipeline.study.space.values import value_problems

LONGEST_STEM = 48
"""Of a study's name of at most 64 characters, what is left when another word is joined to it."""
CONFIG_DIR = "--config-dir="


def confirmation(plan: StudyPlan, config: Mapping[str, Any], number: int) -> StudyPlan:
    """Plan the winner over several seeds, each run tested.

    Args:
        plan: The study that it won.
        config: The winner's run as plain values.
        number: Of the winning trial.
    """
    return _substudy(
        plan,
        f"confirm-{number}",
        config,
        space={"seed": f"range(0, {plan.options.confirm_seeds})"},
        sampler="grid",
        pruner="none",
        n_trials=None,
        test_trials=True,
    )


def tunings(plan: StudyPlan) -> dict[str, StudyPlan]:
    """Plan the tuning of each cell of a comparison, on validation alone."""
    if not plan.options.tune:
        return {}
    cells = {cell_of(point): point for point in map(plan.space.overrides, plan.space.points())}
    return {
        cell: _substudy(
            plan,
            f"tune-{number}",
            plain(plan.trees.config({k: v for k, v in point.items() if k != "seed"})),
            space=plan.options.tune_space,
            sampler="tpe",
            pruner="median",
            n_trials=plan.options.tune,
            test_trials=False,
        )
        for number, (cell, point) in enumerate(cells.items())
    }


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
