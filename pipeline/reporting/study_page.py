"""What stands in the report of a study."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.config.record import flatten
from pipeline.markup import MISSING, TextTable
from pipeline.pictures.picture import Picture
from pipeline.reporting.figures import Shown, drawn
from pipeline.reporting.study_subject import StudySubject
from pipeline.study.ledger.ranking import best, pareto
from pipeline.study.ledger.rows import Row
from pipeline.study.outcome.comparison import Comparison
from pipeline.study.outcome.comparison_picture import comparison_figure, comparison_names
from pipeline.study.outcome.comparison_table import comparison_table, confirmed_sheet
from pipeline.study.outcome.pictures import pictures, texts
from pipeline.study.outcome.summary import figures_table, front_table, importance_table
from pipeline.study.outcome.verdict import verdict
from pipeline.study.outcome.wording import (
    counts_line,
    end_word,
    point_words,
    short_names,
    shown_text,
    swept_keys,
    value_words,
)
from pipeline.terminal import duration, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


def study_page(subject: StudySubject) -> dict[str, Any]:
    """Return what the template of a study's report asks for."""
    ending = subject.ending
    searches = subject.comparison is None
    return {
        "title": f"study {subject.name}",
        "summary": summary(subject),
        "verdict": verdict(ending) if searches else [],
        "command": "" if ending.winner is None or not searches else ending.winner.command,
        "point": _point(subject) if searches else "",
        "figures": figures_table(ending) if ending.tested else None,
        "front": front_table(ending) if len(ending.objectives) == 2 else None,
        "repeats": _repeats(subject),
        "importances": importance_table(ending.importance, bars=False)
        if searches and ending.importance is not None and ending.importance.shares
        else None,
        "trials": trials_sheet(subject),
        "pictures": _drawn(subject) if searches else [],
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


def trials_sheet(subject: StudySubject) -> TextTable:
    """List the trials by number, at most a thousand of them, the winner marked."""
    ending = subject.ending
    rows = sorted(_shown(ending.rows, subject), key=lambda row: row.number)
    keys = swept_keys(ending.rows)
    names = short_names(keys)
    left_out = len(ending.rows) - len(rows)
    lines = [
        [
            str(row.number),
            end_word(row),
            *_values(row, len(ending.objectives)),
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


def _shown(rows: Sequence[Row], subject: StudySubject) -> Sequence[Row]:
    if len(rows) <= MOST_TRIALS:
        return rows
    return best(rows, subject.ending.directions, MOST_TRIALS)


def _values(row: Row, count: int) -> list[str]:
    return [*map(number, row.values), *([MISSING] * (count - len(row.values)))]


def _took(row: Row) -> str:
    if row.started is None or row.ended is None:
        return MISSING
    return duration(max(0.0, row.ended - row.started))


def _point(subject: StudySubject) -> str:
    row = subject.ending.best_row
    return "" if row is None else point_words(row.overrides, short_names(row.overrides))


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


def _drawn(subject: StudySubject) -> list[Shown]:
    """Draw what Optuna has to draw; nothing before the first trial has completed."""
    if not any(row.state == "complete" for row in subject.rows):
        return []
    return drawn(_pictures(subject), texts=texts(subject.rows, subject.ending.objectives))


def _pictures(subject: StudySubject) -> Iterator[Picture]:
    ending, study = subject.ending, subject.recorded.study
    algorithm = flatten(subject.recorded.ledger.facts.get("base") or {}).get(
        "trainer.gradient_clip_algorithm"
    )
    told = (ending.objectives, ending.importances, str(algorithm or "norm"))
    for name, draw in pictures(study, ending.rows, *told):
        yield _picture(name, draw, subject)


def _picture(name: str, draw: "Callable[[], Figure]", subject: StudySubject) -> Picture:
    stem, _, second = name.rpartition("_")
    kind, objective = (stem, 1) if second == "2" else (name, 0)
    objectives = subject.ending.objectives
    about = objectives[objective] if len(objectives) > objective else ""
    of = f", {about}" if kind in ("history", "importances", "slices") else ""
    return Picture(
        name=name,
        title=f"{TITLES.get(kind, kind)}{of}",
        alt=_told(kind, subject),
        draw=draw,
    )


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
