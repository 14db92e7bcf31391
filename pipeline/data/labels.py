"""What labelled rows of a user's own say: classes or values, which class is positive, the parts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.data.source import MOST_CLASSES, Array, OnDemand, Reading, Samples, Task
from pipeline.errors import ConfigError, DataError, did_you_mean

NAMES_ANOTHER = "data.positive= names another"
"""End of a note that tells which class was taken for the positive one; a model knows its own."""

PartName = Literal["train", "validation", "test"]
PARTS: Mapping[str, PartName] = {
    "train": "train",
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    "test": "test",
}
"""The part that a word in the name of an array or a folder stands for."""

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
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def labelled_samples(
    inputs: Array | OnDemand,
    target: Target,
    sizes: Mapping[PartName, int],
    *,
    reading: Reading,
    notes: Sequence[str],
    features: tuple[str, ...] = (),
    units: str = "",
    ids: Array | None = None,
) -> Samples:
    """Return rows with what is to be predicted; the rows of one part follow those of another.

    Args:
        inputs: The rows of all parts.
        target: What is to be predicted, likewise.
        sizes: Rows of each part, in their order.
        reading: How new rows of this kind are read.
        notes: What was found in the files; what was decided about the target follows.
        features: Names along the channels.
        units: Unit of a regression's targets.
        ids: A name for each row.
    """
    ends = np.cumsum([*sizes.values()])
    rows = {
        part: np.arange(end - size, end)
        for (part, size), end in zip(sizes.items(), ends, strict=True)
    }
    return Samples(
        inputs=inputs,
        targets=target.values,
        task=target.task,
        classes=target.classes,
        features=features,
        units=units,
        test=rows.get("test"),
        validation=rows.get("validation"),
        ids=ids,
        reading=reading,
        notes=(*notes, *target.notes),
    )


def part_notes(sizes: Mapping[PartName, int]) -> list[str]:
    """Say which parts the files give themselves, if they give more than one."""
    if len(sizes) < 2:
        return []
    listed = ", ".join(f"{part} {size}" for part, size in sizes.items())
    return [f"the files give their own parts: {listed} rows"]


def joined_target(labels: Sequence[tuple[str, Array]], asked: Asked) -> Target:
    """Return the target of arrays of labels that follow one another.

    Args:
        labels: Each with its name in messages.
        asked: What the user says of them.

    Raises:
        DataError: As `target_of`.
        ConfigError: Likewise.
    """

    def where(row: int) -> str:
        for name, array in labels:
            if row < len(array):
                return f"{name}[{row}]"
            row -= len(array)
        raise IndexError(row)

    first, *others = [array for _, array in labels]
    return target_of(np.concatenate([first, *others]) if others else first, asked, where)


def target_of(raw: Array, asked: Asked, where: Where) -> Target:
    """Find out what labels (rows,), (rows, 1) or (rows, outputs) mean.

    Raises:
        DataError: They are neither labels nor values; names the row.
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
        return _words(labels, asked)
    _refuse_odd_values(labels, where)
    return (_columns if labels.ndim == 2 else _numbers)(labels, asked, where)


def classes_of(indices: Array, names: Sequence[str], asked: Asked) -> Target:
    """Return a classification, of two classes the positive one second: as asked, else the rarer.

    Raises:
        ConfigError: The positive class or the task that was asked for can't be.
    """
    indices = indices.astype(np.int64, copy=False)
    positive = None if asked.positive is None else whole_text(asked.positive)
    classes = tuple(names)
    notes: tuple[str, ...] = ()
    if len(names) == 2:
        if positive is None:
            counts = np.bincount(indices, minlength=2)
            positive = names[0] if counts[0] < counts[1] else names[1]
            notes = (_rarer_note(positive, counts),)
        indices, classes = positive_second(indices, (names[0], names[1]), positive)
    elif positive is not None:
        raise ConfigError(
            f"data.positive={positive!r} is for two classes, this data has {len(names)}: "
            f"{', '.join(names)}; leave it away"
        )
    _refuse_other_task(asked, classes)
    task: Task = "binary" if len(classes) == 2 else "multiclass"
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


def _words(labels: Array, asked: Asked) -> Target:
    texts = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
    if asked.task == "regression":
        raise DataError(
            f"data.task=regression expects numbers, but the labels are words such as "
            f"{str(texts[0])!r}; leave data.task away"
        )
    distinct, indices = np.unique(np.char.strip(texts), return_inverse=True)
    return classes_of(indices, _named([str(text) for text in distinct], asked), asked)


def _numbers(labels: Array, asked: Asked, where: Where) -> Target:
    fractions: list[int] = []
    if labels.dtype.kind == "f":
        fractions = np.flatnonzero(labels != np.floor(labels)).tolist()
    if fractions and asked.task not in (None, "regression"):
        row = fractions[0]
        raise DataError(
            f"{where(row)} is {labels[row]}, but data.task={asked.task} expects whole numbers or "
            "words; correct it, or give data.task=regression"
        )
    if asked.task == "regression" or fractions:
        return _values(labels.reshape(-1, 1), "fractions" if fractions else "", asked)
    distinct = np.unique(labels)
    if asked.task is None and not (asked.always_classes or _look_like_classes(labels, distinct)):
        return _values(labels.reshape(-1, 1), f"{len(distinct)} distinct whole numbers", asked)
    if asked.classes and len(asked.classes) > len(distinct):
        return _by_number(labels, asked, where)
    names = _named([whole_text(value) for value in distinct], asked)
    return classes_of(np.searchsorted(distinct, labels), names, asked)


def _look_like_classes(labels: Array, distinct: Array) -> bool:
    """Tell classes, few or numbered without a gap from 0 or 1, from counts and amounts."""
    if labels.dtype.kind == "b" or len(distinct) <= MOST_CLASSES:
        return True
    gapless = distinct[0] in (0, 1) and distinct[-1] - distinct[0] == len(distinct) - 1
    return bool(gapless and labels.dtype.kind in "iu" and len(labels) >= 4 * len(distinct))


def _by_number(labels: Array, asked: Asked, where: Where) -> Target:
    """Name labels 0, 1, 2, … where some classes have no row."""
    names = [whole_text(name) for name in asked.classes]
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"{where(row)} is {whole_text(labels[row])}, but data.classes has {len(names)} names; "
            f"expected a label from 0 to {len(names) - 1}, or as many names as labels"
        )
    return classes_of(labels.astype(np.int64), names, asked)


def _columns(labels: Array, asked: Asked, where: Where) -> Target:
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
    told = reason and asked.task is None
    note = f"the target is a regression ({reason}); data.task= says otherwise"
    notes = (note,) if told else ()
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


def _refuse_other_task(asked: Asked, classes: Sequence[str]) -> None:
    if asked.task == "binary" and len(classes) != 2:
        raise ConfigError(
            f"data.task=binary expects 2 classes, this data has {len(classes)}: "
            f"{', '.join(classes[:MOST_CLASSES])}; leave data.task away"
        )
    if asked.task == "multiclass" and len(classes) == 2:
        raise ConfigError(
            f"data.task=multiclass expects more than 2 classes, this data has 2: "
            f"{', '.join(classes)}; give data.task=binary or leave it away"
        )


def _rarer_note(rarer: str, counts: Array) -> str:
    share = f"{counts.min()} of {counts.sum()} rows"
    why = f"the rarer one, {share}" if counts[0] != counts[1] else f"the second of two, {share}"
    return f"the positive class is {rarer!r} ({why}); {NAMES_ANOTHER}"
