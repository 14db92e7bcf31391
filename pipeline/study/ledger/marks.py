"""What a study notes at its trials, as Optuna's user attributes."""

from dataclasses import asdict

from optuna.trial import FrozenTrial, TrialState

from pipeline.processes.lease import Lease
from pipeline.study.trial_end import COUNTED_FAILURES

LEASE = "lease"
"""The process that trains it, and a counter that moves while it does."""
END_REASON = "end_reason"
ATTRIBUTES = "attributes"
RETRY_OF = "retry_of"
"""Number of the trial whose point is tried again."""
RETRIES = "retries"
"""How often this point was tried before."""
POINT = "point"
"""Number of a point of the grid."""
START = "start"
"""Number of a start point, 0 being the base config where that is tried."""
FIXED = "fixed_params"
"""Optuna's own system attribute for values that no sampler is asked for."""


def lease_mark(lease: Lease) -> dict[str, object]:
    """Return a lease as JSON can hold it."""
    return asdict(lease)


def lease_of(trial: FrozenTrial) -> Lease | None:
    """Read the lease of a trial; `None` where there is no whole one."""
    try:
        return Lease(**trial.user_attrs[LEASE])
    except (KeyError, TypeError):
        return None


def reason_of(trial: FrozenTrial) -> str | None:
    """Return why a trial ended early; a failure that nobody explained is an error."""
    if trial.state == TrialState.PRUNED:
        return "pruned"
    if trial.state == TrialState.FAIL:
        return str(trial.user_attrs.get(END_REASON, "error"))
    return None


def counts(trial: FrozenTrial) -> bool:
    """Tell whether a trial counts towards the total."""
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
        return True
    return trial.state == TrialState.FAIL and reason_of(trial) in COUNTED_FAILURES


def retries_of(trial: FrozenTrial) -> int:
    """Return how often the point of a trial was tried before."""
    return int(trial.user_attrs.get(RETRIES, 0))
