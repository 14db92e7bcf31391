"""The last words of a study: counts, the best trials, what mattered, the winner and its command."""

from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.markup import MISSING, TextTable, show
from pipeline.study.ledger.rows import Row, best, pareto
from pipeline.study.outcome.ending import Ending
from pipeline.study.outcome.verdict import verdict
from pipeline.study.outcome.wording import (
    counts_line,
    point_words,
    short_names,
    shown_text,
    swept_keys,
)
from pipeline.terminal import console, duration, number, say

if TYPE_CHECKING:
    from pipeline.study.ledger.importances import Importances

TOP = 5
MOST_ON_FRONT = 20
MOST_COLUMNS = 5
BAR = 24
TEST_METRICS = ("accuracy", "precision", "recall", "f1", "auroc", "rmse", "mae", "r2")


def print_ending(ending: Ending, *, verbose: int | None = None) -> None:
    """Print what a study came to; nothing where `verbose` is 0.

    Args:
        ending: The study.
        verbose: As in the config: 0 is silent.
    """
    if verbose == 0:
        return
    shown = console()
    say(shown, counts_line(ending.rows), style="bold")
    if ending.best_row is not None:
        show(shown, top_table(ending) if len(ending.objectives) == 1 else front_table(ending))
    if ending.importance is not None and ending.importance.shares:
        show(shown, importance_table(ending.importance, bars=shown.is_terminal))
    if ending.tested:
        show(shown, figures_table(ending))
    for line in verdict(ending):
        say(shown, line)
    _print_last_lines(shown, ending)


def top_table(ending: Ending) -> TextTable:
    """List the best trials with their values and parameters."""
    rows = best(ending.rows, ending.directions, TOP)
    return _trial_table(f"best {len(rows)} trials" if len(rows) > 1 else "best trial", rows, ending)


def front_table(ending: Ending) -> TextTable:
    """List the trials that no other beats in both objectives."""
    front = pareto(ending.rows, ending.directions)
    left_out = len(front) - MOST_ON_FRONT
    notes = [f"{left_out} more are in trials.csv"] if left_out > 0 else []
    title = "Pareto front: no trial is better in both"
    return _trial_table(title, front[:MOST_ON_FRONT], ending, notes)


def importance_table(found: "Importances", *, bars: bool) -> TextTable:
    """List the parameters that stand out by their importance, the greatest first.

    Args:
        found: Of the study.
        bars: Draw a bar beside each share.
    """
    most = max(found.shares.values(), default=1.0)
    lines = [
        [
            name,
            f"{share:.0%}",
            f"{found.chance[name]:.0%}",
            *(["█" * round(BAR * share / most)] if bars else []),
        ]
        for name, share in found.shares.items()
    ]
    hidden = f"not above what shuffled objectives reach: {', '.join(found.hidden)}"
    return TextTable(
        title="importance (PED-ANOVA): what sets the best trials apart",
        headings=["parameter", "share", "shuffled", *([""] if bars else [])],
        lines=lines,
        words=frozenset({0, 3}),
        notes=[hidden] if found.hidden else [],
    )


def figures_table(ending: Ending) -> TextTable:
    """Lay the winner's test figures beside the default's and the baselines'."""
    sources = {"winner": ("test", ending.tested)}
    if ending.base_tested and ending.winner and ending.winner.number != ending.base:
        sources["default"] = ("test", ending.base_tested)
    names = dict(zip(("naive", "linear"), ending.baselines, strict=False))
    for kind in ("naive", "linear"):
        if any(key.startswith(f"{kind}/") for key in ending.tested):
            heading = f"{kind}: {names[kind]}" if kind in names else kind
            sources[heading] = (kind, ending.tested)
    lines = []
    for metric in (name for name in TEST_METRICS if f"test/{name}" in ending.tested):
        cells = (values.get(f"{stage}/{metric}") for stage, values in sources.values())
        lines.append([metric, *(MISSING if cell is None else number(cell) for cell in cells)])
    return TextTable(title="the winner, tested once", headings=["test", *sources], lines=lines)


def _trial_table(
    title: str, rows: list[Row], ending: Ending, notes: list[str] | None = None
) -> TextTable:
    keys = swept_keys(rows)
    names = short_names(keys)
    wide = len(keys) > MOST_COLUMNS
    headings = ["rank", "trial", *ending.objectives]
    headings += ["parameters"] if wide else [names[key] for key in keys]
    lines = []
    for rank, row in enumerate(rows, start=1):
        trial = f"{row.number} (default)" if row.number == ending.base else str(row.number)
        point = (
            [point_words(row.overrides, names)]
            if wide
            else [shown_text(row.overrides.get(key)) for key in keys]
        )
        lines.append([str(rank), trial, *map(number, row.values), *point])
    chosen = {
        n for n, row in enumerate(rows) if ending.winner and row.number == ending.winner.number
    }
    return TextTable(
        title=title,
        headings=headings,
        lines=lines,
        words=frozenset({len(headings) - 1} if wide else ()),
        marked=frozenset(chosen),
        notes=notes or [],
    )


def _print_last_lines(shown: Console, ending: Ending) -> None:
    lines = []
    if ending.winner is not None:
        lines.append(f"again   {ending.winner.command}")
        lines.append(f"or      {ending.winner.yaml_command}")
    lines.append(f"took    {duration(ending.seconds)}")
    lines.append(f"study   {ending.folder}")
    for heading, line in zip(("see it", ""), ending.where_to_look, strict=False):
        lines.append(f"{heading:8}{line}")
    lines += [f"note    {note}" for note in ending.notes]
    shown.print("\n".join(lines), soft_wrap=True, markup=False)
