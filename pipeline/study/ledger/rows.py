"""The trials of a study: each as a plain record, which are best, and how far the study is."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pipeline.study.trial_end import COUNTED_FAILURES, FIXED

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from pipeline.metrics import Direction
    from pipeline.study.ledger.definition import StudyDefinition

RowState = Literal["complete", "pruned", "failed", "running", "waiting"]
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
_STATES: Mapping[str, RowState] = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}
ENDS = {
    "complete": "complete",
    "pruned": "pruned",
    "diverged": "diverged",
    "oom": "out of memory",
    "error": "failed",
    "interrupted": "interrupted",
    "lost": "lost",
}
"""How trials end, in the words for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One trial of a study.

    Args:
        number: Counted from 0.
        state: How far it is, or how it ended.
        reason: Why it ended early: diverged, oom, error, interrupted, lost, pruned; else `None`.
        values: One value per objective; empty where it did not complete.
        params: Optuna's values by Optuna's names.
        overrides: What was varied: Hydra's texts by config key or group; `null` is off.
        attributes: What else is on record: `test/f1`, `seconds`, `epochs`, …
        started: Seconds since 1970; `None` where it has not begun.
        ended: Seconds since 1970; `None` where it has not ended.
    """

    number: int
    state: RowState
    reason: str | None = None
    values: tuple[float, ...] = ()
    params: Mapping[str, object] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a study is, whoever works on it.

    Args:
        total: Trials it is to have; `None` where nothing limits them.
        counts: Trials by how they ended, or `running`, `waiting`.
        left: Trials that may still be taken.
        best: Numbers of the best trials, the best first.
        best_row: The first of them; `None` where none has completed.
        consecutive_failures: Trials that failed one after another, none finished in between,
            since this process joined.
    """

    total: int | None
    counts: Mapping[str, int]
    left: int
    best: tuple[int, ...]
    best_row: Row | None
    consecutive_failures: int

    @property
    def counted(self) -> int:
        """Trials that count towards the total."""
        return _counted(self.counts)

    @property
    def running(self) -> int:
        """Trials that are being trained."""
        return self.counts.get("running", 0)

    @property
    def settled(self) -> bool:
        """Whether nothing runs and nothing is left."""
        return self.running == 0 and self.left == 0

    @property
    def words(self) -> str:
        """The ends so far: `92 complete, 5 pruned, 2 diverged`."""
        told = [end for end in ENDS if self.counts.get(end)]
        return ", ".join(f"{self.counts[end]} {ENDS[end]}" for end in told) or "none has ended"


def _counted(counts: Mapping[str, int]) -> int:
    return sum(counts.get(end, 0) for end in ("complete", "pruned", *COUNTED_FAILURES))


def count_ends(rows: Iterable[Row]) -> Counter[str]:
    """Count trials by how they ended, or by whether they run or wait."""
    return Counter(
        (row.reason or "error") if row.state == "failed" else str(row.state) for row in rows
    )


def best(rows: Iterable[Row], directions: Sequence["Direction"], k: int = 1) -> list[Row]:
    """Return the k best complete trials with finite values, the best first, ties by number.

    With two objectives the trials on the Pareto front come first, in the order of the first
    objective, then those on the front of the rest, and so on.
    """
    left = _complete(rows)
    if len(directions) == 1:
        return sorted(left, key=lambda row: (_loss(row, directions), row.number))[:k]
    ordered: list[Row] = []
    while left and len(ordered) < k:
        front = pareto(left, directions)
        ordered += front
        numbers = {row.number for row in front}
        left = [row for row in left if row.number not in numbers]
    return ordered[:k]


def pareto(rows: Iterable[Row], directions: Sequence["Direction"]) -> list[Row]:
    """Return the trials that no other dominates, in the order of the first objective.

    A trial dominates another if it is no worse in both objectives and better in one. Of trials
    with equal values only the earliest is returned.
    """
    front: list[Row] = []
    ordered = sorted(_complete(rows), key=lambda row: (*_loss(row, directions), row.number))
    for row in ordered:  # each is no better in the first objective than those before it
        if not front or _loss(row, directions)[1:] < _loss(front[-1], directions)[1:]:
            front.append(row)
    return front


def winner(rows: Iterable[Row], directions: Sequence["Direction"]) -> Row | None:
    """Return the trial to test and to train again; of a front, the best by the first objective."""
    return next(iter(best(rows, directions)), None)


def _complete(rows: Iterable[Row]) -> list[Row]:
    return [
        row
        for row in rows
        if row.state == "complete" and row.values and all(map(math.isfinite, row.values))
    ]


def _loss(row: Row, directions: Sequence["Direction"]) -> tuple[float, ...]:
    """Return the values with signs such that less is better."""
    return tuple(
        -value if direction == "max" else value
        for value, direction in zip(row.values, directions, strict=True)
    )


class StudyTrials:
    """Reads the trials of a study and counts them, at a cost that does not grow with those ended.

    Args:
        study: Optuna's study.
        definition: How many trials it is to have, how often a point is tried again, and how many
            of the best trials count as such.
    """

    def __init__(self, study: "Study", definition: "StudyDefinition") -> None:
        self._study = study
        self._space, self._options = definition.space, definition.options
        self._directions = definition.directions
        options = self._options
        self._points = self._space.points() if options.sampler == "grid" else None
        limits = (options.n_trials, None if self._points is None else len(self._points))
        self._total = min((limit for limit in limits if limit is not None), default=None)
        self._read: Sequence[FrozenTrial] = ()
        self._open: list[FrozenTrial] = []
        self._settled_points: set[int | None] = set()
        self._rows: dict[int, Row] = {}
        self._unjudged: list[Row] = []
        self._best: list[Row] = []
        self._ends: Counter[str] = Counter()
        self._since_success: list[Row] = []
        self._count()
        self._judge()
        self._since_success.clear()  # failures from before this process joined do not count

    def now(self) -> list["FrozenTrial"]:
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
            counts=self._ends + count_ends(map(self._row, self._open)),
            left=ENDLESS if left is None else left,
            best=tuple(row.number for row in self._best),
            best_row=self._best[0] if self._best else None,
            consecutive_failures=sum(
                row.state == "failed" and row.reason != "interrupted" for row in self._since_success
            ),
        )

    def next_trial(self) -> tuple["FrozenTrial | None", Sequence["FrozenTrial"]]:
        """Return the first waiting trial, else a new one, and all trials; `None` = none is left."""
        from optuna.trial import TrialState, create_trial

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

    def retry_of(self, trial: "FrozenTrial") -> "FrozenTrial | None":
        """Return a waiting trial of the same point; `None` where it was tried often enough."""
        from optuna.trial import TrialState, create_trial

        retries = trial.user_attrs.get(RETRIES, 0)
        if retries >= self._options.max_retry:
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
        reserved = sum(trial.state.name == "RUNNING" for trial in self._open)
        room = max(0, self._total - _counted(self._ends) - reserved)
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
            if not trial.state.is_finished():
                continue
            row = self._row(trial)
            ends = count_ends([row])
            self._ends += ends
            self._unjudged.append(row)
            # A point whose trials ended every worker is not tried again either.
            retries = trial.user_attrs.get(RETRIES, 0)
            tried_out = row.reason == "lost" and retries >= self._options.max_retry
            if _counted(ends) or tried_out:
                self._settled_points.add(trial.user_attrs.get(POINT))

    def _judge(self) -> None:
        """Compare the trials that have ended since the last time."""
        # One that was beaten before may stand on the front of the rest, so all are compared.
        single = len(self._directions) == 1
        compared = [*self._best, *self._unjudged] if single else list(self._rows.values())
        self._best = best(compared, self._directions, self._options.keep_best)
        ended = sorted([*self._since_success, *self._unjudged], key=lambda row: row.ended or 0.0)
        # The last success stays: another trial may be read later that had ended before it.
        last = max((place for place, row in enumerate(ended) if row.state != "failed"), default=0)
        self._since_success = ended[last:]
        self._unjudged = []

    def _row(self, trial: "FrozenTrial") -> Row:
        if trial.number in self._rows:
            return self._rows[trial.number]
        state = _STATES[trial.state.name]
        reasons = {"pruned": "pruned", "failed": str(trial.user_attrs.get(END_REASON, "error"))}
        params = {**trial.system_attrs.get(FIXED, {}), **trial.params}
        row = Row(
            number=trial.number,
            state=state,
            reason=reasons.get(state),
            values=tuple(trial.values or ()) if state == "complete" else (),
            params=params,
            overrides=self._space.overrides(params),
            attributes=trial.user_attrs.get(ATTRIBUTES, {}),
            started=_seconds(trial.datetime_start),
            ended=_seconds(trial.datetime_complete),
        )
        if trial.state.is_finished():
            self._rows[trial.number] = row
        return row


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
