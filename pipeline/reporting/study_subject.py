"""The study that a report is about, put together from what is on record of it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.study.ledger.ranking import winner
from pipeline.study.ledger.rows import Row
from pipeline.study.ledger.storage import storage_url
from pipeline.study.ledger.stored import Recorded, Studies
from pipeline.study.outcome.comparison import REPEATED, Comparison, compare
from pipeline.study.outcome.ending import Ending
from pipeline.study.outcome.winner import Winner, experiment_command
from pipeline.study.outcome.wording import swept_keys
from pipeline.study.space.parameters import Parameter
from pipeline.study.space.ranges import Range
from pipeline.study.substudies import LONGEST_STEM
from pipeline.tracking.uri import sqlite_path

TESTED = "tested"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StudySubject:
    """A study as a report tells of it.

    Args:
        name: Its name.
        ending: What it came to, or has come to by now.
        recorded: What is on record of it.
        comparison: Of its cells over seeds or folds; `None` = it repeats nothing.
        confirmation: The winner over several seeds; `None` = that was not asked for.
        confirmed: The trials of that.
    """

    name: str
    ending: Ending
    recorded: Recorded
    comparison: Comparison | None
    confirmation: Comparison | None
    confirmed: Sequence[Row]

    @property
    def rows(self) -> Sequence[Row]:
        """All of its trials."""
        return self.ending.rows


def found_study(name: str, output: Path, storage: str | None) -> StudySubject:
    """Return a study by its name.

    Args:
        name: The study's.
        output: The folder that holds a folder for each study.
        storage: Optuna's URL of the database; `None` = the default.

    Raises:
        ConfigError: There is no such study, or no such database.
        EnvironmentFaultError: The database can't be read now.
    """
    file = sqlite_path(storage_url(storage, key="storage"))
    if file is not None and not file.is_file():
        raise ConfigError(
            f"study={name!r} is unknown: there is no database of studies {str(file)!r}; expected "
            "the one that the sweep used: storage=sqlite:///FILE"
        )
    studies = Studies(storage)
    recorded = studies.open(name)
    ending = _ending(recorded, output / name)
    confirmed = _confirmed(studies, name, ending)
    again = () if confirmed is None else _rows(confirmed)
    return StudySubject(
        name=name,
        ending=replace(ending, confirm_seeds=len(again)),
        recorded=recorded,
        comparison=_repeats(recorded, ending.rows),
        confirmation=None if confirmed is None else _repeats(confirmed, again),
        confirmed=again,
    )


def _rows(recorded: Recorded) -> list[Row]:
    """Return all trials with what was varied in each, of which the ledger alone says nothing."""
    space = recorded.ledger.facts.get("space") or {}
    parameters = [_parameter(plain) for plain in space.values()]
    return [
        replace(row, overrides=_overrides(parameters, row.params))
        for row in recorded.ledger.trials()
    ]


def _parameter(plain: Mapping[str, Any]) -> Parameter:
    """Read what `Parameter.plain` gave; where it holds is told by what a trial has."""
    values = {field.name: plain[field.name] for field in fields(Range)}
    values["choices"] = tuple(values["choices"])
    return Parameter(**values, key=plain["key"], name=plain["name"])


def _overrides(parameters: Sequence[Parameter], params: Mapping[str, Any]) -> dict[str, str]:
    texts = ((parameter.key, parameter.from_params(params)) for parameter in parameters)
    return {key: text for key, text in texts if text is not None}


def _ending(recorded: Recorded, folder: Path) -> Ending:
    rows = _rows(recorded)
    directions = [objective.direction for objective in recorded.objectives]
    best = winner(rows, directions)
    tested: dict[str, dict[str, Any]] = recorded.ledger.facts.get(TESTED, {})
    own = {} if best is None else tested.get(str(best.number), {})
    others = [number for number in tested if best is None or number != str(best.number)]
    base = int(others[0]) if len(others) == 1 else None  # none else is ever tested
    return Ending(
        rows=rows,
        objectives=recorded.names,
        directions=directions,
        folder=folder,
        seconds=_seconds(rows),
        importances=recorded.ledger.importances(),
        base=base,
        winner=None if best is None else _winner(best, recorded.ledger.name, folder),
        tested=own.get("metrics", {}),
        base_tested={} if base is None else tested[str(base)].get("metrics", {}),
        baselines=own.get("baselines", ()),
    )


def _winner(best: Row, name: str, folder: Path) -> Winner:
    """Return how the best trial is trained again; without a command where nobody has put it down.

    The whole command, in words, is known to the sweep alone; this one says the same.
    """
    called = name.removesuffix(".yaml")
    yaml = folder / "conf" / "experiment" / f"{called}.yaml"
    command = experiment_command(folder.absolute(), called) if yaml.is_file() else ""
    return Winner(number=best.number, command=command, yaml=yaml, yaml_command=command)


def _seconds(rows: Sequence[Row]) -> float:
    """Return the time from the first trial's begin to the last one's end."""
    begins = [row.started for row in rows if row.started is not None]
    ends = [time.time() if row.state == "running" else row.ended or 0.0 for row in rows]
    return max(0.0, max(ends) - min(begins)) if begins else 0.0


def _repeats(recorded: Recorded, rows: Sequence[Row]) -> Comparison | None:
    if set(REPEATED).isdisjoint(swept_keys(rows)):
        return None
    objective = recorded.objectives[0]
    return compare(rows, objective=objective.name, direction=objective.direction)


def _confirmed(studies: Studies, name: str, ending: Ending) -> Recorded | None:
    """Return the study of the winner over several seeds."""
    if ending.winner is None:
        return None
    called = f"{name[:LONGEST_STEM]}-confirm-{ending.winner.number}"
    return studies.open(called) if called in studies.names() else None
