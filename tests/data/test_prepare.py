"""What a run gets of its data: hash, notes, refusals; and the windows of a series."""

from typing import Any

import numpy as np
import pytest
from given_data import Given, labelled, options, series, valued

from pipeline.data.prepare import prepare
from pipeline.data.source import Samples, Series
from pipeline.errors import ConfigError, DataError


def rows(**changes: object) -> Samples:
    return labelled(np.arange(40) % 2, **changes)


def walk() -> Series:
    return series(np.random.default_rng(0).normal(size=(60, 1)).cumsum(0))


def content_hash(content: Samples | Series, **changes: object) -> str:
    if isinstance(content, Series):
        changes = {"window": 4, **changes}
    return prepare(Given(content), options(**changes)).content_hash


@pytest.mark.parametrize("content", [rows, walk])
def test_the_hash_is_that_of_equal_content_whatever_the_scale_and_batch(content) -> None:
    hashes = {
        content_hash(content()),
        content_hash(content(), scale="standard"),
        content_hash(content(), batch_size=7, shuffle=False),
        content_hash(content(), memory_budget=0),
    }
    assert len(hashes) == 1


def test_another_value_target_split_or_name_of_a_class_changes_the_hash() -> None:
    whole, later = content_hash(rows()), walk()
    later.values[-1] += 1e-12
    assert content_hash(later) != content_hash(walk())
    assert content_hash(walk(), validation=0.3) != content_hash(walk())
    other, relabelled = rows(), rows()
    other.inputs[17, 1] = np.nextafter(other.inputs[17, 1], 1)
    relabelled.targets[[3, 5, 4]] = [0, 1, 1]
    for changed in (other, relabelled, rows(classes=("no", "yes"))):
        assert content_hash(changed) != whole
    assert content_hash(rows(), split_seed=1) != whole


def test_test_rows_that_also_train_are_counted_in_a_warning() -> None:
    content = rows(test=np.arange(30, 40))
    content.inputs[[31, 35]] = content.inputs[[2, 2]]
    prepared = prepare(Given(content), options(validation=0.0, batch_size=10))
    assert prepared.warnings == (
        "2 of 10 test rows have inputs that also stand in the training part: the test flatters "
        "the network there",
    )


def test_clean_data_have_no_notes_and_no_warnings() -> None:
    for content, changes in ((rows(), {}), (walk(), {"window": 3})):
        prepared = prepare(Given(content), options(batch_size=10, **changes))
        assert (prepared.notes, prepared.warnings) == ((), ())


def test_more_constant_columns_than_fit_a_line_are_counted() -> None:
    prepared = prepare(Given(rows(inputs=np.ones((40, 8)), features=())), options())
    assert prepared.warnings[0] == (
        "8 of 8 columns are constant in the training part and say nothing: "
        "number 0, number 1, number 2, number 3, number 4, …"
    )


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_a_missing_or_infinite_value_is_refused_with_its_row(hole: float) -> None:
    content, targets, values = rows(), np.arange(20.0), walk()
    content.inputs[[17, 23], 1] = targets[4] = values.values[9] = hole
    for each, problem in (
        (content, "the data has 2 rows with a missing or infinite value, the first is row 17"),
        (valued(np.ones((20, 1)), targets), "the target has 1 rows .* the first is row 4;"),
        (values, "the series has 1 rows .* the first is row 9;"),
    ):
        with pytest.raises(DataError, match=problem):
            content_hash(each)


def test_data_without_rows_or_with_fewer_targets_than_inputs_is_refused() -> None:
    for inputs, targets, problem in (
        (0, 0, "the data has no rows; expected at least one"),
        (5, 4, "the data has 5 rows of inputs and 4 of targets"),
    ):
        with pytest.raises(DataError, match=problem):
            content_hash(valued(np.ones((inputs, 2)), np.ones(targets)))


def test_options_for_series_are_refused_for_independent_rows_all_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        prepare(Given(rows()), options(window=9, horizon=2, difference=12))
    assert raised.value.problems == tuple(
        f"data.{key}={value} is for values in time, but this data has independent rows; "
        f"expected {expected}"
        for key, value, expected in (
            ("window", 9, "null"),
            ("difference", 12, "null"),
            ("horizon", 2, "1"),
        )
    )


COUNTING = np.arange(20.0)[:, None]


def test_windows_and_targets_are_those_written_by_hand() -> None:
    prepared = prepare(Given(series(COUNTING)), options(window=3, test=0.25, validation=0.2))
    assert prepared.train.inputs[:, :, 0].tolist() == [[t, t + 1, t + 2] for t in range(9)]
    assert prepared.train.targets.tolist() == [[t] for t in range(3, 12)]
    assert prepared.validation.inputs[0, :, 0].tolist() == [9, 10, 11]
    assert prepared.validation.targets.tolist() == [[12], [13], [14]]
    assert prepared.test.inputs[0, :, 0].tolist() == [12, 13, 14]
    assert prepared.test.targets.tolist() == [[15], [16], [17], [18], [19]]
    assert prepared.test.rows.tolist() == [15, 16, 17, 18, 19]


def test_all_steps_to_predict_lie_in_one_part() -> None:
    prepared = prepare(
        Given(series(COUNTING)), options(window=3, horizon=3, test=0.25, validation=0.2)
    )
    assert prepared.train.targets[-1].tolist() == [9, 10, 11]
    assert prepared.validation.targets.tolist() == [[12, 13, 14]]
    assert prepared.test.targets.tolist() == [[15, 16, 17], [16, 17, 18], [17, 18, 19]]


def test_outputs_go_step_by_step_and_channel_by_channel() -> None:
    values = np.stack([np.arange(20.0), 100 + np.arange(20.0), 200 + np.arange(20.0)], axis=1)
    content = series(values, targets=("c2", "c0"))
    prepared = prepare(Given(content), options(window=2, horizon=2, validation=0.0))
    assert prepared.schema.outputs == 4
    assert prepared.schema.input_shape == (2, 3)
    assert prepared.train.targets[0].tolist() == [202, 2, 203, 3]


@pytest.mark.parametrize(
    ("how", "horizon"), [("none", 1), ("standard", 2), ("minmax", 4), ("standard", 1)]
)
def test_targets_with_their_offsets_are_the_raw_values(how: str, horizon: int) -> None:
    values = np.random.default_rng(0).normal(size=(80, 2)).cumsum(0)
    prepared = prepare(
        Given(series(values)), options(window=5, horizon=horizon, difference=4, scale=how)
    )
    for part in (prepared.train, prepared.validation, prepared.test):
        restored = prepared.schema.to_units(part.targets, part.offsets)
        expected = np.stack([values[first : first + horizon].reshape(-1) for first in part.rows])
        np.testing.assert_allclose(restored, expected, atol=1e-5)


def test_differenced_windows_hold_changes_against_the_value_before() -> None:
    squares = COUNTING**2
    prepared = prepare(Given(series(squares)), options(window=2, difference=3, validation=0.0))
    first = prepared.train.rows[0]
    assert first == 5
    assert prepared.train.inputs[0, :, 0].tolist() == [9 - 0, 16 - 1]
    assert prepared.train.targets[0].tolist() == [25 - 4]
    assert prepared.train.offsets[0].tolist() == [4]


@pytest.mark.parametrize(
    ("error", "changes", "problem"),
    [
        (
            DataError,
            {"window": 20, "horizon": 2},
            r"the series has 20 steps; expected at least 22 for data.window=20, horizon 2\. ",
        ),
        (
            DataError,
            {"window": 9, "difference": 3},
            r"the training part has 12 steps; expected at least 13 for data.window=9, "
            r"horizon 1, difference 3\. Choose a smaller window",
        ),
        (DataError, {"window": 3, "horizon": 5}, "validation 0, test 1; expected at least one row"),
        (ConfigError, {"window": None}, "data.window=null, but this data is a series"),
        (
            ConfigError,
            {"window": 3, "horizon": 4, "difference": 3},
            "data.horizon=4 is longer than data.difference=3",
        ),
    ],
)
def test_windows_that_can_not_be_cut_are_refused(error: Any, changes: Any, problem: str) -> None:
    with pytest.raises(error, match=problem):
        prepare(Given(series(COUNTING)), options(**changes))
