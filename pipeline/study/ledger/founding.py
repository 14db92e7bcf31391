"""What a study is, noted with it when it begins, and held against whoever goes on with it."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from optuna import Study
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from pipeline.config.record import FREE, ConfigDifference, data_fingerprint, differences
from pipeline.errors import ConfigError
from pipeline.study.ledger.marks import START
from pipeline.study.ledger.objectives import Objective
from pipeline.study.ledger.points import Points
from pipeline.study.ledger.start_points import enqueue
from pipeline.study.trial_end import REMEDY, changed_data_line

FORMAT = 1
DATA = "data"
"""Noted with a study: the hash of the data of each config, by the config's fingerprint."""
_NOTED_FIRST = {"uid", "objectives", "space", "base", DATA}
ANOTHER_NAME = "choose another name for this study: sweep.name=NAME"
_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}


def found(
    storage: BaseStorage,
    name: str,
    *,
    space: Points,
    base: Mapping[str, Any],
    data: str | None,
    objectives: Sequence[Objective],
    points: Sequence[Mapping[str, Any]],
    allow_change: bool,
) -> Study:
    """Begin a study, or find it unchanged; the caller holds its lock.

    Args:
        storage: Where it is kept.
        name: Its name.
        space: What is varied.
        base: The run that it varies, as plain values.
        data: Hash of the data of that run; `None` = not known.
        objectives: What it is about.
        points: Those to try first.
        allow_change: Go on with another space or run.

    Raises:
        ConfigError: It is another study than this one, one line for each difference.
    """
    study = find_study(storage, name) or _create(storage, name, objectives)
    if not _is_founded(study, objectives):
        study.set_user_attr("uid", secrets.token_hex(3))
        study.set_user_attr("objectives", [asdict(objective) for objective in objectives])
        _note_config(study, space, base)
        _note_data(study, base, data)
        enqueue(study, points)
        study.set_user_attr("format", FORMAT)
        return study
    lines = _changes(study, space, base, objectives)
    other_data = _data_changes(study, base, data)
    if (lines or other_data) and not allow_change:
        raise ConfigError(*(f"{line}; {REMEDY}" for line in lines), *other_data)
    if lines:
        _note_config(study, space, base)
    if other_data:
        study.set_user_attr(DATA, {})
    _note_data(study, base, data)
    return study


def noted_data(study: Study, base: Mapping[str, Any], data: str) -> str:
    """Return the hash of the data of a config, noted now unless it was; the caller holds the lock.

    Args:
        study: The study, founded.
        base: The config as plain values.
        data: What was found.
    """
    noted, key = study.user_attrs.get(DATA, {}), data_fingerprint(base)
    if key not in noted:
        study.set_user_attr(DATA, {**noted, key: data})
    return str(noted.get(key, data))


def find_study(storage: BaseStorage, name: str) -> Study | None:
    """Return the study of this name, if there is one."""
    try:
        return Study(study_name=name, storage=storage)
    except KeyError:
        return None


def _create(storage: BaseStorage, name: str, objectives: Sequence[Objective]) -> Study:
    storage.create_new_study(_directions(objectives), study_name=name)
    return Study(study_name=name, storage=storage)


def _directions(objectives: Sequence[Objective]) -> list[StudyDirection]:
    return [_DIRECTIONS[objective.direction] for objective in objectives]


def _is_founded(study: Study, objectives: Sequence[Objective]) -> bool:
    """Tell whether all is noted; a kill in between leaves a study that is not.

    Raises:
        ConfigError: It is not ours.
    """
    facts = study.user_attrs
    if facts.get("format") == FORMAT:
        return True
    is_ours = set(facts) <= _NOTED_FIRST and study.directions == _directions(objectives)
    if not is_ours or not all(map(_is_start, study.get_trials(deepcopy=False))):
        raise ConfigError(
            f"the study {study.study_name!r} was made by another program, or another version of "
            f"this one; {ANOTHER_NAME}"
        )
    return False


def _is_start(trial: FrozenTrial) -> bool:
    return START in trial.user_attrs


def _note_config(study: Study, space: Points, base: Mapping[str, Any]) -> None:
    study.set_user_attr("space", space.plain())
    study.set_user_attr("base", dict(base))


def _note_data(study: Study, base: Mapping[str, Any], data: str | None) -> None:
    if data is not None:
        noted_data(study, base, data)


def _changes(
    study: Study, space: Points, base: Mapping[str, Any], objectives: Sequence[Objective]
) -> list[str]:
    """Return a line for each thing of a study that is another now and may change if asked for.

    Raises:
        ConfigError: What can never change has: what the study is about, or a kind of parameter.
    """
    facts = study.user_attrs
    changed, kinds = space.differences(facts["space"])
    never = [f"{line.rstrip('.')}; {ANOTHER_NAME}" for line in kinds]
    before = [Objective(**stored) for stored in facts["objectives"]]
    if before != list(objectives):
        never.insert(0, _objectives_line(before, objectives))
    if never:
        raise ConfigError(*never)
    swept = {parameter.key for parameter in space.parameters}
    configs = [str(change) for change in differences(facts["base"], base) if _fixed(change, swept)]
    return [line.rstrip(".") for line in (*changed, *configs)]


def _data_changes(study: Study, base: Mapping[str, Any], data: str | None) -> list[str]:
    if data is None:
        return []
    known = study.user_attrs.get(DATA, {}).get(data_fingerprint(base), data)
    return [] if known == data else [changed_data_line(base, known, data)]


def _objectives_line(before: Sequence[Objective], now: Sequence[Objective]) -> str:
    return (
        f"sweep.objective was {_words(before)} and is {_words(now)} now; what was tried so far "
        f"can't be judged by it; {ANOTHER_NAME}"
    )


def _words(objectives: Sequence[Objective]) -> str:
    return " and ".join(f"{objective.name} ({objective.direction})" for objective in objectives)


def _fixed(change: ConfigDifference, swept: set[str]) -> bool:
    """Tell whether trials before and after a change of this key can't be compared."""
    free = (*FREE, "sweep")
    lies_free = any(change.key == root or change.key.startswith(f"{root}.") for root in free)
    return not lies_free and change.key not in swept
