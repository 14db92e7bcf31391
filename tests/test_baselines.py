"""Baselines: published figures, scikit-learn alone, and what they may not look at."""

import resource
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from helpers.fixture_types import Patch
from helpers.sample_data import Given, labelled, options, series, shipped, valued
from torch import Tensor

from pipeline.data.parsing.cells.kinds.category import Category
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.prepare import Prepared, prepare
from pipeline.data.preparation.reader import reader_of
from pipeline.data.source import Column
from pipeline.scoring.baseline_fits import begin_fits, predictions
from pipeline.scoring.baselines import Limits, Prediction
from pipeline.scoring.fitting_process import FittingProcess

Measure = Callable[[Prediction, Prepared], float]
LIMITS = Limits(rows=20_000, seconds=20)


def predicted(
    prepared: Prepared,
    name: str,
    *,
    limits: Limits = LIMITS,
    class_weights: Sequence[float] | None = None,
    process: FittingProcess | None = None,
) -> Prediction | None:
    fitted = predictions(
        prepared, names=[name], class_weights=class_weights, limits=limits, process=process
    )
    return fitted.get(name)


def naive(prepared: Prepared) -> Prediction:
    baseline = predicted(prepared, "naive")
    assert baseline is not None
    return baseline


def linear(prepared: Prepared, *, limits: Limits) -> Prediction:
    baseline = predicted(prepared, "linear", limits=limits)
    assert baseline is not None
    return baseline


def seasonal(prepared: Prepared) -> Prediction | None:
    return predicted(prepared, "seasonal")


def outputs_of(baseline: Prediction | None) -> Tensor:
    assert baseline is not None
    assert baseline.outputs is not None, baseline.words
    return baseline.outputs


def lined(prepared: Prepared, max_rows: int = 10_000) -> Prediction:
    return linear(prepared, limits=Limits(rows=max_rows, seconds=5))


def pixels_of(part: Part) -> np.ndarray:
    """All inputs as (rows, columns)."""
    return np.asarray(next(part.blocks()).flatten(1).double())


def rmse(baseline: Prediction, prepared: Prepared) -> float:
    actual = prepared.schema.to_units(prepared.test.targets, prepared.test.offsets)
    outputs = outputs_of(baseline)
    assert outputs.shape == actual.shape
    return float((outputs - actual).square().mean().sqrt())


def accuracy(baseline: Prediction, prepared: Prepared) -> float:
    outputs, actual = outputs_of(baseline), prepared.test.targets
    decided = outputs.argmax(1) if outputs.ndim == 2 else (outputs > 0.5).long()
    return float((decided == actual).float().mean())


def test_airline_baselines_equal_published_values() -> None:
    plain = shipped("airline", validation=0.0, difference=None, window=13, scale="none")
    assert naive(plain).words == "last value"
    assert rmse(naive(plain), plain) == pytest.approx(48.04, abs=0.005)
    assert lined(plain).words == "least squares on 13 steps"
    assert rmse(lined(plain), plain) == pytest.approx(14.26, abs=0.005)
    yearly = seasonal(plain)  # the file's dates tell that its steps are months
    assert yearly is not None
    assert yearly.words == "value 12 steps before"
    assert rmse(yearly, plain) == pytest.approx(41.85, abs=0.005)
    changes = shipped("airline", validation=0.0)
    assert naive(changes).words == "value 12 steps before"
    assert rmse(naive(changes), changes) == pytest.approx(41.85, abs=0.005)
    assert seasonal(changes) is None  # it is the naive one already


def test_seasonal_baseline_repeats_season_over_longer_horizon() -> None:
    values = np.random.default_rng(0).normal(size=(80, 2))
    content = series(values, names=("a", "b"), targets=("b",), reading={"step": "1 day"})
    prepared = prepare(Given(content), options(window=3, horizon=9, test=0.3))
    found = seasonal(prepared)
    for row, first in enumerate(prepared.test.rows):
        expected = [*values[first - 7 : first, 1], *values[first - 7 : first - 5, 1]]
        np.testing.assert_allclose(outputs_of(found)[row], expected)
    assert seasonal(shipped("sunspots")) is None  # years have no season
    early = prepare(Given(replace(content, test_from=5)), options(window=3, validation=0.0))
    assert seasonal(early) is None  # no season lies before the first test rows
    minutes = replace(content, reading={"step": "1 minute"})  # the season has 1,440 steps
    assert seasonal(prepare(Given(minutes), options(window=3))) is None


def test_season_absent_in_training_gives_no_baseline() -> None:
    values = np.random.default_rng(0).normal(size=(80, 1))
    trained = prepare(Given(series(values)), options(window=3))
    daily = Given(series(values, reading={"step": "1 day"}))
    _, content, new = reader_of(trained.schema).evaluated(daily, budget=1)
    assert (content.seasonal, new.seasonal) == (None, None)
    assert seasonal(replace(trained, test=new)) is None


def test_naive_baseline_repeats_the_last_value() -> None:
    values = np.random.default_rng(0).normal(size=(30, 2)).cumsum(0) + np.array([0, 100])
    content = series(values, names=("a", "b"), targets=("b", "a"))
    prepared = prepare(Given(content), options(window=3, horizon=2, scale="standard", test=0.2))
    first = int(prepared.test.rows[0])
    expected = values[[first - 1, first - 1]][:, [1, 0]].reshape(-1)
    np.testing.assert_allclose(outputs_of(naive(prepared))[0], expected, rtol=1e-5)


def test_logistic_baseline_equals_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    prepared = shipped("breast_cancer", scale="none", validation=0.0)
    scaler = StandardScaler().fit(pixels_of(prepared.train))
    oracle = LogisticRegression(max_iter=1000).fit(
        scaler.transform(pixels_of(prepared.train)), prepared.train.targets
    )
    expected = oracle.predict_proba(scaler.transform(pixels_of(prepared.test)))[:, 1]
    np.testing.assert_allclose(outputs_of(lined(prepared)), expected, atol=1e-3)
    assert outputs_of(naive(prepared)).shape == outputs_of(lined(prepared)).shape == (143,)


@pytest.mark.parametrize(
    ("name", "seeds", "measure", "published", "within"),
    [
        ("breast_cancer", 10, accuracy, 0.977, 0.01),
        ("mnist1d", 1, accuracy, 0.32, 0.01),
        ("diabetes", 8, rmse, 54.5, 2.1),
    ],
)
def test_linear_baseline_reaches_the_published_mean(
    name: str, seeds: int, measure: Measure, published: float, within: float
) -> None:
    splits = [shipped(name, validation=0.0, split_seed=seed) for seed in range(seeds)]
    mean = np.mean([measure(lined(prepared), prepared) for prepared in splits])
    assert mean == pytest.approx(published, abs=within)


def test_naive_baseline_is_class_shares_or_mean() -> None:
    """The mean is in the units of the target."""
    prepared = shipped("iris", stratify=False)
    counts = np.bincount(prepared.train.targets, minlength=3)
    expected = np.tile(counts / counts.sum(), (len(prepared.test), 1))
    np.testing.assert_allclose(outputs_of(naive(prepared)), expected, rtol=1e-6)
    assert naive(prepared).words == "majority class"
    prepared = shipped("diabetes")
    raw = prepared.schema.to_units(prepared.train.targets, None)
    assert naive(prepared).words == "training mean"
    np.testing.assert_allclose(outputs_of(naive(prepared)), raw.mean().expand(111, 1), rtol=1e-5)


@pytest.mark.parametrize("name", ["iris", "diabetes", "airline"])
def test_memory_budget_does_not_change_baselines(name: str) -> None:
    whole, lazy = (shipped(name, memory_budget=budget) for budget in (2048, 0))
    for predict in (naive, lined):
        torch.testing.assert_close(outputs_of(predict(whole)), outputs_of(predict(lazy)))


def test_row_limit_thins_rows_evenly() -> None:
    values = np.arange(2000.0)
    prepared = prepare(Given(valued(values[:, None], 3 * values + 1)), options(scale="standard"))
    assert rmse(lined(prepared, max_rows=300), prepared) < 0.02 * float(3 * values.std())


def test_wide_table_beyond_the_time_has_no_baseline() -> None:
    """The cost of a regression grows with the third power of its columns."""
    inputs = np.random.default_rng(0).normal(size=(600, 200))
    prepared = prepare(Given(valued(inputs, inputs[:, 0])), options())
    for seconds, is_fitted in ((0.005, False), (1.0, True)):
        fitted = linear(prepared, limits=Limits(rows=10_000, seconds=seconds))
        assert (fitted.outputs is not None) is is_fitted
        if not is_fitted:
            assert fitted.words == "not fitted: a fit on 360 × 200 values takes too long"


def on_one_scale(pixels: np.ndarray, targets: np.ndarray, new: np.ndarray) -> np.ndarray:
    """What scikit-learn says of new rows if all columns are scaled together."""
    from sklearn.linear_model import LogisticRegression

    mean, deviation = pixels.mean(), pixels.std()
    oracle = LogisticRegression(max_iter=1000).fit((pixels - mean) / deviation, targets)
    predicted: np.ndarray = oracle.predict_proba((new - mean) / deviation)
    return predicted


def test_pixel_baseline_uses_one_scale_for_all_pixels() -> None:
    """Its name states on how many rows it was fitted."""
    prepared = shipped("digits", validation=0.0)
    pixels, new = (pixels_of(part) for part in (prepared.train, prepared.test))
    count = len(pixels)
    assert lined(prepared).words == "logistic regression"
    thinned = lined(prepared, max_rows=300)
    assert thinned.words == f"logistic regression on 300 of {count:,} rows"
    rows = np.linspace(0, count - 1, 300).round().astype(int)
    expected = on_one_scale(pixels[rows], prepared.train.targets[rows].numpy(), new)
    np.testing.assert_allclose(outputs_of(thinned), expected, atol=1e-3)
    too_few = linear(prepared, limits=Limits(rows=10_000, seconds=0.001))
    assert too_few.outputs is None


def test_byte_rows_are_scaled_together_as_pixels(own_folder: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.savez("flat.npz", x=digits.data[:400].astype(np.uint8), y=digits.target[:400])
    prepared = shipped("arrays", path="flat.npz", validation=0.0)
    assert prepared.schema.kind == "table"
    train, test = (digits.data[p.rows] / 255 for p in (prepared.train, prepared.test))
    expected = on_one_scale(train, digits.target[prepared.train.rows], test)
    np.testing.assert_allclose(outputs_of(lined(prepared)), expected, atol=1e-3)


@pytest.mark.parametrize("case", ["fits", "dies", "has too many rows", "has no room"])
@pytest.mark.parametrize("name", ["linear", "trees"])
def test_baseline_of_other_process_is_bit_equal(
    tmp_path: Path, monkeypatch: Patch, case: str, name: str
) -> None:
    """What can't be fitted there is fitted in this process."""
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    prepared = shipped("iris")
    here = predicted(prepared, name)
    others, room = set(psutil.Process().children()), resource.getrlimit(resource.RLIMIT_FSIZE)
    if case == "has too many rows":
        monkeypatch.setattr("pipeline.scoring.baseline_fits.MAX_BYTES", 1_000)
    with FittingProcess() as process:
        if case == "has no room":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, room[1]))
        try:
            begin_fits(prepared, names=None, class_weights=None, limits=LIMITS, process=process)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, room)
        assert list(temporary.iterdir()) == []  # a kill leaves no file
        if case == "fits":
            monkeypatch.delattr("pipeline.scoring.fitting_process.Fit.outputs")  # would raise here
        elif case == "dies":
            (child,) = set(psutil.Process().children()) - others
            child.kill()
        else:
            assert process.outputs(name) is None
        beside = predicted(prepared, name, process=process)
    assert here is not None
    assert beside is not None
    assert beside.words == here.words
    assert torch.equal(outputs_of(beside), outputs_of(here))


def test_validation_and_test_targets_change_no_baseline() -> None:
    inputs = np.random.default_rng(0).normal(size=(60, 2))
    targets = inputs @ [1.0, -2.0]
    before = prepare(Given(valued(inputs, targets)), options())
    changed = np.where(np.isin(np.arange(60), before.train.rows), targets, 1e6)
    after = prepare(Given(valued(inputs, changed)), options())
    for predict in (naive, lined):
        assert torch.equal(outputs_of(predict(before)), outputs_of(predict(after)))


def test_fit_that_takes_too_long_is_a_dash_with_a_reason(monkeypatch: Patch) -> None:
    monkeypatch.setattr("pipeline.scoring.fitting_process.PATIENCE", 0.0)
    prepared = shipped("iris")
    with FittingProcess() as process:
        begin_fits(prepared, names=None, class_weights=None, limits=LIMITS, process=process)
        for name in ("linear", "trees"):
            late = predicted(prepared, name, process=process)
            assert late is not None
            assert late.outputs is None
            assert late.words == "not fitted: no result within 0 s"


def test_fit_without_memory_is_a_dash_with_a_reason(monkeypatch: Patch) -> None:
    """An error without a message, too, leaves the run its result."""

    def raise_error(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pipeline.scoring.fitting_process.Fit.outputs", raise_error)
    failed = predicted(shipped("iris"), "trees")
    assert failed is not None
    assert failed.outputs is None
    assert failed.words.startswith("not fitted: MemoryError: no message (")


@pytest.mark.parametrize("weights", [None, "balanced"])
def test_trees_equal_scikit_learn_on_raw_columns(own_folder: Path, weights: str | None) -> None:
    """Missing cells and categories reach the trees as such, and rare classes count as asked."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    generator = np.random.default_rng(0)
    size, city = generator.normal(size=400), generator.integers(0, 30, size=400)
    label = (size + np.isin(city, [3, 7, 21]) + generator.normal(size=400) > 1.4).astype(int)
    size[generator.random(400) < 0.2] = np.nan
    frame = pd.DataFrame({"size": size, "city": [f"town {number}" for number in city]})
    frame["label"] = np.where(label, "yes", "no")
    frame.to_csv("towns.csv", index=False)
    prepared = shipped("table", path="towns.csv", target="label", validation=0.0)
    train, test = prepared.train, prepared.test
    frame["city"] = frame["city"].astype("category")
    oracle = HistGradientBoostingClassifier(
        categorical_features=[False, True], random_state=0, class_weight=weights
    )
    oracle.fit(frame.loc[train.rows, ["size", "city"]], label[train.rows])
    expected = oracle.predict_proba(frame.loc[test.rows, ["size", "city"]])[:, 1]
    fitted = predicted(prepared, "trees", class_weights=prepared.class_weights(weights))
    np.testing.assert_allclose(outputs_of(fitted), expected, atol=1e-6)


def test_trees_of_regression_equal_scikit_learn() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    prepared = shipped("diabetes", validation=0.0)
    train, test = prepared.train, prepared.test
    oracle = HistGradientBoostingRegressor(random_state=0)
    assert train.actual is not None
    oracle.fit(pixels_of(train), train.actual[:, 0])
    fitted = outputs_of(predicted(prepared, "trees"))[:, 0]
    np.testing.assert_allclose(fitted, oracle.predict(pixels_of(test)), rtol=1e-3)


def test_trees_predict_each_of_several_outputs() -> None:
    inputs = np.random.default_rng(0).normal(size=(400, 3))
    prepared = prepare(Given(valued(inputs, inputs[:, :2] * [1, -50])), options(validation=0.0))
    outputs = outputs_of(predicted(prepared, "trees"))
    actual = prepared.test.actual
    assert actual is not None
    explained = 1 - (outputs - actual).square().mean(0) / actual.var(0)
    assert explained.min() > 0.9


def test_trees_take_ten_thousand_categories() -> None:
    """The trees of scikit-learn take 255; the rarer ones share one."""
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 10_000, size=12_000).astype(float)
    codes[:6_000:2] = 17.0
    cells = np.column_stack([codes, generator.normal(size=12_000)])
    column = Column(name="code", grammar=Category(levels=tuple(map(str, range(10_000)))))
    content = labelled(
        (codes == 17.0).astype(int), inputs=cells, columns=(column, Column(name="size"))
    )
    prepared = prepare(Given(content), options(validation=0.0))
    trees = predicted(prepared, "trees")
    assert trees is not None
    assert accuracy(trees, prepared) > 0.99


def test_mean_baseline_is_that_of_the_training_part() -> None:
    values = np.random.default_rng(0).normal(size=(80, 1)).cumsum(0)
    prepared = prepare(Given(series(values)), options(window=3, scale="standard", validation=0.0))
    expected = values[prepared.train.rows].mean()
    np.testing.assert_allclose(outputs_of(predicted(prepared, "mean")), expected, rtol=1e-6)
    changes = prepare(Given(series(values)), options(window=3, difference=2, validation=0.0))
    first = changes.test.rows
    rise = np.mean(values[changes.train.rows] - values[changes.train.rows - 2])
    np.testing.assert_allclose(
        outputs_of(predicted(changes, "mean")), values[first - 2] + rise, rtol=1e-6
    )
    assert predicted(shipped("iris"), "mean") is None
    assert predicted(changes, "trees") is None
