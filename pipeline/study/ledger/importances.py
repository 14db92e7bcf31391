"""How much each parameter has to do with the best trials, beside what chance alone gives."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

FEWEST_TRIALS = 10
"""Complete trials below which nothing is computed: the best of them would be one or two."""
FEWEST_BEST = 5
"""Trials that the best ones are at least, as Optuna's documentation of PED-ANOVA advises."""
SHUFFLES = 99
RANK = 95
"""Of the shuffles' values in ascending order, the one that is to be surpassed: noise does so in 5 %
of the studies."""
Judge = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From values (trials,), the smaller the better, to importances (parameters,), in no unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Importances:
    """The parameters that stand out by PED-ANOVA, the largest first.

    Args:
        trials: Complete trials.
        shares: Share of each in what sets the best trials apart, by Optuna's name; those of
            parameters that chance explains are not there.
        chance: The share that each would have to surpass with shuffled objectives.
        hidden: Parameters that do not stand out.
    """

    trials: int
    shares: Mapping[str, float] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()

    @property
    def too_few(self) -> str:
        """Say that the trials are too few for any parameter; '' where they are not."""
        if self.shares:
            return ""
        return (
            f"importance of parameters: too few trials ({self.trials} complete) to tell any from "
            "what shuffled objectives reach"
        )


def importances(
    trials: Sequence[FrozenTrial], *, objective: int = 0, minimizes: bool
) -> Importances:
    """Return the parameters whose importance noise would not reach.

    PED-ANOVA also judges parameters that only some trials have, which others leave out. It is
    computed again with the objective dealt out anew among the trials; the level of each parameter
    is such that in 95 % of these shuffles no parameter is above its own.

    Args:
        trials: Those that completed.
        objective: Which of their values counts.
        minimizes: Whether less of it is better.
    """
    if len(trials) < FEWEST_TRIALS:
        return Importances(trials=len(trials))
    values = np.array([trial.values[objective] for trial in trials]) * (1 if minimizes else -1)
    names = sorted({name for trial in trials for name in trial.params})
    divergences = _judge(trials, names)
    found = divergences(values)
    generator = np.random.default_rng(0)
    shuffled = np.array(  # (shuffles, parameters)
        [divergences(generator.permutation(values)) for _ in range(SHUFFLES)]
    )
    level = _levels(shuffled)
    total = float(found.sum()) or 1.0
    order = np.argsort(-found, kind="stable")
    told = [index for index in order if found[index] > level[index]]
    return Importances(
        trials=len(trials),
        shares={names[index]: float(found[index]) / total for index in told},
        chance={names[index]: float(level[index]) / total for index in told},
        hidden=tuple(names[index] for index in order if index not in told),
    )


def _levels(shuffled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each parameter must surpass (parameters,), so that noise seldom does with any.

    The parameters' values are made comparable by mean and standard deviation, and the largest of
    each shuffle counts (Westfall and Young 1993).
    """
    mean, deviation = shuffled.mean(axis=0), shuffled.std(axis=0)
    safe = np.where(deviation > 0, deviation, 1.0)
    largest = np.sort(((shuffled - mean) / safe).max(axis=1))
    levels: NDArray[np.float64] = mean + largest[RANK - 1] * deviation
    return levels


def _judge(trials: Sequence[FrozenTrial], names: Sequence[str]) -> Judge:
    """Return what tells the importance of each parameter, for any values of these trials."""
    from optuna import create_study
    from optuna.importance import PedAnovaImportanceEvaluator  # seconds
    from optuna.trial import create_trial

    best = max(0.1, FEWEST_BEST / len(trials))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=best)
    study = create_study()  # in memory: the trials' own may be far away
    study.add_trials(
        create_trial(params=trial.params, distributions=trial.distributions, value=0.0)
        for trial in trials
    )

    def divergences(values: NDArray[np.float64]) -> NDArray[np.float64]:
        with warnings.catch_warnings(action="ignore"):
            found = evaluator.evaluate(study, target=lambda trial: float(values[trial.number]))
        told = np.array([found.get(name, 0.0) for name in names])
        return np.where(np.isfinite(told), np.maximum(told, 0.0), 0.0)

    return divergences
