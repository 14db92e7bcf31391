"""Parts are disjoint and complete; each row before the test validates once over the folds."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.case_tables import from_yaml, refusals
from helpers.refused_calls import refusal
from helpers.sample_data import (
    inputs_of,
    labelled,
    options,
    parts_of,
    prepared_of,
    series,
    shipped,
    validation_of,
    valued,
)
from sklearn import model_selection as theirs

from pipeline.base.errors import DataError
from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.data.preparation.reader import reader_of
from pipeline.data.preparation.split import Split, split_rows, split_times
from pipeline.data.source import Samples, Series

SEEDS = range(20)


def validated(split: Split) -> list[int]:
    """Return the rows that validate, of which there are some."""
    assert split.validation is not None
    rows: list[int] = split.validation.tolist()
    return rows


def rows_of(split: Split) -> list[int]:
    return sorted(np.concatenate(list(split.parts().values())).tolist())


def drawn(seed: int) -> tuple[Samples, np.random.Generator]:
    generator = np.random.default_rng(seed)
    counts = generator.integers(4, 60, size=generator.integers(2, 6))
    return labelled(generator.permutation(np.repeat(np.arange(len(counts)), counts))), generator


@pytest.mark.parametrize("stratify", [True, False])
def test_parts_are_disjoint_complete_and_sorted(stratify: bool) -> None:
    """If stratified, they have the same shares of the classes."""
    for seed in SEEDS:
        samples, _ = drawn(seed)
        split = split_rows(samples, options(split_seed=seed, stratify=stratify, test=0.3))
        assert rows_of(split) == list(range(len(samples.inputs)))
        assert all((np.diff(rows) > 0).all() for rows in split.parts().values())
        total = np.bincount(samples.targets)
        tested = np.bincount(samples.targets[split.test], minlength=len(total))
        shared = (abs(tested - total * len(split.test) / total.sum()) < 1).all()
        assert shared or not stratify


def test_split_sizes_equal_scikit_learn() -> None:
    for rows in range(20, 60):
        samples = labelled(np.arange(rows) % 2)
        split = split_rows(samples, options(test=0.25, validation=0.2))
        rest, test = theirs.train_test_split(np.arange(rows), test_size=0.25)
        train, validation = theirs.train_test_split(rest, test_size=0.2)
        sizes = [len(part) for part in split.parts().values()]
        assert sizes == [len(train), len(validation), len(test)]
    published = shipped("digits", validation=0.0)
    assert (len(published.train), len(published.test)) == (1347, 450)


def test_split_seed_alone_decides_the_test_rows() -> None:
    """A source that names its test rows overrides it."""
    samples, _ = drawn(3)
    first, other = (split_rows(samples, options(split_seed=seed)).test.tolist() for seed in (1, 2))
    assert first != other
    for share in (0.0, 0.3):
        split = split_rows(samples, options(split_seed=1, validation=share))
        assert split.test.tolist() == first
        assert (split.validation is None) == (share == 0)
    named = labelled([0, 1] * 20, test=np.array([39, 3, 8]))
    assert split_rows(named, options(test=0.9)).test.tolist() == [3, 8, 39]


def test_last_rows_are_the_test_part() -> None:
    samples, known = labelled(np.arange(40) % 2), np.array([30, 39])
    split = split_rows(samples, options(last=7, validation=0.25))
    assert split.test.tolist() == list(range(33, 40))
    assert (len(split.train), len(validated(split))) == (24, 9)
    fold = split_rows(samples, options(last=7, folds=3))
    assert fold.test.tolist() == list(range(33, 40))
    beside = split_rows(replace(samples, validation=known), options(last=7))
    assert beside.test.tolist() == list(range(32, 39))
    newest = split_rows(replace(samples, order=np.arange(40)[::-1]), options(last=7))
    assert newest.test.tolist() == list(range(7))
    times = split_times(40, None, options(last=7))
    assert times.test.tolist() == list(range(33, 40))


@pytest.mark.parametrize(
    ("changes", "last", "problem"),
    [
        (
            {"test": np.arange(5)},
            7,
            "data.last=7 conflicts with the 5 test rows that the data define; remove it, or the "
            "other key, such as data.test_from or data.test_path",
        ),
        (
            {"groups": np.arange(40) // 4},
            7,
            "data.last=7 would split groups, which data.group forbids; set only one of them",
        ),
        ({}, 40, "data.last=40 of 40 rows leaves no training rows; lower it"),
    ],
)
def test_unusable_last_rows_are_refused(changes: dict[str, Any], last: int, problem: str) -> None:
    samples = labelled(np.arange(40) % 2, **changes)
    assert refusal(split_rows, samples, options(last=last)) == problem


def test_stride_skips_windows_in_each_part() -> None:
    content = series(np.arange(100.0)[:, None], reading={"step": "1"})
    every = prepared_of(content, window=4)
    third = prepared_of(content, window=4, stride=3)
    for whole, thinned in zip(parts_of(every), parts_of(third), strict=True):
        assert thinned.rows.tolist() == whole.rows[::3].tolist()
        torch.testing.assert_close(inputs_of(thinned), inputs_of(whole)[::3])
    other = series(np.arange(40.0)[:, None])
    _, part = reader_of(third.schema).evaluated_series(other, what="the series")
    assert part.rows.tolist() == list(range(4, 40, 3))
    assert len(inputs_of(part)) == len(part.targets) == len(part)


FOLDS = 4
CONTENT = {
    "by class": labelled(np.repeat([0, 1, 2], [60, 25, 12])),
    "two classes, the test named": labelled(np.arange(50) % 2, test=np.array([3, 8, 49])),
    "by group": labelled(np.arange(90) % 3, groups=np.arange(90) // 5),
    "values": valued(np.random.default_rng(0).normal(size=(41, 2)), np.arange(41.0)),
}


def splits(samples: Samples, **changes: object) -> list[Split]:
    every = (options(folds=FOLDS, fold=fold, **changes) for fold in range(FOLDS))
    return [split_rows(samples, each) for each in every]


@pytest.mark.parametrize(
    ("name", "stratify", "splitter"),
    [
        ("by class", True, theirs.StratifiedKFold),
        ("by class", False, theirs.KFold),
        ("two classes, the test named", True, theirs.StratifiedKFold),
        ("by group", True, theirs.GroupKFold),
        ("values", True, theirs.KFold),
    ],
)
def test_folds_equal_scikit_learn(name: str, stratify: bool, splitter: type) -> None:
    samples = CONTENT[name]
    found = splits(samples, split_seed=5, stratify=stratify)
    test = split_rows(samples, options(split_seed=5, stratify=stratify)).test
    rest = np.setdiff1d(np.arange(len(samples.inputs)), test)
    groups = None if samples.groups is None else samples.groups[rest]
    folds = splitter(FOLDS, shuffle=True, random_state=5)
    other = splits(samples, split_seed=5, stratify=stratify, validation=0.7)  # which is not read
    expected = folds.split(rest, samples.targets[rest], groups)
    for split, same, (train, validation) in zip(found, other, expected, strict=True):
        assert split.train.tolist() == rest[train].tolist()
        assert validated(split) == validated(same) == rest[validation].tolist()
        assert split.test.tolist() == test.tolist()


def test_time_folds_validate_after_their_training_rows() -> None:
    found = [split_times(100, None, options(folds=FOLDS, fold=fold)) for fold in range(FOLDS)]
    expected = theirs.TimeSeriesSplit(FOLDS).split(np.arange(75))
    for split, (train, validation) in zip(found, expected, strict=True):
        assert split.test.tolist() == list(range(75, 100))
        assert split.train.tolist() == train.tolist() == list(range(train[-1] + 1))
        assert validated(split) == validation.tolist()
        assert validated(split)[0] == train[-1] + 1
    assert [row for split in found for row in validated(split)] == list(range(15, 75))


def test_windows_of_fold_stay_in_their_part() -> None:
    counting = series(np.arange(60.0)[:, None])
    prepared = prepared_of(counting, window=3, horizon=2, folds=3, fold=1, test=0.25)
    assert prepared.train.targets[-1].tolist() == [21, 22]
    validation = validation_of(prepared)
    assert inputs_of(validation)[0, :, 0].tolist() == [20, 21, 22]
    assert validation.targets[[0, -1]].tolist() == [[23, 24], [32, 33]]
    assert prepared.test.targets[0].tolist() == [45, 46]


def test_scaling_is_fitted_on_the_fold() -> None:
    hashes = {prepared_of(CONTENT["values"]).content_hash}
    for fold in range(3):
        found = prepared_of(CONTENT["values"], folds=3, fold=fold, scale="standard")
        inputs = inputs_of(found.train)
        np.testing.assert_allclose(inputs.mean(0), [0, 0], atol=1e-6)
        np.testing.assert_allclose(inputs.std(0, correction=0), [1, 1], atol=1e-6)
        hashes.add(found.content_hash)
    assert len(hashes) == 4  # each fold has its own


# Rows by class, rows of values, or a series of times; a few have names, groups or test rows.
SPLIT: dict[str, Samples | Series] = {
    "value": valued(np.ones((1, 2)), np.ones(1)),
    "two values": valued(np.ones((2, 2)), np.ones(2)),
    "eight values": valued(np.ones((8, 1)), np.arange(8.0)),
    "ten rows": labelled([0, 1] * 5),
    "one group": labelled([0, 1] * 5, groups=np.zeros(10)),
    "one of c": labelled([0] * 10 + [1] * 10 + [2]),
    "new york": labelled([0] * 10 + [1] * 10 + [2], classes=("new york", "no", "New  York")),
    "c in test": labelled([0, 1] * 10 + [2], test=np.array([0, 1, 20])),
    "one class": labelled([1] * 12, classes=("a", "b")),
    "few of c": labelled(np.repeat([0, 1, 2], [30, 30, 4])),
    "fives": labelled(np.arange(20) % 2, groups=np.arange(20) // 5, test=np.arange(5)),
    "eight times": series(np.ones((8, 1))),
    "forty times": series(np.arange(40.0)[:, None]),
}
UNSPLITTABLE = """
value:
- 1 rows into train 0, validation 0, test 1; exp

two values:
- 2 rows into train 0, validation 1, test 1; exp

ten rows: test: 0.9, validation: 0.99, stratify: false
- data.test=0.9 and data.validation=0.99 split 10 rows into train 0, validation 1, test 9; expected
  at least one row in each part

one group:
- 10 rows into train 0, validation 0, test

one of c:
- class 'c' has only 1 row for training and test; expected at least 2. Add rows or remove this one,
  or set data.stratify=false data.split_seed=

new york:
- at least 2. Did you mean 'new york'? Add rows or remove this one, or set data.stratify=false

c in test:
- class 'c' is in the test pa

one class:
- all 12 rows are of class 'b'; expected at l

few of c: folds: 4
- the 3 rows of class 'c'; expected data.folds of at most 3, or data.stratify=false

fives: folds: 4
- data.folds=4 can't split 3 groups; expected data.folds of at most 3

eight values: folds: 7
- data.folds=7 can't split 6 rows; expected data.folds of at most 6

eight times: folds: 6, window: 1
- folds=6 can't split 6 times; expected data.folds of at most 5

forty times: window: 1, horizon: 6, folds: 5, fold: 4
- data.test=0.25 and data.folds=5 split 24 rows into train 19, validation 0, test 5; ex
"""


@pytest.mark.parametrize(("split", "problem"), refusals(UNSPLITTABLE))
def test_unsplittable_rows_are_refused_with_sizes(split: str, problem: str) -> None:
    name, _, keys = split.partition(":")
    assert problem in refusal(prepared_of, SPLIT[name], **from_yaml(f"{{{keys}}}"))


@pytest.mark.parametrize(
    ("samples", "changes"),
    [
        (SPLIT["one of c"], {}),
        (SPLIT["one of c"], {"stratify": False}),
        (labelled([0] * 10 + [1] * 10 + [2] * 2), {"test": 0.5}),
        (labelled(np.repeat([0, 1, 2], 8), groups=np.arange(24) // 4), {}),
    ],
)
def test_seed_suggested_for_a_missing_class_works(
    samples: Samples | Series, changes: dict[str, object]
) -> None:
    remedies = set()
    for seed in SEEDS:
        try:
            prepared_of(samples, **changes, split_seed=seed)
        except DataError as error:
            remedies.add(str(error).partition(", or set ")[2])
    (remedy,) = remedies
    keys = [word.removeprefix("data.").replace("=", ": ") for word in remedy.split()]
    prepared_of(samples, **{**changes, **from_yaml("\n".join(keys))})


WRONG_FOLDS = """
data.folds=1
- data.folds=1 is not allowed; expected a whole number ≥ 2 or null.

data.fold=-1
- data.fold=-1 is not allowed; expected a whole number ≥ 0.

data.folds=3 data.fold=3
- data.fold=3 is out of range for data.folds=3; expected 0 to 2.

data.fold=2
- data.fold=2 needs data.folds, which is null; expected data.fold=0.
"""


@pytest.mark.parametrize(("words", "problem"), refusals(WRONG_FOLDS))
def test_wrong_folds_are_refused(words: str, problem: str) -> None:
    assert refusal(check, compose(["data=iris", *words.split()])) == problem
