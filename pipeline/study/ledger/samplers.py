"""How the point of a trial is chosen: a sampler made anew for each trial, from its number."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.study.ledger.optuna_targets import build_quietly, class_of, judge_target

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

KEY = "sweep.sampler"
STARTUP_TRIALS = 10
"""Random trials before TPE has enough to learn from; Optuna's own number."""
REPLACED = {
    "GridSampler": "sampler: grid, which takes the points from sweep.space",
    "PartialFixedSampler": "a space without that key, fixed on the command line",
}
PACKAGES = {"CmaEsSampler": "cmaes"}
"""What a sampler needs beside Optuna."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choosing:
    """How the points of a study are chosen.

    Args:
        sampler: `tpe`, `random`, `grid` or a target.
        seed: That of the study.
        conditional: Whether a parameter may be absent from a trial.
        objectives: How many the study has.
    """

    sampler: str | Mapping[str, Any]
    seed: int
    conditional: bool
    objectives: int

    @property
    def learns(self) -> bool:
        """Whether other trials have a say in its choice."""
        return self.sampler not in ("random", "grid")

    @property
    def forgets(self) -> bool:
        """Whether it does well without the oldest of many trials; others keep count of them."""
        return self.sampler == "tpe"

    def sampler_of(self, number: int) -> "BaseSampler":
        """Make the sampler of one trial.

        Its random numbers depend on the trial's number alone, so what a study tries is the same
        however often it is stopped, and no two workers try the same.
        """
        from optuna.samplers import RandomSampler

        seed = trial_seed(self.seed, number)
        if isinstance(self.sampler, Mapping):
            return self._built(self.sampler, seed)
        if self.sampler == "tpe":
            return self._tpe(seed)
        return RandomSampler(seed=seed)  # the points of a grid are fixed before it is asked

    def _tpe(self, seed: int) -> "BaseSampler":
        """Make Optuna's tree-structured Parzen estimator.

        What runs elsewhere counts as tried (`constant_liar`), so that workers spread out. One
        objective is modelled over all parameters together, since lr, epochs and clipping act
        together; where a parameter may be absent, each group that occurs together has a model
        of its own, or such parameters would be chosen one by one. With two objectives Optuna's
        choice is to model each parameter alone.
        """
        from optuna.samplers import TPESampler

        together = self.objectives == 1
        return TPESampler(
            n_startup_trials=STARTUP_TRIALS,
            constant_liar=True,
            multivariate=together,
            group=together and self.conditional,
            seed=seed,
        )

    def _built(self, target: Mapping[str, Any], seed: int) -> "BaseSampler":
        from optuna.samplers import BaseSampler, RandomSampler

        if class_of(target) == "QMCSampler":
            # One sequence for the whole study, of which each trial takes the next point.
            sampler = build_quietly(
                target, seed=self.seed, independent_sampler=RandomSampler(seed=seed)
            )
        else:
            sampler = build_quietly(target, seed=seed)
        assert isinstance(sampler, BaseSampler)
        return sampler


def trial_seed(seed: int, number: int) -> int:
    """Mix a study's seed and a trial's number into one seed of 32 bits."""
    import numpy as np

    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def sampler_problems(sampler: str | Mapping[str, Any], *, objectives: int) -> Iterator[str]:
    """Yield a line for each problem with `sweep.sampler`."""
    if not isinstance(sampler, Mapping):
        return
    from optuna.samplers import BaseSampler

    problems = list(judge_target(KEY, sampler, base=BaseSampler, filled=("seed",)))
    yield from problems
    if not problems:
        yield from _unfit(sampler, objectives)


def _unfit(sampler: Mapping[str, Any], objectives: int) -> Iterator[str]:
    import importlib.util

    name = class_of(sampler)
    if name in REPLACED:
        yield f"{KEY}: {name} does not fit here; expected {REPLACED[name]}."
        return
    package = PACKAGES.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        yield f"{KEY}: {name} needs the package {package!r}; pip install {package}"
        return
    if name == "CmaEsSampler" and objectives > 1:
        yield f"{KEY}: {name} knows one objective alone; choose tpe, or another sampler."
    choosing = Choosing(sampler=sampler, seed=0, conditional=False, objectives=objectives)
    try:
        choosing.sampler_of(0)
    except (ValueError, TypeError, ImportError) as error:
        yield f"{KEY}: {name} can't be made so: {error}"
