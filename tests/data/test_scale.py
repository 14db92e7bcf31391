import numpy as np
import pytest
import torch
from given_data import Given, options, series, valued
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from pipeline.data import scale
from pipeline.data.prepare import Prepared, prepare


def table(seed: int = 0) -> Prepared:
    return prepare(Given(valued(*table_content(seed))), options(scale="standard"))


def table_content(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(80, 4)) * [1, 1e3, 1e-4, 1] + [0, 5, 1, -1e4]
    return inputs, generator.normal(size=80) * 77 + 150


@pytest.mark.parametrize(
    ("how", "oracle"), [("standard", StandardScaler), ("minmax", MinMaxScaler)]
)
def test_a_table_is_scaled_as_scikit_learn_does_fitted_on_training_rows(how, oracle) -> None:
    inputs, targets = table_content(0)
    prepared = prepare(Given(valued(inputs, targets)), options(scale=how))
    for part in (prepared.train, prepared.validation, prepared.test):
        fitted = oracle().fit(inputs[prepared.train.rows])
        np.testing.assert_allclose(part.inputs, fitted.transform(inputs[part.rows]), atol=1e-5)
        fitted = oracle().fit(targets[prepared.train.rows, None])
        np.testing.assert_allclose(
            part.targets, fitted.transform(targets[part.rows, None]), atol=1e-5
        )


def test_rows_outside_the_training_part_change_no_scaled_training_row() -> None:
    inputs, targets = table_content(1)
    before = prepare(Given(valued(inputs, targets)), options(scale="standard"))
    outside = np.setdiff1d(np.arange(80), before.train.rows)
    inputs[outside], targets[outside] = 1e6, -1e6
    after = prepare(Given(valued(inputs, targets)), options(scale="standard"))
    assert torch.equal(before.train.inputs, after.train.inputs)
    assert torch.equal(before.train.targets, after.train.targets)


def test_measuring_in_small_blocks_gives_the_same_statistics(monkeypatch) -> None:
    inputs, _ = table_content(2)
    whole = scale.statistics(inputs, np.arange(80))
    monkeypatch.setattr(scale, "BLOCK_BYTES", 7 * 4 * 8)
    parted = scale.statistics(inputs, np.arange(80))
    for name in ("minimum", "maximum", "mean", "deviation"):
        np.testing.assert_allclose(getattr(parted, name), getattr(whole, name), rtol=1e-12)


@pytest.mark.parametrize("how", ["none", "standard", "minmax"])
@pytest.mark.parametrize("constant", [0.1, 0.0, 1e8, -3.3e-7])
def test_a_constant_column_is_never_nan_and_is_told_by_name(how: str, constant: float) -> None:
    inputs, targets = table_content(3)
    inputs[:, 2] = constant
    samples = valued(inputs, targets, features=("a", "b", "flat", "d"))
    prepared = prepare(Given(samples), options(scale=how))
    expected = constant if how == "none" else 0.0
    assert torch.all(prepared.train.inputs[:, 2] == np.float32(expected))
    assert torch.isfinite(prepared.test.inputs).all()
    assert prepared.warnings == (
        "1 of 4 columns are constant in the training part and say nothing: flat",
    )


@pytest.mark.parametrize("how", ["standard", "minmax"])
@pytest.mark.parametrize("constant", [0.1, 0.3, 0.7, 1e8 / 3, np.pi])
def test_a_test_value_off_a_trained_constant_keeps_its_distance(how: str, constant: float) -> None:
    inputs, targets = np.full((80, 1), constant), np.arange(80.0)
    inputs[70:] += 0.5
    samples = valued(inputs, targets, test=np.arange(70, 80))
    prepared = prepare(Given(samples), options(scale=how))
    assert prepared.test.inputs.tolist() == pytest.approx(np.full((10, 1), 0.5))


@pytest.mark.parametrize("how", ["standard", "minmax"])
def test_what_rounding_leaves_of_a_straight_line_is_not_blown_up(how: str) -> None:
    """A rise of 0.14 in a week is 0.1399999999999997 in one week, 0.1400000000000006 in another."""
    times = np.arange(200)
    values = np.stack([np.sin(times), np.round(5 + times / 50, 3)], axis=1)
    given = options(scale=how, window=12, difference=7)
    prepared = prepare(Given(series(values)), given)
    assert np.ptp(np.diff(values[::7, 1])) > 0
    for part in (prepared.train, prepared.validation, prepared.test):
        assert float(part.inputs[..., 1].abs().max()) < 1e-12


def test_a_series_is_scaled_by_channel_over_the_training_values() -> None:
    values = np.random.default_rng(0).normal(size=(60, 2)).cumsum(0) * [1, 50]
    prepared = prepare(
        Given(series(values)), options(scale="standard", window=4, test=0.25, validation=0.2)
    )
    fitted = StandardScaler().fit(values[:36])
    np.testing.assert_allclose(prepared.test.inputs[0], fitted.transform(values[41:45]), atol=1e-5)
    np.testing.assert_allclose(prepared.test.targets, fitted.transform(values[45:]), atol=1e-5)


def test_pictures_are_scaled_by_channel() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, size=(30, 3, 4, 5), dtype=np.uint8)
    prepared = prepare(Given(valued(pictures, np.arange(30.0))), options(scale="standard"))
    trained = pictures[prepared.train.rows].astype(np.float64)
    expected = (trained - trained.mean((0, 2, 3), keepdims=True)) / trained.std(
        (0, 2, 3), keepdims=True
    )
    np.testing.assert_allclose(prepared.train.inputs, expected, atol=1e-5)


def test_bytes_become_zero_to_one_without_scaling() -> None:
    pictures = np.array([[[[0, 51], [102, 255]]]] * 10, dtype=np.uint8)
    prepared = prepare(Given(valued(pictures, np.arange(10.0))), options(scale="none"))
    expected = torch.tensor([[0.0, 0.2], [0.4, 1.0]])
    torch.testing.assert_close(prepared.train.inputs[0, 0], expected)


@pytest.mark.parametrize("how", ["none", "standard", "minmax"])
def test_unscaled_targets_are_the_raw_ones(how: str) -> None:
    inputs, targets = table_content(4)
    prepared = prepare(Given(valued(inputs, targets)), options(scale=how))
    restored = prepared.schema.to_units(prepared.test.targets, None)
    np.testing.assert_allclose(restored[:, 0], targets[prepared.test.rows], rtol=1e-5)
