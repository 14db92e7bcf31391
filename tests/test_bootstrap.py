"""Intervals of test figures, against closed forms, scipy, and rows written out by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fixture_types import Patch
from scipy.stats import (  # type: ignore[import-untyped] # scipy brings no types
    binomtest,
    bootstrap,
    skew,
)
from scipy.stats import t as student
from sklearn.metrics import r2_score
from torch import Tensor

from benchmarks.interval_coverage import Classes, Forecasts, Values, coverage, exact_coverage
from pipeline.metrics import Metric, all_metrics, bounds, of_task
from pipeline.metrics._rows import ScoredRows
from pipeline.scoring.bootstrap import (
    Intervals,
    Units,
    drawn,
    intervals,
    units_of,
    weighted_scores,
)
from pipeline.scoring.mean_intervals import mean_interval, quotient_interval
from pipeline.scoring.scores import for_task

Pair = tuple[np.ndarray, np.ndarray]


def binary(rows: int, seed: int = 0) -> Pair:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, rows)
    scores = np.clip(generator.normal(0.4 + 0.2 * targets, 0.2), 0, 1).round(2)  # with ties
    return scores.astype(np.float32), targets


def multiclass(rows: int, classes: int = 4, seed: int = 0) -> Pair:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes - 1, rows)  # the last class is in no row
    logits = torch.from_numpy(generator.normal(size=(rows, classes)) + np.eye(classes)[targets])
    return logits.softmax(1).float().numpy(), targets


def found_for(pair: Pair, units: Units | None = None, *, seed: int = 0, **more: Any) -> Intervals:
    """The intervals of some rows, each of which is a unit by default."""
    units = units_of(len(pair[0])) if units is None else units
    return intervals(*pair, units=units, threshold=0.5, seed=seed, **more)


def regression(rows: int, outputs: int = 1, seed: int = 0) -> Pair:
    generator = np.random.default_rng(seed)
    targets = generator.normal(50, 9, size=(rows, outputs))
    values = targets + generator.normal(0, 4, size=(rows, outputs))
    return values.astype(np.float32), targets.astype(np.float32)


@pytest.mark.parametrize(
    ("task", "pair"),
    [
        *(("binary", binary(57)), ("multiclass", multiclass(61))),
        *(("regression", regression(40)), ("regression", regression(40, outputs=3))),
    ],
)
@pytest.mark.parametrize("size", [None, 3])
def test_weighted_scores_equal_scores_of_drawn_rows(
    task: str, pair: Pair, size: int | None
) -> None:
    outputs, targets = pair
    groups = None if size is None else np.arange(len(targets)) // size
    units = units_of(len(targets), groups=groups)
    weights = drawn(units, 30, generator=np.random.default_rng(3))
    metrics = list(of_task(task).values())
    found = weighted_scores(metrics, outputs, targets, threshold=0.45)(weights)
    classes = outputs.shape[1] if outputs.ndim == 2 else 2
    further = [metric for metric in metrics if not metric.is_main]
    score = for_task(task, classes=classes, threshold=0.45, more=further)
    for draw, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(len(targets)), counts)
        expected = score(torch.from_numpy(outputs[rows]), torch.from_numpy(targets[rows]))
        assert set(found) == set(expected)
        for key, value in expected.items():
            assert found[key][draw] == pytest.approx(float(value), rel=1e-4), key


def test_draw_takes_whole_units() -> None:
    """It takes as many units as the test has."""
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    weights = drawn(units_of(6, groups=groups), 400, generator=np.random.default_rng(0))
    for members in ([0, 2, 5], [1, 4], [3]):
        assert (weights[:, members] == weights[:, members[:1]]).all()
    assert weights[:, [0, 1, 3]].sum(1).tolist() == [3] * 400
    alone = drawn(units_of(1000), 200, generator=np.random.default_rng(0))
    assert alone.sum(1).tolist() == [1000] * 200
    # A row is left out of a draw with the chance (1 - 1/n)^n.
    assert (alone == 0).mean() == pytest.approx((1 - 1 / 1000) ** 1000, abs=0.003)


@pytest.mark.parametrize(("rows", "wrong"), [(50, 0), (50, 3), (12, 12), (400, 4)])
def test_shares_of_rows_have_exact_intervals(rows: int, wrong: int) -> None:
    """Accuracy, recall and precision are shares of rows; all may be right, or none."""
    targets = np.arange(rows) % 2
    is_wrong = np.arange(rows) < wrong
    outputs = np.where(is_wrong, 1 - targets, targets) * 0.8 + 0.1
    ends = found_for((outputs, targets)).ends
    calls = outputs > 0.5
    hits = int((calls & (targets == 1)).sum())
    for key, part, total in (
        ("accuracy", rows - wrong, rows),
        ("recall", hits, int(targets.sum())),
        ("precision", hits, int(calls.sum())),
    ):
        oracle = binomtest(part, total).proportion_ci(0.95, method="exact")
        assert ends[key] == pytest.approx((oracle.low, oracle.high), abs=1e-9)


def test_exact_interval_covers_at_least_its_level() -> None:
    covered = []
    for rows in (10, 50, 200, 500):
        for share in (0.5, 0.9, 0.99, 0.995):
            covered.append(exact_coverage(rows, share))
    assert min(covered) >= 0.95
    assert np.mean(covered) < 0.99


def test_macro_scores_keep_the_bootstrap() -> None:
    """Their means over classes are no shares of one number of rows."""
    ends = found_for(multiclass(200)).ends
    assert ends.keys() >= {"accuracy", "precision", "recall", "f1"}
    right = int((multiclass(200)[0].argmax(1) == multiclass(200)[1]).sum())
    oracle = binomtest(right, 200).proportion_ci(0.95, method="exact")
    assert ends["accuracy"] == pytest.approx((oracle.low, oracle.high), abs=1e-9)


def test_regression_intervals_agree_with_scipy_bootstrap_on_many_rows() -> None:
    outputs, targets = regression(2000)
    ends = found_for((outputs, targets)).ends
    pairs = np.concatenate([outputs, targets], axis=1).astype(float)

    def r2(rows: np.ndarray) -> float:
        return float(r2_score(rows[:, 1], rows[:, 0]))

    statistics: dict[str, Callable[[np.ndarray], float]] = {
        "mae": lambda rows: float(np.abs(rows[:, 0] - rows[:, 1]).mean()),
        "rmse": lambda rows: float(np.sqrt(((rows[:, 0] - rows[:, 1]) ** 2).mean())),
        "r2": r2,
    }
    for key, statistic in statistics.items():
        theirs = bootstrap(
            (np.arange(2000),),
            lambda chosen, statistic=statistic: statistic(pairs[chosen]),
            n_resamples=1000,
            vectorized=False,
            method="BCa",
            rng=np.random.default_rng(5),
        ).confidence_interval
        assert ends[key] == pytest.approx((theirs.low, theirs.high), rel=0.01)


@pytest.mark.parametrize("rows", [20, 200])
def test_mean_interval_solves_halls_equation(rows: int) -> None:
    """The ends are where the statistic, freed of its skewness, has Student's quantiles."""
    values = np.random.default_rng(rows).lognormal(size=rows)
    degrees = values.sum() ** 2 / (values**2).sum() - 1

    def freed(mean: float, sample: np.ndarray) -> float:
        error = sample.std() / np.sqrt(len(sample) - 1)
        statistic = (sample.mean() - mean) / error
        bend = skew(sample) / 3 / np.sqrt(len(sample))
        return float(statistic + bend * statistic**2 + bend**2 / 3 * statistic**3 + bend / 2)

    ends = mean_interval(values, level=0.95)
    assert ends is not None
    with_another = np.append(values, values.max())
    assert freed(ends[0], values) == pytest.approx(student.ppf(0.975, degrees))
    assert freed(ends[1], with_another) == pytest.approx(student.ppf(0.025, degrees))


def test_quotient_interval_follows_the_units_of_both_means() -> None:
    generator = np.random.default_rng(0)
    parts, wholes = generator.lognormal(size=(2, 80))
    ends = quotient_interval(parts, wholes, level=0.95)
    assert ends is not None
    in_other_units = quotient_interval(3 * parts, wholes / 4, level=0.95)
    assert in_other_units == pytest.approx([12 * end for end in ends])
    # With a whole that is known, the interval is that of the part.
    assert quotient_interval(parts, np.full(80, 2.0), level=0.95) == pytest.approx(
        [end / 2 for end in mean_interval(parts, level=0.95) or ()]
    )
    assert quotient_interval(parts, np.eye(80)[0], level=0.95) is None  # one row has all of it


def series(rows: int, horizon: int) -> tuple[Pair, np.ndarray]:
    """Forecasts whose steps share errors, and the absolute error of each, (rows,)."""
    generator = np.random.default_rng(rows)
    noise = generator.normal(size=rows + horizon - 1)
    errors = np.lib.stride_tricks.sliding_window_view(noise, horizon)
    targets = generator.normal(size=(rows, horizon))
    return (targets + errors, targets), np.abs(errors).mean(1)


@pytest.mark.parametrize("kind", ["forecasts", "groups"])
def test_interval_of_groups_and_forecasts_is_students(kind: str) -> None:
    """Of 24 units of equal size, on the logarithm of the error; by scipy, without a draw."""
    pair, errors = series(600, 12)
    groups = np.tile(np.arange(24), 25)
    if kind == "groups":
        units, means = units_of(600, groups=groups), errors.reshape(25, 24).mean(0)
        widening = 1.0
    else:
        units, means = units_of(600, horizon=12), errors.reshape(25, 24).mean(1)
        widening = 1 / np.sqrt(1 - 12 / (3 * 24))
    found = found_for(pair, units, draws=4000).ends["mae"]
    error = means.std(ddof=1) / np.sqrt(len(means)) / means.mean() * widening
    reach = student.ppf(0.975, len(means) - 1) * error
    expected = means.mean() * np.exp([-reach, reach])
    assert found == pytest.approx(expected, rel=0.01)
    assert np.log(found[1] / found[0]) / 2 == pytest.approx(reach, rel=0.05)


@pytest.mark.parametrize(("rows", "horizon"), [(13, 12), (25, 12), (100, 12), (300, 24), (12, 1)])
def test_few_blocks_of_forecasts_have_no_interval(rows: int, horizon: int) -> None:
    pair, _ = series(rows, horizon)
    found = found_for(pair, units_of(rows, horizon=horizon))
    assert (found.draws, dict(found.ends)) == (0, {})


def test_disjoint_forecasts_count_like_single_steps() -> None:
    for stride in (12, 30):
        apart, single = units_of(300, horizon=12, stride=stride), units_of(300, horizon=1)
        assert (apart.count, apart.widening) == (single.count, single.widening)
    half = units_of(300, horizon=12, stride=6)  # each shares steps with the next one
    assert half.count == units_of(300, horizon=2).count


def test_few_or_uneven_groups_have_no_interval() -> None:
    uneven = np.r_[np.zeros(400), np.arange(1, 81)].astype(np.int64)
    sizes = (np.repeat(np.arange(12), 40), uneven, np.repeat(np.arange(24), 20))
    few, uneven, enough = (units_of(480, groups=groups) for groups in sizes)
    assert [units.are_enough for units in (few, uneven, enough)] == [False, False, True]
    assert (few.effective, enough.effective, few.words) == (12, 24, "12 groups of rows")


def test_auroc_interval_needs_30_rows_per_class() -> None:
    for positive in (29, 30):
        targets = np.array([1] * positive + [0] * (200 - positive))
        outputs = 1 / (1 + np.exp(-np.random.default_rng(0).normal(targets)))
        ends = found_for((outputs, targets)).ends
        assert ("auroc" in ends) is (positive == 30)
        assert "f1" in ends


@pytest.mark.parametrize(
    ("case", "keys"),
    [
        (Forecasts(rows=100, horizon=1), ("rmse", "mae")),
        (Classes(groups=120), ("accuracy", "f1", "auroc")),
        (Values(rows=50, law="lognormal", explained=0.95), ("rmse", "mae", "r2")),
        (Values(rows=100, law="Student's t(3)", explained=0.7), ("rmse", "mae", "r2")),
        pytest.param(Forecasts(rows=480, horizon=12), ("rmse", "mae"), marks=pytest.mark.slow),
        pytest.param(
            Classes(groups=24, size=20, shared=0.5), ("accuracy", "f1"), marks=pytest.mark.slow
        ),
    ],
    ids=["steps", "rows", "lognormal", "t", "horizon", "groups"],
)
def test_interval_coverage_is_as_stated(
    case: Forecasts | Classes | Values, keys: tuple[str, ...]
) -> None:
    """A small run of the benchmark whose table stands in docs/statistics.md."""
    found = coverage(case, 300, true_rows=100_000)
    for key in keys:
        assert found.printed[key] > 0.98
        # 95 % ± 2, and three standard deviations of 300 repetitions.
        assert 0.89 <= found.held[key] <= 1.0, key
        assert found.better[key] <= 0.07 + 0.04


@pytest.mark.parametrize("key", ["accuracy", "f1", "auroc", "rmse", "mae", "r2"])
@pytest.mark.parametrize("value", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("reach", [1e-4, 0.4, 30.0])
def test_interval_contains_value_within_metric_bounds(key: str, value: float, reach: float) -> None:
    low, high = all_metrics()[key].interval(value, reach)
    assert low <= value <= high
    assert bounds(key)[0] <= low
    assert high <= bounds(key)[1]


def test_same_seed_gives_same_interval() -> None:
    """Many rows get fewer draws."""
    first, again, other = (found_for(binary(300), seed=seed) for seed in (4, 4, 5))
    assert first == again != other
    assert found_for(binary(50_000)).draws == 200
    found = found_for(multiclass(21_000, classes=10))  # without the interval that takes longest
    assert found.draws == 100
    assert list(found.ends) == ["accuracy", "precision", "recall", "f1"]


def test_undefined_or_constant_metric_has_no_interval() -> None:
    alike = np.full(50, 0.7), np.ones(50, dtype=np.int64)
    single = np.ones((1, 1)), np.ones((1, 1))
    of_alike = found_for(alike)
    assert of_alike.ends.keys() == {"accuracy", "precision", "recall"}  # which are exact
    of_single = found_for(single)
    assert (of_single.draws, dict(of_single.ends)) == (0, {})


@pytest.mark.parametrize(
    ("rows", "horizon", "count"),
    [(1000, 1, 29), (60, 1, 30), (40, 1, 20), (480, 12, 20), (300, 24, 6), (5, 12, 1)],
)
def test_forecast_blocks_have_twice_the_horizon(rows: int, horizon: int, count: int) -> None:
    units = units_of(rows, horizon=horizon)
    assert units.count == count
    sizes = np.bincount(units.of_row)
    assert sizes.max() - sizes.min() <= 1
    assert (np.diff(units.of_row) >= 0).all()


def mean_probability(probabilities: Tensor, _: Tensor) -> float:
    return float(probabilities.mean())


def own_metric(
    score: Callable[[Tensor, Tensor], float] = mean_probability, *, seconds: float = 0.0
) -> Metric:
    """A record as that of a user's own metric, which is scored draw by draw."""

    def scored(rows: ScoredRows) -> np.ndarray:
        assert rows.tensors is not None
        CLOCK.now += seconds
        return np.array([score(*rows.tensors)])

    return Metric(
        name="own",
        label="own",
        tasks=("binary",),
        better="max",
        bounds=(-math.inf, math.inf),
        score=scored,
        glossary="a mean",
        chinese="平均值",
        scores_draws=False,
    )


class Clock:
    """A clock that goes on only while an own metric is scored."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture
def own_clock(monkeypatch: Patch) -> Clock:
    """The clock of these tests, since a busy machine would allow fewer draws."""
    monkeypatch.setattr("pipeline.scoring.bootstrap.perf_counter", CLOCK)
    monkeypatch.setattr("pipeline.scoring.bootstrap.thread_time", CLOCK)
    return CLOCK


def test_own_metric_interval_is_students(own_clock: Clock) -> None:
    outputs, targets = binary(400)
    low, high = found_for((outputs, targets), more=[own_metric()]).ends["own"]
    reach = student(399).ppf(0.975) * outputs.std(ddof=1) / np.sqrt(400)
    assert (high - low) / 2 == pytest.approx(reach, rel=0.1)
    assert (high + low) / 2 == pytest.approx(outputs.mean(), rel=1e-5)


@pytest.mark.parametrize(("seconds", "draws"), [(0.004, 30), (0.1, None)])
def test_slow_own_metric_gets_fewer_draws(
    seconds: float, draws: int | None, own_clock: Clock
) -> None:
    begin = own_clock.now
    found = found_for(binary(400), more=[own_metric(seconds=seconds)])
    assert own_clock.now - begin <= 0.3 + 2 * seconds
    assert found.fewer.get("own") == draws
    assert ("own" in found.ends) is (draws is not None)
    if draws is not None:
        assert found.note == "fewer bootstrap draws, to save time: own 30"


def test_own_metric_that_refuses_draws_has_no_interval() -> None:
    def refuse(probabilities: Tensor, targets: Tensor) -> float:
        raise ValueError("no rows are good enough")

    ends = found_for(binary(400), more=[own_metric(refuse)]).ends
    assert "own" not in ends
    assert ends == found_for(binary(400)).ends
