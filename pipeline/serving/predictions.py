"""A file in, a table of answers out, a piece at a time; and what it came to, in words."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from pipeline import __version__
from pipeline.data.reader import Found, NewRows, Rules, reader_of
from pipeline.errors import ConfigError, some
from pipeline.serving.answers import answer_names, answered
from pipeline.serving.model import Model
from pipeline.serving.sheets import Column, Sheet
from pipeline.terminal import duration, number

PATIENCE = 2.0
"""Seconds before anything is said of a long command."""
SHOWN = 5
"""Names in a line before "…"."""


class RowsDone:
    """Says on standard error how many rows are done: on one line of a terminal, on many elsewhere.

    Args:
        verbose: 0 silent, 1 a line that is written over, 2 a line each time.
        total: Rows in all; None = not known.
        clock: Gives seconds.
    """

    def __init__(
        self, *, verbose: int, total: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self._verbose = verbose
        self._clock = clock
        self._began = clock()
        self._next = self._began + PATIENCE
        self._said = False

    def __call__(self, rows: int) -> None:
        """Hear how many rows are done; say so if it is time."""
        now = self._clock()
        if self._verbose == 0 or now < self._next:
            return
        self._next = now + (0.5 if self._verbose == 1 else 10.0)
        self._said = True
        of = "" if self.total is None else f" of {self.total:,}"
        spent = now - self._began
        line = f"{rows:,}{of} rows, {rows / spent:,.0f} a second, {duration(spent)}"
        sys.stderr.write(f"\r{line}\x1b[K" if self._verbose == 1 else f"{line}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Take the line away that is written over."""
        if self._said and self._verbose == 1:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the answers come to; complete once the last piece has been taken.

    Args:
        rows: Answers.
        classes: Rows by class.
        lowest: Smallest value of a regression.
        highest: Largest.
    """

    rows: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    lowest: float = inf
    highest: float = -inf

    def add(self, columns: Sequence[Column], *, classes: bool) -> None:
        """Count the answers of a piece: its first column is the class or the value."""
        self.rows += len(columns[0])
        if classes:
            self.classes.update(map(str, columns[0]))
        elif columns[0]:
            values = [float(value) for value in columns[0]]
            self.lowest = min(self.lowest, *values)
            self.highest = max(self.highest, *values)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """The answers for a file.

    Args:
        sheet: Their table, made while it is taken.
        tally: Grows with it.
        found: What was met in the file; grows likewise.
        total: Rows in all; None = not known before the end.
    """

    sheet: Sheet
    tally: Tally
    found: Found
    total: int | None


def predictions(
    model: Model, path: Path, rules: Rules, *, told: Callable[[int], object] = bool
) -> Predictions:
    """Open a file and prepare to answer for its rows.

    Args:
        model: That answers.
        path: A table, arrays, pictures, or the past of a series: what the model was trained on.
        rules: How new rows are taken.
        told: Hears how many rows are done.

    Raises:
        ConfigError: A rule does not go with this kind of data.
        DataError: The file can't be used, or, while the sheet is taken, a row.
    """
    names, tally = answer_names(model), Tally()
    rows = reader_of(model.schema).open(path, rules, size=model.block_rows)
    heading = () if rows.heading is None else (rows.heading,)
    if rows.heading in names:
        raise ConfigError(
            f"the column {rows.heading!r} of {path} has the name of an answer; rename it, or name "
            "the rows by another: id=COLUMN"
        )
    is_class = model.schema.task != "regression"

    def pieces(opened: NewRows) -> Iterator[Sequence[Column]]:
        for block in opened.blocks:
            found = answered(model, block, what=str(path), first_row=tally.rows + 1)
            columns = list(found.values())
            tally.add(columns, classes=is_class)
            yield columns if block.names is None else [block.names, *columns]
            told(tally.rows)

    sheet = Sheet(
        header=(*heading, *names),
        texts=frozenset((*heading, *(names[:1] if is_class else ()))),
        pieces=pieces(rows),
    )
    return Predictions(sheet=sheet, tally=tally, found=rows.found, total=rows.total)


def summary(model: Model, done: Predictions, *, place: str | None) -> list[str]:
    """Return what predictions came to, in one line, and what is worth knowing, in another.

    Args:
        model: That has answered.
        done: Its answers, all taken.
        place: The file that they are in; None = standard output.
    """
    rows = done.tally.rows
    outcome = f": {_outcome(model, done.tally)}" if rows else ""
    where = "" if place is None else f" in {place}"
    lines = [f"{rows:,} {'row' if rows == 1 else 'rows'}{where}{outcome}"]
    if notes := "; ".join(_notes(model, done.found)):
        lines.append(f"note: {notes}")
    return lines


def _outcome(model: Model, tally: Tally) -> str:
    schema, decision = model.schema, model.decision
    if schema.task == "regression":
        units = f" {schema.units}" if schema.units else ""
        return f"from {number(tally.lowest)} to {number(tally.highest)}{units}"
    if schema.task == "multiclass":
        return _counted(tally.classes)
    chosen = "" if decision.rule == str(decision.threshold) else f", by {decision.rule}"
    line = f" ({schema.positive} above a probability of {decision.threshold:.4g}{chosen})"
    return _counted(tally.classes) + line


def _notes(model: Model, found: Found) -> Iterator[str]:
    if found.unknown:
        yield f"categories unknown to the training count as other: {_counted(found.unknown)}"
    if found.missing:
        yield f"missing cells filled in as in training: {_counted(found.missing)}"
    if found.ignored:
        yield f"columns the model does not know: {some(found.ignored, most=SHOWN)}"
    yield from found.gaps
    version = model.facts.get("version")
    if version != __version__:
        yield f"the model was written by pipeline {version}; this is {__version__}"


def _counted(numbers: Counter[str]) -> str:
    return some([f"{name} {count:,}" for name, count in numbers.most_common()], most=SHOWN)
