"""Between which values nine of ten new residuals lie, by counting and by simulation."""

import math

import numpy as np
import pytest

from benchmarks.interval_coverage import predicted
from pipeline.serving.decision import conformal


@pytest.mark.parametrize("rows", [1, 8, 18, 19, 20, 38, 39, 50, 199, 1000])
def test_the_ends_are_the_residuals_of_the_conformal_ranks(rows: int) -> None:
    residuals = np.random.default_rng(rows).normal(size=rows)
    rank = math.ceil(round((rows + 1) * 0.95, 9))
    ordered = sorted(residuals)
    expected = (ordered[rows - rank], ordered[rank - 1]) if rank <= rows else None
    assert conformal(residuals, rows) == expected


def test_few_groups_have_no_ends_however_many_rows_they_have() -> None:
    residuals = np.random.default_rng(0).normal(size=720)
    assert conformal(residuals, 18) is None
    few, many = conformal(residuals, 20), conformal(residuals, 720)
    assert few is not None
    assert many is not None
    assert few[0] < many[0] < many[1] < few[1]


def test_residuals_that_are_no_numbers_have_no_ends() -> None:
    assert conformal(np.r_[np.nan, np.arange(99.0)], 100) is None


@pytest.mark.parametrize(
    ("rows", "horizon", "group"), [(20, 0, 1), (50, 0, 1), (60, 1, 1), (240, 12, 1), (800, 0, 20)]
)
def test_at_least_nine_of_ten_truths_lie_within(rows: int, horizon: int, group: int) -> None:
    """A small run of the benchmark whose table stands in docs/statistics.md."""
    held = predicted(rows, horizon=horizon, group=group, repetitions=1000)
    assert held is not None
    assert held > 0.9 - 3 * math.sqrt(0.09 / 1000)


@pytest.mark.parametrize(("rows", "horizon", "group"), [(8, 0, 1), (60, 12, 1), (480, 0, 40)])
def test_where_they_would_lie_within_less_often_there_is_no_interval(
    rows: int, horizon: int, group: int
) -> None:
    assert predicted(rows, horizon=horizon, group=group, repetitions=1) is None
