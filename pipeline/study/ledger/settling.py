"""Puts the end of a trial on record. Whoever does holds the study's lock."""

import math
from dataclasses import replace
from pathlib import Path

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.study.ledger.adopting import end_in_journal
from pipeline.study.ledger.ends import RETRIED, End
from pipeline.study.ledger.lost import Lost
from pipeline.study.ledger.marks import ATTRIBUTES, END_REASON, RETRY_OF, retries_of
from pipeline.study.ledger.taking import again
from pipeline.study.ledger.trial_rows import TrialRows

_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class Settling:
    """Writes how trials end; whoever calls holds the study's lock.

    Args:
        study: Optuna's study.
        rows: The trials there are.
        max_retry: How often a point is tried again.
    """

    def __init__(self, study: Study, rows: TrialRows, *, max_retry: int) -> None:
        self._study_id = study._study_id
        self._storage = study._storage
        self._objectives = len(study.directions)
        self._rows = rows
        self._max_retry = max_retry

    def give_up(self, trial: FrozenTrial, folder: Path) -> Lost:
        """Write the end of a trial whose process is lost: that in its journal, if it tells one."""
        told = end_in_journal(folder)
        end = _judged(told or End(state="failed", reason="lost"), self._objectives)
        queued = self.settle(trial, end)
        return Lost(number=trial.number, end=end, adopted=told is not None, queued_again=queued)

    def settle(self, trial: FrozenTrial, end: End) -> bool:
        """Write how a running trial ended, and tell whether its point is queued again.

        What comes first can be repeated: a kill in between leaves a running trial, and whoever
        settles that finds its point queued.
        """
        end = _judged(end, self._objectives)
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


def _judged(end: End, objectives: int) -> End:
    """Return the end as it may be stored: Optuna would take an infinite value for the best."""
    if end.state != "complete":
        return end
    if len(end.values) == objectives and all(map(math.isfinite, end.values)):
        return end
    message = end.message or f"came to {list(end.values)}, which is no result"
    return replace(end, state="failed", values=(), reason="diverged", message=message)
