"""Which trial comes next, seen from those there are. Whoever asks holds the study's lock."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.study.ledger.draft import new_trial, write_new, write_waiting
from pipeline.study.ledger.marks import (
    FIXED,
    LEASE,
    POINT,
    RETRIES,
    RETRY_OF,
    retries_of,
)
from pipeline.study.ledger.sampling import Sampling
from pipeline.study.ledger.tally import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A trial that somebody has taken to train.

    Args:
        number: Counted from 0.
        overrides: Hydra's texts by config key or group.
        params: Optuna's values by Optuna's names.
        retry_of: Number of the trial whose point is tried again; `None` where it is a new one.
    """

    number: int
    overrides: Mapping[str, str]
    params: Mapping[str, object]
    retry_of: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many trials a study is to have.

    Args:
        n_trials: In total; `None` = as many as there are points, or without end.
        points: Every point of a grid, as Optuna's values; `None` where it is none.
        max_retry: How often a point is tried again.
    """

    n_trials: int | None
    points: Sequence[Mapping[str, Any]] | None
    max_retry: int

    @property
    def total(self) -> int | None:
        """Trials of the whole study; `None` where nothing limits them."""
        if self.points is None:
            return self.n_trials
        return min(len(self.points), len(self.points) if self.n_trials is None else self.n_trials)

    def left(self, tally: Tally) -> int | None:
        """Return how many trials may still be taken; `None` where nothing limits them."""
        total = self.total
        if total is None:
            return None
        reserved = sum(trial.state == TrialState.RUNNING for trial in tally.open)
        room = max(0, total - tally.counted - reserved)
        if self.points is None:
            return room
        waiting = len(tally.open) - reserved
        return min(room, waiting + len(self.open_points(tally)))

    def open_points(self, tally: Tally) -> list[int]:
        """Return the points of the grid that no trial has, had, or is queued for, in order."""
        used = tally.points | {trial.user_attrs.get(POINT) for trial in tally.open}
        return [point for point in range(len(self.points or ())) if point not in used]

    def next_trial(self, tally: Tally) -> FrozenTrial | None:
        """Return the first waiting trial, else a new one; `None` where none is left."""
        if self.left(tally) == 0:
            return None
        waiting = (trial for trial in tally.open if trial.state == TrialState.WAITING)
        first = next(waiting, None)
        if first is not None:
            return first
        trial = new_trial(len(tally.trials))
        if self.points is not None:
            point = self.open_points(tally)[0]
            trial.user_attrs = {POINT: point}
            trial.system_attrs = {FIXED: dict(self.points[point])}
        return trial


class Taking:
    """One trial on its way to whoever is going to train it; whoever calls holds the study's lock.

    Args:
        study: Optuna's study.
        budget: How many trials it is to have.
        sampling: Chooses points.
        mark: The lease of the holder, which nobody else writes.
    """

    def __init__(
        self, study: Study, budget: Budget, sampling: Sampling, mark: Mapping[str, object]
    ) -> None:
        self._storage = study._storage
        self._study_id = study._study_id
        self._budget = budget
        self._sampling = sampling
        self._mark = mark
        self._written: FrozenTrial | None = None
        self.overrides: dict[str, str] = {}

    @property
    def trial(self) -> FrozenTrial:
        """The trial that was taken."""
        assert self._written is not None
        return self._written

    def take(self, tally: Tally, require_writable: Callable[[], None]) -> bool:
        """Write that the next trial runs; tell whether there is one.

        It can be called again where nobody knows whether the last call was written.

        Args:
            tally: All trials of the study, as they are now.
            require_writable: Waits for whoever writes.

        Raises:
            ConfigError: The sampler can't choose a point.
        """
        if self._written is not None and self._is_on_record(self._written):
            return True
        before = self._budget.next_trial(tally)
        if before is None:
            return False
        require_writable()
        trial, self.overrides = self._sampling.choose(before, tally.trials)
        trial.user_attrs = {**trial.user_attrs, LEASE: self._mark}
        self._written = trial
        if before.state == TrialState.WAITING:
            write_waiting(self._storage, before, trial)
        else:
            write_new(self._storage, self._study_id, trial)
        return True

    def _is_on_record(self, trial: FrozenTrial) -> bool:
        """Tell whether the trial of this id is ours: after a crash, a server gives ids anew."""
        try:
            found = self._storage.get_trial(trial._trial_id)
        except KeyError:
            return False
        return found.state == TrialState.RUNNING and found.user_attrs.get(LEASE) == self._mark


def again(trial: FrozenTrial) -> FrozenTrial:
    """Return a waiting trial of the same point, for one that was interrupted or lost."""
    kept = {POINT: trial.user_attrs[POINT]} if POINT in trial.user_attrs else {}
    return create_trial(
        state=TrialState.WAITING,
        user_attrs={**kept, RETRY_OF: trial.number, RETRIES: retries_of(trial) + 1},
        system_attrs={FIXED: {**trial.system_attrs.get(FIXED, {}), **trial.params}},
    )
