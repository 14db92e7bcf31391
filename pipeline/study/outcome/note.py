"""The note on a study's page in MLflow: its best trials, its pictures, how to repeat the winner."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.markup import TextTable, bullets, markdown_cells
from pipeline.study.outcome.ending import Ending
from pipeline.study.outcome.summary import figures_table, front_table, importance_table, top_table
from pipeline.study.outcome.verdict import verdict
from pipeline.study.outcome.wording import counts_line
from pipeline.tracking.note import (
    as_text,
    command_text,
    fits,
    fitted,
    link,
    name_text,
    picture,
    spaced,
    titled,
)

TELLING = {
    "comparison.png": "The comparison",
    "pareto_front.png": "Pareto front",
    "history.png": "Value of each trial, and the best so far",
    "lr_clip_map.png": "Learning rate and clipping threshold",
    "importances.png": "What sets the best trials apart",
    "parallel_coordinates.png": "Every trial as a line",
    "slices.png": "The value over each parameter",
}
"""Files among a study's artifacts and what they show, the most telling first."""
MOST_SHOWN = 3
FILES = {
    "trials.csv": "all trials",
    "winner/classes.csv": "the winner by class",
    "winner/test_predictions.csv": "its predictions",
    "comparison.csv": "all figures of the comparison",
    "comparison.tex": "the table for LaTeX",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a study's run is in MLflow.

    Args:
        artifacts: Folder of its artifacts.
        run_id: MLflow's id of the study's own run; empty where it is not known.
        experiment_id: MLflow's id of the experiment; empty where it is not known.
    """

    artifacts: Path
    run_id: str
    experiment_id: str


def search_note(ending: Ending, place: Place) -> str:
    """Return the description of a study that has looked for the best, in Markdown."""
    words = [counts_line(ending.rows), *verdict(ending)]
    one = len(ending.objectives) == 1
    sheets = []
    if ending.best_row is not None:
        sheets.append(top_table(ending) if one else front_table(ending))
    if ending.tested:
        sheets.append(figures_table(ending))
    if ending.importance is not None and ending.importance.shares:
        sheets.append(importance_table(ending.importance, bars=False))
    return _note([bullets(map(as_text, words)), _again(ending), *map(_shown, sheets)], place)


def comparison_note(sheet: TextTable, counts: str, place: Place) -> str:
    """Return the description of a study that has compared, in Markdown.

    Args:
        sheet: The comparison as a table.
        counts: How many trials have ended, and how.
        place: Where it is.
    """
    return _note([bullets([as_text(counts)]), _shown(sheet)], place)


def _note(first: Sequence[str], place: Place) -> str:
    """Put the pictures and the links behind, as many as find room."""
    there = [file for file in TELLING if fits(place.artifacts / file)] if place.run_id else []
    shown = there[:MOST_SHOWN]
    parts = [*first, *(_image(file, place) for file in shown), _further(shown, place)]
    return fitted(parts, range(len(parts) - 1, 0, -1))


def _again(ending: Ending) -> str:
    if ending.winner is None:
        return ""
    return titled("The winner again", command_text(ending.winner.command))


def _shown(sheet: TextTable) -> str:
    headings, *lines = markdown_cells(sheet, name_text)
    below = "".join(f"\n\n{as_text(note)}" for note in sheet.notes)
    return titled(sheet.title, f"{spaced(headings, lines)}{below}")


def _image(file: str, place: Place) -> str:
    return titled(TELLING[file], picture(place.run_id, file, TELLING[file]))


def _further(shown: Sequence[str], place: Place) -> str:
    if not (place.run_id and place.experiment_id):
        return ""
    targets = {file: words for file, words in {**TELLING, **FILES}.items() if file not in shown}
    links = [
        link(place.experiment_id, place.run_id, path, words)
        for path, words in targets.items()
        if (place.artifacts / path).is_file()
    ]
    return titled("More", ", ".join(links))
