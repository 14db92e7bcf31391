"""Chooses the point of a trial."""

import warnings
from collections.abc import Sequence
from copy import deepcopy

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.errors import ConfigError
from pipeline.study.ledger.draft import Draft
from pipeline.study.ledger.points import Points
from pipeline.study.ledger.samplers import KEY, Choosing
from pipeline.study.ledger.window import visible


class Sampling:
    """Asks a sampler for points, each trial one of its own.

    Args:
        study: Optuna's study.
        space: What is varied.
        choosing: How points are chosen.
    """

    def __init__(self, study: Study, space: Points, choosing: Choosing) -> None:
        self._study = study
        self._space = space
        self._choosing = choosing

    def choose(
        self, before: FrozenTrial, trials: Sequence[FrozenTrial]
    ) -> tuple[FrozenTrial, dict[str, str]]:
        """Return a running copy of a trial with its point, and the point as Hydra's texts.

        Args:
            before: The trial; what is fixed of it stays.
            trials: All trials of the study, by number.

        Raises:
            ConfigError: The sampler can't choose one.
        """
        trial = deepcopy(before)
        trial.state = TrialState.RUNNING
        draft = Draft(
            self._study._storage,
            study_id=self._study._study_id,
            name=self._study.study_name,
            trial=trial,
            others=self._others(trial, trials),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return trial, self._suggested(draft)

    def _suggested(self, draft: Draft) -> dict[str, str]:
        sampler = self._choosing.sampler_of(draft.trial.number)
        try:
            return self._space.suggest(draft.ask(sampler, self._study.pruner))
        except (ValueError, TypeError, ImportError, RuntimeError) as error:
            name = type(sampler).__name__
            raise ConfigError(
                f"{KEY}: {name} can't choose a point ({error}); choose another"
            ) from error

    def _others(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        if not self._choosing.learns:
            return []
        others = [*trials[: trial.number], *trials[trial.number + 1 :]]
        return visible(others, self._study.directions) if self._choosing.forgets else others
