"""Compares running trials with others at their rungs, in memory as far as that is true."""

from collections.abc import Callable, Sequence
from copy import copy
from time import monotonic

from optuna import Study
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from pipeline.study.ledger.draft import Draft
from pipeline.study.ledger.trial_rows import TrialRows

Work = Callable[[Callable[[], bool]], bool]
FRESH_SECONDS = 1.0
"""How old what other processes have done may be; what this one does is always seen."""


class Comparing:
    """Asks the pruner about the trials that this process has taken.

    Args:
        study: Optuna's study.
        rows: Reads its trials.
        pruner: Decides.
    """

    def __init__(self, study: Study, rows: TrialRows, pruner: BasePruner) -> None:
        self._study = study
        self._storage = study._storage
        self._rows = rows
        self._pruner = pruner
        self._own: dict[int, FrozenTrial] = {}
        self._others: Sequence[FrozenTrial] = ()
        self._read_at = -FRESH_SECONDS

    def begin(self, trial: FrozenTrial) -> None:
        """Remember a trial that was taken."""
        self._own[trial.number] = trial

    def end(self, *numbers: int) -> None:
        """Forget trials that have ended; what they came to is read before the next decision."""
        for number in numbers:
            self._own.pop(number, None)
        self._read_at = -FRESH_SECONDS

    def report(self, number: int, *, step: int, value: float, work: Work) -> bool:
        """Note what a trial came to at a rung, and tell whether it is to be ended.

        A trial that this process has not taken, or has given up, is ended if it has ended.

        Args:
            number: The trial's.
            step: The rung.
            value: The objective there.
            work: Makes a call to the database, again where that is cut short.

        Raises:
            UpdateFinishedTrialError: Somebody has given the trial up.
        """
        own = self._own.get(number)
        if own is None:
            return work(lambda: self._has_ended(number))
        trial = copy(own)
        trial.intermediate_values = {**own.intermediate_values, step: value}

        def compare() -> bool:
            trial.system_attrs = dict(own.system_attrs)
            self._storage.set_trial_intermediate_value(trial._trial_id, step, value)
            decision = self._pruner.prune(self._beside(trial), trial)
            for key, note in trial.system_attrs.items():
                if own.system_attrs.get(key) != note:
                    self._storage.set_trial_system_attr(trial._trial_id, key, note)
            return bool(decision)  # numpy has a bool of its own

        decision = work(compare)
        self._own[number] = trial
        return decision

    def _has_ended(self, number: int) -> bool:
        study_id = self._study._study_id
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        return self._storage.get_trial(trial_id).state.is_finished()

    def _beside(self, trial: FrozenTrial) -> Study:
        """Return the study as the pruner is to see it; what it notes stays in memory at first."""
        beside = (own for own in self._own.values() if own.number != trial.number)
        others = [*self._read(), *beside]
        draft = Draft(
            self._storage,
            study_id=self._study._study_id,
            name=self._study.study_name,
            trial=trial,
            others=others,
        )
        return draft.study(self._study.sampler, self._pruner)

    def _read(self) -> Sequence[FrozenTrial]:
        if monotonic() - self._read_at >= FRESH_SECONDS:
            trials = self._rows.trials()
            self._others = [trial for trial in trials if trial.number not in self._own]
            self._read_at = monotonic()
        return self._others
