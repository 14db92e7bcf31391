"""A trial in memory: its point is chosen first, and then written whole or not at all."""

from collections.abc import Container, Sequence
from copy import deepcopy as copied
from typing import Any, cast

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

NEW = -1
"""Optuna's id of a trial that no database knows yet."""


class Draft:
    """Optuna's storage with one trial more, or one that nobody else sees changing.

    A point of eight parameters would otherwise be sixteen transactions, and a kill between two of
    them would leave a trial without its point.

    Args:
        storage: The storage; it is not changed.
        study_id: Optuna's id of the study.
        name: Name of the study.
        trial: The trial in memory.
        others: What the sampler sees of the other trials.
    """

    def __init__(
        self,
        storage: BaseStorage,
        *,
        study_id: int,
        name: str,
        trial: FrozenTrial,
        others: Sequence[FrozenTrial],
    ) -> None:
        self._storage = storage
        self._study_id = study_id
        self._name = name
        self.trial = trial
        self._others = others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def study(self, sampler: BaseSampler, pruner: BasePruner) -> Study:
        """Return the study that has these trials."""
        storage = cast(BaseStorage, self)
        return Study(study_name=self._name, storage=storage, sampler=sampler, pruner=pruner)

    def ask(self, sampler: BaseSampler, pruner: BasePruner) -> Trial:
        """Return the trial as Optuna hands it to an objective function."""
        return Trial(self.study(sampler, pruner), self.trial._trial_id)

    def get_study_id_from_name(self, name: str) -> int:
        """Answer without the database."""
        del name
        return self._study_id

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial."""
        if trial_id == self.trial._trial_id:
            return self.trial
        return self._storage.get_trial(trial_id)

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return what samplers have noted at a trial."""
        return self.get_trial(trial_id).system_attrs

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return the trials that the sampler sees, the one in memory last."""
        del study_id
        trials = [*self._others, self.trial]
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copied(trials) if deepcopy else trials

    def set_trial_param(
        self, trial_id: int, name: str, internal: float, distribution: BaseDistribution
    ) -> None:
        """Note a parameter of the trial in memory."""
        assert trial_id == self.trial._trial_id
        self.trial.distributions[name] = distribution
        self.trial.params[name] = distribution.to_external_repr(internal)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Note what a sampler wants to remember."""
        assert trial_id == self.trial._trial_id
        self.trial.system_attrs[key] = value


def new_trial(number: int) -> FrozenTrial:
    """Return a trial of this number without a point."""
    trial = create_trial(state=TrialState.RUNNING)
    trial.number, trial._trial_id = number, NEW
    return trial


def write_new(storage: BaseStorage, study_id: int, trial: FrozenTrial) -> None:
    """Write a trial that was drafted, in one transaction, and note its id and number.

    Whoever holds the study's lock knows the number, unless another program adds trials as well;
    to be sure of it costs nothing, while to read it reads the trial.
    """
    trial._trial_id = storage.create_new_trial(study_id, template_trial=trial)
    known = storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
    if known != trial._trial_id:
        trial.number = storage.get_trial_number_from_id(trial._trial_id)


def write_waiting(storage: BaseStorage, before: FrozenTrial, after: FrozenTrial) -> None:
    """Write what was drafted of a waiting trial, and only then that it runs."""
    trial_id = before._trial_id
    for name, value in after.params.items():
        if name not in before.params:
            distribution = after.distributions[name]
            internal = distribution.to_internal_repr(value)
            storage.set_trial_param(trial_id, name, internal, distribution)
    for key, value in after.system_attrs.items():
        if before.system_attrs.get(key) != value:
            storage.set_trial_system_attr(trial_id, key, value)
    for key, value in after.user_attrs.items():
        if before.user_attrs.get(key) != value:
            storage.set_trial_user_attr(trial_id, key, value)
    storage.set_trial_state_values(trial_id, state=TrialState.RUNNING)
