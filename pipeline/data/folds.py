"""Cross-validation: which part of the rows before the test validates in a fold."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from pipeline.config.options import DataOptions
from pipeline.data.source import Indices, Samples
from pipeline.errors import DataError

Fold = tuple[Indices, Indices]
"""Row numbers that train and row numbers that validate, each in rising order."""


def fold_of_rows(samples: Samples, rows: Indices, options: DataOptions) -> Fold:
    """Cut independent rows into `folds` parts of which each validates once; return one fold.

    The parts are those of scikit-learn, shuffled by `split_seed`: groups stay whole (GroupKFold);
    without groups, classes keep their shares where `stratify` says so (StratifiedKFold, else
    KFold).

    Args:
        samples: All rows.
        rows: Numbers of the rows that are not for the test, in rising order.
        options: Their `folds` is a number.

    Raises:
        DataError: There are fewer rows, groups or rows of a class than folds.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

    folds = options.folds or 0
    groups = None if samples.groups is None else samples.groups[rows]
    labels = samples.targets[rows]
    if groups is not None:
        _require_enough(len(np.unique(groups)), "groups", folds)
        kind = GroupKFold
    elif options.stratify and samples.task != "regression":
        _require_enough_of_each_class(samples, rows, folds)
        kind = StratifiedKFold
    else:
        _require_enough(len(rows), "rows", folds)
        kind = KFold
    splitter = kind(folds, shuffle=True, random_state=options.split_seed)
    return _chosen(splitter.split(rows, labels, groups), rows, options)


def fold_of_times(times: Indices, options: DataOptions) -> Fold:
    """Cut times into `folds` + 1 blocks in a row; train before the block that validates.

    In fold i the blocks 0 … i train and block i + 1 validates, so that a forecast is never judged
    by a network that has seen what came after (scikit-learn's TimeSeriesSplit). The oldest block
    therefore never validates, and what follows the validating block is left out.

    Args:
        times: The times before the test, in order.
        options: Their `folds` is a number.

    Raises:
        DataError: There are fewer times than blocks.
    """
    from sklearn.model_selection import TimeSeriesSplit

    folds = options.folds or 0
    _require_enough(len(times) - 1, "times after the oldest", folds)
    return _chosen(TimeSeriesSplit(folds).split(times), times, options)


def _chosen(folds: Iterator[Any], rows: Indices, options: DataOptions) -> Fold:
    train, validation = next(islice(folds, options.fold, None))
    return rows[train], rows[validation]


def _require_enough(there: int, what: str, folds: int) -> None:
    if there < folds:
        raise DataError(
            f"data.folds={folds} can't share out {there} {what}; expected data.folds of at most "
            f"{there}"
        )


def _require_enough_of_each_class(samples: Samples, rows: Indices, folds: int) -> None:
    labels, counts = np.unique(samples.targets[rows], return_counts=True)
    rarest = int(counts.argmin())
    if counts[rarest] < folds:
        raise DataError(
            f"data.folds={folds} can't share out the {counts[rarest]} rows of class "
            f"{samples.classes[labels[rarest]]!r}; expected data.folds of at most "
            f"{counts[rarest]}, or data.stratify=false"
        )
