"""What is on record of a study, read again and again: what has ended is read once."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.study.ledger.marks import ATTRIBUTES, FIXED, reason_of
from pipeline.study.ledger.objectives import Objective
from pipeline.study.ledger.points import Points
from pipeline.study.ledger.progress import (
    ENDLESS,
    Progress,
    count_ends,
    failures_in_a_row,
    since_last_success,
)
from pipeline.study.ledger.ranking import best
from pipeline.study.ledger.rows import Row, RowState
from pipeline.study.ledger.taking import Budget
from pipeline.study.ledger.tally import Tally

_STATES: dict[TrialState, RowState] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class TrialRows:
    """Reads the trials of a study.

    Args:
        study: Optuna's study.
        space: What is varied.
        objectives: What it is about.
        budget: How many trials it is to have.
        keep: How many of the best trials are told.
    """

    def __init__(
        self,
        study: Study,
        space: Points,
        objectives: Sequence[Objective],
        *,
        budget: Budget,
        keep: int,
    ) -> None:
        self._budget = budget
        self._study = study
        self._space = space
        self._objectives = objectives
        self._keep = keep
        self._ended: dict[int, Row] = {}
        self._unjudged: list[Row] = []
        self._best: list[Row] = []
        self._ends: Counter[str] = Counter()
        self._since: list[Row] = []
        self._tally = Tally(budget.max_retry)
        self.tally()
        self._judge()
        self._since.clear()  # how others fared before says nothing about now

    def trials(self) -> list[FrozenTrial]:
        """Return all trials by number, as Optuna keeps them; they are not to be changed."""
        return self._study.get_trials(deepcopy=False)

    def rows(self) -> list[Row]:
        """Return all trials by number, as plain records."""
        return [self._row(trial) for trial in self.trials()]

    def tally(self) -> Tally:
        """Return the trials as they are on record now, those that have ended counted."""
        for trial in self._tally.take_in(self.trials()):
            self._unjudged.append(self._row(trial))
        return self._tally

    def progress(self) -> Progress:
        """Return how far the study is."""
        tally = self.tally()
        if self._unjudged:
            self._judge()
        left = self._budget.left(tally)
        return Progress(
            total=self._budget.total,
            counts=self._ends + count_ends(self._read(trial) for trial in tally.open),
            left=ENDLESS if left is None else left,
            best=tuple(row.number for row in self._best),
            best_row=self._best[0] if self._best else None,
            consecutive_failures=failures_in_a_row(self._since),
        )

    def _judge(self) -> None:
        """Take in the trials that have ended since the last time."""
        directions = [objective.direction for objective in self._objectives]
        # One that was beaten before may stand on the Pareto front's rest, so all are compared.
        compared = [*self._best, *self._unjudged] if len(directions) == 1 else self._ended.values()
        self._best = best(list(compared), directions, self._keep)
        self._ends += count_ends(self._unjudged)
        self._since = since_last_success([*self._since, *self._unjudged])
        self._unjudged = []

    def _row(self, trial: FrozenTrial) -> Row:
        row = self._ended.get(trial.number)
        if row is None:
            row = self._read(trial)
            if trial.state.is_finished():
                self._ended[trial.number] = row
        return row

    def _read(self, trial: FrozenTrial) -> Row:
        params = {**trial.system_attrs.get(FIXED, {}), **trial.params}
        return Row(
            number=trial.number,
            state=_STATES[trial.state],
            reason=reason_of(trial),
            values=tuple(trial.values or ()) if trial.state == TrialState.COMPLETE else (),
            params=params,
            overrides=self._space.overrides(params),
            attributes=trial.user_attrs.get(ATTRIBUTES, {}),
            started=_seconds(trial.datetime_start),
            ended=_seconds(trial.datetime_complete),
        )


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
