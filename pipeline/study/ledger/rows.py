"""The trials of a study as plain records, the best of them, progress and importances."""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.base.ends import End

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from pipeline.metrics import Direction
    from pipeline.study.ledger.definition import StudyDefinition
    from pipeline.study.ledger.optuna_tables import StudyTables

RowState = End | Literal["running", "waiting"]
# User attributes of a trial.
END_REASON = "end_reason"
ATTRIBUTES = "attributes"
#: Number of the trial whose point is tried again.
RETRY_OF = "retry_of"
#: How often the point was tried before.
RETRIES = "retries"
#: Optuna's system attribute for the values of a trial that the sampler does not choose.
FIXED = "fixed_params"
#: User attribute of a trial: number of its point in the grid.
POINT = "point"
#: Optuna's id of a trial that is not in the database yet.
NEW = -1
#: Number of trials left if nothing limits them.
ENDLESS = 1_000_000_000
#: Minimum number of complete trials for importances; of fewer, most would count as the best.
FEWEST_TRIALS = 10
#: Minimum number of best trials, as Optuna's documentation of PED-ANOVA advises.
FEWEST_BEST = 5
SHUFFLES = 99
#: Rank, in ascending order, of the shuffles' value that an importance has to exceed; noise exceeds
#: it in 5 % of the studies.
RANK = 95


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One trial of a study.

    Args:
        number: Counted from 0.
        state: How it ended, or that it has not.
        values: One value per objective; empty unless the trial completed.
        params: Optuna's params by Optuna's names.
        overrides: What the trial varies: Hydra's texts by config key or group; `null` is off.
        attributes: Other recorded values: `test/f1`, `seconds`, `epochs`, …
        started: Start, in seconds since 1970; `None` = not started yet.
        ended: End, in seconds since 1970; `None` = not ended yet.
        retry_of: Number of the trial whose point is tried again; `None` = the point is new.
    """

    number: int
    state: RowState
    values: tuple[float, ...] = ()
    params: Mapping[str, object] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
    retry_of: int | None = None

    @property
    def end(self) -> End | None:
        """How the trial ended; `None` = it is running or waiting."""
        return self.state if isinstance(self.state, End) else None

    @property
    def stage(self) -> str:
        """The state in tables: complete, pruned, failed, running or waiting."""
        return "failed" if self.end is not None and self.end.is_failure else str(self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of a study, over all processes that work on it.

    Args:
        total: Number of trials that the study is to have; `None` = unlimited.
        counts: Number of trials by their state.
        left: Number of trials that may still be taken.
        best: Numbers of the best trials, the best first.
        best_row: The best trial; `None` = none completed.
        base_row: The trial of the base config that completed, the first one if there are several;
            `None` = there is none.
        consecutive_failures: Number of trials that failed in a row since this process joined.
    """

    total: int | None
    counts: Mapping[RowState, int]
    left: int
    best: tuple[int, ...]
    best_row: Row | None
    base_row: Row | None
    consecutive_failures: int

    @property
    def counted(self) -> int:
        """Number of trials that count towards the total."""
        return _number_of_counted(self.counts)

    @property
    def running(self) -> int:
        """Number of trials that are being trained."""
        return self.counts.get("running", 0)

    @property
    def settled(self) -> bool:
        """Whether no trial is running or left."""
        return self.running == 0 and self.left == 0

    @property
    def words(self) -> str:
        """Counts of the ends so far: `92 complete, 5 pruned, 2 diverged`."""
        return self.words_of(End)

    def words_of(self, ends: Iterable[End]) -> str:
        """Return the counts of these ends, as `words` does."""
        return ", ".join(count_words(self.counts, ends)) or "none finished"


def state_word(state: RowState) -> str:
    """Return how a trial ended, or its state, in a word or two."""
    return state.word if isinstance(state, End) else state


def count_words(counts: Mapping[RowState, int], states: Iterable[RowState]) -> list[str]:
    """Return the number of trials in each of the states that has any, such as `2 diverged`."""
    return [f"{counts[state]} {state_word(state)}" for state in states if counts.get(state)]


def _number_of_counted(counts: Mapping[RowState, int]) -> int:
    return sum(counts.get(end, 0) for end in End if end.counts)


def best(rows: Iterable[Row], directions: Sequence["Direction"], k: int = 1) -> list[Row]:
    """Return the k best complete trials with finite values, the best first, ties by number.

    With two objectives, the trials on the Pareto front come first, ordered by the first objective,
    then those on the front of the remaining trials, and so on.
    """
    ranked = _ranked_rows(rows, directions)
    if len(directions) == 1:
        return ranked[:k]
    ordered: list[Row] = []
    while ranked and len(ordered) < k:
        front = pareto(ranked, directions)
        ordered += front
        numbers = {row.number for row in front}
        ranked = [row for row in ranked if row.number not in numbers]
    return ordered[:k]


def pareto(rows: Iterable[Row], directions: Sequence["Direction"]) -> list[Row]:
    """Return the trials that no other trial dominates, ordered by the first objective.

    A trial dominates another if it is no worse in both objectives and better in one. Of trials
    with equal values only the earliest is returned.
    """
    front: list[Row] = []
    for row in _ranked_rows(rows, directions):  # sorted by the first objective, best first
        if not front or _loss(row, directions)[1:] < _loss(front[-1], directions)[1:]:
            front.append(row)
    return front


def winner(rows: Iterable[Row], directions: Sequence["Direction"]) -> Row | None:
    """Return the best trial, with two objectives the best by the first; `None` = none completed."""
    ranked = _ranked_rows(rows, directions)
    return ranked[0] if ranked else None


def _ranked_rows(rows: Iterable[Row], directions: Sequence["Direction"]) -> list[Row]:
    """Return the complete trials with finite values, best first, ties by number."""
    complete = []
    for row in rows:
        if row.state is End.COMPLETE and row.values and all(map(math.isfinite, row.values)):
            complete.append(row)
    return sorted(complete, key=lambda row: (*_loss(row, directions), row.number))


def _loss(row: Row, directions: Sequence["Direction"]) -> tuple[float, ...]:
    """Return the objectives' values with signs such that less is better."""
    losses = []
    for value, direction in zip(row.values, directions, strict=True):
        losses.append(-value if direction == "max" else value)
    return tuple(losses)


class StudyTrials:
    """Reads and counts the trials of a study, at a cost that does not grow with ended trials."""

    def __init__(self, tables: "StudyTables", definition: "StudyDefinition") -> None:
        self.read_trials = tables.trials
        self._space = definition.space
        self._options = definition.options
        self._directions = definition.directions
        self._points = self._space.points() if self._options.sampler == "grid" else None
        self._total = definition.total
        self._trial_count = 0
        self._open: list[FrozenTrial] = []
        self._settled_points: set[int | None] = set()
        self._rows: dict[int, Row] = {}
        self._uncompared: list[Row] = []
        self._best: list[Row] = []
        base = definition.base_point
        self._base_overrides = None if base is None else self._space.overrides(base)
        self._base: Row | None = None
        self._ends: Counter[RowState] = Counter()
        self._failed_at: list[float] = []
        self._succeeded_at = -math.inf
        self._read_new_ends()
        self._failed_at.clear()  # failures from before this process joined do not count

    def rows(self) -> list[Row]:
        """Return all trials as plain records, ordered by number."""
        return [self._row(trial) for trial in self.read_trials()]

    def progress(self) -> Progress:
        """Return the progress of the study."""
        self._read_new_ends()
        if self._uncompared:
            compared: Iterable[Row] = [*self._best, *self._uncompared]
            if len(self._directions) > 1:
                # A trial that was dominated may be on the front of the remaining trials.
                compared = self._rows.values()
            self._best = best(compared, self._directions, self._options.keep_best)
            self._uncompared = []
        open_states = Counter(self._row(trial).state for trial in self._open)
        return Progress(
            total=self._total,
            counts=self._ends + open_states,
            left=self._left(),
            best=tuple(row.number for row in self._best),
            best_row=self._best[0] if self._best else None,
            base_row=self._base,
            consecutive_failures=sum(at > self._succeeded_at for at in self._failed_at),
        )

    def next_trial(self) -> tuple["FrozenTrial | None", Sequence["FrozenTrial"]]:
        """Return the first waiting trial or a new one (`None` = none is left), and all trials."""
        from optuna.trial import TrialState, create_trial

        trials = self._read_new_ends()
        if self._left() == 0:
            return None, trials
        for trial in self._open:
            if trial.state == TrialState.WAITING:
                return trial, trials
        trial = create_trial(state=TrialState.RUNNING)
        trial.number = len(trials)
        trial._trial_id = NEW
        if self._points is not None:
            point = self._unused_points()[0]
            trial.user_attrs = {POINT: point}
            trial.system_attrs[FIXED] = dict(self._points[point])
        return trial, trials

    def retry_of(self, trial: "FrozenTrial") -> "FrozenTrial | None":
        """Return a waiting trial with the point of another; `None` = no retry is left."""
        from optuna.trial import TrialState, create_trial

        retries = trial.user_attrs.get(RETRIES, 0)
        if retries >= self._options.max_retry:
            return None
        user_attrs = {RETRY_OF: trial.number, RETRIES: retries + 1}
        if POINT in trial.user_attrs:
            user_attrs = {POINT: trial.user_attrs[POINT], **user_attrs}
        return create_trial(
            state=TrialState.WAITING,
            system_attrs={FIXED: _all_params(trial)},
            user_attrs=user_attrs,
        )

    def _left(self) -> int:
        """Return the number of trials that may still be taken."""
        if self._total is None:
            return ENDLESS
        running = sum(trial.state.name == "RUNNING" for trial in self._open)
        left = max(0, self._total - _number_of_counted(self._ends) - running)
        if self._points is None:
            return left
        waiting = len(self._open) - running
        return min(left, waiting + len(self._unused_points()))

    def _unused_points(self) -> list[int]:
        """Return the points of the grid that are neither done nor taken nor queued, in order."""
        used = self._settled_points | {trial.user_attrs.get(POINT) for trial in self._open}
        return [point for point in range(len(self._points or ())) if point not in used]

    def _read_new_ends(self) -> Sequence["FrozenTrial"]:
        """Read all trials from the database and count those that ended since the last call."""
        trials = self.read_trials()
        changeable = [trials[trial.number] for trial in self._open]
        changeable += trials[self._trial_count :]
        self._trial_count = len(trials)
        self._open = []
        for trial in changeable:
            end = self._row(trial).end
            if end is None:
                self._open.append(trial)
            else:
                self._count_end(trial, end)
        return trials

    def _count_end(self, trial: "FrozenTrial", end: End) -> None:
        row = self._row(trial)
        self._ends[end] += 1
        self._uncompared.append(row)
        self._note_base(row)
        # A point whose trials have killed all their workers is not tried again either.
        retries = trial.user_attrs.get(RETRIES, 0)
        if end.counts or (end is End.LOST and retries >= self._options.max_retry):
            self._settled_points.add(trial.user_attrs.get(POINT))
        ended_at = row.ended or 0.0
        if not end.is_failure:
            self._succeeded_at = max(self._succeeded_at, ended_at)
        elif end is not End.INTERRUPTED:
            self._failed_at.append(ended_at)

    def _note_base(self, row: Row) -> None:
        """Remember a trial that has ended as that of the base config, if it is.

        A lost trial of the base config is repeated under another number, and a sampler may choose
        the same point again. The lowest number does not depend on the order in which they end.
        """
        if row.state is not End.COMPLETE or row.overrides != self._base_overrides:
            return
        if self._base is None or row.number < self._base.number:
            self._base = row

    def _row(self, trial: "FrozenTrial") -> Row:
        if trial.number in self._rows:
            return self._rows[trial.number]
        state = _state(trial)
        params = _all_params(trial)
        began = trial.datetime_start
        ended = trial.datetime_complete
        row = Row(
            number=trial.number,
            state=state,
            values=tuple(trial.values or ()) if state is End.COMPLETE else (),
            params=params,
            overrides=self._space.overrides(params),
            attributes=trial.user_attrs.get(ATTRIBUTES, {}),
            started=None if began is None else began.timestamp(),
            ended=None if ended is None else ended.timestamp(),
            retry_of=trial.user_attrs.get(RETRY_OF),
        )
        if trial.state.is_finished():
            self._rows[trial.number] = row
        return row


def _all_params(trial: "FrozenTrial") -> dict[str, Any]:
    """Return the params of a trial, also those that are fixed but not sampled yet."""
    return {**trial.system_attrs.get(FIXED, {}), **trial.params}


def _state(trial: "FrozenTrial") -> RowState:
    """Return the state of a trial; a failure for a reason that no sweep writes is an error."""
    ends = [end for end in End if end.trial_state == trial.state.name]
    if not ends:
        return "running" if trial.state.name == "RUNNING" else "waiting"
    if len(ends) == 1:
        return ends[0]
    reason = trial.user_attrs.get(END_REASON, End.ERROR)
    for end in ends:
        if end == reason:
            return end
    return End.ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class Importances:
    """Importances of parameters by PED-ANOVA, the largest first.

    Args:
        trials: Number of complete trials.
        shares: Share of each parameter in the total importance, by Optuna's name.
        chance: The share that each has to exceed, from shuffled objectives.
    """

    trials: int
    shares: Mapping[str, float] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)

    @property
    def above_chance(self) -> dict[str, float]:
        """The shares of the parameters that exceed what chance gives."""
        return {name: share for name, share in self.shares.items() if share > self.chance[name]}

    @property
    def too_few(self) -> str:
        """Message that no parameter is above chance, or why that is not known; otherwise ''."""
        if self.above_chance:
            return ""
        if self.trials < FEWEST_TRIALS:
            return (
                f"parameter importance needs at least {FEWEST_TRIALS} complete trials "
                f"({self.trials} so far)"
            )
        return f"parameter importance: none is above chance ({self.trials} complete trials)"


def importances(
    trials: Sequence["FrozenTrial"], *, objective: int = 0, minimizes: bool
) -> Importances:
    """Return the importance of each parameter for an objective, and the level of noise.

    PED-ANOVA also judges parameters that only some trials have, which other methods leave out. It
    is repeated with the objective shuffled among the trials. The levels of the parameters are such
    that in 95 % of these shuffles no parameter exceeds its level.
    """
    if len(trials) < FEWEST_TRIALS:
        return Importances(trials=len(trials))
    from optuna import create_study
    from optuna.importance import PedAnovaImportanceEvaluator  # a second, most of it scikit-learn
    from optuna.trial import create_trial

    names = sorted(set[str]().union(*(trial.params for trial in trials)))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, FEWEST_BEST / len(trials)))
    study = create_study()  # in memory, since the trials' database may be far away
    for trial in trials:
        study.add_trial(
            create_trial(params=trial.params, distributions=trial.distributions, value=0.0)
        )

    def divergences(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return importances (parameters,) for values (trials,), of which smaller are better."""
        with warnings.catch_warnings(action="ignore"):
            by_name = evaluator.evaluate(study, target=lambda trial: float(values[trial.number]))
        importance = np.array([by_name.get(name, 0.0) for name in names])
        return np.where(np.isfinite(importance), np.maximum(importance, 0.0), 0.0)

    losses = np.array([trial.values[objective] for trial in trials])
    if not minimizes:
        losses = -losses
    importance = divergences(losses)
    generator = np.random.default_rng(0)
    shuffled = [divergences(generator.permutation(losses)) for _ in range(SHUFFLES)]
    level = _levels(np.array(shuffled))
    total = float(importance.sum()) or 1.0
    shares = {}
    chance = {}
    for index in np.argsort(-importance, kind="stable"):
        shares[names[index]] = float(importance[index]) / total
        chance[names[index]] = float(level[index]) / total
    return Importances(trials=len(trials), shares=shares, chance=chance)


def _levels(shuffled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the level (parameters,) that each importance has to exceed to stand out from noise.

    The shuffled values (shuffles, parameters) are standardized per parameter, and the largest of
    each shuffle counts (Westfall and Young 1993).
    """
    mean = shuffled.mean(axis=0)
    deviation = shuffled.std(axis=0)
    safe = np.where(deviation > 0, deviation, 1.0)
    largest = np.sort(((shuffled - mean) / safe).max(axis=1))
    levels: NDArray[np.float64] = mean + largest[RANK - 1] * deviation
    return levels
