import numpy as np
import pandas as pd
import pytest
from given_series import times_of

from pipeline.data.series_file.times import (
    Step,
    find_step,
    fits,
    labels_after,
    missing_steps,
    step_of,
)

CASES = {
    # description: (pandas' frequency, how labels are written, the step)
    "years": ("YS", "%Y", "1 year"),
    "decades": ("10YS", "%Y", "10 years"),
    "months": ("MS", "%Y-%m", "1 month"),
    "quarters": ("QS", "%Y-%m", "3 months"),
    "first days of months": ("MS", "%Y-%m-%d", "1 month"),
    "last days of months": ("ME", "%Y-%m-%d", "1 month"),
    "last days of quarters": ("QE", "%Y-%m-%d", "3 months"),
    "last days of years": ("YE", "%Y/%m/%d", "1 year"),
    "days": ("D", "%Y-%m-%d", "1 day"),
    "weeks": ("W", "%Y-%m-%d", "7 days"),
    "weekdays": ("B", "%Y-%m-%d", "1 weekday"),
    "days in one word": ("D", "%Y%m%d", "1 day"),
    "hours": ("h", "%Y-%m-%d %H:%M", "1 hour"),
    "half days": ("12h", "%Y-%m-%dT%H:%M:%SZ", "12 hours"),
    "quarters of an hour": ("15min", "%Y-%m-%d %H:%M:%S+02:00", "15 minutes"),
    "months as moments": ("MS", "%Y-%m-%d %H:%M:%S", "1 month"),
    "weekdays as moments": ("B", "%Y-%m-%d %H:%M", "1 weekday"),
    "hundredths of a second": ("10ms", "%Y-%m-%d %H:%M:%S.%f", "10 milliseconds"),
}


@pytest.mark.parametrize(("frequency", "written", "step"), CASES.values(), ids=list(CASES))
def test_the_labels_that_follow_are_those_of_pandas(
    frequency: str, written: str, step: str
) -> None:
    labels = pd.date_range("2019-11-05", periods=50, freq=frequency).strftime(written).tolist()
    past = times_of(labels[:40])
    found = find_step(past)
    assert str(found) == step
    assert step_of(step) == found
    assert list(labels_after(past, found, 10)) == labels[40:]


@pytest.mark.parametrize("frequency", ["MS", "B", "7D", "h"])
def test_steps_that_are_missing_are_counted_where_they_are(frequency: str) -> None:
    written = "%Y-%m-%d %H:%M"
    whole = pd.date_range("2020-01-01", periods=60, freq=frequency).strftime(written).tolist()
    times = times_of(whole[:10] + whole[11:40] + whole[43:])
    step = find_step(times)
    assert step == find_step(times_of(whole))
    assert step is not None
    expected = np.zeros(len(times) - 1)
    expected[9], expected[38] = 1, 3
    assert missing_steps(times, step).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("labels", "following"),
    [
        (["1", "2", "3"], ["4", "5"]),
        (["0", "10", "20", "40"], ["50", "60"]),
        (["-2.0", "-1.0", "0.0"], ["1.0", "2.0"]),
    ],
)
def test_whole_numbers_go_on_by_their_step(labels: list[str], following: list[str]) -> None:
    times = times_of(labels)
    assert list(labels_after(times, find_step(times), 2)) == following


@pytest.mark.parametrize(
    "labels",
    [
        ["2020-01-01", "2020-01-02", "2020-01-09", "2020-03-01", "2020-03-20"],
        ["2020-01-01 00:00:01", "2020-01-01 00:00:07", "2020-01-01 00:00:20"],
        ["1", "4", "6", "13"],
        ["1"],
    ],
)
def test_times_without_a_common_step_are_numbered_from_the_last(labels: list[str]) -> None:
    times = times_of(labels)
    assert find_step(times) is None
    assert labels_after(times, None, 3) == ("+1", "+2", "+3")


def test_the_thirtieth_of_each_month_goes_on_as_the_thirtieth() -> None:
    times = times_of(["2020-11-30", "2020-12-30", "2021-01-30"])
    step = find_step(times)
    assert str(step) == "1 month"
    assert labels_after(times, step, 2) == ("2021-02-28", "2021-03-30")


def test_a_week_without_its_weekend_fits_a_step_of_weekdays() -> None:
    week = times_of(pd.date_range("2024-01-01", periods=5).strftime("%Y-%m-%d").tolist())
    assert fits(week, Step(unit="weekday", count=1))
    assert not fits(times_of(["2024-01-01", "2024-02-01"]), Step(unit="weekday", count=1))


def test_hourly_times_do_not_fit_a_step_of_days_nor_daily_ones_a_step_of_hours() -> None:
    hours = times_of(["2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 02:00"])
    days = times_of(["2024-01-01 00:00", "2024-01-02 00:00", "2024-01-03 00:00"])
    one_hour, one_day = find_step(hours), find_step(days)
    assert one_hour is not None
    assert one_day is not None
    assert fits(hours, one_hour)
    assert fits(days, one_day)
    assert not fits(hours, one_day)
    assert not fits(days, one_hour)
