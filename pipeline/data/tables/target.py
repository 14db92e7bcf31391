"""What is to be predicted: the task, the classes and the positive one, found from the target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.labels import unknown_positive
from pipeline.data.source import MOST_CLASSES, Array, Task
from pipeline.data.tables.cells import (
    MISSING,
    all_numbers,
    are_missing,
    class_index,
    class_indices,
    numbers,
    numbers_or_none,
    present,
    word_problem,
)
from pipeline.data.tables.columns import MOST_LEVELS, Keys, free_text
from pipeline.data.tables.file import Place, shown
from pipeline.errors import ConfigError, DataError, some

if TYPE_CHECKING:
    import pyarrow as pa

AS_CLASSES = "or take its words as classes: data.task=multiclass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the target column means.

    Args:
        name: Of the column.
        task: What is to be predicted.
        classes: Their names, the positive one at index 1 of a binary task; empty for a regression.
        are_words: Whether a class may be called `NA`, since the others are words as well.
    """

    name: str
    task: Task
    classes: tuple[str, ...]
    are_words: bool

    def targets(self, cells: pa.Array, place: Place) -> tuple[Array, Array]:
        """Read targets (rows,) and which cells are empty, bool (rows,).

        Raises:
            DataError: A cell is no number, or names no class.
        """
        known = cells if self.are_words else present(cells)
        if self.classes:
            found = class_indices(known, self.classes, column=self.name, place=place)
            return found, are_missing(known)
        values = numbers(known, column=self.name, place=place, otherwise=AS_CLASSES)
        return values, np.isnan(values)


@dataclass(slots=True)
class TargetCells:
    """What the cells of the target have shown so far.

    Args:
        name: Of the column.
    """

    name: str
    texts: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    first_word: str | None = None
    first_fraction: str | None = None

    def add(self, cells: pa.Array, place: Place) -> None:
        """Look at the next batch of cells."""
        self.rows += len(cells)
        known = present(cells)
        values = numbers_or_none(known)
        if values is None:
            self.first_word = self.first_word or word_problem(
                known, self.name, place, otherwise=AS_CLASSES
            )
        elif self.first_fraction is None:
            fractions = np.isfinite(values) & (values != np.trunc(values))
            if fractions.any():
                position = int(fractions.argmax())
                text = shown(known[position].as_py())
                self.first_fraction = f"{place.cell(position, self.name)}: {text}"
        if len(self.texts) <= MOST_LEVELS:
            found = cells.drop_null().value_counts()
            names, counts = found.field("values"), found.field("counts")
            self.texts.update(dict(zip(names.to_pylist(), counts.to_pylist(), strict=True)))

    def outcome(self, keys: Keys) -> tuple[Outcome, list[str]]:
        """Say what the target means, with lines worth telling.

        Raises:
            ConfigError: `positive` names no class.
            DataError: The cells can't mean what `task` says, or anything.
        """
        are_words = self._are_words()
        if (keys.task or self._found_task(are_words=are_words)) == "regression":
            return self._regression(keys)
        self._require_classes(are_words=are_words)
        counts = self._classes(are_words=are_words)
        if len(counts) < 2 or (keys.task == "binary" and len(counts) != 2):
            raise DataError(self._wrong_count(counts, keys))
        if (keys.task or ("binary" if len(counts) == 2 else "multiclass")) == "binary":
            outcome, note = self._binary(counts, keys, are_words=are_words)
        else:
            outcome, note = self._multiclass(counts, keys, are_words=are_words)
        return outcome, [note, *self._words_kept(outcome)]

    def _are_words(self) -> bool:
        """Tell words from numbers that have an empty cell called `NA` among them."""
        words = [text for text in self.texts if not all_numbers([text])]
        return len(words) == len(self.texts) or any(word not in MISSING for word in words)

    def _found_task(self, *, are_words: bool) -> Task:
        values = {float(text) for text in self.texts if all_numbers([text])}
        words = len(self.texts) - len(values)
        if are_words and not len(values) > max(MOST_CLASSES, words):
            return "multiclass"
        whole = self.first_fraction is None and all(value.is_integer() for value in values)
        return "multiclass" if whole and len(values) <= MOST_CLASSES else "regression"

    def _regression(self, keys: Keys) -> tuple[Outcome, list[str]]:
        if self.first_word is not None:
            raise DataError(self.first_word)
        if keys.positive is not None:
            raise ConfigError(
                f"data.positive={keys.positive} has no meaning for a regression; leave it out, or "
                "say data.task=binary"
            )
        outcome = Outcome(name=self.name, task="regression", classes=(), are_words=False)
        how = "" if keys.task else "; data.task=multiclass would take its numbers as classes"
        return outcome, [f"task: regression of {self.name!r}{how}"]

    def _require_classes(self, *, are_words: bool) -> None:
        if not are_words and self.first_fraction is not None:
            raise DataError(
                f"{self.first_fraction} is no class; expected words or whole numbers, or "
                "data.task=regression"
            )
        if words := free_text(self.texts):
            raise DataError(
                f"the target {self.name!r} {words}: no classes; name another: data.target=COLUMN"
            )

    def _classes(self, *, are_words: bool) -> dict[str, int]:
        """Return the rows of each class, in the order of their names or numbers."""
        if are_words:
            return {name: self.texts[name] for name in sorted(self.texts)}
        by_value: dict[float, Counter[str]] = {}
        for text, count in self.texts.items():
            if text not in MISSING:
                by_value.setdefault(float(text), Counter())[text] += count
        # A number that the file writes in several ways is named by its value.
        return {
            next(iter(texts)) if len(texts) == 1 else f"{value:.0f}": texts.total()
            for value, texts in sorted(by_value.items())
        }

    def _wrong_count(self, counts: dict[str, int], keys: Keys) -> str:
        if not counts:
            return f"the target {self.name!r} has no cell that is not empty"
        if len(counts) == 1:
            (name,) = counts
            return (
                f"the target {self.name!r} has one class, {name!r}, in all {counts[name]} rows; "
                "expected at least 2 classes"
            )
        return (
            f"data.task={keys.task}, but the target {self.name!r} has {len(counts)} classes: "
            f"{_listed(counts)}; expected 2, or data.task=multiclass"
        )

    def _binary(
        self, counts: dict[str, int], keys: Keys, *, are_words: bool
    ) -> tuple[Outcome, str]:
        """Put the positive class second: the one that is named, or the rarer one."""
        names = tuple(counts)
        if keys.positive is None:
            positive = min(reversed(names), key=lambda label: counts[label])
        elif (index := class_index(str(keys.positive), names)) is not None:
            positive = names[index]
        else:
            raise unknown_positive(str(keys.positive), names)
        negative = names[1 - names.index(positive)]
        which = "the second of two" if counts[positive] == counts[negative] else "the rarer one"
        why = "" if keys.positive is not None else f", {which}; or data.positive={negative}"
        outcome = Outcome(
            name=self.name, task="binary", classes=(negative, positive), are_words=are_words
        )
        return outcome, (
            f"task: binary, {self.name!r} is {_listed(counts)}; precision, recall and F1 speak of "
            f"{positive!r}{why}"
        )

    def _multiclass(
        self, counts: dict[str, int], keys: Keys, *, are_words: bool
    ) -> tuple[Outcome, str]:
        if keys.positive is not None:
            raise ConfigError(
                f"data.positive={keys.positive} has no meaning for {len(counts)} classes; leave "
                "it out"
            )
        may_be_values = keys.task is None and all_numbers(tuple(counts))
        how = "; data.task=regression takes numbers as values" if may_be_values else ""
        outcome = Outcome(
            name=self.name, task="multiclass", classes=tuple(counts), are_words=are_words
        )
        return outcome, f"task: multiclass, {self.name!r} is one of {_listed(counts)}{how}"

    def _words_kept(self, outcome: Outcome) -> Iterator[str]:
        for name in outcome.classes:
            if name in MISSING:
                yield (
                    f"{name!r} in the target {self.name!r} is taken as a class "
                    f"({self.texts[name]} rows); where it means that nothing is known, leave the "
                    "cell empty"
                )


def _listed(counts: dict[str, int]) -> str:
    return some([f"{name!r} ({count})" for name, count in counts.items()], most=MOST_CLASSES)
