"""Tables and texts for a terminal, a pipe, Markdown and LaTeX."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from math import isclose
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from rich.cells import cell_len
from rich.console import Console

from pipeline.base.streams import single_line
from pipeline.base.terminal import console, rounded, say, significant

if TYPE_CHECKING:
    from rich.table import Table

MISSING = "–"
NO_INTERVAL = (
    f"{MISSING}: no interval: all bootstrap samples give this value, or the test rows are too few "
    "or too many for this metric"
)
#: Part of the width of an interval, or of its ends, that is an error of rounding.
ROUNDING = 1e-6
#: Lines of a list in a terminal, unless it is given a limit.
SHORT_LIST = 20

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
    "[": "{[}",  # LaTeX would read a bracket after \\ as its argument
    "]": "{]}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "…": r"\dots{}",
    "²": r"\textsuperscript{2}",
    "\n": " ",
}
_MINUS = re.compile(r"(?<![\w.-])-(?=\d)")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
#: What Markdown would read as markup; an underscore within a word is none.
_SIGNS = re.compile(r"([\\`*\[\]#|~$]|^[+-]|(?<![^\W_])_|_(?![^\W_]))")
_FIRST = frozenset({0})


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A table whose cells are texts.

    Args:
        title: What the table shows.
        headings: Heading of each column.
        lines: Cells of each line, one for each column.
        words: Indices of the columns that hold words and are set to the left; others hold numbers.
        marked: Indices of the lines in bold.
        parts: Indices of the lines that begin a new part.
        notes: Sentences below the table.
    """

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    words: frozenset[int] = _FIRST
    marked: frozenset[int] = frozenset()
    parts: frozenset[int] = frozenset()
    notes: Sequence[str] = ()


class Command(NamedTuple):
    """A command, or part of one, that is shown as it stands."""

    text: str


class Section(NamedTuple):
    """A titled part of a document.

    Args:
        title: Its heading.
        blocks: Sentences, tables, commands, lists, facts by name, and sections of a lower level.
    """

    title: str
    blocks: "Sequence[Block]"


Block: TypeAlias = str | TextTable | Command | Section | Mapping[str, str] | Sequence[str | Command]


def sentence(text: str) -> str:
    """Begin a text with a capital letter and end it with a full stop, unless it ends with `:`."""
    if text.partition(" ")[0].rstrip(",:;").isalpha():  # no `val/f1`
        text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."


def interval_text(ends: Sequence[float] | None) -> str:
    """Write both ends of an interval, or `–` if there is none or it has no width.

    Resampling a single row, or rows that are all right, changes no figure; that is not certainty.
    """
    if ends is None or isclose(*ends, rel_tol=ROUNDING):
        return MISSING
    low, high = ends
    smallest = ROUNDING * (high - low)
    texts = []
    for end in (low, high):
        text = rounded(end, (low, high))
        # An end that rounds to zero keeps a digit, which shows on which side of zero it lies.
        if not text.strip("0.") and abs(end) > smallest:
            text = significant(end, 1)
        texts.append(text)
    return (" to " if low < 0 else "–").join(texts)


def score_rows(
    values: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    names: Iterable[str],
    baselines: Iterable[str],
) -> list[list[str]]:
    """Return a line for each metric: name, the network's value, interval, the baselines' values.

    Args:
        values: Metrics by name: `test/f1`, `naive/f1`, …
        intervals: 95 % intervals of the network's metrics by name: `f1`, …
        names: Names of the metrics.
        baselines: Names of the baselines.
    """
    kinds = ("test", *baselines)
    lines = []
    for name in names:
        ends = intervals.get(name)
        cells = []
        for kind in kinds:
            value = values.get(f"{kind}/{name}")
            cells.append(MISSING if value is None else rounded(value, ends))
        lines.append([name, cells[0], interval_text(ends), *cells[1:]])
    return lines


def show(output: Console, table: TextTable) -> None:
    """Print a table: with bold lines in a terminal, as aligned lines elsewhere."""
    table = replace(
        table,
        title=single_line(table.title),
        headings=list(map(single_line, table.headings)),
        lines=[list(map(single_line, line)) for line in table.lines],
    )
    if output.is_terminal:
        say(output, table.title, style="bold")
        output.print(_styled(table))
    else:
        output.print("\n".join(aligned(table)), soft_wrap=True, markup=False)
    for note in table.notes:
        say(output, note, style="dim")


def print_rows(
    lines: Sequence[Mapping[str, str]], *, limit: int | None, hidden: Set[str] = frozenset()
) -> None:
    """Print cells by heading: as a table in a terminal, as tab-separated lines in a pipe.

    Args:
        lines: At least one line; all have the same headings.
        limit: Largest number of lines; `None` = 20 in a terminal, else all.
        hidden: Headings of the columns that a terminal leaves out.
    """
    short = sys.stdout.isatty()
    most = limit or (SHORT_LIST if short else len(lines))
    headings = [heading for heading in lines[0] if not (short and heading in hidden)]
    rows = []
    for line in lines[:most]:
        rows.append([single_line(line[heading]) for heading in headings])
    if not short:
        print("\n".join(map("\t".join, [headings, *rows])))
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")  # shortened, two names could look the same
    for row in rows:
        table.add_row(*row)
    console().print(table)
    if most < len(lines):
        print(f"{most} of {len(lines)}; show all with limit={len(lines)}")


def _styled(table: TextTable) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    styled = Table(box=None, pad_edge=False)
    for column, heading in enumerate(table.headings):
        styled.add_column(
            escape(heading), justify="left" if column in table.words else "right", overflow="fold"
        )
    for number, line in enumerate(table.lines):
        if number and number in table.parts:
            styled.add_row()
        styled.add_row(*map(escape, line), style="bold" if number in table.marked else None)
    return styled


def aligned(table: TextTable) -> list[str]:
    """Return the title, then the lines of a table with aligned columns."""
    columns = []
    for number, column in enumerate(zip(table.headings, *table.lines, strict=True)):
        width = max(map(cell_len, column))
        cells = []
        for text in column:
            gap = " " * (width - cell_len(text))
            cells.append(text + gap if number in table.words else gap + text)
        columns.append(cells)
    lines = ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
    return [table.title, *lines]


def latex(table: TextTable) -> str:
    """Return a table as LaTeX, which needs the package booktabs."""
    numbers = range(len(table.headings))
    columns = "".join("l" if number in table.words else "r" for number in numbers)
    body = [_latex_row(table.headings), r"\midrule"]
    for number, line in enumerate(table.lines):
        if number in table.parts and number:
            body.append(r"\midrule")
        body.append(_latex_row(line, bold=number in table.marked))
    notes = (f"% {' '.join(note.split())}" for note in table.notes)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_replaced(table.title, _LATEX)}}}",
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


def _latex_row(line: Iterable[str], *, bold: bool = False) -> str:
    cells = []
    for text in line:
        cell = _MINUS.sub("$-$", _replaced(text, _LATEX))
        cells.append(rf"\textbf{{{cell}}}" if bold and cell else cell)
    return " & ".join(cells) + r" \\"


def as_markdown(block: Block, *, level: int = 1) -> str:
    """Return a part of a document as Markdown, with headings from `level` on."""
    match block:
        case Section(title, blocks):
            heading = f"{'#' * level} {escaped(title)}"
            parts = [as_markdown(part, level=level + 1) for part in blocks]
            return "\n\n".join([heading, *filter(None, parts)])
        case TextTable(title=title, notes=notes):
            table = markdown_table(block, escaped)
            return "\n\n".join([escaped(title), table, *map(escaped, notes)])
        case Command(text):
            return fenced(text, "sh")
        case str():
            return escaped(sentence(block))
        case Mapping():
            return bullets(escaped(f"{name}: {text}") for name, text in block.items())
    items = [f"`{item.text}`" if isinstance(item, Command) else escaped(item) for item in block]
    return bullets(items)


def markdown_table(table: TextTable, safe: Callable[[str], str], *, gap: str = "") -> str:
    """Return headings and lines of a table as Markdown, with bold cells in marked lines.

    `safe` escapes a text, so that Markdown shows it unchanged; `gap` follows each cell.
    """
    rule = [":---" if column in table.words else "---:" for column in range(len(table.headings))]
    rows = [[f"{safe(heading)}{gap}" for heading in table.headings], rule]
    for number, line in enumerate(table.lines):
        bold = "**" if number in table.marked else ""
        cells = [f"{bold}{safe(cell)}{bold}" if cell else "" for cell in line]
        rows.append([f"{cell}{gap}" for cell in cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def escaped(text: str) -> str:
    """Return Markdown that shows a text unchanged, on one line."""
    return _SIGNS.sub(r"\\\1", _replaced(plain(text), _HTML))


def plain(text: str) -> str:
    """Return a text on one line, without signs that would move a terminal's cursor."""
    line = " ".join(text.split())
    return "".join(sign if sign.isprintable() else "�" for sign in line)


def fenced(text: str, language: str = "") -> str:
    """Return a text as a block of code, whatever it holds."""
    longest = max(map(len, re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def bullets(lines: Iterable[str]) -> str:
    """Return Markdown lines as a list."""
    return "\n".join(f"- {line}" for line in lines)


def _replaced(text: str, signs: Mapping[str, str]) -> str:
    return "".join(signs.get(sign, sign) for sign in text)
