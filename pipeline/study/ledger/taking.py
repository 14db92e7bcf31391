"""Which trial comes next, seen from those there are. Whoever asks holds the study's lock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.study.ledger.draft import new_trial
from pipeline.study.ledger.marks import (
    FIXED,
    POINT,
    RETRIES,
    RETRY_OF,
    counts,
    reason_of,
    retries_of,
)


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

    def left(self, trials: Sequence[FrozenTrial]) -> int | None:
        """Return how many trials may still be taken; `None` where nothing limits them."""
        total = self.total
        if total is None:
            return None
        reserved = sum(trial.state == TrialState.RUNNING for trial in trials)
        room = max(0, total - sum(map(counts, trials)) - reserved)
        if self.points is None:
            return room
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        return min(room, waiting + len(self.open_points(trials)))

    def open_points(self, trials: Sequence[FrozenTrial]) -> list[int]:
        """Return the points of the grid that no trial has, had, or is queued for, in order."""
        used = {trial.user_attrs.get(POINT) for trial in trials if self._uses(trial)}
        return [point for point in range(len(self.points or ())) if point not in used]

    def _uses(self, trial: FrozenTrial) -> bool:
        """Tell whether a trial settles its point; one that killed every worker does."""
        if counts(trial) or trial.state in (TrialState.RUNNING, TrialState.WAITING):
            return True
        return reason_of(trial) == "lost" and retries_of(trial) >= self.max_retry

    def next_trial(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """Return the first waiting trial, else a new one; `None` where none is left."""
        if self.left(trials) == 0:
            return None
        waiting = next((trial for trial in trials if trial.state == TrialState.WAITING), None)
        if waiting is not None:
            return waiting
        trial = new_trial(len(trials))
        if self.points is not None:
            point = self.open_points(trials)[0]
            trial.user_attrs = {POINT: point}
            trial.system_attrs = {FIXED: dict(self.points[point])}
        return trial


def again(trial: FrozenTrial) -> FrozenTrial:
    """Return a waiting trial of the same point, for one that was interrupted or lost."""
    kept = {POINT: trial.user_attrs[POINT]} if POINT in trial.user_attrs else {}
    return create_trial(
        state=TrialState.WAITING,
        user_attrs={**kept, RETRY_OF: trial.number, RETRIES: retries_of(trial) + 1},
        system_attrs={FIXED: {**trial.system_attrs.get(FIXED, {}), **trial.params}},
    )
