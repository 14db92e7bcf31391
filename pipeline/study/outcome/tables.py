"""One table for every reader: a terminal, a pipe, Markdown, LaTeX."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import HEAVY_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.terminal import say

MISSING = "–"

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ a bracket would be read as its argument
    "]": "{]}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "…": r"\dots{}",
    "²": r"\textsuperscript{2}",
    "\n": " ",
}
_MINUS = re.compile(r"(?<![\w.])-(?=\d)")
_MARKDOWN = {"\\": "\\\\", "|": "\\|", "*": "\\*", "`": "\\`", "<": "&lt;", "\n": " "}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table as texts.

    Args:
        title: What it shows.
        headings: A word a column.
        lines: Texts, as many a line as there are columns.
        words: Numbers of the columns that hold words, set to the left; the others hold numbers.
        marked: Numbers of the lines that are set bold.
        parts: Numbers of the lines that a new part begins with.
        notes: Sentences below it.
    """

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset({0})
    marked: frozenset[int] = frozenset()
    parts: frozenset[int] = frozenset()
    notes: Sequence[str] = ()


def show(shown: Console, sheet: Sheet) -> None:
    """Print a table: framed in a terminal, as plain aligned lines elsewhere."""
    if shown.is_terminal:
        shown.print(framed(sheet))
    else:
        shown.print("\n".join(aligned(sheet)), soft_wrap=True, markup=False)
    for note in sheet.notes:
        say(shown, note, style="dim")


def framed(sheet: Sheet) -> Table:
    """Draw a table for a terminal."""
    table = Table(
        title=escape(sheet.title), title_justify="left", title_style="bold", box=HEAVY_HEAD
    )
    for column, heading in enumerate(sheet.headings):
        table.add_column(
            escape(heading), justify="left" if column in sheet.words else "right", overflow="fold"
        )
    for number, line in enumerate(sheet.lines):
        if number in sheet.parts:
            table.add_section()
        table.add_row(*map(escape, line), style="bold" if number in sheet.marked else None)
    return table


def aligned(sheet: Sheet) -> list[str]:
    """Write a table as lines whose columns stand below each other."""
    everything = [sheet.headings, *sheet.lines]
    widths = [max(map(cell_len, column)) for column in zip(*everything, strict=True)]
    return [sheet.title, *(_aligned(line, widths, sheet.words) for line in everything)]


def markdown(sheet: Sheet) -> str:
    """Write a table as Markdown."""
    sides = [":--" if column in sheet.words else "--:" for column in range(len(sheet.headings))]
    lines = [
        [f"**{text}**" if number in sheet.marked and text else text for text in _escaped(line)]
        for number, line in enumerate(sheet.lines)
    ]
    rows = (_piped(cells) for cells in (_escaped(sheet.headings), sides, *lines))
    notes = "".join(f"\n{_replaced(note, _MARKDOWN)}\n" for note in sheet.notes)
    return f"{_replaced(sheet.title, _MARKDOWN)}\n\n" + "\n".join(rows) + f"\n{notes}"


def latex(sheet: Sheet) -> str:
    """Write a table as LaTeX; it needs the package booktabs."""
    columns = "".join("l" if n in sheet.words else "r" for n in range(len(sheet.headings)))
    body = [_row(sheet.headings), r"\midrule"]
    for number, line in enumerate(sheet.lines):
        if number in sheet.parts and number:
            body.append(r"\midrule")
        body.append(_row(line, bold=number in sheet.marked))
    notes = (f"% {' '.join(note.split())}" for note in sheet.notes)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_replaced(sheet.title, _LATEX)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def _aligned(line: Sequence[str], widths: Sequence[int], words: frozenset[int]) -> str:
    cells = []
    for column, (text, width) in enumerate(zip(line, widths, strict=True)):
        padding = " " * (width - cell_len(text))
        cells.append(text + padding if column in words else padding + text)
    return "  ".join(cells).rstrip()


def _row(line: Iterable[str], *, bold: bool = False) -> str:
    cells = (_MINUS.sub("$-$", _replaced(text, _LATEX)) for text in line)
    return " & ".join(rf"\textbf{{{cell}}}" if bold and cell else cell for cell in cells) + r" \\"


def _escaped(line: Iterable[str]) -> list[str]:
    return [_replaced(text, _MARKDOWN) for text in line]


def _piped(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _replaced(text: str, signs: dict[str, str]) -> str:
    return "".join(signs.get(sign, sign) for sign in text)
