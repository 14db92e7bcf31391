"""What a preflight tells: tables of what would run, and a line for each reason why not."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipeline.markup import MISSING, TextTable
from pipeline.redaction import redact_word
from pipeline.study.outcome.wording import point_words, short_names
from pipeline.study.preflight.rehearsals import OWN, Cell, Found, Part, Verdict

SHOWN: Mapping[Verdict, str] = {"ok": "ok", "skipped": "skip", "misfit": MISSING, "fails": "FAILS"}
HEADINGS: Mapping[Part, str] = {"pairs": "data", "experiments": "experiment", "sweeps": "sweeps"}
TITLES: Mapping[Part, str] = {
    "pairs": "models × data",
    "experiments": "experiments",
    "sweeps": "sweeps × models",
}
NOTES: Mapping[Verdict, str] = {
    "skipped": "skip: sweep.preflight_skip says that they don't fit",
    "misfit": f"{MISSING} no failure: the model reads other data, lacks a varied key, or is varied",
}
NAMED = 3
"""Places that are named before the rest is counted."""
_WORST = tuple(SHOWN)


class Report:
    """Collects what came of each run."""

    def __init__(self) -> None:
        self._verdicts: dict[Cell, Verdict] = {}
        self._points: Counter[Cell] = Counter()
        self._failures: dict[str, list[Found]] = {}

    @property
    def failing(self) -> list[Cell]:
        """The cells that would fail."""
        return [cell for cell, verdict in self._verdicts.items() if verdict == "fails"]

    @property
    def size(self) -> int:
        """How many cells there are."""
        return len(self._verdicts)

    def expect(self, cell: Cell) -> None:
        """Give a cell its place before anything is known of it, once for each of its points."""
        self._verdicts.setdefault(cell, "ok")
        self._points[cell] += 1

    def note(self, found: Found) -> None:
        """Take what came of a run; of several in one cell the worst counts."""
        before = self._verdicts.get(found.cell, "ok")
        self._verdicts[found.cell] = max(before, found.verdict, key=_WORST.index)
        if found.verdict == "fails":
            self._failures.setdefault(found.message, []).append(found)

    def sheets(self) -> Iterator[TextTable]:
        """Yield a table for each part of which there is anything."""
        for part in TITLES:
            cells = {cell: shown for cell, shown in self._verdicts.items() if cell.part == part}
            if cells:
                yield _sheet(part, cells)

    def lines(self) -> list[str]:
        """Return a line for each reason for which something fails: what, and why."""
        return [
            f"{self._places(found)}: {message}{found[0].hint}"
            for message, found in self._failures.items()
        ]

    def _places(self, failures: Sequence[Found]) -> str:
        """Name what fails for one and the same reason: whole rows and columns, else cells."""
        left = list(dict.fromkeys(found.cell for found in failures))
        named: list[str] = []
        for line in self._rows_and_columns():
            if all(cell in left for cell in line):
                named.append(_shared_word(line))
                left = [cell for cell in left if cell not in line]
        named += [self._place(cell, [one for one in failures if one.cell == cell]) for cell in left]
        named = list(dict.fromkeys(named))
        more = len(named) - NAMED
        return ", ".join(named[:NAMED]) + (f" and {more} more" if more > 0 else "")

    def _rows_and_columns(self) -> list[list[Cell]]:
        """Return the cells of each row and of each column that has several of a model each."""
        lines: dict[tuple[str, ...], list[Cell]] = {}
        for heading in ("row", "column"):
            for cell in self._verdicts:
                if cell.column != OWN:
                    key = (cell.part, heading, getattr(cell, heading))
                    lines.setdefault(key, []).append(cell)
        return [line for line in lines.values() if len(line) > 1]

    def _place(self, cell: Cell, failures: Sequence[Found]) -> str:
        """Name a cell, and its first failing point where others do not fail."""
        point = failures[0].point
        if not point or len(failures) == self._points[cell]:
            return cell.words
        return f"{cell.words} where {point_words(point, short_names(point))}"


def _shared_word(line: Sequence[Cell]) -> str:
    """Return what is typed for every cell of a row or a column."""
    first, *others = (cell.words.split() for cell in line)
    return next(word for word in first if all(word in other for other in others))


def _sheet(part: Part, cells: Mapping[Cell, Verdict]) -> TextTable:
    rows = list(dict.fromkeys(cell.row for cell in cells))
    columns = sorted(dict.fromkeys(cell.column for cell in cells), key=lambda one: one == OWN)
    shown = {(cell.row, cell.column): SHOWN[verdict] for cell, verdict in cells.items()}
    lines = [[row, *(shown.get((row, column), "") for column in columns)] for row in rows]
    return TextTable(
        title=TITLES[part],
        headings=[HEADINGS[part], *columns],
        lines=lines,
        words=frozenset(range(len(columns) + 1)),
        notes=[note for verdict, note in NOTES.items() if verdict in cells.values()],
    )


def command_words(words: Sequence[str], found: Found, config_dir: str | None) -> str:
    """Return the command that shows by itself where an error comes from.

    Args:
        words: Overrides of the preflight's command line.
        found: What fails.
        config_dir: A folder of the user's own YAML.
    """
    folder = [] if config_dir is None else ["--config-dir", config_dir]
    of_cell = [word for word in found.cell.words.split() if not word.startswith("sweeps=")]
    of_run = [word for word in words if not word.startswith("sweep.") and word not in of_cell]
    point = [f"{key}={text}" for key, text in found.point.items()]
    words = [*folder, *of_run, *of_cell, *point, "debug=default", "traceback=true"]
    return f"python -m pipeline.train {shlex.join(map(redact_word, words))}"
