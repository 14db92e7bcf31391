"""The trials that a sampler learns from: all of them, until they would make it slow."""

from collections.abc import Sequence
from heapq import nsmallest
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
        sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
        losses = ((sign * trial.values[objective], trial.number) for trial in complete)
        kept |= {number for _, number in nsmallest(BEST // len(directions), losses)}
    latest = (trial.number for trial in reversed(seen) if trial.number not in kept)
    kept |= set(islice(latest, MOST - len(kept)))
    return [trial for trial in seen if trial.number in kept]
