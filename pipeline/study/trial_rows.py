"""What is on record of a study, read again and again: what has ended is read once."""

from collections.abc import Sequence
from datetime import datetime

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.study.marks import ATTRIBUTES, FIXED, reason_of
from pipeline.study.objectives import Objective
from pipeline.study.progress import ENDLESS, Progress, count_ends, failures_in_a_row
from pipeline.study.rows import Row, RowState
from pipeline.study.space_protocol import Points
from pipeline.study.taking import Budget
from pipeline.study.winner import best
from pipeline.study.wording import point_words, short_names, value_words

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
        self._best: list[Row] = []
        self._judged = 0
        self._before = {row.number for row in self.rows() if row.ended is not None}

    def trials(self) -> list[FrozenTrial]:
        """Return all trials by number, as Optuna keeps them; they are not to be changed."""
        return self._study.get_trials(deepcopy=False)

    def rows(self) -> list[Row]:
        """Return all trials by number, as plain records."""
        return [self._row(trial) for trial in self.trials()]

    def progress(self) -> Progress:
        """Return how far the study is."""
        trials = self.trials()
        rows = [self._row(trial) for trial in trials]
        left = self._budget.left(trials)
        best_rows = self._best_rows(rows)
        return Progress(
            total=self._budget.total,
            counts=count_ends(rows),
            left=ENDLESS if left is None else left,
            best=tuple(row.number for row in best_rows),
            best_words=self._words(best_rows[0]) if best_rows else "",
            consecutive_failures=failures_in_a_row(
                [row for row in rows if row.number not in self._before]
            ),
        )

    def _best_rows(self, rows: Sequence[Row]) -> list[Row]:
        if self._judged != len(self._ended):
            directions = [objective.direction for objective in self._objectives]
            self._best, self._judged = best(rows, directions, self._keep), len(self._ended)
        return self._best

    def _words(self, row: Row) -> str:
        names = [objective.name for objective in self._objectives]
        words = value_words(row.values, names)
        return f"{words}  {point_words(row.overrides, short_names(row.overrides))}"

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
            values=tuple(trial.values) if trial.state == TrialState.COMPLETE else (),
            params=params,
            overrides=self._space.overrides(params),
            attributes=trial.user_attrs.get(ATTRIBUTES, {}),
            started=_seconds(trial.datetime_start),
            ended=_seconds(trial.datetime_complete),
        )


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
