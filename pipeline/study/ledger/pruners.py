"""Pruners: trials are compared at equal shares of their own epochs, and hopeless ones ended."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from time import monotonic
from typing import TYPE_CHECKING, Any

from pipeline.study.ledger.samplers import (
    build_quietly,
    class_of,
    study_in_memory,
    target_problems,
)

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

KEY = "sweep.pruner"
RUNGS = 10
"""Shares of a trial's epochs; at the last one nothing is left to be saved."""
STARTUP_TRIALS = 5
"""Trials that a median is taken of at least."""
HALVING = 2
"""One of so many goes on at each halving; ten rungs leave no room for more than a few."""
FRESH_SECONDS = 1.0
"""Age that what other processes have done may have; what this one does is always seen."""


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
    first = max(1, math.ceil(RUNGS * warmup))
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

        problems = list(target_problems(KEY, pruner, base=BasePruner))
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


class TrialPruner:
    """Asks the pruner about the trials that this process has taken.

    Args:
        study: Optuna's study, with its pruner.
    """

    def __init__(self, study: "Study") -> None:
        self._study = study
        self._storage = study._storage
        self._own: dict[int, FrozenTrial] = {}
        self._others: Sequence[FrozenTrial] = ()
        self._read_at = -FRESH_SECONDS

    def begin(self, trial: "FrozenTrial") -> None:
        """Remember a trial that was taken."""
        self._own[trial.number] = trial

    def end(self, *numbers: int) -> None:
        """Forget trials that have ended; their results are read before the next decision."""
        for number in numbers:
            self._own.pop(number, None)
        self._read_at = -FRESH_SECONDS

    def report(
        self, number: int, *, step: int, value: float, call: Callable[[Callable[[], bool]], bool]
    ) -> bool:
        """Store the value of a trial at a rung, and tell whether the trial is to be ended.

        A trial that this process has not taken is to be ended if it has ended in the study.

        Args:
            number: The trial's.
            step: The rung.
            value: The objective there.
            call: Makes a call to the database, again where that is cut short.

        Raises:
            UpdateFinishedTrialError: The trial has ended in the study.
        """
        own = self._own.get(number)
        if own is None:

            def has_ended() -> bool:
                return self._study.get_trials(deepcopy=False)[number].state.is_finished()

            return call(has_ended)
        trial = copy(own)
        trial.intermediate_values = {**own.intermediate_values, step: value}

        def compare() -> bool:
            trial.system_attrs = dict(own.system_attrs)
            self._storage.set_trial_intermediate_value(trial._trial_id, step, value)
            decision = self._study.pruner.prune(self._seen_by(trial), trial)
            for key, noted in trial.system_attrs.items():
                if own.system_attrs.get(key) != noted:
                    self._storage.set_trial_system_attr(trial._trial_id, key, noted)
            return bool(decision)  # numpy has a bool of its own

        decision = call(compare)
        self._own[number] = trial
        return decision

    def _seen_by(self, trial: "FrozenTrial") -> "Study":
        """Return the study as the pruner is to see it; what it sets stays in memory at first."""
        if monotonic() - self._read_at >= FRESH_SECONDS:
            trials = self._study.get_trials(deepcopy=False)
            self._others = [one for one in trials if one.number not in self._own]
            self._read_at = monotonic()
        own = (one for one in self._own.values() if one.number != trial.number)
        return study_in_memory(self._study, trial, [*self._others, *own])
