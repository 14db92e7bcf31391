"""The report of a study."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.record import flatten
from pipeline.errors import ConfigError
from pipeline.markup import MISSING, TextTable
from pipeline.pictures.picture import Picture
from pipeline.reporting.page import NAME, Places, publish, rendered
from pipeline.reporting.svg import PagePicture, drawn
from pipeline.study.ledger.rows import Row, best, pareto, winner
from pipeline.study.ledger.storage import storage_url
from pipeline.study.outcome.comparison import REPEATED, Comparison, compare
from pipeline.study.outcome.comparison_picture import comparison_figure, comparison_names
from pipeline.study.outcome.comparison_table import comparison_table, confirmed_sheet
from pipeline.study.outcome.ending import Ending
from pipeline.study.outcome.pictures import pictures, texts
from pipeline.study.outcome.summary import figures_table, front_table, importance_table
from pipeline.study.outcome.verdict import verdict
from pipeline.study.outcome.winner import Winner, experiment_command
from pipeline.study.outcome.wording import (
    counts_line,
    end_word,
    point_words,
    short_names,
    shown_text,
    swept_keys,
    value_words,
)
from pipeline.study.plan import LONGEST_STEM
from pipeline.study.recorded_studies import RecordedStudy, Studies
from pipeline.study.space.ranges import Range
from pipeline.study.space.space import Parameter
from pipeline.terminal import duration, number
from pipeline.tracking.sync import attach
from pipeline.tracking.uri import sqlite_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TESTED = "tested"
MOST_TRIALS = 1000
"""Rows of the table of trials: the best ones, where there are more."""
MOST_TOLD = 5
"""Parameters and trials that an alternative text names."""
TITLES = {
    "history": "History: each trial's value, and the best so far",
    "importances": "Importances: what sets the best trials apart",
    "slices": "Slices: each parameter against the value",
    "parallel_coordinates": "Parallel coordinates: a line a trial",
    "pareto_front": "Pareto front: what no other trial beats in both",
    "lr_clip_map": "Learning rate and clipping",
}


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
    recorded: RecordedStudy
    comparison: Comparison | None
    confirmation: Comparison | None
    confirmed: Sequence[Row]


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
        comparison=_comparison(recorded, ending.rows),
        confirmation=None if confirmed is None else _comparison(confirmed, again),
        confirmed=again,
    )


def _rows(recorded: RecordedStudy) -> list[Row]:
    """Return all trials with what was varied in each, of which the ledger alone says nothing."""
    space = recorded.ledger.facts.get("space") or {}
    parameters = [_parameter(plain) for plain in space.values()]
    found = []
    for row in recorded.ledger.trials():
        told = ((one.key, one.from_params(row.params)) for one in parameters)
        overrides = {key: text for key, text in told if text is not None}
        found.append(replace(row, overrides=overrides))
    return found


def _parameter(plain: Mapping[str, Any]) -> Parameter:
    """Read what `Parameter.plain` gave; where it holds is told by what a trial has."""
    values = {field.name: plain[field.name] for field in fields(Range)}
    values["choices"] = tuple(values["choices"])
    return Parameter(**values, key=plain["key"], name=plain["name"])


def _ending(recorded: RecordedStudy, folder: Path) -> Ending:
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
    """Return how the best trial is trained again; without a command if none is stored.

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


def _comparison(recorded: RecordedStudy, rows: Sequence[Row]) -> Comparison | None:
    if set(REPEATED).isdisjoint(swept_keys(rows)):
        return None
    objective = recorded.objectives[0]
    return compare(rows, objective=objective.name, direction=objective.direction)


def _confirmed(studies: Studies, name: str, ending: Ending) -> RecordedStudy | None:
    """Return the study of the winner over several seeds."""
    if ending.winner is None:
        return None
    called = f"{name[:LONGEST_STEM]}-confirm-{ending.winner.number}"
    return studies.open(called) if called in studies.names() else None


def report_study(name: str, places: Places) -> list[str]:
    """Report on a study, and return what the terminal is told."""
    subject = found_study(name, places.folder, places.storage)
    folder, tracking = places.folder / name, places.tracking
    own = folder / "artifacts" / NAME if folder.is_dir() else Path(f"report-{name}.html")
    told = publish(
        rendered("study.html", study_page(subject)),
        places.output or own,
        tracking,
        lambda path: attach(folder, path, tracking, name=NAME),
    )
    return [f"{name}: {summary(subject)}", told]


def study_page(subject: StudySubject) -> dict[str, Any]:
    """Return what the template of a study's report asks for."""
    ending, row = subject.ending, subject.ending.best_row
    searches = subject.comparison is None
    return {
        "title": f"study {subject.name}",
        "summary": summary(subject),
        "verdict": verdict(ending) if searches else [],
        "command": "" if ending.winner is None or not searches else ending.winner.command,
        "point": point_words(row.overrides, short_names(row.overrides)) if searches and row else "",
        "figures": figures_table(ending) if ending.tested else None,
        "front": front_table(ending) if len(ending.objectives) == 2 else None,
        "repeats": _repeats(subject),
        "importances": importance_table(ending.importance, bars=False)
        if searches and ending.importance is not None and ending.importance.shares
        else None,
        "trials": trials_table(subject),
        "pictures": _study_pictures(subject) if searches else [],
        "searches": searches,
        "facts": _facts(subject),
    }


def summary(subject: StudySubject) -> str:
    """Say in a sentence how many trials there were and what the best came to."""
    ending = subject.ending
    told = f"{counts_line(ending.rows)}, in {duration(ending.seconds)}"
    if subject.comparison is not None:
        return f"{told}; it compares, and chooses nothing."
    row = ending.best_row
    if row is None:
        return f"{told}; none has completed."
    return f"{told}; the best is trial {row.number}: {value_words(row.values, ending.objectives)}."


def trials_table(subject: StudySubject) -> TextTable:
    """List the trials by number, at most a thousand of them, the winner marked."""
    ending = subject.ending
    rows = ending.rows
    if len(rows) > MOST_TRIALS:
        rows = best(rows, ending.directions, MOST_TRIALS)
    rows = sorted(rows, key=lambda row: row.number)
    keys = swept_keys(ending.rows)
    names = short_names(keys)
    left_out = len(ending.rows) - len(rows)
    lines = [
        [
            str(row.number),
            end_word(row),
            *map(number, row.values),
            *([MISSING] * (len(ending.objectives) - len(row.values))),
            *(shown_text(row.overrides.get(key)) for key in keys),
            _took(row),
        ]
        for row in rows
    ]
    chosen = None
    if ending.winner is not None and subject.comparison is None:
        chosen = ending.winner.number
    return TextTable(
        title="all trials" if not left_out else f"the best {len(rows):,} trials",
        headings=["trial", "end", *ending.objectives, *(names[key] for key in keys), "time"],
        lines=lines,
        words=frozenset({1}),
        marked=frozenset(n for n, row in enumerate(rows) if row.number == chosen),
        notes=[f"{left_out:,} more are in trials.csv"] if left_out else [],
    )


def _took(row: Row) -> str:
    if row.started is None or row.ended is None:
        return MISSING
    return duration(max(0.0, row.ended - row.started))


def _repeats(subject: StudySubject) -> list[dict[str, Any]]:
    """Return tables and pictures of what was trained with several seeds or folds."""
    found = []
    if subject.comparison is not None:
        sheet = comparison_table(subject.comparison)
        found.append(_repeat("comparison", "Cells over their repeats", subject.comparison, sheet))
    if subject.confirmation is not None:
        objective = subject.ending.objectives[0]
        sheet = confirmed_sheet(
            subject.confirmed,
            objective=objective,
            direction=subject.ending.directions[0],
            default=subject.ending.base_row,
        )
        title = "The winner with several seeds"
        found.append(_repeat("confirmation", title, subject.confirmation, sheet))
    return found


def _repeat(key: str, title: str, comparison: Comparison, sheet: TextTable) -> dict[str, Any]:
    picture = Picture(
        name=key,
        title=f"{title}: mean, 95 % interval and each repeat",
        alt=_words(comparison),
        draw=lambda: comparison_figure(comparison),
    )
    shown = drawn([picture], texts=comparison_names(comparison), prefix=key)
    return {"title": title, "sheet": sheet, "pictures": shown}


def _words(comparison: Comparison) -> str:
    cells = [cell for block in comparison.blocks for cell in block.cells]
    told = []
    for cell in cells[:8]:
        found = cell.spread(comparison.by)
        name = ", ".join(f"{k}={shown_text(v or None)}" for k, v in cell.settings.items())
        if found is not None:
            told.append(f"{name or 'network'} {found.words()} over {found.n}")
    return f"{comparison.by}: {'; '.join(told) or 'none has completed'}"


def _study_pictures(subject: StudySubject) -> list[PagePicture]:
    """Draw what Optuna has to draw; nothing before the first trial has completed."""
    ending = subject.ending
    if not any(row.state == "complete" for row in ending.rows):
        return []
    base = flatten(subject.recorded.ledger.facts.get("base") or {})
    algorithm = str(base.get("trainer.gradient_clip_algorithm") or "norm")
    study, objectives = subject.recorded.study, ending.objectives
    found = pictures(study, ending.rows, objectives, ending.importances, algorithm)
    shown = (_picture(name, draw, subject) for name, draw in found)
    return drawn(shown, texts=texts(ending.rows, objectives))


def _picture(name: str, draw: "Callable[[], Figure]", subject: StudySubject) -> Picture:
    kind, objectives = name.removesuffix("_2"), subject.ending.objectives
    about = objectives[1] if name.endswith("_2") else objectives[0]
    of = f", {about}" if kind in ("history", "importances", "slices") else ""
    title = f"{TITLES.get(kind, kind)}{of}"
    return Picture(name=name, title=title, alt=_told(kind, subject), draw=draw)


def _told(kind: str, subject: StudySubject) -> str:
    ending = subject.ending
    if kind == "importances" and ending.importance is not None and ending.importance.shares:
        shares = list(ending.importance.shares.items())[:MOST_TOLD]
        return f"Most important: {', '.join(f'{name} {share:.0%}' for name, share in shares)}."
    if kind == "pareto_front":
        front = pareto(ending.rows, ending.directions)[:MOST_TOLD]
        told = [
            f"trial {row.number} ({value_words(row.values, ending.objectives)})" for row in front
        ]
        return f"On the front are {'; '.join(told)}."
    complete = sum(row.state == "complete" for row in ending.rows)
    row = ending.best_row
    if row is None:
        return "No trial has completed."
    best_point = point_words(row.overrides, short_names(row.overrides))
    return (
        f"{complete} complete trials; the best is trial {row.number}: "
        f"{value_words(row.values, ending.objectives)}, at {best_point}."
    )


def _facts(subject: StudySubject) -> list[tuple[str, str]]:
    ending = subject.ending
    pairs = zip(ending.objectives, ending.directions, strict=True)
    return [
        ("about", ", ".join(f"{name} ({direction})" for name, direction in pairs)),
        ("varied", ", ".join(swept_keys(ending.rows)) or "nothing yet"),
        ("folder", str(ending.folder.absolute())),
    ]
