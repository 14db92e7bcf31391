"""Split of rows into training, validation and test: random, by class, group, time or fold."""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import ConfigError, DataError
from pipeline.config.options import DataOptions
from pipeline.data.source import Array, Indices, Samples

#: Row numbers that train and row numbers that validate, each in ascending order.
Fold = tuple[Indices, Indices]
#: Most seeds that are tried to find a split that trains every class.
MOST_SEEDS = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Row numbers of each part, in ascending order; no row is in two parts.

    A fold of a series leaves out the times after its validation, so not every row is in a part.
    """

    train: Indices
    validation: Indices | None = None
    test: Indices

    def parts(self) -> dict[str, Indices]:
        """Return the parts that exist, by their names."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: rows for name, rows in parts.items() if rows is not None}


def split_rows(samples: Samples, options: DataOptions) -> Split:
    """Split independent rows; the test part is the source's own if it has one.

    The test part is the same for all folds. Rows with an order in time are split as a series is.
    Groups stay whole. Without groups, classes keep their shares if `stratify` is set.

    Raises:
        ConfigError: `last` is set, and something else says which rows test.
        DataError: A part is empty, a class has too few rows, or there are too few groups.
    """
    if options.last is not None and samples.groups is not None:
        raise ConfigError(
            f"data.last={options.last} would split groups, which data.group forbids; set only "
            "one of them"
        )
    if samples.order is not None:
        positions = split_times(len(samples.order), None, options).parts()
        return Split(**{name: np.sort(samples.order[part]) for name, part in positions.items()})
    generator = np.random.default_rng(options.split_seed)
    rows = np.arange(len(samples.inputs))
    candidates = rows if samples.validation is None else _without(rows, samples.validation)
    test = _last(candidates, samples.test, options)
    if test is None:
        test = _draw_part(samples, candidates, "test", options, generator)
    train = _without(rows, test)
    validation = None
    if options.folds is not None:
        train, validation = _fold_of_rows(samples, train, options)
    elif samples.validation is not None:
        validation = np.sort(samples.validation)
        train = _without(train, validation)
    elif options.validation > 0:
        validation = _draw_part(samples, train, "validation", options, generator)
        train = _without(train, validation)
    split = Split(train=train, validation=validation, test=np.sort(test))
    check_sizes(split, options)
    return split


def _without(rows: Indices, excluded: Indices) -> Indices:
    """Return `rows` without `excluded`, in the same order; fast for millions of rows."""
    remaining: Indices = rows[np.isin(rows, excluded, kind="table", invert=True)]
    return remaining


def split_times(length: int, test_from: int | None, options: DataOptions) -> Split:
    """Split the times of a series: the test comes last, the validation before it.

    With folds, the times before the test are cut into `folds` + 1 consecutive blocks: in fold i the
    blocks 0 … i train and block i + 1 validates, so that no forecast is judged by a network that
    has seen later values (scikit-learn's TimeSeriesSplit). `test_from` is the index where the test
    begins; None = the last times, by `options.last` or `options.test`.

    Raises:
        ConfigError: `last` is set as well as `test_from`.
        DataError: A part is empty, or the times are too few for the folds.
    """
    times = np.arange(length)
    source_test = None if test_from is None else times[test_from:]
    test = _last(times, source_test, options)
    if test is None:
        test = times[length - share(length, options.test) :]
    before = times[: length - len(test)]
    validation: Indices | None
    if options.folds is not None:
        from sklearn.model_selection import TimeSeriesSplit

        _require_enough(len(before) - 1, f"{len(before)} times", options)
        folds = TimeSeriesSplit(options.folds).split(before)
        train, validation = _select_fold(folds, before, options)
    else:
        validation_count = share(len(before), options.validation)
        train, validation = np.split(before, [len(before) - validation_count])
        if not validation_count:
            validation = None
    split = Split(train=train, validation=validation, test=test)
    check_sizes(split, options)
    return split


def _last(rows: Indices, source_test: Indices | None, options: DataOptions) -> Indices | None:
    """Return the test rows that `data.last` or the source defines; `None` = neither does."""
    if options.last is None:
        return source_test
    if source_test is not None:
        raise ConfigError(
            f"data.last={options.last} conflicts with the {len(source_test):,} test rows that the "
            "data define; remove it, or the other key, such as data.test_from or data.test_path"
        )
    if options.last >= len(rows):
        raise DataError(
            f"data.last={options.last} of {len(rows):,} rows leaves no training rows; lower it"
        )
    return rows[-options.last :]


def _fold_of_rows(samples: Samples, rows: Indices, options: DataOptions) -> Fold:
    """Return one fold of independent rows, made by scikit-learn and shuffled by `split_seed`."""
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

    groups = None if samples.groups is None else samples.groups[rows]
    labels = samples.targets[rows]
    if groups is not None:
        splitter_class = GroupKFold
        group_count = len(np.unique(groups))
        _require_enough(group_count, f"{group_count} groups", options)
    elif options.stratify and samples.task != "regression":
        splitter_class = StratifiedKFold
        classes, counts = counted(labels)
        rows_of_rarest = int(counts.min())
        rarest = samples.classes[classes[counts.argmin()]]
        what = f"the {rows_of_rarest} rows of class {rarest!r}"
        _require_enough(rows_of_rarest, what, options, or_else=", or data.stratify=false")
    else:
        splitter_class = KFold
        _require_enough(len(rows), f"{len(rows)} rows", options)
    splitter = splitter_class(options.folds, shuffle=True, random_state=options.split_seed)
    return _select_fold(splitter.split(rows, labels, groups), rows, options)


def _select_fold(folds: Iterator[Any], rows: Indices, options: DataOptions) -> Fold:
    train, validation = next(islice(folds, options.fold, None))
    return rows[train], rows[validation]


def _require_enough(count: int, what: str, options: DataOptions, *, or_else: str = "") -> None:
    if count < (options.folds or 0):
        raise DataError(
            f"data.folds={options.folds} can't split {what}; expected data.folds of at most "
            f"{count}{or_else}"
        )


def share(rows: int, fraction: float) -> int:
    """Return the number of rows in a fraction, rounded up as in scikit-learn."""
    return math.ceil(round(rows * fraction, 9))


def check_sizes(split: Split, options: DataOptions) -> None:
    """Raise DataError if a part is empty; the message gives the size of each part."""
    sizes = {name: len(rows) for name, rows in split.parts().items()}
    if all(sizes.values()):
        return
    listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
    key = "validation" if options.folds is None else "folds"
    raise DataError(
        f"data.test={options.test} and data.{key}={getattr(options, key)} split "
        f"{sum(sizes.values())} rows into {listed}; expected at least one row in each part"
    )


def _draw_part(
    samples: Samples,
    rows: Indices,
    part: str,
    options: DataOptions,
    generator: np.random.Generator,
) -> Indices:
    count = share(len(rows), options.test if part == "test" else options.validation)
    if samples.groups is not None:
        # Draw whole groups, in random order, until they hold at least `count` rows.
        _, group_of_row, sizes = np.unique(
            samples.groups[rows], return_inverse=True, return_counts=True
        )
        groups = generator.permutation(len(sizes))
        group_count = int(np.searchsorted(np.cumsum(sizes[groups]), count)) + 1
        positions = np.flatnonzero(np.isin(group_of_row, groups[:group_count]))
    elif options.stratify and samples.task != "regression":
        labels = samples.targets[rows]
        _require_two_rows(samples, labels, part, options)
        # Draw in the order of names, so that either class may be the positive one of this split.
        if samples.task == "binary" and samples.classes[0] > samples.classes[1]:
            labels = 1 - labels
        positions = _draw_by_class(labels, count, generator)
    else:
        positions = generator.permutation(len(rows))[:count]
    return np.sort(rows[positions])


def _require_two_rows(samples: Samples, labels: Array, part: str, options: DataOptions) -> None:
    """Raise DataError if a class has a single row among these labels, (rows,)."""
    classes, counts = counted(labels)
    if not (counts == 1).any():
        return
    single = samples.classes[classes[(counts == 1).argmax()]]
    near = ""
    for name in samples.classes:
        if name != single and _plain_name(name) == _plain_name(single):
            near = f" Did you mean {name!r}?"
    raise DataError(
        f"class {single!r} has only 1 row for training and {part}; expected at "
        f"least 2.{near} Add rows or remove this one{or_other_seed(samples, options)}"
    )


def _plain_name(name: str) -> str:
    return "".join(name.casefold().split())


def or_other_seed(samples: Samples, options: DataOptions) -> str:
    """Return `, or set …` with a seed whose split trains every class; empty = none found."""
    for seed in range(MOST_SEEDS):
        candidate = options.model_copy(update={"stratify": False, "split_seed": seed})
        with suppress(DataError):
            training_labels = samples.targets[split_rows(samples, candidate).train]
            training_classes, _ = counted(training_labels)
            classes, _ = counted(samples.targets)
            if len(training_classes) == len(classes):
                if options.stratify and samples.groups is None:
                    return f", or set data.stratify=false data.split_seed={seed}"
                return f", or set data.split_seed={seed}"
    return ""


def _draw_by_class(labels: Array, count: int, generator: np.random.Generator) -> Indices:
    """Draw `count` rows, divided among classes by largest remainders, within 1 of each share."""
    classes, counts = counted(labels)
    exact = counts * count / counts.sum()
    shares = np.floor(exact).astype(np.int64)
    most_missing = np.argsort(shares - exact, kind="stable")
    shares[most_missing[: count - shares.sum()]] += 1
    drawn_rows: list[Indices] = []
    for label, class_share in zip(classes, shares, strict=True):
        rows = generator.permutation(np.flatnonzero(labels == label))
        drawn_rows.append(rows[:class_share].copy())  # a copy frees the other rows
    joined: Indices = np.concatenate(drawn_rows)
    return joined


def counted(labels: Array) -> tuple[Indices, NDArray[np.int64]]:
    """Return the distinct labels (rows,), sorted, and their counts; fast for millions of rows."""
    counts = np.bincount(labels)
    classes = np.flatnonzero(counts)
    return classes, counts[classes]
