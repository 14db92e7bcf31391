"""Puts the end of a trial on record. Whoever does holds the study's lock."""

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.study.ledger.lost import Lost
from pipeline.study.ledger.marks import ATTRIBUTES, END_REASON, RETRY_OF, retries_of
from pipeline.study.ledger.taking import again
from pipeline.study.ledger.trial_rows import TrialRows
from pipeline.study.trial_end import RETRIED, TrialEnd, end_in_journal

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
        end = _judged(told or TrialEnd(state="failed", reason="lost"), self._objectives)
        queued = self.settle(trial, end)
        return Lost(number=trial.number, end=end, adopted=told is not None, queued_again=queued)

    def settle(self, trial: FrozenTrial, end: TrialEnd) -> bool:
        """Write how a running trial ended, and tell whether its point is queued again.

        What comes first can be repeated: a kill in between leaves a running trial, and whoever
        settles that finds its point queued.
        """
        end = _judged(end, self._objectives)
        queued = self._queue_again(trial, end)
        trial_id = trial._trial_id
        for key, value in _notes(end).items():
            self._storage.set_trial_user_attr(trial_id, key, value)
        values = end.values or _last_report(trial) if end.state != "failed" else None
        self._storage.set_trial_state_values(trial_id, _STATES[end.state], values)
        return queued

    def is_settled(self, trial: FrozenTrial, end: TrialEnd) -> bool:
        """Tell whether a trial has ended so and not otherwise, with all that is noted of it."""
        end = _judged(end, self._objectives)
        noted = {key: trial.user_attrs.get(key) for key in (ATTRIBUTES, END_REASON)}
        return trial.state == _STATES[end.state] and noted == {
            **dict.fromkeys(noted),
            **_notes(end),
        }

    def _queue_again(self, trial: FrozenTrial, end: TrialEnd) -> bool:
        """Queue the point of a trial that failed through no fault of its own, once."""
        if end.reason not in RETRIED or retries_of(trial) >= self._max_retry:
            return False
        queued = {other.user_attrs.get(RETRY_OF) for other in self._rows.trials()}
        if trial.number not in queued:
            self._storage.create_new_trial(self._study_id, template_trial=again(trial))
        return True


class GivingUp:
    """Gives up trials, again where nobody knows whether that was written.

    Args:
        settling: Writes their ends.
        rows: The trials there are.
        folder_of: Returns the folder of a trial's run.
    """

    def __init__(
        self, settling: Settling, rows: TrialRows, folder_of: Callable[[int], Path]
    ) -> None:
        self._settling = settling
        self._rows = rows
        self._folder_of = folder_of
        self.found: dict[int, Lost] = {}

    def give_up(self, lost: Collection[int]) -> None:
        """Give up those of some trials that still run, and keep those that the last call settled.

        Args:
            lost: Numbers of trials whose process is gone; whoever calls holds the study's lock.
        """
        before, self.found = self.found, {}
        for trial in self._rows.trials():
            number = trial.number
            if trial.state == TrialState.RUNNING and number in lost:
                self.found[number] = self._settling.give_up(trial, self._folder_of(number))
            elif number in before and self._settling.is_settled(trial, before[number].end):
                self.found[number] = before[number]


def _notes(end: TrialEnd) -> dict[str, Any]:
    """Return what is noted with a trial that has ended so."""
    attributes = dict(end.attributes)
    if end.message is not None:
        attributes["message"] = end.message
    notes = {ATTRIBUTES: attributes or None, END_REASON: end.reason}
    return {key: note for key, note in notes.items() if note is not None}


def _last_report(trial: FrozenTrial) -> tuple[float, ...] | None:
    """Return what a pruned trial had come to, which Optuna keeps as its value."""
    step = trial.last_step
    return None if step is None else (trial.intermediate_values[step],)


def _judged(end: TrialEnd, objectives: int) -> TrialEnd:
    """Return the end as it may be stored: Optuna would take an infinite value for the best."""
    if end.state != "complete":
        return end
    if len(end.values) == objectives and all(map(math.isfinite, end.values)):
        return end
    message = end.message or f"came to {list(end.values)}, which is no result"
    return replace(end, state="failed", values=(), reason="diverged", message=message)
