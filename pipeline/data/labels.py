"""What is to be predicted: classes or values, and the positive class, of arrays and of tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.data.source import MOST_CLASSES, Array, OnDemand, Samples, Task
from pipeline.data.tables.cells import MISSING, Cells, all_numbers, class_index
from pipeline.data.tables.columns import MOST_LEVELS, Keys, free_text
from pipeline.data.tables.file import shown
from pipeline.errors import ConfigError, DataError, did_you_mean, some

#: End of a note that tells which class was taken for the positive one; a model knows its own.
NAMES_ANOTHER = "data.positive= names another"

AS_CLASSES = "or take its words as classes: data.task=multiclass"

#: A label as YAML may give it.
Word = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the user says about the target.

    Args:
        task: The task; None = found.
        classes: Names for the classes in the order of their labels; empty = the labels' text.
        positive: The class that a binary task looks for; None = the rarer one.
        always_classes: Whole numbers are classes however many there are.
    """

    task: Task | None = None
    classes: Sequence[Word] = ()
    positive: Word | None = None
    always_classes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """What is to be predicted.

    Args:
        values: int64 (rows,) class indices, or float64 (rows, outputs).
        task: What kind it is.
        classes: Names in the order of the indices; empty for a regression.
        notes: What was decided.
    """

    values: Array
    task: Task
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def labelled_samples(
    inputs: Array | OnDemand,
    target: Target,
    sizes: Mapping[Any, int],
    *,
    found: Sequence[str] = (),
    notes: Sequence[str] = (),
    **fields: Any,
) -> Samples:
    """Return rows with what is to be predicted; the rows of one part follow those of another.

    `sizes` are the rows of each part, `fields` further ones of `Samples`. It is told what was
    `found`, the parts that the files give themselves, then `notes`, then those of the target.
    """
    own = f"the files give their own parts: {', '.join(f'{p} {n}' for p, n in sizes.items())} rows"
    ends = np.cumsum([*sizes.values()])
    rows = dict(zip(sizes, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    return Samples(
        inputs=inputs,
        targets=target.values,
        task=target.task,
        classes=target.classes,
        test=rows.get("test"),
        validation=rows.get("validation"),
        notes=(*found, *([own] if len(sizes) > 1 else []), *notes, *target.notes),
        **{"features": (), **fields},
    )


def joined_target(labels: Sequence[tuple[str, Array]], asked: Asked) -> Target:
    """Return the target of arrays of labels that follow one another, each with its name.

    Raises:
        ConfigError, DataError: As `target_of`.
    """

    def where(row: int) -> str:
        for name, array in labels:
            if row < len(array):
                return f"{name}[{row}]"
            row -= len(array)
        raise IndexError(row)

    first, *others = [array for _, array in labels]
    return target_of(np.concatenate([first, *others]) if others else first, asked, where)


def target_of(raw: Array, asked: Asked, where: Callable[[int], str]) -> Target:
    """Find out what labels (rows,), (rows, 1) or (rows, outputs) mean; `where` names that of a row.

    Raises:
        DataError: It names the row, where they are neither labels nor values.
        ConfigError: What was asked can't be.
    """
    labels = raw[:, 0] if raw.ndim == 2 and raw.shape[1] == 1 else raw
    are_words = labels.dtype.kind in "US"
    if labels.ndim not in (1, 2) or (labels.ndim == 2 and are_words):
        raise DataError(
            f"{where(0)}: labels of shape {raw.shape} can't be read; expected (rows,), (rows, 1), "
            "one-hot (rows, classes) or values (rows, outputs)"
        )
    if are_words:
        texts = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
        if asked.task == "regression":
            raise DataError(
                f"data.task=regression expects numbers, but the labels are words such as "
                f"{str(texts[0])!r}; leave data.task away"
            )
        distinct, indices = np.unique(np.char.strip(texts), return_inverse=True)
        return classes_of(indices, _named(distinct.tolist(), asked), asked)
    if labels.dtype.kind not in "biuf":
        raise DataError(
            f"{where(0)}: labels of type {labels.dtype} can't be read; expected numbers or words"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        rows = np.flatnonzero(~np.isfinite(labels).reshape(len(labels), -1).all(1))
        raise DataError(
            f"{where(int(rows[0]))} is missing or infinite, {len(rows)} in all; expected a label "
            "or value for each row. Fill them in or leave these rows out"
        )
    return (_columns if labels.ndim == 2 else _numbers)(labels, asked, where)


def classes_of(indices: Array, names: Sequence[str], asked: Asked) -> Target:
    """Return a classification, of two classes the positive one second: as asked, else the rarer.

    Raises:
        ConfigError: The positive class or the task that was asked for can't be.
    """
    indices = indices.astype(np.int64, copy=False)
    positive = None if asked.positive is None else whole_text(asked.positive)
    classes, notes = tuple(names), tuple[str, ...]()
    task: Task = "binary" if len(names) == 2 else "multiclass"
    if task == "binary":
        if positive is None:
            counts = np.bincount(indices, minlength=2)
            positive = names[0] if counts[0] < counts[1] else names[1]
            why = "the rarer one" if counts[0] != counts[1] else "the second of two"
            share = f"{counts.min()} of {counts.sum()} rows"
            notes = (f"the positive class is {positive!r} ({why}, {share}); {NAMES_ANOTHER}",)
        indices, classes = positive_second(indices, (names[0], names[1]), positive)
    elif positive is not None:
        raise ConfigError(
            f"data.positive={positive!r} is for two classes, this data has {len(names)}: "
            f"{', '.join(names)}; leave it away"
        )
    if asked.task == "binary" and task != "binary":
        raise ConfigError(
            f"data.task=binary expects 2 classes, this data has {len(classes)}: "
            f"{', '.join(classes[:MOST_CLASSES])}; leave data.task away"
        )
    if asked.task == "multiclass" and task == "binary":
        raise ConfigError(
            f"data.task=multiclass expects more than 2 classes, this data has 2: "
            f"{', '.join(classes)}; give data.task=binary or leave it away"
        )
    return Target(values=indices, task=task, classes=classes, notes=notes)


def positive_second(
    labels: Array, classes: tuple[str, str], positive: str
) -> tuple[Array, tuple[str, str]]:
    """Return labels (rows,) and names so that index 1 is the positive class.

    Raises:
        ConfigError: `positive` is neither class.
    """
    if positive not in classes:
        raise unknown_positive(positive, classes)
    if positive == classes[1]:
        return labels.astype(np.int64, copy=False), classes
    return 1 - labels.astype(np.int64, copy=False), (classes[1], classes[0])


def unknown_positive(positive: str, classes: Sequence[str]) -> ConfigError:
    """Return the error for a positive class that there is not."""
    return ConfigError(
        f"data.positive={positive!r} is no class of this data; expected {classes[0]!r} or "
        f"{classes[1]!r}.{did_you_mean(positive, classes)}"
    )


def whole_text(value: object) -> str:
    """Return the text that names a class: `1` for 1, 1.0 and `1.0000000e+00`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return str(value)
    number = float(value)
    return str(int(value)) if number.is_integer() else repr(number)


def _numbers(labels: Array, asked: Asked, where: Callable[[int], str]) -> Target:
    is_float = labels.dtype.kind == "f"
    fractions = np.flatnonzero(labels != np.floor(labels)).tolist() if is_float else []
    if fractions and asked.task not in (None, "regression"):
        row = fractions[0]
        raise DataError(
            f"{where(row)} is {labels[row]}, but data.task={asked.task} expects whole numbers or "
            "words; correct it, or give data.task=regression"
        )
    if asked.task == "regression" or fractions:
        return _values(labels.reshape(-1, 1), "fractions" if fractions else "", asked)
    distinct = np.unique(labels)
    # Classes are few, or numbered without a gap from 0 or 1; others are counts and amounts.
    few = labels.dtype.kind == "b" or len(distinct) <= MOST_CLASSES
    numbered = (
        not few
        and labels.dtype.kind in "iu"
        and distinct[0] in (0, 1)
        and distinct[-1] - distinct[0] == len(distinct) - 1
        and len(labels) >= 4 * len(distinct)
    )
    if asked.task is None and not (asked.always_classes or few or numbered):
        return _values(labels.reshape(-1, 1), f"{len(distinct)} distinct whole numbers", asked)
    if asked.classes and len(asked.classes) > len(distinct):
        given = [whole_text(name) for name in asked.classes]  # some classes have no row
        outside = np.flatnonzero((labels < 0) | (labels >= len(given)))
        if len(outside):
            row = int(outside[0])
            raise DataError(
                f"{where(row)} is {whole_text(labels[row])}, but data.classes has {len(given)} "
                f"names; expected a label from 0 to {len(given) - 1}, or as many names as labels"
            )
        return classes_of(labels, given, asked)
    names = _named([whole_text(value) for value in distinct], asked)
    return classes_of(np.searchsorted(distinct, labels), names, asked)


def _columns(labels: Array, asked: Asked, where: Callable[[int], str]) -> Target:
    """Read (rows, columns): one-hot labels, or several values to predict."""
    only_ones = bool(((labels == 0) | (labels == 1)).all())
    if asked.task == "regression" or not only_ones:
        if asked.task not in (None, "regression"):
            raise DataError(
                f"{where(0)}: labels of shape {labels.shape} are not one-hot (0 and a single 1), "
                f"but data.task={asked.task}; expected one label a row"
            )
        return _values(labels, f"shape {labels.shape}", asked)
    ones = labels.astype(np.int64).sum(1)
    wrong = np.flatnonzero(ones != 1)
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{where(row)} has {ones[row]} ones; expected exactly one in a one-hot row. Several "
            "labels a row can't be learned; for numbers to predict give data.task=regression"
        )
    names = _named([str(index) for index in range(labels.shape[1])], asked)
    return classes_of(labels.argmax(1), names, asked)


def _values(values: Array, reason: str, asked: Asked) -> Target:
    if asked.classes or asked.positive is not None:
        key = "classes" if asked.classes else "positive"
        raise ConfigError(
            f"data.{key} is for classes, but the target is {reason or 'a regression'}; leave it "
            "away, or give data.task=multiclass where these are labels"
        )
    note = f"the target is a regression ({reason}); data.task= says otherwise"
    notes = (note,) if reason and asked.task is None else ()
    return Target(values=values.astype(np.float64), task="regression", notes=notes)


def _named(texts: list[str], asked: Asked) -> list[str]:
    """Return the names that the user gives to the classes, else their texts."""
    if not asked.classes:
        return texts
    names = [whole_text(name) for name in asked.classes]
    if len(names) != len(texts) or len(set(names)) != len(names):
        raise ConfigError(
            f"data.classes has {len(names)} names, {len(set(names))} of them different, but there "
            f"are {len(texts)} labels: {', '.join(texts[:MOST_CLASSES])}; expected a name for each "
            "in this order"
        )
    return names


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the target column means.

    Args:
        name: Of the column.
        task: What is to be predicted.
        classes: Their names, the positive one at index 1 of a binary task; empty for a regression.
        are_words: Whether a class may be called `NA`, since the others are words as well.
        otherwise: What else helps where a value is no number.
    """

    name: str
    task: Task
    classes: tuple[str, ...] = ()
    are_words: bool = False
    otherwise: str = AS_CLASSES

    def targets(self, cells: Cells) -> tuple[Array, Array]:
        """Read targets (rows,) and which cells are empty, bool (rows,).

        Raises:
            DataError: A cell is no number, or names no class.
        """
        known = cells if self.are_words else cells.present()
        if self.classes:
            found = known.classes(self.classes)
            return found, found < 0
        values = known.numbers(otherwise=self.otherwise)
        return values, np.isnan(values)


@dataclass(slots=True)
class TargetCells:
    """What the cells of the target column have shown so far."""

    name: str
    texts: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    first_word: str | None = None
    first_fraction: str | None = None

    def add(self, cells: Cells) -> None:
        """Look at the next batch of cells."""
        self.rows += len(cells.texts)
        known = cells.present()
        values = known.numbers_or_none()
        if values is None:
            self.first_word = self.first_word or known.word_problem(otherwise=AS_CLASSES)
        elif self.first_fraction is None:
            fractions = np.isfinite(values) & (values != np.trunc(values))
            if fractions.any():
                position = int(fractions.argmax())
                text = shown(known.texts[position].as_py())
                self.first_fraction = f"{known.where(position)}: {text}"
        if len(self.texts) <= MOST_LEVELS:
            found = cells.texts.drop_null().value_counts().to_pylist()
            self.texts.update({one["values"]: one["counts"] for one in found})

    def outcome(self, keys: Keys) -> tuple[Outcome, list[str]]:
        """Say what the target means, with lines worth telling.

        Raises:
            ConfigError, DataError: The cells can't mean what the keys say, or anything.
        """
        # An empty cell called `NA` among numbers is no word.
        words = [text for text in self.texts if not all_numbers([text])]
        are_words = len(words) == len(self.texts) or any(word not in MISSING for word in words)
        task = keys.task or self._found_task(are_words=are_words)
        if task == "regression":
            if self.first_word is not None:
                raise DataError(self.first_word)
            if keys.positive is not None:
                raise ConfigError(
                    f"data.positive={keys.positive} has no meaning for a regression; leave it out, "
                    "or say data.task=binary"
                )
            how = "" if keys.task else "; data.task=multiclass would take its numbers as classes"
            return Outcome(self.name, task), [f"task: regression of {self.name!r}{how}"]
        counts = self._classes(keys, are_words=are_words)
        if keys.task is None and len(counts) == 2:
            task = "binary"
        classes, note = (self._binary if task == "binary" else self._multiclass)(counts, keys)
        kept = [
            f"{name!r} in the target {self.name!r} is taken as a class ({self.texts[name]} rows); "
            "where it means that nothing is known, leave the cell empty"
            for name in classes
            if name in MISSING
        ]
        return Outcome(self.name, task, classes, are_words), [note, *kept]

    def _found_task(self, *, are_words: bool) -> Task:
        values = {float(text) for text in self.texts if all_numbers([text])}
        words = len(self.texts) - len(values)
        if are_words and not len(values) > max(MOST_CLASSES, words):
            return "multiclass"
        whole = self.first_fraction is None and all(value.is_integer() for value in values)
        return "multiclass" if whole and len(values) <= MOST_CLASSES else "regression"

    def _classes(self, keys: Keys, *, are_words: bool) -> dict[str, int]:
        """Return the rows of each class, in the order of their names or numbers."""
        if not are_words and self.first_fraction is not None:
            raise DataError(
                f"{self.first_fraction} is no class; expected words or whole numbers, or "
                "data.task=regression"
            )
        if words := free_text(self.texts):
            raise DataError(
                f"the target {self.name!r} {words}: no classes; name another: data.target=COLUMN"
            )
        if are_words:
            counts = {name: self.texts[name] for name in sorted(self.texts)}
        else:
            by_value: dict[float, Counter[str]] = {}
            for text, count in self.texts.items():
                if text not in MISSING:
                    by_value.setdefault(float(text), Counter())[text] += count
            # A number that the file writes in several ways is named by its value.
            counts = {
                next(iter(texts)) if len(texts) == 1 else f"{value:.0f}": texts.total()
                for value, texts in sorted(by_value.items())
            }
        if not counts:
            raise DataError(f"the target {self.name!r} has no cell that is not empty")
        if len(counts) == 1:
            ((name, rows),) = counts.items()
            raise DataError(
                f"the target {self.name!r} has one class, {name!r}, in all {rows} rows; expected "
                "at least 2 classes"
            )
        if keys.task == "binary" and len(counts) != 2:
            raise DataError(
                f"data.task=binary, but the target {self.name!r} has {len(counts)} classes: "
                f"{_listed(counts)}; expected 2, or data.task=multiclass"
            )
        return counts

    def _binary(self, counts: dict[str, int], keys: Keys) -> tuple[tuple[str, ...], str]:
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
        return (negative, positive), (
            f"task: binary, {self.name!r} is {_listed(counts)}; precision, recall and F1 speak of "
            f"{positive!r}{why}"
        )

    def _multiclass(self, counts: dict[str, int], keys: Keys) -> tuple[tuple[str, ...], str]:
        if keys.positive is not None:
            raise ConfigError(
                f"data.positive={keys.positive} has no meaning for {len(counts)} classes; leave "
                "it out"
            )
        may_be_values = keys.task is None and all_numbers(tuple(counts))
        how = "; data.task=regression takes numbers as values" if may_be_values else ""
        return tuple(counts), f"task: multiclass, {self.name!r} is one of {_listed(counts)}{how}"


def _listed(counts: dict[str, int]) -> str:
    return some([f"{name!r} ({count})" for name, count in counts.items()], most=MOST_CLASSES)
