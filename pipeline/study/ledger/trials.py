"""The trials of a study as the database has them: each that has ended is counted once."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from optuna import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.config.options import SweepOptions
from pipeline.study.ledger.rows import Progress, Row, RowState, best, count_ends
from pipeline.study.ledger.samplers import FIXED
from pipeline.study.trial_end import COUNTED_FAILURES

if TYPE_CHECKING:
    from pipeline.metrics import Direction
    from pipeline.study.space.space import Space

# User attributes of a trial.
END_REASON = "end_reason"
ATTRIBUTES = "attributes"
RETRY_OF = "retry_of"
"""Number of the trial whose point is tried again."""
RETRIES = "retries"
"""How often the point was tried before."""
POINT = "point"
"""Number of a point of the grid."""
NEW = -1
"""Optuna's id of a trial that is not in the database yet."""
ENDLESS = 1_000_000_000
"""Trials left where nothing limits them."""
_STATES: dict[TrialState, RowState] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class StudyTrials:
    """Reads the trials of a study and counts them, at a cost that does not grow with those ended.

    Args:
        study: Optuna's study.
        space: What is varied.
        options: How many trials it is to have, how often a point is tried again, and how many of
            the best trials count as such.
        directions: Whether more or less of each objective is better.
    """

    def __init__(
        self,
        study: Study,
        space: "Space",
        options: SweepOptions,
        directions: Sequence["Direction"],
    ) -> None:
        self._study = study
        self._space = space
        self._max_retry = options.max_retry
        self._keep = options.keep_best
        self._directions = directions
        self._points = space.points() if options.sampler == "grid" else None
        limits = (options.n_trials, None if self._points is None else len(self._points))
        self._total = min((limit for limit in limits if limit is not None), default=None)
        self._read: Sequence[FrozenTrial] = ()
        self._open: list[FrozenTrial] = []
        self._counted = 0
        self._settled_points: set[int | None] = set()
        self._rows: dict[int, Row] = {}
        self._unjudged: list[Row] = []
        self._best: list[Row] = []
        self._ends: Counter[str] = Counter()
        self._since_success: list[Row] = []
        self._count()
        self._judge()
        self._since_success.clear()  # failures from before this process joined do not count

    def now(self) -> list[FrozenTrial]:
        """Return all trials by number, as Optuna keeps them; they are not to be changed."""
        return self._study.get_trials(deepcopy=False)

    def rows(self) -> list[Row]:
        """Return all trials by number, as plain records."""
        return [self._row(trial) for trial in self.now()]

    def progress(self) -> Progress:
        """Return how far the study is."""
        self._count()
        if self._unjudged:
            self._judge()
        left = self._left()
        return Progress(
            total=self._total,
            counts=self._ends + count_ends(map(self._as_row, self._open)),
            left=ENDLESS if left is None else left,
            best=tuple(row.number for row in self._best),
            best_row=self._best[0] if self._best else None,
            consecutive_failures=sum(
                row.state == "failed" and row.reason != "interrupted" for row in self._since_success
            ),
        )

    def next_trial(self) -> tuple[FrozenTrial | None, Sequence[FrozenTrial]]:
        """Return the first waiting trial, else a new one, and all trials; `None` = none is left."""
        self._count()
        if self._left() == 0:
            return None, self._read
        for trial in self._open:
            if trial.state == TrialState.WAITING:
                return trial, self._read
        trial = create_trial(state=TrialState.RUNNING)
        trial.number, trial._trial_id = len(self._read), NEW
        if self._points is not None:
            point = self._open_points()[0]
            trial.user_attrs = {POINT: point}
            trial.system_attrs[FIXED] = dict(self._points[point])
        return trial, self._read

    def retry_of(self, trial: FrozenTrial) -> FrozenTrial | None:
        """Return a waiting trial of the same point; `None` where it was tried often enough."""
        retries = retries_of(trial)
        if retries >= self._max_retry:
            return None
        kept = {POINT: trial.user_attrs[POINT]} if POINT in trial.user_attrs else {}
        return create_trial(
            state=TrialState.WAITING,
            user_attrs={**kept, RETRY_OF: trial.number, RETRIES: retries + 1},
            system_attrs={FIXED: {**trial.system_attrs.get(FIXED, {}), **trial.params}},
        )

    def _left(self) -> int | None:
        """Return how many trials may still be taken; `None` where nothing limits them."""
        if self._total is None:
            return None
        reserved = sum(trial.state == TrialState.RUNNING for trial in self._open)
        room = max(0, self._total - self._counted - reserved)
        if self._points is None:
            return room
        return min(room, len(self._open) - reserved + len(self._open_points()))

    def _open_points(self) -> list[int]:
        """Return the points of the grid that no trial has, had, or is queued for, in order."""
        used = self._settled_points | {trial.user_attrs.get(POINT) for trial in self._open}
        return [point for point in range(len(self._points or ())) if point not in used]

    def _count(self) -> None:
        """Read the trials, and count those that have ended since the last time."""
        trials = self.now()
        looked_at = [trials[trial.number] for trial in self._open] + trials[len(self._read) :]
        self._read = trials
        self._open = [trial for trial in looked_at if not trial.state.is_finished()]
        for trial in looked_at:
            if trial.state.is_finished():
                self._counted += counts(trial)
                if self._settles_point(trial):
                    self._settled_points.add(trial.user_attrs.get(POINT))
                self._unjudged.append(self._row(trial))

    def _settles_point(self, trial: FrozenTrial) -> bool:
        """Tell whether a point need not be tried again; one that ended every worker need not."""
        if counts(trial):
            return True
        return reason_of(trial) == "lost" and retries_of(trial) >= self._max_retry

    def _judge(self) -> None:
        """Compare the trials that have ended since the last time."""
        # One that was beaten before may stand on the front of the rest, so all are compared.
        single = len(self._directions) == 1
        compared = [*self._best, *self._unjudged] if single else list(self._rows.values())
        self._best = best(compared, self._directions, self._keep)
        self._ends += count_ends(self._unjudged)
        ended = sorted([*self._since_success, *self._unjudged], key=lambda row: row.ended or 0.0)
        # The last success stays: another trial may be read later that had ended before it.
        last = max((place for place, row in enumerate(ended) if row.state != "failed"), default=0)
        self._since_success = ended[last:]
        self._unjudged = []

    def _row(self, trial: FrozenTrial) -> Row:
        row = self._rows.get(trial.number)
        if row is None:
            row = self._as_row(trial)
            if trial.state.is_finished():
                self._rows[trial.number] = row
        return row

    def _as_row(self, trial: FrozenTrial) -> Row:
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


def reason_of(trial: FrozenTrial) -> str | None:
    """Return why a trial ended early; a failure without a reason is an error."""
    if trial.state == TrialState.PRUNED:
        return "pruned"
    if trial.state == TrialState.FAIL:
        return str(trial.user_attrs.get(END_REASON, "error"))
    return None


def counts(trial: FrozenTrial) -> bool:
    """Tell whether a trial that has ended counts towards the total."""
    return trial.state != TrialState.FAIL or reason_of(trial) in COUNTED_FAILURES


def retries_of(trial: FrozenTrial) -> int:
    """Return how often the point of a trial was tried before."""
    return int(trial.user_attrs.get(RETRIES, 0))


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
