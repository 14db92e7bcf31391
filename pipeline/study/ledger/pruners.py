"""How hopeless trials are found: compared with others at equal shares of their own epochs."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.study.ledger.optuna_targets import build_quietly, class_of, judge_target

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

KEY = "sweep.pruner"
RUNGS = 10
"""Shares of a trial's epochs; at the last one nothing is left to be saved."""
STARTUP_TRIALS = 5
"""Trials that a median is taken of at least."""
HALVING = 2
"""One of so many goes on at each halving; ten rungs leave no room for more than a few."""


def rung_epochs(max_epochs: int, warmup: float) -> dict[int, int]:
    """Return the epochs, counted from 1, after which a trial is compared, each with its rung.

    Rung 3 is the first epoch at which three tenths of the trial are done, whatever its length:
    under a schedule laid out over all epochs, equal epochs would favour the short trials.

    Args:
        max_epochs: Epochs of the trial.
        warmup: Share of them before which no trial is ended, 0 … 1.
    """
    rungs: dict[int, int] = {}
    for epoch in range(1, max_epochs):
        rung = RUNGS * epoch // max_epochs
        if rung > max(rungs.values(), default=0) and rung / RUNGS >= warmup:
            rungs[epoch] = rung
    return rungs


def first_rung(warmup: float) -> int:
    """Return the first rung after the warmup."""
    return max(1, math.ceil(RUNGS * warmup))


def compares(pruner: str | Mapping[str, Any], objectives: int) -> bool:
    """Tell whether trials are compared before they end; Optuna can't with two objectives."""
    return pruner != "none" and objectives == 1


def build_pruner(
    pruner: str | Mapping[str, Any], *, warmup: float, objectives: int
) -> "BasePruner":
    """Make what decides at a rung whether a trial goes on.

    Args:
        pruner: `median`, `hyperband`, `asha`, `none` or a target.
        warmup: Share of a trial's epochs before which none is ended.
        objectives: How many the study has.
    """
    from optuna import pruners

    if not compares(pruner, objectives):
        return pruners.NopPruner()
    if isinstance(pruner, Mapping):
        built = build_quietly(pruner)
        assert isinstance(built, pruners.BasePruner)
        return built
    first = first_rung(warmup)
    if pruner == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=first, max_resource=RUNGS, reduction_factor=HALVING
        )
    if pruner == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=HALVING)
    return pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_min_trials=STARTUP_TRIALS)


def pruner_problems(
    pruner: str | Mapping[str, Any], *, warmup: float, objectives: int, max_epochs: int | None
) -> Iterator[str]:
    """Yield a line for each problem with `sweep.pruner`.

    Args:
        pruner: As for `build_pruner`.
        warmup: As for `build_pruner`.
        objectives: As for `build_pruner`.
        max_epochs: Most epochs of a trial; `None` where that is not known.
    """
    problems = []
    if isinstance(pruner, Mapping):
        from optuna.pruners import BasePruner

        problems = list(judge_target(KEY, pruner, base=BasePruner))
        yield from problems
    if pruner in ("median", "none") or problems:
        return  # the default steps aside where nothing can be compared
    name = class_of(pruner) if isinstance(pruner, Mapping) else pruner
    if objectives > 1:
        yield f"{KEY}={name} can't compare trials with two objectives; expected sweep.pruner=none."
    elif max_epochs is not None and not rung_epochs(max_epochs, warmup):
        yield (
            f"{KEY}={name} compares trials before they end, for which trainer.max_epochs="
            f"{max_epochs} and sweep.pruner_warmup={warmup:g} leave no room; expected more epochs, "
            "or sweep.pruner=none."
        )
    try:
        build_pruner(pruner, warmup=warmup, objectives=1)
    except (ValueError, TypeError) as error:
        yield f"{KEY}: {name} can't be made so: {error}"
