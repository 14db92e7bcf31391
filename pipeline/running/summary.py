"""The last words of a run: its result table and where to look."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from pipeline.metrics import ClassScores
from pipeline.running.results import Result, macro_footnote, result_table
from pipeline.terminal import console, duration, number, say

MARGIN = 8
"""Columns of the words before a line."""


def print_result(result: Result) -> None:
    """Print the test figures beside the baselines', the classes, and where everything lies."""
    shown = console()
    if result.baselines:
        shown.print(result_table(result))
    if result.classes:
        shown.print(class_table(result.classes))
    if len(result.classes) > 2:
        say(shown, macro_footnote(result.metrics), style="dim")
    print_doctor(result.doctor)
    shown.print("\n".join(_last_lines(result)), soft_wrap=True, markup=False)


def print_doctor(lines: Sequence[str]) -> None:
    """Print what the doctor says; in a terminal its words stay beside the heading."""
    shown = console()
    for line in lines:
        if not shown.is_terminal:
            say(shown, line)
            continue
        grid = Table.grid(padding=(0, 1))
        grid.add_row(f"{line[:MARGIN].rstrip():{MARGIN - 1}}", escape(line[MARGIN:]))
        shown.print(grid)


def class_table(classes: Sequence[ClassScores]) -> Table:
    """List each class with its counts, precision, recall, F1 and support."""
    table = Table(title="by class", title_justify="left", title_style="bold")
    table.add_column("class")
    for heading in ("TP", "FP", "TN", "FN", "precision", "recall", "F1", "support"):
        table.add_column(heading, justify="right")
    for scores in classes:
        shares = (scores.precision, scores.recall, scores.f1)
        cells = [*map(str, scores.counts), *map(number, shares), str(scores.support)]
        table.add_row(escape(scores.name), *cells)
    return table


def _threshold(result: Result) -> str:
    chosen = f"{number(result.decision.threshold)} ({result.decision.found})"
    return f"threshold {chosen}{'; the baselines keep 0.5' if result.baselines else ''}"


def _last_lines(result: Result) -> list[str]:
    lines = []
    if "best/epoch" in result.metrics:
        lines.append(f"kept    epoch {result.metrics['best/epoch']:.0f} of {result.epochs}")
    if result.decision.found:
        lines.append(_threshold(result))
    took = f"{duration(result.seconds)}, {duration(result.metrics['time/fit'])} of it training"
    lines.append(f"took    {took}")
    lines.append(f"run     {result.folder}")
    if result.registered is not None:
        lines.append(f"model   {result.registered}")
    return [*lines, *where_lines(result.where_to_look, unsent=result.unsent)]


def where_lines(where_to_look: Sequence[str], *, unsent: int) -> list[str]:
    """Say what shows the runs, and how many values do not show yet."""
    headed = zip(("see it", ""), where_to_look, strict=False)
    lines = [f"{heading:8}{line}" for heading, line in headed]
    if unsent:
        lines.append(
            f"unsent  {unsent} values wait in the run folder; the warning names the command that "
            "sends them"
        )
    return lines
