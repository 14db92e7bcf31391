"""Samplers: how the point of each trial is chosen, and Optuna's classes named by `_target_`."""

import warnings
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from copy import deepcopy as copied
from heapq import nsmallest
from itertools import islice
from typing import TYPE_CHECKING, Any, Union, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.config.values import (
    TARGET,
    arguments,
    build,
    find,
    parameters_of,
    problems_with,
    resolve,
    wrong_value,
)
from pipeline.errors import ConfigError, shown

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial, TrialState

    from pipeline.study.space.space import Space

KEY = "sweep.sampler"
STARTUP_TRIALS = 10
"""Random trials before TPE has enough to learn from; Optuna's own number."""
REPLACED = {
    "GridSampler": "sampler: grid, which takes the points from sweep.space",
    "PartialFixedSampler": "a space without that key, fixed on the command line",
}
PACKAGES = {"CmaEsSampler": "cmaes"}
"""Packages that samplers need beside Optuna."""
MOST = 500
"""TPE costs about 9 µs per trial and parameter; with these trials it takes less than 20 ms."""
BEST = 100
"""TPE models the best tenth, 25 at most, against all others."""
_PLAIN: Mapping[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "None": None}


def choose(
    study: "Study",
    space: "Space",
    before: "FrozenTrial",
    trials: Sequence["FrozenTrial"],
    *,
    sampler: str | Mapping[str, Any],
    seed: int,
) -> tuple["FrozenTrial", dict[str, str]]:
    """Return a running copy of a trial with its point, and the point as Hydra's texts.

    Args:
        study: Optuna's study, with its pruner.
        space: What is varied.
        before: The trial; its fixed values stay.
        trials: All trials of the study, by number.
        sampler: `tpe`, `random`, `grid` or a target; each trial has one made from its number.
        seed: That of the study.

    Raises:
        ConfigError: The sampler can't choose a point.
    """
    from optuna.trial import Trial, TrialState

    trial = copied(before)
    trial.state = TrialState.RUNNING
    directions = study.directions
    others: list[FrozenTrial] = []
    if sampler not in ("random", "grid"):
        others = [*trials[: trial.number], *trials[trial.number + 1 :]]
    if sampler == "tpe":
        others = visible(others, directions)
    with warnings.catch_warnings(action="ignore"):
        made = make_sampler(
            sampler,
            seed=seed,
            number=trial.number,
            conditional=any(one.off or one.when is not None for one in space.parameters),
            objectives=len(directions),
        )
        seen = study_in_memory(study, trial, others, sampler=made)
        try:
            return trial, space.suggest(Trial(seen, trial._trial_id))
        except (ValueError, TypeError, ImportError, RuntimeError) as error:
            name = type(made).__name__
            raise ConfigError(
                f"{KEY}: {name} can't choose a point ({error}); choose another"
            ) from error


def make_sampler(
    sampler: str | Mapping[str, Any],
    *,
    seed: int,
    number: int,
    conditional: bool,
    objectives: int,
) -> "BaseSampler":
    """Make the sampler of one trial.

    Its random numbers depend on the trial's number alone, so what a study tries is the same
    however often it is stopped, and no two workers try the same.

    Args:
        sampler: `tpe`, `random`, `grid` or a target.
        seed: That of the study.
        number: That of the trial.
        conditional: Whether a parameter may be absent from a trial.
        objectives: How many objectives the study has.
    """
    from optuna.samplers import BaseSampler, RandomSampler, TPESampler

    own_seed = trial_seed(seed, number)
    if sampler == "tpe":
        # Running trials count as tried (`constant_liar`), so that workers spread out. With one
        # objective all parameters are modelled together, since lr, epochs and clipping act
        # together; where a parameter may be absent, each group that occurs together has a model
        # of its own. With two objectives each parameter is modelled alone, as is Optuna's default.
        return TPESampler(
            n_startup_trials=STARTUP_TRIALS,
            constant_liar=True,
            multivariate=objectives == 1,
            group=objectives == 1 and conditional,
            seed=own_seed,
        )
    independent = RandomSampler(seed=own_seed)
    if not isinstance(sampler, Mapping):
        return independent  # the points of a grid are fixed before it is asked
    if class_of(sampler) == "QMCSampler":
        # One sequence for the whole study, of which each trial takes the next point.
        built = build_quietly(sampler, seed=seed, independent_sampler=independent)
    else:
        built = build_quietly(sampler, seed=own_seed)
    assert isinstance(built, BaseSampler)
    return built


def trial_seed(seed: int, number: int) -> int:
    """Mix a study's seed and a trial's number into one seed of 32 bits."""
    import numpy as np

    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def visible(
    trials: Sequence["FrozenTrial"], directions: Sequence["StudyDirection"]
) -> list["FrozenTrial"]:
    """Return the best complete trials and the latest others, `MOST` in all, by number.

    TPE weighs old trials less the more there are, so those that are left out counted for little.

    Args:
        trials: All of them, by number.
        directions: Which way is better, for each objective.
    """
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    seen = [t for t in trials if t.state not in (TrialState.FAIL, TrialState.WAITING)]
    if len(seen) <= MOST:
        return seen
    kept = {trial.number for trial in seen if trial.state == TrialState.RUNNING}
    complete = [trial for trial in seen if trial.state == TrialState.COMPLETE]
    for objective, direction in enumerate(directions):
        sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
        losses = ((sign * trial.values[objective], trial.number) for trial in complete)
        kept |= {number for _, number in nsmallest(BEST // len(directions), losses)}
    latest = (trial.number for trial in reversed(seen) if trial.number not in kept)
    kept |= set(islice(latest, MOST - len(kept)))
    return [trial for trial in seen if trial.number in kept]


def study_in_memory(
    study: "Study",
    trial: "FrozenTrial",
    others: Sequence["FrozenTrial"],
    *,
    sampler: "BaseSampler | None" = None,
) -> "Study":
    """Return a study as a sampler or pruner is to see it; what they set on the trial stays here.

    Args:
        study: The study itself, with its pruner, at which samplers look too.
        trial: The trial in question.
        others: The other trials.
        sampler: Used by `optuna.trial.Trial`; `None` = that of the study.
    """
    from optuna import Study

    return Study(
        study_name=study.study_name,
        storage=cast("BaseStorage", TrialsInMemory(study, trial, others)),
        sampler=sampler or study.sampler,
        pruner=study.pruner,
    )


class TrialsInMemory:
    """Optuna's storage in which trials are those given, and one of them changes in memory alone.

    Optuna's InMemoryStorage gives trials numbers and ids of its own, but Hyperband's brackets
    depend on the number, and genetic samplers and QMC keep ids and counters in the study's
    attributes: these are read and written in the storage itself.

    A point of eight parameters would otherwise be sixteen transactions, and a kill between two of
    them would leave a trial without its point.
    """

    def __init__(
        self, study: "Study", trial: "FrozenTrial", others: Sequence["FrozenTrial"]
    ) -> None:
        self._study_id = study._study_id
        self._storage = study._storage
        self._trial = trial
        self._others = others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_study_id_from_name(self, name: str) -> int:
        """Answer without the database."""
        del name
        return self._study_id

    def get_trial(self, trial_id: int) -> "FrozenTrial":
        """Return a trial."""
        return (
            self._trial if trial_id == self._trial._trial_id else self._storage.get_trial(trial_id)
        )

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return the attributes that samplers have set on a trial."""
        return self.get_trial(trial_id).system_attrs

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container["TrialState"] | None = None,
    ) -> list["FrozenTrial"]:
        """Return the other trials, and the one in question last."""
        del study_id
        trials = [*self._others, self._trial]
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copied(trials) if deepcopy else trials

    def set_trial_param(
        self, trial_id: int, name: str, internal: float, distribution: "BaseDistribution"
    ) -> None:
        """Set a parameter of the trial in memory."""
        assert trial_id == self._trial._trial_id
        self._trial.distributions[name] = distribution
        self._trial.params[name] = distribution.to_external_repr(internal)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of the trial in memory."""
        assert trial_id == self._trial._trial_id
        self._trial.system_attrs[key] = value


def sampler_problems(sampler: str | Mapping[str, Any], *, objectives: int) -> Iterator[str]:
    """Yield a line for each problem with `sweep.sampler`."""
    if not isinstance(sampler, Mapping):
        return
    import importlib.util

    from optuna.samplers import BaseSampler

    problems = list(target_problems(KEY, sampler, base=BaseSampler, filled=("seed",)))
    yield from problems
    if problems:
        return
    name = class_of(sampler)
    package = PACKAGES.get(name)
    if name in REPLACED:
        yield f"{KEY}: {name} does not fit here; expected {REPLACED[name]}."
        return
    if package is not None and importlib.util.find_spec(package) is None:
        yield f"{KEY}: {name} needs the package {package!r}; pip install {package}"
        return
    if name == "CmaEsSampler" and objectives > 1:
        yield f"{KEY}: {name} knows one objective alone; choose tpe, or another sampler."
    try:
        make_sampler(sampler, seed=0, number=0, conditional=False, objectives=objectives)
    except (ValueError, TypeError, ImportError) as error:
        yield f"{KEY}: {name} can't be made so: {error}"


def target_problems(
    key: str, target: Mapping[str, Any], *, base: type, filled: Collection[str] = ()
) -> Iterator[str]:
    """Yield a line for each problem with a class of Optuna's and its arguments.

    Args:
        key: Where it stands, such as `sweep.sampler`.
        target: Its `_target_` and arguments.
        base: `BaseSampler` or `BasePruner`; the package that exports it must hold the class.
        filled: Parameters that the program fills in.
    """
    package = ".".join(base.__module__.split(".")[:2])
    try:
        kind = resolve(str(target.get(TARGET)), trust=(package,))
    except ConfigError as error:
        yield from (f"{key}.{TARGET}: {line.partition(';')[0]}." for line in error.problems)
        return
    if not issubclass(kind, base) or kind is base:
        yield f"{key}.{TARGET}={shown(target[TARGET])} is no {base.__name__} of {package}."
        return
    given = arguments(target)
    inner = {
        name: value
        for name, value in given.items()
        if isinstance(value, Mapping) and TARGET in value
    }
    for name in filled:
        if name in given:
            yield f"{key}.{name} is filled in by the program; leave it away."
    plain = {name: v for name, v in given.items() if name not in inner and name not in filled}
    yield from problems_with(kind, plain, prefix=f"{key}.", without={*filled, *inner})
    yield from _wrongly_typed(key, kind, plain)
    for name, value in inner.items():
        if name not in parameters_of(kind):
            yield f"{key}.{name} is unknown."
        yield from target_problems(f"{key}.{name}", value, base=base, filled=filled)


def _wrongly_typed(key: str, kind: type, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each value of another type.

    Optuna's annotations are texts, and some name what only type checkers import, so the types
    can't be read from the signature as a whole.
    """
    for name, parameter in parameters_of(kind).items():
        words = str(parameter.annotation).split(" | ")
        if name not in given or not all(word in _PLAIN for word in words):
            continue
        allowed: Any = Union[tuple(_PLAIN[word] for word in words)]  # noqa: UP007 - members are data
        try:
            TypeAdapter(allowed).validate_python(given[name], strict=True)
        except ValidationError:
            yield wrong_value(f"{key}.{name}", given[name], allowed)


def build_quietly(target: Mapping[str, Any], /, **filled: object) -> Any:
    """Build what a checked target describes, without Optuna's warnings of experimental classes."""
    with warnings.catch_warnings(action="ignore"):
        return build(target, **filled)


def class_of(target: Mapping[str, Any]) -> str:
    """Return the name of the class, without its module."""
    return find(str(target[TARGET])).__name__
