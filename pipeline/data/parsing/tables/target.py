"""The target of a training table: its task, its classes or values, and how its cells are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from pipeline.base.errors import ConfigError, DataError, typed
from pipeline.data.parsing.cells.class_names import ClassNames
from pipeline.data.parsing.cells.evidence import ColumnEvidence
from pipeline.data.parsing.cells.kind import Grammar
from pipeline.data.parsing.cells.kinds.amount import Amount
from pipeline.data.parsing.cells.kinds.number import PLAIN
from pipeline.data.parsing.cells.texts import (
    AS_CLASSES,
    MISSING,
    Cells,
    all_numbers,
    numbers_or_none,
    shown,
)
from pipeline.data.parsing.labels import TargetKeys, classes_named, listed_classes, usual_positive
from pipeline.data.parsing.tables.roles import Keys
from pipeline.data.parsing.tables.rows import FileRows
from pipeline.data.source import MOST_CLASSES, Array, Task

#: Share of numbers among the cells of a target above which its words are mistakes, not classes.
NUMERIC = 0.2


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """Meaning of the target column.

    Args:
        name: Name of the column.
        task: binary, multiclass or regression.
        grammar: How its cells are read.
        is_turned: See `Samples`.
        counts: Rows of each class in the training file, in the order of names or numbers.
    """

    name: str
    task: Task
    grammar: Grammar
    is_turned: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, the positive one at index 1 of a binary task; or none."""
        return self.grammar.names if isinstance(self.grammar, ClassNames) else ()

    def read(self, cells: Cells) -> tuple[Array, Array]:
        """Return targets (rows,), and whether each cell is empty, bool (rows,)."""
        values = self.grammar.read(cells)
        empty = np.isnan(values)
        if not self.classes:
            return values, empty
        return np.where(empty, -1, values).astype(np.int64), empty


class TargetEvidence(ColumnEvidence):
    """What the cells of the target show; words for missing values count, too."""

    def __init__(self, name: str, keys: Keys, rows: FileRows) -> None:
        super().__init__(name, keys.of_cells(), rows.target_cells)
        self._table = keys
        self.has_fractions = False
        self.has_words = False  # besides those that mark a missing value

    def add(self, cells: Cells) -> None:
        """Add the next batch of cells."""
        self.rows += len(cells.texts)
        self.missing += cells.texts.null_count
        counted = cells.texts.drop_null().value_counts()
        values = numbers_or_none(replace(cells, texts=counted.field("values")))
        if values is None:
            self.has_words = True
        elif not self.has_fractions:
            self.has_fractions = bool(_fractions(values).any())
        self.count(counted)

    def target(self) -> tuple[TargetColumn, list[str]]:
        """Return the meaning of the target, and notes besides `class_note`.

        Raises:
            ConfigError: The key `positive` does not suit the target.
            DataError: The cells do not suit the task.
        """
        # Among numbers, `NA` marks an empty cell and is not a word.
        words = [text for text in self.texts if not all_numbers([text])]
        are_words = len(words) == len(self.texts) or not MISSING.issuperset(words)
        task = self._table.task or self._likely_task(are_words=are_words)
        if task == "regression":
            return self._regression()
        return self._classification(are_words=are_words)

    def _likely_task(self, *, are_words: bool) -> Task:
        fit = self.amounts
        odd = 0
        if fit.odd and not fit.is_open:
            odd = 1 + sum(self.are_odd([*self.texts]))
        if (fit.form or fit.odd) and len(self.texts) - odd > max(MOST_CLASSES, odd):
            return "regression"
        values = {float(text) for text in self.texts if all_numbers([text])}
        words = len(self.texts) - len(values)
        if are_words and len(values) <= max(MOST_CLASSES, words):
            return "multiclass"
        are_whole = not self.has_fractions and all(value.is_integer() for value in values)
        return "multiclass" if are_whole and len(values) <= MOST_CLASSES else "regression"

    def _regression(self) -> tuple[TargetColumn, list[str]]:
        keys = self._table
        form = self.amounts.form
        if form is None and (self.has_words or self.amounts.odd):
            are_amounts = self.amounts.is_open or self.amounts.like
            raise DataError(f"{self.oddity()}, {AS_CLASSES}" if are_amounts else self.oddity())
        if keys.positive is not None:
            raise ConfigError(
                f"data.positive={keys.positive} does not apply to regression; remove it, or set "
                "data.task=binary"
            )
        notes = [] if form is None else [f"read as numbers: {self.reading()}"]
        hint = "" if keys.task else "; data.task=multiclass reads its numbers as classes"
        notes.append(f"task: regression of {self.name!r}{hint}")
        grammar: Grammar = PLAIN if form is None else Amount(**asdict(form))
        return TargetColumn(self.name, "regression", grammar), notes

    def _classification(self, *, are_words: bool) -> tuple[TargetColumn, list[str]]:
        keys = self._table
        counts = self._classes(are_words=are_words)
        if len(counts) < 2:
            problem = "only empty cells; set"
            for name, rows in counts.items():
                problem = (
                    f"one class, {name!r}, in all {rows} rows; expected at least 2 classes, or "
                    "another column:"
                )
            raise DataError(
                f"{keys.path}: the target {self.name!r} has {problem} data.target=COLUMN"
            )
        target_keys = TargetKeys(task=keys.task, positive=keys.positive)
        classes = classes_named(counts, target_keys, what=f"the target {self.name!r}")
        notes = []
        for name in classes.names:
            if name in MISSING:
                notes.append(
                    f"{name!r} in the target {self.name!r} is a class ({self.texts[name]} rows); "
                    "if it means a missing value, empty these cells"
                )
        grammar = ClassNames(names=classes.names, are_words=are_words)
        target = TargetColumn(
            self.name, classes.task, grammar, is_turned=classes.is_turned, counts=counts
        )
        return target, notes

    def _classes(self, *, are_words: bool) -> dict[str, int]:
        """Return the number of rows of each class, in the order of their names or numbers."""
        if not are_words and self.has_fractions:
            raise DataError(
                f"{self._first_fraction()} is not a class; expected words or whole numbers, or "
                "data.task=regression"
            )
        if words := self.free_text():
            numbers = sum(self.texts[text] for text in self.texts if all_numbers([text]))
            has_mistakes = self.has_words and numbers > NUMERIC * self.texts.total()
            if self._table.task is None and has_mistakes:
                raise DataError(self.oddity().removesuffix(f", {AS_CLASSES}"))
            raise DataError(
                f"{self._table.path}: the target {self.name!r} has {words}, so it has no classes; "
                "set data.target=COLUMN"
            )
        if are_words:
            return {name: self.texts[name] for name in sorted(self.texts)}
        by_value: dict[float, Counter[str]] = {}
        for text, count in self.texts.items():
            if text not in MISSING:
                by_value.setdefault(float(text), Counter())[text] += count
        classes = {}
        for value, texts in sorted(by_value.items()):
            name = f"{value:.0f}"
            if len(texts) == 1:  # the file writes this number in one way
                [name] = texts
            classes[name] = texts.total()
        return classes

    def _first_fraction(self) -> str:
        for cells in self._batches(self.name):
            values = numbers_or_none(cells)
            if values is not None and (are_fractions := _fractions(values)).any():
                position = int(are_fractions.argmax())
                return f"{cells.where(position)}: {shown(cells.texts[position].as_py())}"
        raise AssertionError("the target has a fraction")


def _fractions(values: Array) -> Array:
    """Return whether each number has decimals, bool (rows,)."""
    are_fractions: Array = np.isfinite(values) & (values != np.trunc(values))
    return are_fractions


def class_note(target: TargetColumn, keys: Keys, targets: Array) -> str:
    """Return a note on the classes of the training file, whose kept rows have these `targets`."""
    rows = np.bincount(targets, minlength=len(target.classes)).tolist()
    counts = {name: rows[target.classes.index(name)] for name in target.counts}
    note = f"task: {target.task}, {target.name!r}"
    if target.task == "multiclass":
        may_be_values = keys.task is None and all_numbers(target.classes)
        hint = "; data.task=regression takes numbers as values" if may_be_values else ""
        return f"{note} has {listed_classes(counts)}{hint}"
    negative, positive = target.classes
    note += f" is {listed_classes(counts)}; scores are for {positive!r}"
    if keys.positive is not None:
        return note
    _, why = usual_positive(target.counts)
    is_rarer_in_file = why == "the rarer one" and rows[1] > rows[0]
    where = " in the file" if is_rarer_in_file else ""
    return f"{note}, {why}{where}; change with {typed('data.positive', negative)}"
