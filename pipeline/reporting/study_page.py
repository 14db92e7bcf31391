"""The report of a study."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.base.markup import MISSING, Section, TextTable
from pipeline.base.terminal import duration
from pipeline.config.plain import flatten
from pipeline.reporting.page import PagePicture, draw_pictures
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.rows import Row, best, state_word
from pipeline.study.outcome import comparison as comparisons
from pipeline.study.outcome import comparison_picture, comparison_tables, pictures
from pipeline.study.outcome import summary as outcome
from pipeline.study.outcome.comparison import Comparison
from pipeline.study.outcome.summary import StudySummary

#: Most rows in the table of trials; of more trials, the best are shown.
MOST_TRIALS = 1000


def study_page(
    recorded: Ledger, summary: StudySummary, confirmation: Ledger | None
) -> dict[str, Any]:
    """Return the values for the template; `confirmation` is the study of the winner over seeds."""
    confirm_rows: Sequence[Row] = ()
    confirm_comparison = None
    if confirmation is not None:
        confirm_rows = confirmation.trials()
        confirm_comparison = _comparison(confirmation, confirm_rows)
    summary = replace(summary, confirm_seeds=len(confirm_rows))
    comparison = _comparison(recorded, summary.rows)
    searches = comparison is None
    repeats = []
    if comparison is not None:
        table = comparison_tables.comparison_table(comparison)
        repeats.append(_repeat("comparison", "Comparison over repeats", comparison, table))
    if confirm_comparison is not None:
        objective = recorded.objectives[0]
        table = comparison_tables.confirmation_table(confirm_rows, objective, summary.base_row)
        title = "Best trial with several seeds"
        repeats.append(_repeat("confirmation", title, confirm_comparison, table))
    if comparison is None:
        blocks = [outcome.verdict(summary), *outcome.search_blocks(summary)]
        words = _summary_words(summary)
    else:
        lines = comparisons.outcome_lines(comparison)
        blocks = [lines]
        words = f"{'. '.join((*lines, outcome.counts_line(summary.rows)))}."
    pairs = zip(summary.objectives, summary.directions, strict=True)
    facts = {
        "objective": ", ".join(f"{name} ({direction})" for name, direction in pairs),
        "parameters": ", ".join(outcome.swept_keys(summary.rows)) or "none yet",
        "folder": str(summary.folder.absolute()),
    }
    return {
        "title": f"study {recorded.name}",
        "summary": words,
        "outcome": Section("Outcome", [*blocks, facts]),
        "repeats": repeats,
        "trials": trials_table(summary, marked=summary.winner if searches else None),
        "pictures": _pictures(recorded, summary) if searches else [],
        "searches": searches,
    }


def _comparison(recorded: Ledger, rows: Sequence[Row]) -> Comparison | None:
    """Return the comparison over seeds or folds in a study; `None` if it repeats nothing."""
    if set(comparisons.REPEATED).isdisjoint(outcome.swept_keys(rows)):
        return None
    return comparisons.compare(rows, recorded.objectives[0])


def _summary_words(summary: StudySummary) -> str:
    counts = outcome.counts_line(summary.rows)
    row = summary.best_row
    if row is None:
        return f"{counts}; no trial is complete."
    return f"{counts}; best: trial {row.number} with {summary.values_of(row)}."


def trials_table(summary: StudySummary, *, marked: int | None) -> TextTable:
    """Return a table of the trials by number; of more than a thousand, of the best ones.

    `marked` is the number of the trial to highlight; `None` = none.
    """
    rows = summary.rows
    if len(rows) > MOST_TRIALS:
        rows = best(rows, summary.directions, MOST_TRIALS)
    rows = sorted(rows, key=lambda row: row.number)
    keys = outcome.swept_keys(summary.rows)
    left_out = len(summary.rows) - len(rows)
    lines = []
    for row in rows:
        time = MISSING
        if row.started is not None and row.ended is not None:
            time = duration(max(0.0, row.ended - row.started))
        values = [*map(outcome.value_text, summary.objectives, row.values)]
        if not values:
            values = [MISSING] * len(summary.objectives)
        parameters = [outcome.shown_text(row.overrides.get(key)) for key in keys]
        lines.append([str(row.number), state_word(row.state), *values, *parameters, time])
    notes = [f"{left_out:,} more trials are in trials.csv"] if left_out else []
    if any(MISSING in line for line in lines):
        notes.append(f"{MISSING}: the trial did not complete, or does not have this parameter")
    return TextTable(
        title="all trials" if not left_out else f"the best {len(rows):,} trials",
        headings=["trial", "end", *summary.objectives, *outcome.short_names(keys).values(), "time"],
        lines=lines,
        words=frozenset({1}),
        marked=frozenset(index for index, row in enumerate(rows) if row.number == marked),
        notes=notes,
    )


def _repeat(key: str, title: str, comparison: Comparison, table: TextTable) -> dict[str, Any]:
    picture_title = f"{title}: mean, 95 % CI and single repeats"
    picture = comparison_picture.comparison_picture(comparison, key, title=picture_title)
    elements = draw_pictures([picture], texts=comparison_picture.comparison_names(comparison))
    return {"title": title, "sheet": table, "pictures": elements}


def _pictures(recorded: Ledger, summary: StudySummary) -> list[PagePicture]:
    """Draw the pictures of a study; none before the first trial has completed."""
    base = flatten(recorded.facts.get("base") or {})
    algorithm = str(base.get("trainer.gradient_clip_algorithm") or "norm")
    study_pictures = list(pictures.study_pictures(summary, algorithm))
    if not study_pictures:
        return []
    return draw_pictures(study_pictures, texts=pictures.study_names(summary))
