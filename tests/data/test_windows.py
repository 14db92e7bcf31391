import numpy as np
import pytest
import torch
from given_data import Given, options, series

from pipeline.data.prepare import prepare
from pipeline.errors import ConfigError, DataError

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


@pytest.mark.parametrize("how", ["none", "standard", "minmax"])
@pytest.mark.parametrize("horizon", [1, 2, 4])
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


@pytest.mark.parametrize("difference", [None, 2])
def test_values_after_the_training_part_change_no_training_window(difference: int | None) -> None:
    changed = COUNTING.copy()
    changed[12:] = 1e6
    before, after = (
        prepare(Given(series(values)), options(window=3, scale="standard", difference=difference))
        for values in (COUNTING**2, changed**2)
    )
    assert torch.equal(before.train.inputs, after.train.inputs)
    assert torch.equal(before.train.targets, after.train.targets)


def test_a_series_shorter_than_its_window_is_refused_with_both_lengths() -> None:
    with pytest.raises(
        DataError,
        match=r"the series has 20 steps; expected at least 22 for data.window=20, horizon 2\. ",
    ):
        prepare(Given(series(COUNTING)), options(window=20, horizon=2))


def test_a_training_part_shorter_than_its_window_is_refused_with_both_lengths() -> None:
    with pytest.raises(
        DataError,
        match=r"the training part has 12 steps; expected at least 13 for data.window=9, "
        r"horizon 1, difference 3\. Choose a smaller window",
    ):
        prepare(Given(series(COUNTING)), options(window=9, difference=3))


def test_a_part_shorter_than_the_horizon_is_refused() -> None:
    with pytest.raises(DataError, match=r"validation 0, test 1; expected at least one row"):
        prepare(Given(series(COUNTING)), options(window=3, horizon=5))


def test_a_series_without_a_window_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.window=null, but this data is a series"):
        prepare(Given(series(COUNTING)), options(window=None))


def test_a_horizon_beyond_the_difference_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.horizon=4 is longer than data.difference=3"):
        prepare(Given(series(COUNTING)), options(window=3, horizon=4, difference=3))
