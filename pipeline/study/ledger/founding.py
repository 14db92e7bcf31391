"""What a study is, noted with it when it begins, and held against whoever goes on with it."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from optuna import Study
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from pipeline.config.record import FREE, Difference, differences
from pipeline.errors import ConfigError
from pipeline.study.ledger.marks import START
from pipeline.study.ledger.objectives import Objective
from pipeline.study.ledger.points import Points
from pipeline.study.ledger.start_points import enqueue

FORMAT = 1
REMEDY = (
    "put it back, go on all the same with sweep.allow_change=true, or begin a new study with "
    "sweep.name=NAME"
)
ANOTHER_NAME = "choose another name for this study: sweep.name=NAME"
_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}


def found(
    storage: BaseStorage,
    name: str,
    *,
    space: Points,
    base: Mapping[str, Any],
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
        objectives: What it is about.
        points: Those to try first.
        allow_change: Go on with another space or run.

    Raises:
        ConfigError: It is another study than this one, one line for each difference.
    """
    study = find_study(storage, name) or _create(storage, name, objectives)
    if not _is_founded(study):
        study.set_user_attr("uid", secrets.token_hex(3))
        study.set_user_attr("objectives", [asdict(objective) for objective in objectives])
        _note_config(study, space, base)
        enqueue(study, points)
        study.set_user_attr("format", FORMAT)
        return study
    lines = _changes(study, space, base, objectives)
    if lines and not allow_change:
        raise ConfigError(*(f"{line}; {REMEDY}" for line in lines))
    if lines:
        _note_config(study, space, base)
    return study


def find_study(storage: BaseStorage, name: str) -> Study | None:
    """Return the study of this name, if there is one."""
    try:
        return Study(study_name=name, storage=storage)
    except KeyError:
        return None


def _create(storage: BaseStorage, name: str, objectives: Sequence[Objective]) -> Study:
    directions = [_DIRECTIONS[objective.direction] for objective in objectives]
    storage.create_new_study(directions, study_name=name)
    return Study(study_name=name, storage=storage)


def _is_founded(study: Study) -> bool:
    """Tell whether all is noted; a kill in between leaves a study that is not.

    Raises:
        ConfigError: It is not ours.
    """
    facts = study.user_attrs
    if facts.get("format") == FORMAT:
        return True
    if "format" in facts or not all(map(_is_start, study.get_trials(deepcopy=False))):
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


def _objectives_line(before: Sequence[Objective], now: Sequence[Objective]) -> str:
    return (
        f"sweep.objective was {_words(before)} and is {_words(now)} now; what was tried so far "
        f"can't be judged by it; {ANOTHER_NAME}"
    )


def _words(objectives: Sequence[Objective]) -> str:
    return " and ".join(f"{objective.name} ({objective.direction})" for objective in objectives)


def _fixed(change: Difference, swept: set[str]) -> bool:
    """Tell whether trials before and after a change of this key can't be compared."""
    free = (*FREE, "sweep")
    lies_free = any(change.key == root or change.key.startswith(f"{root}.") for root in free)
    return not lies_free and change.key not in swept
