"""Meaning of labels: classes or values to predict, and the positive one of two classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.base.errors import ConfigError, DataError, did_you_mean, some
from pipeline.data.parsing.cells.class_names import ClassNames
from pipeline.data.source import MOST_CLASSES, Array, OnDemand, Samples, Task

#: End of the note on the chosen positive class; rows read for a saved model drop that note.
NAMES_ANOTHER = "set data.positive to change it"

#: A label as YAML may give it.
Word = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetKeys:
    """Configuration of the target.

    Args:
        task: The task; None = inferred from the labels.
        classes: Names for the classes in the order of their labels; empty = the labels' text.
        positive: The positive one of two classes; None = the rarer one.
        always_classes: Whether whole numbers are classes, however many there are.
    """

    task: Task | None = None
    classes: Sequence[Word] = ()
    positive: Word | None = None
    always_classes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """Targets of all rows, and what they mean.

    Args:
        values: Class indices, int64 (rows,), or values, float64 (rows, outputs).
        task: The task.
        classes: Names of the classes in the order of their indices; empty for a regression.
        notes: Notes on what was inferred.
        is_turned: See `Samples`.
    """

    values: Array
    task: Task
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_turned: bool = False


def labelled_samples(
    inputs: Array | OnDemand,
    target: Target,
    sizes: Mapping[Any, int],
    *,
    leading_notes: Sequence[str] = (),
    notes: Sequence[str] = (),
    **fields: Any,
) -> Samples:
    """Return samples of inputs and a target, in which the rows of each part are consecutive.

    `sizes` maps each part to its number of rows; `fields` are further fields of `Samples`. The
    notes are `leading_notes`, the sizes of the files' own parts, `notes`, and those of the target.
    """
    all_notes = [*leading_notes]
    if len(sizes) > 1:
        counts = ", ".join(f"{part} {count}" for part, count in sizes.items())
        all_notes.append(f"the files define the parts: {counts} rows")
    ends = np.cumsum([*sizes.values()])
    rows = dict(zip(sizes, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    return Samples(
        inputs=inputs,
        targets=target.values,
        task=target.task,
        classes=target.classes,
        is_turned=target.is_turned,
        test=rows.get("test"),
        validation=rows.get("validation"),
        notes=(*all_notes, *notes, *target.notes),
        **{"features": (), **fields},
    )


def joined_target(labels: Sequence[tuple[str, Array]], keys: TargetKeys) -> Target:
    """Return the target of concatenated label arrays, each given with its name."""

    def where(row: int) -> str:
        for name, array in labels:
            if row < len(array):
                return f"{name}[{row}]"
            row -= len(array)
        raise IndexError(row)

    arrays = [array for _, array in labels]
    # A single array is not copied.
    joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return target_of(joined, keys, where)


def target_of(raw: Array, keys: TargetKeys, where: Callable[[int], str]) -> Target:
    """Return the target for labels (rows,), (rows, 1) or (rows, outputs).

    `where` returns the name of a row's label for messages.

    Raises:
        ConfigError: The configuration does not suit the labels.
        DataError: A label is missing, infinite or neither a class nor a value.
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
        if keys.task == "regression":
            raise DataError(
                f"data.task=regression expects numbers, but the labels are words such as "
                f"{str(texts[0])!r}; remove data.task"
            )
        distinct, indices = np.unique(np.char.strip(texts), return_inverse=True)
        return classes_of(indices, _named(distinct.tolist(), keys), keys)
    if labels.dtype.kind not in "biuf":
        raise DataError(
            f"{where(0)}: labels of type {labels.dtype} can't be read; expected numbers or words"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        rows = np.flatnonzero(~np.isfinite(labels).reshape(len(labels), -1).all(1))
        raise DataError(
            f"{where(int(rows[0]))} is missing or infinite, {len(rows)} in all; expected a label "
            "or value for each row. Fill or drop them"
        )
    if labels.ndim == 2:
        return _target_of_columns(labels, keys, where)
    return _target_of_numbers(labels, keys, where)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """Classes of a target.

    Args:
        task: binary or multiclass.
        names: Names of the classes; of two classes, the positive one is the second.
        is_turned: See `Samples`.
    """

    task: Task
    names: tuple[str, ...]
    is_turned: bool


def classes_named(
    counts: Mapping[str, int], keys: TargetKeys, *, what: str = "the target"
) -> Classes:
    """Return the classes of a target, given the rows of each; the positive one of two comes second.

    It is the class that the user asks for, else the usual one. `what` names the target in messages.

    Raises:
        ConfigError: The configuration does not suit the classes.
    """
    task: Task = keys.task or ("binary" if len(counts) == 2 else "multiclass")
    if task == "binary" and len(counts) != 2:
        raise ConfigError(
            f"data.task=binary, but {what} has {len(counts)} classes ({listed_classes(counts)}); "
            "expected 2, or data.task=multiclass"
        )
    names = tuple(counts)
    if task == "multiclass":
        if keys.positive is not None:
            raise ConfigError(
                f"data.positive={keys.positive} does not apply to {len(counts)} classes; remove it"
            )
        return Classes(task=task, names=names, is_turned=False)
    usual, _ = usual_positive(counts)
    positive = usual
    if keys.positive is not None:
        index = ClassNames.of_model(names).index(whole_text(keys.positive))
        if index is None:
            raise ConfigError(
                f"data.positive={str(keys.positive)!r} is not a class of this data; expected "
                f"{names[0]!r} or {names[1]!r}.{did_you_mean(str(keys.positive), names)}"
            )
        positive = names[index]
    negative = names[1 - names.index(positive)]
    return Classes(task=task, names=(negative, positive), is_turned=positive != usual)


def listed_classes(counts: Mapping[str, int]) -> str:
    """Return the classes with their rows."""
    if len(counts) == 2:
        (first, first_rows), (second, second_rows) = counts.items()
        unit = "row" if first_rows == 1 else "rows"
        return f"{first!r} in {first_rows:,} {unit} and {second!r} in {second_rows:,}"
    return some([f"{name}: {count:,}" for name, count in counts.items()], most=MOST_CLASSES)


def classes_of(indices: Array, names: Sequence[str], keys: TargetKeys) -> Target:
    """Return a classification target; the positive one of two classes gets the index 1.

    Args:
        indices: Class of each row, by its index in `names`, (rows,).
        names: Names of the classes.
        keys: Configuration of the target.

    Raises:
        ConfigError: The configuration does not suit the classes.
    """
    indices = indices.astype(np.int64, copy=False)
    rows = np.bincount(indices, minlength=len(names)).tolist()
    counts = dict(zip(names, rows, strict=True))
    classes = classes_named(counts, keys)
    notes: tuple[str, ...] = ()
    if classes.task == "binary" and keys.positive is None:
        positive, why = usual_positive(counts)
        share = f"{min(rows)} of {sum(rows)} rows"
        notes = (f"the positive class is {positive!r} ({why}, {share}); {NAMES_ANOTHER}",)
    if classes.names != tuple(names):  # two classes, the first of which is the positive one
        indices = 1 - indices
    return Target(
        values=indices,
        task=classes.task,
        classes=classes.names,
        notes=notes,
        is_turned=classes.is_turned,
    )


def usual_positive(counts: Mapping[str, int]) -> tuple[str, str]:
    """Return the positive one of two classes where none is named, and why, given their rows."""
    first, second = counts
    if {name.removeprefix("+").removesuffix(".0") for name in counts} == {"-1", "1"}:
        positive = first if second.startswith("-") else second
        return positive, "1 of -1 and 1"
    if counts[first] == counts[second]:
        return second, "the second class"
    return min(counts, key=lambda name: counts[name]), "the rarer one"


def whole_text(value: object) -> str:
    """Return the text that names a class: `1` for 1, 1.0 and `1.0000000e+00`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return str(value)
    number = float(value)
    return str(int(value)) if number.is_integer() else repr(number)


def _target_of_numbers(labels: Array, keys: TargetKeys, where: Callable[[int], str]) -> Target:
    is_float = labels.dtype.kind == "f"
    fractions = np.flatnonzero(labels != np.floor(labels)).tolist() if is_float else []
    if fractions and keys.task not in (None, "regression"):
        row = fractions[0]
        raise DataError(
            f"{where(row)} is {labels[row]}, but data.task={keys.task} expects whole numbers or "
            "words; correct it, or set data.task=regression"
        )
    if keys.task == "regression" or fractions:
        return _values(labels.reshape(-1, 1), "fractions" if fractions else "", keys)
    distinct = np.unique(labels)
    # Few numbers, or numbers without gaps from 0 or 1, are classes; others are counts or amounts.
    are_few = labels.dtype.kind == "b" or len(distinct) <= MOST_CLASSES
    are_numbered = (
        not are_few
        and labels.dtype.kind in "iu"
        and distinct[0] in (0, 1)
        and distinct[-1] - distinct[0] == len(distinct) - 1
        and len(labels) >= 4 * len(distinct)
    )
    if keys.task is None and not (keys.always_classes or are_few or are_numbered):
        return _values(labels.reshape(-1, 1), f"{len(distinct)} distinct whole numbers", keys)
    if keys.classes and len(keys.classes) > len(distinct):
        names = [whole_text(name) for name in keys.classes]  # some classes have no row
        outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
        if len(outside):
            row = int(outside[0])
            raise DataError(
                f"{where(row)} is {whole_text(labels[row])}, but data.classes has {len(names)} "
                f"names; expected a label from 0 to {len(names) - 1}, or one name per label"
            )
        return classes_of(labels, names, keys)
    names = _named([whole_text(value) for value in distinct], keys)
    return classes_of(np.searchsorted(distinct, labels), names, keys)


def _target_of_columns(labels: Array, keys: TargetKeys, where: Callable[[int], str]) -> Target:
    """Return the target for labels (rows, columns): one-hot classes, or several values."""
    are_bits = bool(((labels == 0) | (labels == 1)).all())
    if keys.task == "regression" or not are_bits:
        if keys.task not in (None, "regression"):
            raise DataError(
                f"{where(0)}: labels of shape {labels.shape} are not one-hot (0 and a single 1), "
                f"but data.task={keys.task}; expected one label per row"
            )
        return _values(labels, f"shape {labels.shape}", keys)
    ones = labels.astype(np.int64).sum(1)
    invalid = np.flatnonzero(ones != 1)
    if len(invalid):
        row = int(invalid[0])
        raise DataError(
            f"{where(row)} has {ones[row]} ones; expected exactly one in a one-hot row. "
            "Multi-label targets are not supported; to predict numbers, set data.task=regression"
        )
    names = _named([str(index) for index in range(labels.shape[1])], keys)
    return classes_of(labels.argmax(1), names, keys)


def _values(values: Array, reason: str, keys: TargetKeys) -> Target:
    if keys.classes or keys.positive is not None:
        key = "classes" if keys.classes else "positive"
        raise ConfigError(
            f"data.{key} is for classes, but the target is {reason or 'a regression'}; remove "
            "it, or set data.task=multiclass if these are labels"
        )
    notes: tuple[str, ...] = ()
    if reason and keys.task is None:
        notes = (f"the target is a regression ({reason}); or set data.task=multiclass",)
    return Target(values=values.astype(np.float64), task="regression", notes=notes)


def _named(texts: list[str], keys: TargetKeys) -> list[str]:
    """Return the user's names of the classes, or else their texts."""
    if not keys.classes:
        return texts
    names = [whole_text(name) for name in keys.classes]
    if len(names) != len(texts) or len(set(names)) != len(names):
        raise ConfigError(
            f"data.classes has {len(names)} names ({len(set(names))} distinct) for {len(texts)} "
            f"labels: {', '.join(texts[:MOST_CLASSES])}; expected one per label, in this order"
        )
    return names
