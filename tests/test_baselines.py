from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from pipeline.baselines import Baseline, linear, naive
from pipeline.config.options import DataOptions
from pipeline.data.prepare import Prepared, prepare
from pipeline.data.source import Samples, Series, Source
from pipeline.paths import conf_folder

DEFAULTS: dict[str, Any] = dict(OmegaConf.load(conf_folder() / "train.yaml").data)


class Given(Source):
    def __init__(self, content: Samples | Series) -> None:
        self.content = content

    def read(self) -> Samples | Series:
        return self.content


def options(**changes: Any) -> DataOptions:
    return DataOptions(**{**DEFAULTS, **changes})


def shipped(name: str, **changes: Any) -> Prepared:
    loaded = dict(OmegaConf.load(conf_folder() / "data" / f"{name}.yaml"))
    keys = {**DEFAULTS, **loaded, **changes}
    target = get_class(keys.pop("_target_"))
    own = {key: keys.pop(key) for key in set(keys) - DataOptions.model_fields.keys()}
    return prepare(target(**own), DataOptions(**keys))


def lined(prepared: Prepared) -> Baseline:
    baseline = linear(prepared, max_rows=10_000, max_seconds=5)
    assert baseline is not None
    return baseline


def rmse(baseline: Baseline, prepared: Prepared) -> float:
    actual = prepared.schema.to_units(prepared.test.targets, prepared.test.offsets)
    assert baseline.outputs.shape == actual.shape
    return float((baseline.outputs - actual).square().mean().sqrt())


def accuracy(baseline: Baseline, prepared: Prepared) -> float:
    outputs, actual = baseline.outputs, prepared.test.targets
    decided = outputs.argmax(1) if outputs.ndim == 2 else (outputs > 0.5).long()
    return float((decided == actual).float().mean())


@pytest.mark.parametrize("scale", ["none", "standard", "minmax"])
def test_sunspots_come_out_as_published(scale: str) -> None:
    prepared = shipped("sunspots", validation=0.0, scale=scale)
    assert naive(prepared).name == "last value"
    assert rmse(naive(prepared), prepared) == pytest.approx(30.34, abs=0.005)
    assert lined(prepared).name == "least squares on 9 steps"
    assert rmse(lined(prepared), prepared) == pytest.approx(17.47, abs=0.005)


def test_airline_comes_out_as_published() -> None:
    plain = shipped("airline", validation=0.0, difference=None, window=13, scale="none")
    assert rmse(naive(plain), plain) == pytest.approx(48.04, abs=0.005)
    assert rmse(lined(plain), plain) == pytest.approx(14.26, abs=0.005)
    seasonal = shipped("airline", validation=0.0)
    assert naive(seasonal).name == "value 12 steps before"
    assert rmse(naive(seasonal), seasonal) == pytest.approx(41.85, abs=0.005)


def test_the_last_value_of_the_predicted_channels_is_repeated_over_the_horizon() -> None:
    values = np.random.default_rng(0).normal(size=(30, 2)).cumsum(0) + np.array([0, 100])
    content = Series(
        values=values, times=("",) * 30, names=("a", "b"), targets=("b", "a"), units=""
    )
    prepared = prepare(Given(content), options(window=3, horizon=2, scale="standard", test=0.2))
    first = int(prepared.test.rows[0])
    expected = values[[first - 1, first - 1]][:, [1, 0]].reshape(-1)
    np.testing.assert_allclose(naive(prepared).outputs[0], expected, rtol=1e-5)


def test_logistic_regression_tells_tumours_apart_as_scikit_learn_does_alone() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    prepared = shipped("breast_cancer", scale="none", validation=0.0)
    scaler = StandardScaler().fit(prepared.train.inputs.double())
    oracle = LogisticRegression(max_iter=1000).fit(
        scaler.transform(prepared.train.inputs.double()), prepared.train.targets
    )
    expected = oracle.predict_proba(scaler.transform(prepared.test.inputs.double()))[:, 1]
    np.testing.assert_allclose(lined(prepared).outputs, expected, atol=1e-3)
    assert naive(prepared).outputs.shape == lined(prepared).outputs.shape == (143,)


def test_over_several_splits_logistic_regression_comes_to_the_published_accuracy() -> None:
    splits = [shipped("breast_cancer", validation=0.0, split_seed=seed) for seed in range(10)]
    mean = np.mean([accuracy(lined(prepared), prepared) for prepared in splits])
    assert mean == pytest.approx(0.977, abs=0.01)


def test_a_line_through_mnist1d_comes_to_the_published_accuracy() -> None:
    prepared = shipped("mnist1d", validation=0.0)
    assert accuracy(lined(prepared), prepared) == pytest.approx(0.32, abs=0.01)
    assert lined(prepared).outputs.shape == (1000, 10)


def test_a_line_through_diabetes_comes_to_the_published_error() -> None:
    splits = [shipped("diabetes", validation=0.0, split_seed=seed) for seed in range(8)]
    mean = np.mean([rmse(lined(prepared), prepared) for prepared in splits])
    assert mean == pytest.approx(54.5, abs=2.1)


def test_the_naive_classes_are_the_shares_of_the_training_part() -> None:
    prepared = shipped("iris", stratify=False)
    counts = np.bincount(prepared.train.targets, minlength=3)
    expected = np.tile(counts / counts.sum(), (len(prepared.test), 1))
    np.testing.assert_allclose(naive(prepared).outputs, expected, rtol=1e-6)
    assert naive(prepared).name == "majority class"


def test_the_naive_value_is_the_training_mean_in_units() -> None:
    prepared = shipped("diabetes")
    raw = prepared.schema.to_units(prepared.train.targets, None)
    assert naive(prepared).name == "training mean"
    np.testing.assert_allclose(naive(prepared).outputs, raw.mean().expand(111, 1), rtol=1e-5)


@pytest.mark.parametrize("name", ["iris", "breast_cancer", "diabetes", "sunspots", "airline"])
def test_data_over_its_budget_has_the_same_baselines(name: str) -> None:
    whole, lazy = (shipped(name, memory_budget=budget) for budget in (2048, 0))
    for predict in (naive, lined):
        torch.testing.assert_close(predict(whole).outputs, predict(lazy).outputs)


def test_a_bound_on_rows_thins_them_evenly() -> None:
    values = np.arange(2000.0)
    content = Samples(
        inputs=values[:, None], targets=3 * values + 1, task="regression", classes=(), features=()
    )
    prepared = prepare(Given(content), options(scale="standard"))
    baseline = linear(prepared, max_rows=300, max_seconds=5)
    assert baseline is not None
    assert rmse(baseline, prepared) < 0.02 * float(3 * values.std())


def test_a_line_through_pictures_scales_all_pixels_together_and_says_its_rows() -> None:
    from sklearn.linear_model import LogisticRegression

    prepared = shipped("digits", validation=0.0)
    pixels, new = (p.inputs.flatten(1).double().numpy() for p in (prepared.train, prepared.test))
    count = len(pixels)
    assert lined(prepared).name == "logistic regression"
    thinned = linear(prepared, max_rows=300, max_seconds=5)
    assert thinned is not None
    assert thinned.name == f"logistic regression on 300 of {count:,} rows"
    rows = np.linspace(0, count - 1, 300).round().astype(int)
    mean, deviation = pixels[rows].mean(), pixels[rows].std()
    oracle = LogisticRegression(max_iter=1000).fit(
        (pixels[rows] - mean) / deviation, prepared.train.targets[rows]
    )
    expected = oracle.predict_proba((new - mean) / deviation)
    np.testing.assert_allclose(thinned.outputs, expected, atol=1e-3)


def test_no_line_is_drawn_where_the_time_allows_too_few_rows() -> None:
    assert linear(shipped("mnist1d"), max_rows=10_000, max_seconds=0.001) is None


def test_the_validation_and_test_targets_change_no_baseline() -> None:
    inputs = np.random.default_rng(0).normal(size=(60, 2))
    targets = inputs @ [1.0, -2.0]
    fields = {"inputs": inputs, "task": "regression", "classes": (), "features": ()}
    before = prepare(Given(Samples(targets=targets, **fields)), options())
    changed = np.where(np.isin(np.arange(60), before.train.rows), targets, 1e6)
    after = prepare(Given(Samples(targets=changed, **fields)), options())
    for predict in (naive, lined):
        assert torch.equal(predict(before).outputs, predict(after).outputs)
