"""The definition of a study: options, objectives, space and run, stored and compared later."""

import re
import secrets
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from pipeline.base.errors import ConfigError, did_you_mean, shown
from pipeline.config.options import MetricsOptions, SweepOptions
from pipeline.config.plain import FREE, data_fingerprint, differences
from pipeline.metrics import Direction, all_metrics
from pipeline.study.messages import REMEDY, changed_data_line

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage

    from pipeline.data.source import Task
    from pipeline.study.ledger.storage import StudyStorage
    from pipeline.study.space.space import Space

#: Costs of a trial, which can be objectives of every study.
COSTS = ("model/parameters", "time/fit")
#: Options of a user who has defined no metrics.
NO_METRICS = MetricsOptions(threshold=0.5, more={})
FORMAT = 1
#: User attribute of a study: the hash of the data of each config, by the config's fingerprint.
DATA = "data"
#: User attribute of a trial: number of its start point; 0 is the base config if it is tried.
START = "start"
_WRITTEN_FIRST = {"uid", "objectives", "space", "base", DATA}
_UID = re.compile(r"[0-9a-f]{1,32}")
ANOTHER_NAME = "choose another name for this study: sweep.name=NAME"


class _TestedTrial(BaseModel):
    metrics: dict[str, float] = {}
    baselines: dict[str, str] | list[str] = {}
    comparison: str = ""
    intervals: dict[str, tuple[float, float]] = {}
    rows: str = ""


class _StudyFacts(BaseModel):
    """Types of the user attributes of a study that are read after it was opened."""

    model_config = ConfigDict(defer_build=True)

    base: dict[str, Any] = {}
    base_trial: int | None = None
    left: int | None = None
    tested: dict[str, _TestedTrial] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A value that a study optimizes, such as `val/f1`, and the direction, `max` or `min`."""

    name: str
    direction: "Direction"

    def __str__(self) -> str:
        return f"{self.name} ({self.direction})"


def read_objectives(
    option: str | Sequence[str] | None,
    monitor: str,
    *,
    task: "Task | None" = None,
    validated: bool = True,
    metrics: MetricsOptions = NO_METRICS,
) -> tuple[Objective, ...]:
    """Return the objectives of a study, with the directions of their metrics.

    Args:
        option: `sweep.objective`; `None` = the run's `monitor`.
        monitor: The metric that a run monitors.
        task: Task of the data; `None` allows the metrics of every task.
        validated: Whether a trial has validation rows.
        metrics: The user's own metrics.

    Raises:
        ConfigError: An objective is not logged, is named twice, or has no direction.
    """
    names = [option] if isinstance(option, str) else list(option or [monitor])
    choices = list(logged_names(task, validated=validated))
    if validated:
        choices += [monitor, *(f"val/{name}" for name in metrics.more)]
    choices = list(dict.fromkeys(choices))
    problems = []
    for name in names:
        if name in choices:
            continue
        hint = did_you_mean(name, choices, by_leaf=True)
        if validated and _is_scored_if_monitored(name, task):
            hint = f" Trials score it with monitor={name}."
        expected = f"expected one of {', '.join(choices)}.{hint}"
        problems.append(f"sweep.objective={shown(name)} is not logged; {expected}")
    if len(set(names)) != len(names):
        problems.append(
            f"sweep.objective={shown(names)} has one value twice; expected one or two values."
        )
    if problems:
        raise ConfigError(*problems)
    from pipeline.running.scoring import direction_of

    return tuple(Objective(name=name, direction=direction_of(name, metrics)) for name in names)


def _is_scored_if_monitored(key: str, task: "Task | None") -> bool:
    metric = all_metrics().get(key.removeprefix("val/"))
    return metric is not None and metric.may_monitor and (task is None or task in metric.tasks)


def logged_names(task: "Task | None", *, validated: bool) -> tuple[str, ...]:
    """Return the names of all values that a trial logs."""
    names = []
    if validated:
        names.append("val/loss")
        for metric in all_metrics().values():
            if metric.is_main and (task is None or task in metric.tasks):
                names.append(f"val/{metric.name}")
    return (*names, "train/loss", *COSTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDefinition:
    """The definition of a study, which has to match the study on record to continue it.

    Args:
        url: Address of the database, from `storage_url`.
        name: Name of the study and of its folder.
        options: Options of the study.
        space: The search space.
        base: Configuration of the run that the study varies, as plain values.
        objectives: The one or two objectives.
        seed: Seed of the samplers.
        data: Hash of the data of the base run; `None` = not checked.
        base_point: Point of the base run, as Optuna's params; `None` = it is not tried.
    """

    url: str
    name: str
    options: SweepOptions
    space: "Space"
    base: Mapping[str, Any]
    objectives: Sequence[Objective]
    seed: int
    data: str | None = None
    base_point: Mapping[str, object] | None = None

    @property
    def names(self) -> list[str]:
        """Names of the objectives."""
        return [objective.name for objective in self.objectives]

    @property
    def directions(self) -> list["Direction"]:
        """Direction of each objective, `max` or `min`."""
        return [objective.direction for objective in self.objectives]

    @property
    def prunes(self) -> bool:
        """Whether trials are compared before they end; Optuna can't do so with two objectives."""
        return self.options.pruner != "none" and len(self.objectives) == 1

    @property
    def total(self) -> int | None:
        """Number of trials that the study is to have; `None` = unlimited."""
        points = self.space.size() if self.options.sampler == "grid" else None
        limits = [limit for limit in (self.options.n_trials, points) if limit is not None]
        return min(limits, default=None)


def start_points(study: StudyDefinition) -> list[dict[str, object]]:
    """Return the points to try first, as Optuna's params: the base config, then `sweep.enqueue`."""
    points = [study.space.params(point) for point in study.options.enqueue]
    if study.base_point is not None:
        points.insert(0, dict(study.base_point))
    return points


def create_or_check(
    storage: "BaseStorage", definition: StudyDefinition, points: Sequence[Mapping[str, Any]]
) -> "Study":
    """Create a study with its start points, or return the existing one; the caller holds its lock.

    Raises ConfigError with one line for each difference if the existing study is another one.
    """
    from optuna import Study
    from optuna.study import StudyDirection

    name = definition.name
    optuna_directions = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
    directions = [optuna_directions[direction] for direction in definition.directions]
    study = find_study(storage, name)
    if study is None:
        storage.create_new_study(directions, study_name=name)
        study = Study(study_name=name, storage=storage)
    facts = study.user_attrs
    if facts.get("format") == FORMAT:
        _check(study, definition)
    else:
        # If a process was killed while it created the study, some of this is missing.
        is_unfinished = (
            _WRITTEN_FIRST.issuperset(facts)
            and study.directions == directions
            and all(START in trial.user_attrs for trial in study.get_trials(False))
        )
        if not is_unfinished:
            raise ConfigError(
                f"the study {name!r} was created by another program or version; {ANOTHER_NAME}"
            )
        study.set_user_attr("uid", secrets.token_hex(3))
        study.set_user_attr("objectives", list(map(asdict, definition.objectives)))
        with warnings.catch_warnings(action="ignore"):  # it is experimental
            study.set_metric_names(definition.names)  # optuna-dashboard shows them
        _store_config(study, definition)
        queued = {trial.user_attrs.get(START) for trial in study.get_trials(deepcopy=False)}
        for start, point in enumerate(points):
            if start not in queued:
                study.enqueue_trial(dict(point), user_attrs={START: start})
        study.set_user_attr("format", FORMAT)
    if definition.data is not None:
        data_on_record(study, definition.base, definition.data)
    return study


def _check(study: "Study", now: StudyDefinition) -> None:
    """Raise ConfigError if the study on record is another one; store changes that are allowed."""
    facts = study.user_attrs
    changes, incompatible_changes = now.space.differences(facts["space"])
    problems = []
    objectives = [Objective(**stored) for stored in facts["objectives"]]
    if objectives != list(now.objectives):
        before = " and ".join(map(str, objectives))
        after = " and ".join(map(str, now.objectives))
        problems.append(
            f"sweep.objective was {before} and is {after} now; earlier trials can't be compared "
            f"by it; {ANOTHER_NAME}"
        )
    problems += [f"{line.rstrip('.')}; {ANOTHER_NAME}" for line in incompatible_changes]
    if problems:
        raise ConfigError(*problems)
    # Trials remain comparable if these keys change.
    free = tuple(f"{root}." for root in (*FREE, "sweep"))
    for difference in differences(facts["base"], now.base):
        key = difference.key
        if key not in now.space.keys and not f"{key}.".startswith(free):
            changes.append(str(difference))
    lines = [f"{line.rstrip('.')}; {REMEDY}" for line in changes]
    data_before = None if now.data is None else stored_data(facts, now.base)
    has_other_data = data_before not in (None, now.data)
    if not now.options.allow_change:
        if has_other_data:
            lines.append(changed_data_line(now.base, str(data_before), str(now.data)))
        if lines:
            raise ConfigError(*lines)
    if lines:
        _store_config(study, now)
    if has_other_data:
        study.set_user_attr(DATA, {})


def find_study(storage: "BaseStorage", name: str) -> "Study | None":
    """Return the study of this name; `None` = there is none."""
    from optuna import Study

    try:
        return Study(study_name=name, storage=storage)
    except KeyError:
        return None


def checked_facts(study: "Study") -> dict[str, Any]:
    """Return the user attributes of a study. Raises ValueError if one has an odd value."""
    facts = study.user_attrs
    _StudyFacts.model_validate(facts)  # pydantic's error is a ValueError
    return facts


def facts_on_record(store: "StudyStorage", name: str) -> dict[str, Any] | None:
    """Return the user attributes of a study; `None` = there is no study of this name."""

    def read() -> dict[str, Any] | None:
        study = find_study(store.optuna, name)
        return None if study is None else study.user_attrs

    return store.call(read)


def uid_of(study: "Study") -> str:
    """Return the unique id of a study, which becomes part of the names of folders.

    Raises ConfigError if it is not one that `create_or_check` has made.
    """
    uid = study.user_attrs.get("uid")
    if isinstance(uid, str) and _UID.fullmatch(uid):
        return uid
    raise ConfigError(
        f"the study {study.study_name!r} has an id that no sweep has given it; {ANOTHER_NAME}, or "
        "another database"
    )


def stored_data(facts: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """Return the data hash of a config from the study's attributes `facts`; `None` = not known."""
    data = facts.get(DATA, {}).get(data_fingerprint(config))
    return None if data is None else str(data)


def data_on_record(study: "Study", config: Mapping[str, Any], data: str) -> str:
    """Return the stored data hash of a config, or store `data`; the caller holds the lock."""
    stored = stored_data(study.user_attrs, config)
    if stored is None:
        data_of_configs = study.user_attrs.get(DATA, {})
        study.set_user_attr(DATA, {**data_of_configs, data_fingerprint(config): data})
    return stored or data


def _store_config(study: "Study", definition: StudyDefinition) -> None:
    study.set_user_attr("space", definition.space.plain())
    study.set_user_attr("base", dict(definition.base))
