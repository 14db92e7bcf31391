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
    own = sa.Column("trial_id", sa.Integer, primary_key=name == "trials")
    return sa.Table(name, sa.MetaData(), own, *(sa.Column(key, columns[key]) for key in columns))


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
    kind, texts = sa.literal_column(f"'{table.name}'", sa.String), sa.cast(text, sa.Text)
    columns = kind, table.c.trial_id, sa.cast(key, sa.String(512)), number, texts, position
    return sa.select(*columns).where(table.c.trial_id.in_(_IDS))


_NONE, _ANY = sa.cast(sa.null(), sa.Float), sa.literal_column("0", sa.Integer)
_P, _V, _S = _PARAMS.c, _VALUES.c, _STEPS.c
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
        self._store, self._study_id = store, study_id
        self._trials: list[FrozenTrial] = []
        self._open: dict[int, TrialState] = {}
        self._last, self._rollbacks = -1, 0

    def trials(self, *, fresh: bool = False) -> list[FrozenTrial]:
        """Return all trials, ordered by number; do not change them.

        What a running trial has reported since it began, its lease included, is read if `fresh`.
        """
        first = self._first_open()
        seen = {"study": self._study_id, "first": first, "last": self._last}
        with self._store.transaction() as connection:
            found = {row[0]: row[1] for row in connection.execute(_READ_CHANGES, seen)}
            known = {} if fresh else self._open
            changed = [one for one in found if known.get(one) != found[one]]
            ended = self._open.keys() - found.keys()
            ids = sorted([*changed, *ended])
            parts = (ids[start : start + _MOST] for start in range(0, len(ids), _MOST))
            read = [trial for part in parts for trial in _read(connection, part)]
        for trial in read:
            self._open.pop(trial._trial_id, None)
            if not trial.state.is_finished():
                self._open[trial._trial_id] = trial.state
            self._last = max(self._last, trial._trial_id)
            self._trials[trial.number : trial.number + 1] = [trial]
        # If one has ended in between, the trial that repeats it may have been missed.
        is_whole = all(found.get(one._trial_id, one.state) == one.state for one in read)
        return self._trials if is_whole else self.trials()

    def running(self, key: str) -> dict[int, tuple[int, Any]]:
        """Return the id of each running trial and one of its user attributes, by its number.

        All are read by one query, and nothing else. An attribute that is missing is `None`.
        """
        asked = {"study": self._study_id, "first": self._first_open(), "key": key}
        with self._store.transaction() as connection:
            rows = connection.execute(_READ_RUNNING, asked).all()
        return {
            number: (trial_id, None if text is None else json.loads(text))
            for trial_id, number, text in rows
        }

    def _first_open(self) -> int:
        """Return an id below which no trial changes; after a rollback all trials are read again."""
        if self._rollbacks != self._store.rollbacks:  # some of it may never have been written
            self._trials, self._open, self._last = [], {}, -1
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
        began, trial_id = trial.datetime_start, _TRIALS.c.trial_id
        row = {
            "number": trial.number,
            "study_id": self._study_id,
            "state": trial.state,
            "datetime_start": began and began.astimezone(UTC).replace(tzinfo=None),
        }
        key = connection.execute(sa.insert(_TRIALS).values(row)).inserted_primary_key
        assert key is not None
        trial._trial_id = key[0]
        mine = {"study": self._study_id, "last": self._last, "own": key[0]}
        if others := connection.execute(_COUNT_OTHERS, mine).scalar_one():
            trial.number += others
            number = sa.update(_TRIALS).values(number=trial.number)
            connection.execute(number.where(trial_id == trial._trial_id))
        _write_point(connection, trial, create_trial(state=TrialState.WAITING))

    def start(self, before: FrozenTrial, trial: FrozenTrial) -> bool:
        """Let a trial run, with what `trial` has beyond `before`, if it is still waiting."""
        waiting = _TRIALS.c.trial_id == trial._trial_id, _TRIALS.c.state == TrialState.WAITING
        began = sa.update(_TRIALS).where(*waiting)
        with self._store.transaction() as connection:
            values = {"state": trial.state, "datetime_start": _now()}
            if connection.execute(began.values(values)).rowcount == 0:
                return False
            _write_point(connection, trial, before)
        return True

    def end(
        self,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float],
        attributes: Mapping[str, Any],
        again: FrozenTrial | None,
    ) -> bool:
        """Write how a running trial ended, and `again`, the trial that repeats it.

        Returns whether this was written, all of it at once; if not, the trial had ended before.
        """
        running = _TRIALS.c.trial_id == trial._trial_id, _TRIALS.c.state == TrialState.RUNNING
        ended = sa.update(_TRIALS).where(*running).values(state=state, datetime_complete=_now())
        rows = [
            {
                "trial_id": trial._trial_id,
                "objective": objective,
                "value": None if value in _ENDLESS else value,
                "value_type": _ENDLESS.get(value, "FINITE"),
            }
            for objective, value in enumerate(values)
        ]
        with self._store.transaction() as connection:
            if again is not None:
                # Before the trial. Several lost trials in one transaction can still deadlock; the
                # server then aborts one call, which is repeated.
                self._lock(connection)
            if connection.execute(ended).rowcount == 0:
                return False
            _set(connection, _USER, {trial._trial_id: attributes}, trial.user_attrs)
            _insert(connection, _VALUES, rows)
            if again is not None:
                again.number = len(self._trials)
                self._add(connection, again)
        return True

    def set_attribute(self, key: str, values: Mapping[int, Any]) -> None:
        """Set a user attribute of trials to a value for each, by their ids."""
        with self._store.transaction() as connection:
            _set(connection, _USER, {one: {key: value} for one, value in values.items()}, [key])


def _read(connection: sa.Connection, ids: Sequence[int]) -> list[FrozenTrial]:
    """Return trials; what has ended does not change any more, so the states are read first."""
    chosen = {"ids": ids}
    found: dict[int, FrozenTrial] = {}
    for row in connection.execute(_READ_TRIALS, chosen):
        trial = found[row.trial_id] = create_trial(state=TrialState.WAITING)
        trial._trial_id, trial.number, trial.state = row.trial_id, row.number, row.state
        trial.datetime_start = _local(row.datetime_start)
        trial.datetime_complete = _local(row.datetime_complete)
    values: dict[int, dict[int, float]] = {}
    details = connection.execute(_READ_DETAILS, chosen).all()
    for kind, trial_id, key, number, text, _ in sorted(details, key=lambda row: row[-1]):
        trial = found[trial_id]
        if kind == _PARAMS.name:
            trial.distributions[key] = _distribution(text)
            trial.params[key] = _distribution(text).to_external_repr(number)
        elif kind == _USER.name:
            trial.user_attrs[key] = json.loads(text)
        elif kind == _SYSTEM.name:
            trial.system_attrs[key] = json.loads(text)
        elif kind == _STEPS.name:
            trial.intermediate_values[int(key)] = _NUMBERS.get(text, number)
        else:
            values.setdefault(trial_id, {})[int(key)] = _NUMBERS.get(text, number)
    for trial_id, of_trial in values.items():
        found[trial_id].values = [of_trial[objective] for objective in sorted(of_trial)]
    return sorted(found.values(), key=lambda trial: trial.number)


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
    rows = (
        {
            "trial_id": trial._trial_id,
            "param_name": name,
            "param_value": trial.distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(trial.distributions[name]),
        }
        for name, value in trial.params.items()
        if name not in before.params
    )
    _insert(connection, _PARAMS, rows)
    for table, after, earlier in (
        (_USER, trial.user_attrs, before.user_attrs),
        (_SYSTEM, trial.system_attrs, before.system_attrs),
    ):
        new = {key: value for key, value in after.items() if earlier.get(key) != value}
        _set(connection, table, {trial._trial_id: new}, earlier)


def _set(
    connection: sa.Connection,
    table: sa.Table,
    attributes: Mapping[int, Mapping[str, Any]],
    earlier: Iterable[str],
) -> None:
    """Write attributes of trials, of which those in `earlier` may be there."""
    rows = [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        for trial_id, of_trial in attributes.items()
        for key, value in of_trial.items()
    ]
    if replaced := {row["key"] for row in rows}.intersection(earlier):
        old = table.c.trial_id.in_(attributes), table.c.key.in_(replaced)
        connection.execute(sa.delete(table).where(*old))
    _insert(connection, table, rows)


def _insert(connection: sa.Connection, table: sa.Table, rows: Iterable[Mapping[str, Any]]) -> None:
    if together := list(rows):
        connection.execute(sa.insert(table), together)
