"""A file in, a table of answers out, a piece at a time; and what it came to, in words."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from pipeline.data.reader import Found, NewRows, Rules, reader_of
from pipeline.errors import ConfigError
from pipeline.serving.answers import answer_names, answered
from pipeline.serving.model import Model
from pipeline.serving.sheets import Column, Sheet

Told = Callable[[int], object]
"""Is told how many rows are done."""


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
        total: Rows in all; None = nobody knows before the end.
    """

    sheet: Sheet
    tally: Tally
    found: Found
    total: int | None


def predictions(model: Model, path: Path, rules: Rules, *, told: Told = bool) -> Predictions:
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
    sheet = Sheet(
        header=(*heading, *names),
        texts=frozenset((*heading, *(names[:1] if is_class else ()))),
        pieces=_pieces(model, rows, tally, what=str(path), told=told),
    )
    return Predictions(sheet=sheet, tally=tally, found=rows.found, total=rows.total)


def _pieces(
    model: Model, rows: NewRows, tally: Tally, *, what: str, told: Told
) -> Iterator[Sequence[Column]]:
    for block in rows.blocks:
        columns = list(answered(model, block, what=what, first_row=tally.rows + 1).values())
        tally.add(columns, classes=model.schema.task != "regression")
        yield columns if block.names is None else [block.names, *columns]
        told(tally.rows)
