"""The trials in Optuna's tables: read once per change, and written in few statements.

Optuna's storage reads every running trial at each look and takes about thirty statements to write
one. These are its own tables, whose version it checks when it opens the database.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.study.ledger.storage import StudyStorage


def _table(name: str, **columns: Any) -> sa.Table:
    """Return the table of trials, or one with some rows for each trial."""
    trial_id = sa.Column("trial_id", sa.Integer, primary_key=name == "trials")
    other_columns = [sa.Column(key, kind) for key, kind in columns.items()]
    return sa.Table(name, sa.MetaData(), trial_id, *other_columns)


_STUDIES = sa.table("studies", sa.column("study_id"))
_TRIALS = _table(
    "trials",
    number=sa.Integer,
    study_id=sa.Integer,
    state=sa.Enum(TrialState),
    datetime_start=sa.DateTime,  # in UTC
    datetime_complete=sa.DateTime,
)
_PARAMS = _table(
    "trial_params",
    param_name=sa.String,
    param_value=sa.Float,
    distribution_json=sa.Text,
    param_id=sa.Integer,
)
_USER = _table("trial_user_attributes", key=sa.String, value_json=sa.Text)
_SYSTEM = _table("trial_system_attributes", key=sa.String, value_json=sa.Text)
_KIND = sa.Enum("FINITE", "INF_POS", "INF_NEG", name="trialvaluetype")
_VALUES = _table("trial_values", objective=sa.Integer, value=sa.Float, value_type=_KIND)
_STEPS = _table(
    "trial_intermediate_values",
    step=sa.Integer,
    intermediate_value=sa.Float,
    intermediate_value_type=sa.String,
)
_ENDLESS = {math.inf: "INF_POS", -math.inf: "INF_NEG"}
_NUMBERS = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
#: Most trials read by one statement; a database limits the number of its parameters.
_MOST = 1000
_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_READ_TRIALS = sa.select(_TRIALS).where(_TRIALS.c.trial_id.in_(_IDS))


def _shared(table: sa.Table, key: Any, number: Any, text: Any, position: Any) -> sa.Select[Any]:
    """Return a query for rows of details, in columns that all tables can fill."""
    return sa.select(
        sa.literal_column(f"'{table.name}'", sa.String),
        table.c.trial_id,
        sa.cast(key, sa.String(512)),
        number,
        sa.cast(text, sa.Text),
        position,
    ).where(table.c.trial_id.in_(_IDS))


_NONE = sa.cast(sa.null(), sa.Float)
_ANY = sa.literal_column("0", sa.Integer)
_P = _PARAMS.c
_V = _VALUES.c
_S = _STEPS.c
_READ_DETAILS = sa.union_all(
    _shared(_PARAMS, _P.param_name, _P.param_value, _P.distribution_json, _P.param_id),
    _shared(_USER, _USER.c.key, _NONE, _USER.c.value_json, _ANY),
    _shared(_SYSTEM, _SYSTEM.c.key, _NONE, _SYSTEM.c.value_json, _ANY),
    _shared(_VALUES, _V.objective, _V.value, _V.value_type, _ANY),
    _shared(_STEPS, _S.step, _S.intermediate_value, _S.intermediate_value_type, _ANY),
)
_READ_CHANGES = sa.select(_TRIALS.c.trial_id, _TRIALS.c.state).where(
    _TRIALS.c.study_id == sa.bindparam("study"),
    _TRIALS.c.trial_id >= sa.bindparam("first"),  # so that the server reads no older rows
    sa.or_(
        _TRIALS.c.trial_id > sa.bindparam("last"),
        _TRIALS.c.state.in_((TrialState.RUNNING, TrialState.WAITING)),
    ),
)
_READ_RUNNING = (
    sa.select(_TRIALS.c.trial_id, _TRIALS.c.number, _USER.c.value_json)
    .outerjoin_from(
        _TRIALS,
        _USER,
        sa.and_(_USER.c.trial_id == _TRIALS.c.trial_id, _USER.c.key == sa.bindparam("key")),
    )
    .where(
        _TRIALS.c.study_id == sa.bindparam("study"),
        _TRIALS.c.trial_id >= sa.bindparam("first"),
        _TRIALS.c.state == TrialState.RUNNING,
    )
)
_COUNT_OTHERS = sa.select(sa.func.count(_TRIALS.c.trial_id)).where(
    _TRIALS.c.study_id == sa.bindparam("study"),
    _TRIALS.c.trial_id > sa.bindparam("last"),
    _TRIALS.c.trial_id < sa.bindparam("own"),
)


class StudyTables:
    """The trials of one study; reads those that are new or have changed their state.

    Each call has to be made within `StudyStorage.call`.
    """

    def __init__(self, store: StudyStorage, study_id: int) -> None:
        self._store = store
        self._study_id = study_id
        self._trials: list[FrozenTrial] = []
        self._open: dict[int, TrialState] = {}
        self._last = -1
        self._rollbacks = 0

    def trials(self, *, fresh: bool = False) -> list[FrozenTrial]:
        """Return all trials, ordered by number; do not change them.

        What a running trial has reported since it began, its lease included, is read if `fresh`.
        """
        is_consistent = self._read_changes(fresh=fresh)
        while not is_consistent:
            is_consistent = self._read_changes(fresh=False)
        return self._trials

    def _read_changes(self, *, fresh: bool) -> bool:
        """Read the trials that are new or have changed; return whether they fit together.

        They do not if a trial has ended after the states were read: the trial that repeats it may
        have been missed.
        """
        first = self._first_open()
        range_of_ids = {"study": self._study_id, "first": first, "last": self._last}
        trials: list[FrozenTrial] = []
        with self._store.transaction() as connection:
            states: dict[int, TrialState] = {}
            for trial_id, state in connection.execute(_READ_CHANGES, range_of_ids):
                states[trial_id] = state
            changed = self._open.keys() - states.keys()  # these have ended
            for trial_id, state in states.items():
                if fresh or self._open.get(trial_id) != state:
                    changed.add(trial_id)
            ids = sorted(changed)
            for start in range(0, len(ids), _MOST):
                trials += _read(connection, ids[start : start + _MOST])
        is_consistent = True
        for trial in trials:
            trial_id = trial._trial_id
            self._open.pop(trial_id, None)
            if not trial.state.is_finished():
                self._open[trial_id] = trial.state
            self._last = max(self._last, trial_id)
            if trial.number < len(self._trials):
                self._trials[trial.number] = trial
            else:
                self._trials.append(trial)
            if trial_id in states and states[trial_id] != trial.state:
                is_consistent = False
        return is_consistent

    def running(self, key: str) -> dict[int, tuple[int, Any]]:
        """Return the id of each running trial and one of its user attributes, by its number.

        All are read by one query, and nothing else. An attribute that is missing is `None`.
        """
        parameters = {"study": self._study_id, "first": self._first_open(), "key": key}
        with self._store.transaction() as connection:
            rows = connection.execute(_READ_RUNNING, parameters).all()
        running = {}
        for trial_id, number, text in rows:
            attribute = None if text is None else json.loads(text)
            running[number] = (trial_id, attribute)
        return running

    def _first_open(self) -> int:
        """Return an id below which no trial changes; after a rollback all trials are read again."""
        if self._rollbacks != self._store.rollbacks:  # some of it may never have been written
            self._trials = []
            self._open = {}
            self._last = -1
            self._rollbacks = self._store.rollbacks
        return min(self._open, default=self._last)

    def add(self, trial: FrozenTrial) -> None:
        """Write a new trial, and set its id, and its number if another program has added one."""
        with self._store.transaction() as connection:
            self._lock(connection)
            self._add(connection, trial)

    def _lock(self, connection: sa.Connection) -> None:
        """Keep others, Optuna's storage among them, from adding trials in the meantime."""
        study = sa.select(_STUDIES.c.study_id).where(_STUDIES.c.study_id == self._study_id)
        connection.execute(study.with_for_update()).one()

    def _add(self, connection: sa.Connection, trial: FrozenTrial) -> None:
        began = trial.datetime_start
        row = {
            "number": trial.number,
            "study_id": self._study_id,
            "state": trial.state,
            "datetime_start": began and began.astimezone(UTC).replace(tzinfo=None),
        }
        key = connection.execute(sa.insert(_TRIALS).values(row)).inserted_primary_key
        assert key is not None
        trial._trial_id = key[0]
        range_of_ids = {"study": self._study_id, "last": self._last, "own": key[0]}
        added_by_others = connection.execute(_COUNT_OTHERS, range_of_ids).scalar_one()
        if added_by_others:
            trial.number += added_by_others
            renumbering = sa.update(_TRIALS).values(number=trial.number)
            connection.execute(renumbering.where(_TRIALS.c.trial_id == trial._trial_id))
        _write_point(connection, trial, create_trial(state=TrialState.WAITING))

    def start(self, before: FrozenTrial, trial: FrozenTrial) -> bool:
        """Let a trial run, with what `trial` has beyond `before`, if it is still waiting."""
        start = sa.update(_TRIALS).where(
            _TRIALS.c.trial_id == trial._trial_id, _TRIALS.c.state == TrialState.WAITING
        )
        with self._store.transaction() as connection:
            values = {"state": trial.state, "datetime_start": _now()}
            if connection.execute(start.values(values)).rowcount == 0:
                return False
            _write_point(connection, trial, before)
        return True

    def end(
        self,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float],
        attributes: Mapping[str, Any],
        retry: FrozenTrial | None,
    ) -> bool:
        """Write how a running trial ended, and `retry`, the trial that repeats it.

        Returns whether this was written, all of it at once; if not, the trial had ended before.
        """
        running = sa.update(_TRIALS).where(
            _TRIALS.c.trial_id == trial._trial_id, _TRIALS.c.state == TrialState.RUNNING
        )
        ended = running.values(state=state, datetime_complete=_now())
        rows = []
        for objective, value in enumerate(values):
            row = {
                "trial_id": trial._trial_id,
                "objective": objective,
                "value": None if value in _ENDLESS else value,
                "value_type": _ENDLESS.get(value, "FINITE"),
            }
            rows.append(row)
        with self._store.transaction() as connection:
            if retry is not None:
                # Before the trial. Several lost trials in one transaction can still deadlock; the
                # server then aborts one call, which is repeated.
                self._lock(connection)
            if connection.execute(ended).rowcount == 0:
                return False
            _set(connection, _USER, {trial._trial_id: attributes}, trial.user_attrs)
            _insert(connection, _VALUES, rows)
            if retry is not None:
                retry.number = len(self._trials)
                self._add(connection, retry)
        return True

    def set_attribute(self, key: str, values: Mapping[int, Any]) -> None:
        """Set a user attribute of trials to a value for each, by their ids."""
        attributes = {trial_id: {key: value} for trial_id, value in values.items()}
        with self._store.transaction() as connection:
            _set(connection, _USER, attributes, [key])


def _read(connection: sa.Connection, ids: Sequence[int]) -> list[FrozenTrial]:
    """Return trials; what has ended does not change any more, so the states are read first."""
    trials: dict[int, FrozenTrial] = {}
    for row in connection.execute(_READ_TRIALS, {"ids": ids}):
        trial = create_trial(state=TrialState.WAITING)
        trials[row.trial_id] = trial
        trial._trial_id = row.trial_id
        trial.number = row.number
        trial.state = row.state
        trial.datetime_start = _local(row.datetime_start)
        trial.datetime_complete = _local(row.datetime_complete)
    values: dict[int, dict[int, float]] = {}
    details = connection.execute(_READ_DETAILS, {"ids": ids}).all()
    for kind, trial_id, key, number, text, _ in sorted(details, key=lambda row: row[-1]):
        trial = trials[trial_id]
        if kind == _PARAMS.name:
            distribution = _distribution(text)
            trial.distributions[key] = distribution
            trial.params[key] = distribution.to_external_repr(number)
        elif kind == _USER.name:
            trial.user_attrs[key] = json.loads(text)
        elif kind == _SYSTEM.name:
            trial.system_attrs[key] = json.loads(text)
        elif kind == _STEPS.name:
            trial.intermediate_values[int(key)] = _NUMBERS.get(text, number)
        else:
            values.setdefault(trial_id, {})[int(key)] = _NUMBERS.get(text, number)
    for trial_id, trial_values in values.items():
        trials[trial_id].values = [trial_values[objective] for objective in sorted(trial_values)]
    return sorted(trials.values(), key=lambda trial: trial.number)


@lru_cache(maxsize=10_000)
def _distribution(text: str) -> BaseDistribution:
    """Return a distribution, of which all trials share one: each would take 1 KiB."""
    return json_to_distribution(text)


def _local(moment: datetime | None) -> datetime | None:
    """Return the local time, as Optuna has it in its trials, of one in a table."""
    return moment and moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _write_point(connection: sa.Connection, trial: FrozenTrial, before: FrozenTrial) -> None:
    """Write the params and attributes that a trial has beyond `before`."""
    rows = []
    for name, value in trial.params.items():
        if name in before.params:
            continue
        distribution = trial.distributions[name]
        row = {
            "trial_id": trial._trial_id,
            "param_name": name,
            "param_value": distribution.to_internal_repr(value),
            "distribution_json": distribution_to_json(distribution),
        }
        rows.append(row)
    _insert(connection, _PARAMS, rows)
    for table, after, earlier in (
        (_USER, trial.user_attrs, before.user_attrs),
        (_SYSTEM, trial.system_attrs, before.system_attrs),
    ):
        changed = {key: value for key, value in after.items() if earlier.get(key) != value}
        _set(connection, table, {trial._trial_id: changed}, earlier)


def _set(
    connection: sa.Connection,
    table: sa.Table,
    attributes: Mapping[int, Mapping[str, Any]],
    earlier: Iterable[str],
) -> None:
    """Write attributes of trials, of which those in `earlier` may be there."""
    rows: list[dict[str, Any]] = []
    for trial_id, trial_attributes in attributes.items():
        for key, value in trial_attributes.items():
            rows.append({"trial_id": trial_id, "key": key, "value_json": json.dumps(value)})
    replaced_keys = {row["key"] for row in rows}.intersection(earlier)
    if replaced_keys:
        deletion = sa.delete(table).where(
            table.c.trial_id.in_(attributes), table.c.key.in_(replaced_keys)
        )
        connection.execute(deletion)
    _insert(connection, table, rows)


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sa.insert(table), rows)
