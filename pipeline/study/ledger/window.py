"""The trials that a sampler learns from: all of them, until they would make it slow."""

from collections.abc import Sequence
from itertools import islice

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

MOST = 500
"""TPE costs about 9 µs a trial it sees, and a parameter; with these it stays below 20 ms."""
BEST = 100
"""TPE models the best tenth, 25 at most, against all others."""


def visible(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> list[FrozenTrial]:
    """Return the best complete trials and the latest others, `MOST` in all, by number.

    TPE weighs old trials less the more there are, so what is left out counted for little.

    Args:
        trials: All of them, by number.
        directions: Which way is better, for each objective.
    """
    seen = [t for t in trials if t.state not in (TrialState.FAIL, TrialState.WAITING)]
    if len(seen) <= MOST:
        return seen
    kept = {trial.number for trial in seen if trial.state == TrialState.RUNNING}
    complete = [trial for trial in seen if trial.state == TrialState.COMPLETE]
    for objective, direction in enumerate(directions):
        ranked = sorted(complete, key=lambda trial: _loss(trial, objective, direction))
        kept |= {trial.number for trial in ranked[: BEST // len(directions)]}
    latest = (trial.number for trial in reversed(seen) if trial.number not in kept)
    kept |= set(islice(latest, MOST - len(kept)))
    return [trial for trial in seen if trial.number in kept]


def _loss(trial: FrozenTrial, objective: int, direction: StudyDirection) -> float:
    value: float = trial.values[objective]
    return -value if direction == StudyDirection.MAXIMIZE else value
