"""Means, spreads and intervals, held to scipy's."""

import random

import numpy as np
import pytest
from scipy import stats

from pipeline.study.outcome.statistics import paired, spread


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_interval_of_a_mean_is_that_of_the_one_sample_t_test(n: int) -> None:
    values = [random.Random(n).gauss(0.8, 0.05) for _ in range(n)] + [0.7]
    found = spread(values)
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found is not None
    assert (found.n, found.mean) == (n + 1, pytest.approx(np.mean(values)))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert found.interval == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("n", [2, 3, 10])
def test_paired_differences_have_the_interval_of_the_paired_t_test(n: int) -> None:
    draw = random.Random(n)
    one = {(str(seed),): draw.gauss(0.8, 0.05) for seed in range(n)}
    other = {key: value + draw.gauss(0.01, 0.02) for key, value in one.items()}
    found = paired(one, other)
    interval = stats.ttest_rel(list(one.values()), list(other.values())).confidence_interval(0.95)
    assert found is not None
    assert found.n == n
    assert found.interval == pytest.approx((interval.low, interval.high))


def test_only_repeats_that_both_have_are_paired() -> None:
    found = paired({("0",): 1.0, ("1",): 2.0, ("2",): 9.0}, {("1",): 1.5, ("0",): 0.5, ("7",): 0.0})
    assert found is not None
    assert (found.n, found.mean, found.sd) == (2, 0.5, 0.0)


def test_cells_without_a_common_repeat_have_no_difference() -> None:
    assert paired({("0",): 1.0}, {("1",): 1.0}) is None


def test_one_measurement_has_a_mean_and_nothing_else() -> None:
    found = spread([0.25])
    assert found is not None
    assert (found.n, found.mean, found.sd, found.interval) == (1, 0.25, None, None)
    assert (found.words(), found.interval_words()) == ("0.2500", "–")


def test_no_measurement_has_no_mean() -> None:
    assert spread([]) is None


def test_a_metric_that_is_undefined_in_a_repeat_is_no_measurement() -> None:
    assert spread([0.5, float("nan"), 0.7]) == spread([0.5, 0.7])


def test_a_spread_is_written_with_the_decimals_of_its_mean() -> None:
    found = spread([15.0, 16.0, 17.0])
    assert found is not None
    assert found.words() == "16.00 ± 1.00"
    assert found.interval_words() == "[13.52, 18.48]"
