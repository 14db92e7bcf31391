"""Intervals of test figures, against closed forms, scipy, and rows written out by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap, norm

from pipeline import metrics
from pipeline.bootstrap import block_of_series, drawn, intervals, weighted_scores

Pair = tuple[torch.Tensor, torch.Tensor]


def binary(rows: int, seed: int = 0) -> Pair:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, rows)
    scores = np.clip(generator.normal(0.4 + 0.2 * targets, 0.2), 0, 1).round(2)  # with ties
    return torch.from_numpy(scores).float(), torch.from_numpy(targets)


def multiclass(rows: int, classes: int = 4, seed: int = 0) -> Pair:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes - 1, rows)  # the last class is in no row
    logits = torch.from_numpy(generator.normal(size=(rows, classes)) + np.eye(classes)[targets])
    return logits.softmax(1).float(), torch.from_numpy(targets)


def regression(rows: int, outputs: int = 1, seed: int = 0) -> Pair:
    generator = np.random.default_rng(seed)
    targets = generator.normal(50, 9, size=(rows, outputs))
    values = targets + generator.normal(0, 4, size=(rows, outputs))
    return torch.from_numpy(values).float(), torch.from_numpy(targets).float()


@pytest.mark.parametrize(
    ("task", "pair"),
    [
        ("binary", binary(57)),
        ("multiclass", multiclass(61)),
        ("regression", regression(40)),
        ("regression", regression(40, outputs=3)),
    ],
)
@pytest.mark.parametrize("block", [1, 7])
def test_each_draw_is_scored_as_its_rows_written_out_would_be(
    task: str, pair: Pair, block: int
) -> None:
    outputs, targets = pair
    weights = drawn(len(targets), 30, block=block, generator=np.random.default_rng(3))
    found = weighted_scores(outputs, targets, threshold=0.45)(weights)
    classes = outputs.shape[1] if outputs.ndim == 2 else 2
    score = metrics.for_task(task, classes=classes, threshold=0.45)
    for draw, counts in enumerate(weights.astype(int)):
        rows = torch.from_numpy(np.repeat(np.arange(len(targets)), counts))
        expected = score(outputs[rows], targets[rows])
        assert set(found) == set(expected)
        for key, value in expected.items():
            assert found[key][draw] == pytest.approx(float(value), rel=1e-4), key


def test_a_draw_has_as_many_rows_as_the_test_and_whole_blocks_of_neighbours() -> None:
    weights = drawn(20, 400, block=5, generator=np.random.default_rng(0))
    assert weights.sum(1).tolist() == [20] * 400
    one = drawn(5, 3, block=5, generator=np.random.default_rng(0))
    assert one.tolist() == [[1] * 5] * 3
    alone = drawn(1000, 200, block=1, generator=np.random.default_rng(0))
    # A row is left out of a draw with the chance (1 - 1/n)^n.
    assert (alone == 0).mean() == pytest.approx((1 - 1 / 1000) ** 1000, abs=0.003)


def test_the_interval_of_an_accuracy_is_that_of_a_share() -> None:
    outputs, targets = binary(1000)
    found = intervals(outputs, targets, threshold=0.5, seed=1)
    right = float(((outputs > 0.5).long() == targets).double().mean())
    half = norm.ppf(0.975) * math.sqrt(right * (1 - right) / 1000)
    assert found.ends["accuracy"] == pytest.approx((right - half, right + half), abs=0.006)
    assert (found.draws, found.block) == (1000, 1)


def test_the_intervals_of_a_regression_are_those_of_scipys_bootstrap() -> None:
    outputs, targets = regression(60)
    found = intervals(outputs, targets, threshold=0.5, seed=0).ends
    errors = (outputs - targets).numpy().ravel().astype(float)
    statistics = {
        "mae": lambda e, axis: np.abs(e).mean(axis),
        "rmse": lambda e, axis: np.sqrt((e**2).mean(axis)),
    }
    for key, statistic in statistics.items():
        theirs = bootstrap(
            (errors,),
            statistic,
            n_resamples=20_000,
            method="percentile",
            rng=np.random.default_rng(5),
        ).confidence_interval
        assert found[key] == pytest.approx((theirs.low, theirs.high), rel=0.04)


def test_an_interval_holds_the_true_value_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(300):
        generator = np.random.default_rng(seed)
        right = generator.random(200) < 0.8
        outputs = torch.from_numpy(np.where(right, 0.9, 0.1)).float()
        ends = intervals(
            outputs, torch.ones(200, dtype=torch.int64), threshold=0.5, seed=seed, draws=200
        ).ends["accuracy"]
        held += ends[0] <= 0.8 <= ends[1]
    # 95 % of 300 are 285; a percentile interval holds a little less, and chance has a say.
    assert 268 <= held <= 298


def test_neighbours_that_err_alike_make_the_interval_wider_once_they_are_drawn_together() -> None:
    generator = np.random.default_rng(0)
    errors = np.repeat(generator.normal(size=40), 10).reshape(-1, 1)
    targets = torch.from_numpy(generator.normal(size=(400, 1)))
    outputs = targets + torch.from_numpy(errors)
    apart, together = (
        intervals(outputs, targets, threshold=0.5, seed=0, block=block).ends["mae"]
        for block in (1, 20)
    )
    assert together[1] - together[0] > 1.8 * (apart[1] - apart[0])


def test_the_same_seed_gives_the_same_ends_and_many_rows_fewer_draws() -> None:
    outputs, targets = binary(300)
    first, again = (intervals(outputs, targets, threshold=0.5, seed=4) for _ in range(2))
    assert first == again
    assert intervals(outputs, targets, threshold=0.5, seed=5) != first
    assert intervals(*binary(50_000), threshold=0.5, seed=0).draws == 200


def test_a_test_of_many_rows_and_classes_goes_without_the_interval_that_takes_longest() -> None:
    found = intervals(*multiclass(21_000, classes=10), threshold=0.5, seed=0)
    assert found.draws == 100
    assert list(found.ends) == ["accuracy", "precision", "recall", "f1"]


def test_a_metric_without_a_value_has_no_interval() -> None:
    outputs, targets = torch.full((50,), 0.7), torch.ones(50, dtype=torch.int64)
    found = intervals(outputs, targets, threshold=0.5, seed=0).ends
    assert found["accuracy"] == (1.0, 1.0)
    assert "auroc" not in found
    assert intervals(torch.ones(1, 1), torch.ones(1, 1), threshold=0.5, seed=0).ends == {
        "rmse": (0.0, 0.0),
        "mae": (0.0, 0.0),
    }


@pytest.mark.parametrize(
    ("rows", "horizon", "expected"), [(1000, 1, 10), (27, 1, 3), (27, 12, 12), (1, 1, 1)]
)
def test_blocks_of_a_series_are_as_long_as_the_cube_root_or_a_forecast(
    rows: int, horizon: int, expected: int
) -> None:
    assert block_of_series(rows, horizon) == expected
