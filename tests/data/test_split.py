import numpy as np
import pytest
from given_data import Given, labelled, options, shipped, valued

from pipeline.data.prepare import prepare
from pipeline.data.source import Samples
from pipeline.data.split import Split, split_rows, split_times
from pipeline.errors import DataError

SEEDS = range(20)


def rows_of(split: Split) -> list[int]:
    return sorted(np.concatenate(list(split.parts().values())).tolist())


def drawn(seed: int) -> tuple[Samples, np.random.Generator]:
    generator = np.random.default_rng(seed)
    counts = generator.integers(4, 60, size=generator.integers(2, 6))
    return labelled(generator.permutation(np.repeat(np.arange(len(counts)), counts))), generator


@pytest.mark.parametrize("stratify", [True, False])
def test_parts_are_disjoint_complete_and_in_rising_order(stratify: bool) -> None:
    for seed in SEEDS:
        samples, _ = drawn(seed)
        split = split_rows(samples, options(split_seed=seed, stratify=stratify))
        assert rows_of(split) == list(range(len(samples.inputs)))
        assert all((np.diff(rows) > 0).all() for rows in split.parts().values())


def test_stratified_parts_hold_each_class_within_one_row_of_its_share() -> None:
    for seed in SEEDS:
        samples, _ = drawn(seed)
        split = split_rows(samples, options(split_seed=seed, test=0.3))
        total = np.bincount(samples.targets)
        tested = np.bincount(samples.targets[split.test], minlength=len(total))
        assert (abs(tested - total * len(split.test) / total.sum()) < 1).all()


def test_sizes_equal_those_of_scikit_learn() -> None:
    from sklearn.model_selection import train_test_split

    for rows in range(20, 60):
        samples = labelled(np.arange(rows) % 2)
        split = split_rows(samples, options(test=0.25, validation=0.2))
        rest, test = train_test_split(np.arange(rows), test_size=0.25)
        train, validation = train_test_split(rest, test_size=0.2)
        assert [len(part) for part in split.parts().values()] == [
            len(train),
            len(validation),
            len(test),
        ]


def test_digits_split_into_the_published_1347_and_450_rows() -> None:
    prepared = shipped("digits", validation=0.0)
    assert (len(prepared.train), len(prepared.test)) == (1347, 450)


def test_the_split_seed_alone_decides_the_split() -> None:
    samples, _ = drawn(3)
    first, again, other = (
        split_rows(samples, options(split_seed=seed)).test.tolist() for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_holding_out_a_validation_part_leaves_the_test_rows_the_same() -> None:
    samples, _ = drawn(4)
    without, with_validation = (
        split_rows(samples, options(validation=share)) for share in (0.0, 0.3)
    )
    assert without.validation is None
    assert without.test.tolist() == with_validation.test.tolist()


def test_test_rows_named_by_the_source_are_kept() -> None:
    samples = labelled([0, 1] * 20, test=np.array([39, 3, 8]))
    split = split_rows(samples, options(test=0.9))
    assert split.test.tolist() == [3, 8, 39]


def test_a_group_is_never_in_two_parts() -> None:
    for seed in SEEDS:
        samples, generator = drawn(seed)
        groups = generator.integers(0, 12, size=len(samples.inputs))
        grouped = labelled(samples.targets, groups=groups)
        split = split_rows(grouped, options(split_seed=seed))
        parts = [set(groups[rows]) for rows in split.parts().values()]
        assert sum(map(len, parts)) == len(set(groups))


def test_a_series_is_split_in_time_with_the_test_last() -> None:
    split = split_times(100, None, options(test=0.25, validation=0.2))
    assert split.train.tolist() == list(range(60))
    assert split.validation is not None
    assert split.validation.tolist() == list(range(60, 75))
    assert split.test.tolist() == list(range(75, 100))


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(1, "train 0, validation 0, test 1"), (2, "train 0, validation 1, test 1")],
)
def test_fewer_rows_than_parts_are_refused_with_the_sizes(rows: int, sizes: str) -> None:
    samples = valued(np.ones((rows, 2)), np.ones(rows))
    with pytest.raises(
        DataError,
        match=rf"data.test=0.25 and data.validation=0.2 split {rows} rows into {sizes}; "
        "expected at least one row in each part",
    ):
        split_rows(samples, options())


def test_fractions_that_leave_no_training_row_are_refused_with_the_sizes() -> None:
    samples = labelled([0, 1] * 5)
    with pytest.raises(DataError, match=r"10 rows into train 0, validation 1, test 9"):
        split_rows(samples, options(test=0.9, validation=0.99, stratify=False))


def test_one_group_only_is_refused_with_the_sizes() -> None:
    samples = labelled([0, 1] * 5, groups=np.zeros(10))
    with pytest.raises(DataError, match=r"10 rows into train 0, validation 0, test 10"):
        split_rows(samples, options())


def test_a_class_of_one_row_is_refused_with_the_way_out() -> None:
    samples = labelled([0] * 10 + [1] * 10 + [2])
    with pytest.raises(
        DataError,
        match=r"class 'c' has 1 row to share between training and test; .*data.stratify=false",
    ):
        split_rows(samples, options())


def test_a_tested_class_without_a_training_row_is_refused_by_name() -> None:
    samples = labelled([0, 1] * 10 + [2], test=np.array([0, 1, 20]))
    with pytest.raises(DataError, match=r"class 'c' is in the test part but not in the training"):
        prepare(Given(samples), options())


def test_one_class_only_is_refused_with_its_count() -> None:
    samples = labelled([1] * 12, classes=("a", "b"))
    with pytest.raises(DataError, match=r"all 12 rows are of class 'b'; expected at least 2"):
        prepare(Given(samples), options())
