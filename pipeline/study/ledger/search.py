"""How a study searches: samplers that choose points, and pruners that end hopeless trials."""

import math
import warnings
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from copy import deepcopy as copied
from heapq import nsmallest
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from pipeline.base.errors import ConfigError, pip_install, shown
from pipeline.config.targets import (
    TARGET,
    arguments,
    build,
    find,
    parameters_of,
    problems_with,
    resolve,
)
from pipeline.study.ledger.definition import StudyDefinition

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial, TrialState

    from pipeline.config.options import SweepOptions

    Choice = str | Mapping[str, Any]

#: Number of random trials before TPE starts (Optuna's default).
RANDOM_TRIALS = 10
#: Minimum number of trials of which the median pruner takes a median.
MEDIAN_TRIALS = 5
REPLACED = {
    "GridSampler": "sampler: grid, which takes its points from sweep.space",
    "PartialFixedSampler": "a space without that key, fixed on the command line",
}
#: Packages that samplers need beside Optuna.
PACKAGES = {"CmaEsSampler": "cmaes"}
#: Most trials that TPE is given; it takes about 9 µs per trial and parameter.
MOST = 500
#: Best trials among these; TPE models the best tenth, 25 at most, against all others.
BEST = 100
#: Number of equal parts of a trial's epochs; a rung ends each part but the last.
RUNGS = 10
#: Reduction factor: one of two trials goes on at each halving, since ten rungs allow only a few.
HALVING = 2


# ── samplers ────────────────────────────────────────────────────────────────────────────────


def choose(
    study: "Study",
    definition: StudyDefinition,
    before: "FrozenTrial",
    trials: Sequence["FrozenTrial"],
) -> tuple["FrozenTrial", dict[str, str]]:
    """Return a running copy of a trial with its point, and the point as Hydra's texts.

    `before` is the trial, whose fixed values are kept; `trials` are all trials of the study,
    ordered by number. Raises ConfigError if the sampler can't choose a point.
    """
    from optuna.trial import Trial, TrialState

    space = definition.space
    choice = definition.options.sampler
    trial = copied(before)
    trial.state = TrialState.RUNNING
    earlier: list[FrozenTrial] = []
    if choice not in ("random", "grid"):
        earlier = [*trials[: trial.number], *trials[trial.number + 1 :]]
    if choice == "tpe":
        earlier = visible(earlier, study.directions)
    with warnings.catch_warnings(action="ignore"):
        sampler = make_sampler(
            choice,
            seed=definition.seed,
            number=trial.number,
            conditional=any(parameter.off or parameter.when for parameter in space.parameters),
            objectives=len(study.directions),
        )
        memory = study_in_memory(study, trial, earlier, sampler=sampler)
        try:
            return trial, space.suggest(Trial(memory, trial._trial_id))
        except (ValueError, TypeError, ImportError, RuntimeError) as error:
            name = type(sampler).__name__
            raise ConfigError(
                f"sweep.sampler: {name} can't suggest a point ({error}); choose another"
            ) from error


def make_sampler(
    sampler: "Choice", *, seed: int, number: int, conditional: bool, objectives: int
) -> "BaseSampler":
    """Return the sampler of one trial.

    Its random numbers depend only on the study's seed and the trial's number, so that stopping and
    continuing a study does not change what it tries, and no two workers try the same point.
    `conditional` tells whether a parameter may be absent from a trial.
    """
    import numpy as np
    from optuna.samplers import BaseSampler, RandomSampler, TPESampler

    trial_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if sampler == "tpe":
        # Running trials count as tried (`constant_liar`), so that workers spread out. With one
        # objective all parameters are modelled together, since lr, epochs and clipping act
        # together; if a parameter may be absent, each group that occurs together has its own
        # model. With two objectives each parameter is modelled alone, which is Optuna's default.
        return TPESampler(
            n_startup_trials=RANDOM_TRIALS,
            constant_liar=True,
            multivariate=objectives == 1,
            group=objectives == 1 and conditional,
            seed=trial_seed,
        )
    independent = RandomSampler(seed=trial_seed)
    if not isinstance(sampler, Mapping):
        return independent  # the points of a grid are fixed in advance
    if class_of(sampler) == "QMCSampler":
        # One sequence for the whole study, of which each trial takes the next point.
        built = build_quietly(sampler, seed=seed, independent_sampler=independent)
    else:
        built = build_quietly(sampler, seed=trial_seed)
    assert isinstance(built, BaseSampler)
    return built


def visible(
    trials: Sequence["FrozenTrial"], directions: Sequence["StudyDirection"]
) -> list["FrozenTrial"]:
    """Return the best complete trials and the latest others, `MOST` in all, ordered by number.

    Running trials come before others that have ended, so that workers spread out. The trials that
    are left out would count little, since TPE gives old trials less weight.
    """
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    candidates = []
    for trial in trials:
        if trial.state not in (TrialState.FAIL, TrialState.WAITING):
            candidates.append(trial)
    if len(candidates) <= MOST:
        return candidates
    running = [trial.number for trial in candidates if trial.state == TrialState.RUNNING]
    chosen = set(running[-(MOST - BEST) :])
    complete = [trial for trial in candidates if trial.state == TrialState.COMPLETE]
    for objective, direction in enumerate(directions):
        sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
        losses = [(sign * trial.values[objective], trial.number) for trial in complete]
        for _, number in nsmallest(BEST // len(directions), losses):
            chosen.add(number)
    for trial in reversed(candidates):
        if len(chosen) >= MOST:
            break
        chosen.add(trial.number)
    return [trial for trial in candidates if trial.number in chosen]


def study_in_memory(
    study: "Study",
    trial: "FrozenTrial",
    compared: Sequence["FrozenTrial"],
    *,
    sampler: "BaseSampler | None" = None,
) -> "Study":
    """Return a study for a sampler or pruner; what they set on the trial stays in memory.

    `optuna.trial.Trial` uses `sampler`; `None` = the study's own.
    """
    from optuna import Study

    return Study(
        study_name=study.study_name,
        storage=cast("BaseStorage", TrialsInMemory(study, trial, compared)),
        sampler=sampler or study.sampler,
        pruner=study.pruner,
    )


class TrialsInMemory:
    """Optuna's storage with the given trials, of which `trial` is changed in memory only.

    Otherwise a point of eight parameters would take sixteen transactions, and a process killed
    between them would leave a part of it. Optuna's InMemoryStorage would renumber the trials, on
    whose numbers Hyperband's brackets depend. The study's attributes, in which genetic samplers and
    QMC keep ids and counters, are read from and written to the storage itself.
    """

    def __init__(
        self, study: "Study", trial: "FrozenTrial", compared: Sequence["FrozenTrial"]
    ) -> None:
        self._study_id = study._study_id
        self._storage = study._storage
        self._trial = trial
        self._compared = compared

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_study_id_from_name(self, _name: str) -> int:
        """Return the id of the study without a query."""
        return self._study_id

    def get_trial(self, trial_id: int) -> "FrozenTrial":
        """Return the trial in memory, or another one from the storage."""
        if trial_id == self._trial._trial_id:
            return self._trial
        return self._storage.get_trial(trial_id)

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return the attributes that samplers have set on a trial."""
        return self.get_trial(trial_id).system_attrs

    def get_all_trials(
        self,
        _study_id: int,
        deepcopy: bool = True,
        states: Container["TrialState"] | None = None,
    ) -> list["FrozenTrial"]:
        """Return the other trials, and last the trial in memory."""
        trials = [*self._compared, self._trial]
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


# ── pruners ─────────────────────────────────────────────────────────────────────────────────


def rung_epochs(max_epochs: int, warmup: float) -> dict[int, int]:
    """Return the epochs, counted from 1, after which a trial is compared, each with its rung.

    Rung 3 is the first epoch at which three tenths of the trial are done. Learning rates are
    scheduled over all epochs, so comparing equal epochs would favour short trials. `warmup` is the
    share of epochs, 0 … 1, before which no trial is ended.
    """
    rungs: dict[int, int] = {}
    for epoch in range(1, max_epochs):
        rung = RUNGS * epoch // max_epochs
        if rung > max(rungs.values(), default=0) and rung / RUNGS >= warmup:
            rungs[epoch] = rung
    return rungs


def build_pruner(options: "SweepOptions", *, prunes: bool) -> "BasePruner":
    """Return the pruner of a study; if `prunes` is false, it never ends a trial."""
    from optuna import pruners

    pruner = options.pruner
    if not prunes:
        return pruners.NopPruner()
    if isinstance(pruner, Mapping):
        built = build_quietly(pruner)
        assert isinstance(built, pruners.BasePruner)
        return built
    first = max(1, math.ceil(RUNGS * options.pruner_warmup))
    if pruner == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=first, max_resource=RUNGS, reduction_factor=HALVING
        )
    if pruner == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=HALVING)
    return pruners.MedianPruner(n_startup_trials=MEDIAN_TRIALS, n_min_trials=MEDIAN_TRIALS)


def compares_running(options: "SweepOptions") -> bool:
    """Return whether the pruner looks at trials that still run; a median is of complete ones."""
    return options.pruner != "median"


# ── what can't work ─────────────────────────────────────────────────────────────────────────


def search_problems(
    options: "SweepOptions", *, objectives: int = 1, max_epochs: int | None = None
) -> list[str]:
    """Return a line for each option that can't work; `max_epochs=None` = not known."""
    problems = [
        *_sampler_problems(options.sampler, objectives),
        *_pruner_problems(options, objectives, max_epochs),
    ]
    if options.sampler == "grid":
        not_of_grid = {"base_trial=true": options.base_trial, "enqueue": options.enqueue}
        for name, value in not_of_grid.items():
            if value:
                problems.append(
                    f"sweep.{name} does not apply to a grid, which tries only its own points."
                )
    elif options.n_trials is None and options.timeout is None:
        problems.append(
            "sweep.n_trials=null would never end; expected a number, sweep.timeout=SECONDS, or "
            "sweep.sampler=grid, which ends with its points."
        )
    return problems


def _sampler_problems(sampler: "Choice", objectives: int) -> Iterator[str]:
    from optuna.samplers import BaseSampler

    key = "sweep.sampler"
    if not isinstance(sampler, Mapping):
        return
    if problems := list(_target_problems(key, sampler, base=BaseSampler, filled=("seed",))):
        yield from problems
        return
    name = class_of(sampler)
    if name in REPLACED:
        yield f"{key}: {name} is not supported; expected {REPLACED[name]}."
        return
    package = PACKAGES.get(name)
    if package is not None and find_spec(package) is None:
        yield f"{key}: {name} needs the package {package!r}; {pip_install(package)}"
        return
    if name == "CmaEsSampler" and objectives > 1:
        yield f"{key}: {name} supports only one objective; choose tpe or another sampler."
    try:
        make_sampler(sampler, seed=0, number=0, conditional=False, objectives=objectives)
    except (ValueError, TypeError, ImportError) as error:
        yield f"{key}: {name} can't be created: {error}"


def _pruner_problems(
    options: "SweepOptions", objectives: int, max_epochs: int | None
) -> Iterator[str]:
    from optuna.pruners import BasePruner

    key = "sweep.pruner"
    pruner = options.pruner
    warmup = options.pruner_warmup
    if pruner in ("median", "none"):
        return  # the default does nothing if trials can't be compared
    name = str(pruner)
    if isinstance(pruner, Mapping):
        if problems := list(_target_problems(key, pruner, base=BasePruner)):
            yield from problems
            return
        name = class_of(pruner)
    if objectives > 1:
        yield f"{key}={name} can't compare trials with two objectives; expected sweep.pruner=none."
    elif max_epochs is not None and not rung_epochs(max_epochs, warmup):
        yield (
            f"{key}={name} compares trials before they end, but trainer.max_epochs={max_epochs} "
            f"and sweep.pruner_warmup={warmup:g} leave no epochs for that; expected more epochs, "
            "or sweep.pruner=none."
        )
    try:
        build_pruner(options, prunes=True)
    except (ValueError, TypeError) as error:
        yield f"{key}: {name} can't be created: {error}"


def _target_problems(
    key: str, target: Mapping[str, Any], *, base: type, filled: Collection[str] = ()
) -> Iterator[str]:
    """Yield a line for each problem with the Optuna class given at `key`, and with its arguments.

    The class has to be in the package that exports `base`; the program sets those in `filled`.
    """
    package = ".".join(base.__module__.split(".")[:2])
    try:
        kind = resolve(str(target.get(TARGET)), trust=(package,))
    except ConfigError as error:
        for line in error.problems:
            problem, _, _ = line.partition(";")
            yield f"{key}.{TARGET}: {problem}."
        return
    if not issubclass(kind, base) or kind is base:
        yield f"{key}.{TARGET}={shown(target[TARGET])} is not a {base.__name__} of {package}."
        return
    target_arguments = arguments(target)
    for name in filled:
        if name in target_arguments:
            yield f"{key}.{name} is set by the program; remove it."
    inner_targets = {name: value for name, value in target_arguments.items() if _is_target(value)}
    checked_elsewhere = {*filled, *inner_targets}
    values = {
        name: value for name, value in target_arguments.items() if name not in checked_elsewhere
    }
    yield from problems_with(kind, values, prefix=f"{key}.", without=checked_elsewhere)
    for name, value in inner_targets.items():
        if name not in parameters_of(kind):
            yield f"{key}.{name} is unknown."
        yield from _target_problems(f"{key}.{name}", value, base=base, filled=filled)


def _is_target(value: object) -> bool:
    return isinstance(value, Mapping) and TARGET in value


def build_quietly(target: Mapping[str, Any], /, **filled: object) -> Any:
    """Build the object of a checked target without Optuna's warnings on experimental classes."""
    with warnings.catch_warnings(action="ignore"):
        return build(target, **filled)


def class_of(target: Mapping[str, Any]) -> str:
    """Return the name of a target's class, without its module."""
    return find(str(target[TARGET])).__name__
