"""What is to be predicted, from a file's column of labels or values: classes or numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.array_files.classes import Classes, named, whole_text
from pipeline.data.source import MOST_CLASSES, Array, Task
from pipeline.errors import ConfigError, DataError

Word = str | int | float | bool
"""A label as YAML may give it."""
Where = Callable[[int], str]
"""Says where the label of a row stands, such as `x.npz: y_train[17]`."""


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
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def target_of(raw: Array, asked: Asked, where: Where) -> Target:
    """Find out what labels (rows,), (rows, 1) or (rows, outputs) mean.

    Raises:
        DataError: They are neither labels nor values; names the row.
        ConfigError: What was asked can't be.
    """
    labels = raw[:, 0] if raw.ndim == 2 and raw.shape[1] == 1 else raw
    if labels.ndim not in (1, 2) or (labels.ndim == 2 and labels.dtype.kind in "US"):
        raise DataError(
            f"{where(0)}: labels of shape {raw.shape} can't be read; expected (rows,), (rows, 1), "
            "one-hot (rows, classes) or values (rows, outputs)"
        )
    if labels.dtype.kind in "US":
        return _texts(labels, asked)
    _refuse_odd_values(labels, where)
    if labels.ndim == 2:
        return _several(labels, asked, where)
    return _numbers(labels, asked, where)


def classes_of(indices: Array, names: Sequence[str], asked: Asked) -> Target:
    """Return a classification whose indices and names are known, the positive class second."""
    found = named(indices, tuple(names), positive=_text(asked.positive))
    _refuse_other_task(asked, found)
    return Target(
        values=found.indices,
        task="binary" if len(found.names) == 2 else "multiclass",
        classes=found.names,
        notes=found.notes,
    )


def _texts(labels: Array, asked: Asked) -> Target:
    texts = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
    if asked.task == "regression":
        raise DataError(
            f"data.task=regression expects numbers, but the labels are words such as "
            f"{str(texts[0])!r}; leave data.task away"
        )
    texts = np.char.strip(texts)
    distinct, indices = np.unique(texts, return_inverse=True)
    return classes_of(indices, _renamed([str(text) for text in distinct], asked), asked)


def _numbers(labels: Array, asked: Asked, where: Where) -> Target:
    fractions = _fractions(labels)
    if len(fractions) and asked.task not in (None, "regression"):
        row = int(fractions[0])
        raise DataError(
            f"{where(row)} is {labels[row]}, but data.task={asked.task} expects whole numbers or "
            "words; correct it, or give data.task=regression"
        )
    if asked.task == "regression" or len(fractions):
        return _values(labels.reshape(-1, 1), "fractions" if len(fractions) else "", asked)
    distinct = np.unique(labels)
    if asked.task is None and not (asked.always_classes or _look_like_classes(labels, distinct)):
        return _values(labels.reshape(-1, 1), f"{len(distinct)} distinct whole numbers", asked)
    if asked.classes and len(asked.classes) > len(distinct):
        return _by_number(labels, asked, where)
    names = _renamed([whole_text(value) for value in distinct], asked)
    return classes_of(np.searchsorted(distinct, labels), names, asked)


def _fractions(labels: Array) -> Array:
    """Return the rows of labels (rows,) that are no whole numbers."""
    if labels.dtype.kind != "f":
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(labels != np.floor(labels))


def _look_like_classes(labels: Array, distinct: Array) -> bool:
    """Tell classes, few or numbered without a gap from 0 or 1, from counts and amounts."""
    if labels.dtype.kind == "b" or len(distinct) <= MOST_CLASSES:
        return True
    gapless = distinct[0] in (0, 1) and distinct[-1] - distinct[0] == len(distinct) - 1
    return bool(gapless and labels.dtype.kind in "iu" and len(labels) >= 4 * len(distinct))


def _by_number(labels: Array, asked: Asked, where: Where) -> Target:
    """Name labels 0, 1, 2, … where some classes have no row."""
    names = [_word(name) for name in asked.classes]
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"{where(row)} is {whole_text(labels[row])}, but data.classes has {len(names)} names; "
            f"expected a label from 0 to {len(names) - 1}, or as many names as labels"
        )
    return classes_of(labels.astype(np.int64), names, asked)


def _several(labels: Array, asked: Asked, where: Where) -> Target:
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
    names = _renamed([str(index) for index in range(labels.shape[1])], asked)
    return classes_of(labels.argmax(1), names, asked)


def _values(values: Array, reason: str, asked: Asked) -> Target:
    if asked.classes or asked.positive is not None:
        key = "classes" if asked.classes else "positive"
        raise ConfigError(
            f"data.{key} is for classes, but the target is {reason or 'a regression'}; leave it "
            "away, or give data.task=multiclass where these are labels"
        )
    notes = [f"the target is a regression ({reason}); data.task= says otherwise"] if reason else []
    return Target(
        values=values.astype(np.float64),
        task="regression",
        classes=(),
        notes=tuple(notes) if asked.task is None else (),
    )


def _renamed(texts: list[str], asked: Asked) -> list[str]:
    if not asked.classes:
        return texts
    names = [_word(name) for name in asked.classes]
    if len(names) != len(texts) or len(set(names)) != len(names):
        raise ConfigError(
            f"data.classes has {len(names)} names, {len(set(names))} of them different, but there "
            f"are {len(texts)} labels: {', '.join(texts[:MOST_CLASSES])}; expected a name for each "
            "in this order"
        )
    return names


def _refuse_odd_values(labels: Array, where: Where) -> None:
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


def _refuse_other_task(asked: Asked, found: Classes) -> None:
    if asked.task == "binary" and len(found.names) != 2:
        raise ConfigError(
            f"data.task=binary expects 2 classes, this data has {len(found.names)}: "
            f"{', '.join(found.names[:MOST_CLASSES])}; leave data.task away"
        )
    if asked.task == "multiclass" and len(found.names) == 2:
        raise ConfigError(
            f"data.task=multiclass expects more than 2 classes, this data has 2: "
            f"{', '.join(found.names)}; give data.task=binary or leave it away"
        )


def _text(word: Word | None) -> str | None:
    return None if word is None else _word(word)


def _word(word: Word) -> str:
    return word if isinstance(word, str) else whole_text(word)
