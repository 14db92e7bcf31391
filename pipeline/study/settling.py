"""Puts the end of a trial on record. Whoever does holds the study's lock."""

import math
from dataclasses import replace

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from pipeline.study.ends import RETRIED, End
from pipeline.study.marks import ATTRIBUTES, END_REASON, RETRY_OF, retries_of
from pipeline.study.taking import again
from pipeline.study.trial_rows import TrialRows

_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def judged(end: End, objectives: int) -> End:
    """Return the end as it may be stored: Optuna would take an infinite value for the best."""
    if end.state != "complete":
        return end
    if len(end.values) == objectives and all(map(math.isfinite, end.values)):
        return end
    message = end.message or f"came to {list(end.values)}, which is no result"
    return replace(end, state="failed", values=(), reason="diverged", message=message)


class Settling:
    """Writes how trials end; whoever calls holds the study's lock.

    Args:
        rows: The trials there are.
        storage: Optuna's storage.
        study_id: Optuna's id of the study.
        max_retry: How often a point is tried again.
    """

    def __init__(
        self, rows: TrialRows, storage: BaseStorage, study_id: int, *, max_retry: int
    ) -> None:
        self._rows = rows
        self._storage = storage
        self._study_id = study_id
        self._max_retry = max_retry

    def settle(self, trial: FrozenTrial, end: End) -> bool:
        """Write how a running trial ended, and tell whether its point is queued again.

        What comes first can be repeated: a kill in between leaves a running trial, and whoever
        settles that finds its point queued.
        """
        queued = self._queue_again(trial, end)
        trial_id = trial._trial_id
        attributes = dict(end.attributes)
        if end.message is not None:
            attributes["message"] = end.message
        if attributes:
            self._storage.set_trial_user_attr(trial_id, ATTRIBUTES, attributes)
        if end.reason is not None:
            self._storage.set_trial_user_attr(trial_id, END_REASON, end.reason)
        values = end.values or _last_report(trial) if end.state != "failed" else None
        self._storage.set_trial_state_values(trial_id, _STATES[end.state], values)
        return queued

    def _queue_again(self, trial: FrozenTrial, end: End) -> bool:
        """Queue the point of a trial that failed through no fault of its own, once."""
        if end.reason not in RETRIED or retries_of(trial) >= self._max_retry:
            return False
        queued = {other.user_attrs.get(RETRY_OF) for other in self._rows.trials()}
        if trial.number not in queued:
            self._storage.create_new_trial(self._study_id, template_trial=again(trial))
        return True


def _last_report(trial: FrozenTrial) -> tuple[float, ...] | None:
    """Return what a pruned trial had come to, which Optuna keeps as its value."""
    step = trial.last_step
    return None if step is None else (trial.intermediate_values[step],)
