"""Times of a series: their labels, their step and what follows."""

import numpy as np
import pandas as pd
import pytest
from given_series import PLACE, times_of

from pipeline.data.times import (
    Step,
    find_step,
    fits,
    in_order,
    labels_after,
    missing_steps,
    step_of,
)
from pipeline.errors import DataError

FORMS = {
    "year": ["1700", "1701", "1705"],
    "month": ["1949-01", "1949-02", "1950-01"],
    "month with slashes": ["1949/01", "1949/02"],
    "day": ["2020-02-28", "2020-02-29", "2021-01-01"],
    "day in one word": ["20200228", "20200229"],
    "minute": ["2020-01-01 00:00", "2020-01-01 23:59"],
    "second": ["1969-12-31T23:59:59", "2020-01-01T00:00:00"],
    "microsecond": ["2020-01-01 00:00:00.000001", "2020-01-01 00:00:00.250000"],
    "UTC": ["2020-01-01T00:00:00Z", "2020-01-01T06:30:00Z"],
    "offset": ["2020-01-01 00:00+05:30", "2020-01-02 00:00+05:30"],
    "offset of pyarrow": ["2020-01-01 00:00:00.000000+0100"],
    "numbers": ["-3", "0", "12"],
    "numbers as floats": ["1.0", "2.0"],
}


@pytest.mark.parametrize("labels", FORMS.values(), ids=list(FORMS))
def test_a_position_is_written_as_the_label_it_was_read_from(labels: list[str]) -> None:
    times = times_of(labels)
    assert [times.form.written(int(position)) for position in times.positions] == labels


def test_numbers_like_years_are_numbers_and_more_digits_of_a_second_no_other_form() -> None:
    times = times_of(["999", "1000", "1001", "20200101"])
    assert times.form.kind == "whole"
    assert times.positions.tolist() == [999, 1000, 1001, 20200101]
    times = times_of(["2020-01-01 00:00:00", "2020-01-01 00:00:00.5"])
    assert times.positions[1] - times.positions[0] == 500_000


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["2020-01", "2020-13"],
            r"f\.csv row 2, column 'time': '2020-13' is no time; .*'2020-01'",
        ),
        (["2020-02-30"], r"row 1, column 'time': '2020-02-30' is no time; expected YYYY, YYYY-MM"),
        (["31.12.2020"], r"row 1, column 'time': '31.12.2020' is no time"),
        (["2020-01", "2020-02", "12"], r"row 3, .*'12' is written otherwise than '2020-01'"),
        (["2020-01", None], r"row 2, column 'time' is empty; expected a time\. Fill it in"),
        (["2020-01", "2020-02-01"], r"row 2, .*'2020-02-01' is written otherwise than '2020-01'"),
        (
            ["2020-03-29 00:00+01:00", "2020-03-29 03:00+02:00"],
            r"row 2, .*has zone '\+02:00' and .* has '\+01:00'; expected one zone\. Write all times"
            r" in UTC",
        ),
        (["2020-01-01 00:00Z", "2020-01-01 01:00"], r"row 2, .* has zone 'none' and .* has 'Z'"),
    ],
)
def test_the_first_label_that_can_not_be_used_is_named(
    labels: list[str | None], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        times_of(labels)


def test_a_time_that_comes_too_early_or_twice_is_named_with_what_helps() -> None:
    times = times_of(["2020-01", "2020-03", "2020-02"])
    with pytest.raises(
        DataError,
        match=r"f\.csv row 3, column 'time': '2020-02' comes after '2020-03'; expected the oldest "
        r"first\. Put them in order with data\.sort=true",
    ):
        in_order(times, PLACE, "time", sort=False)
    assert in_order(times, PLACE, "time", sort=True).tolist() == [0, 2, 1]
    times = times_of(["2020-01", "2020-02", "2020-03", "2020-02"])
    for sort in (False, True):
        with pytest.raises(
            DataError,
            match=r"row 4, column 'time': '2020-02' stands 2 rows above already; expected each",
        ):
            in_order(times, PLACE, "time", sort=sort)


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
    expected = np.zeros(len(times.labels) - 1)
    expected[9], expected[38] = 1, 3
    assert missing_steps(times, step).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("labels", "following"),
    [
        (["1", "2", "3"], ["4", "5"]),
        (["0", "10", "20", "40"], ["50", "60"]),
        (["-2.0", "-1.0", "0.0"], ["1.0", "2.0"]),
        (["2020-11-30", "2020-12-30", "2021-01-30"], ["2021-02-28", "2021-03-30"]),
    ],
)
def test_whole_numbers_and_the_thirtieth_of_each_month_go_on_by_their_step(
    labels: list[str], following: list[str]
) -> None:
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


def test_times_fit_a_step_of_their_own_unit_alone() -> None:
    weekday = Step(unit="weekday", count=1)
    assert fits(times_of([f"2024-01-0{day}" for day in range(1, 6)]), weekday)  # no weekend in it
    assert not fits(times_of(["2024-01-01", "2024-02-01"]), weekday)
    hours = times_of(["2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 02:00"])
    days = times_of(["2024-01-01 00:00", "2024-01-02 00:00", "2024-01-03 00:00"])
    one_hour, one_day = find_step(hours), find_step(days)
    assert one_hour is not None
    assert one_day is not None
    assert (fits(hours, one_hour), fits(days, one_day)) == (True, True)
    assert (fits(hours, one_day), fits(days, one_hour)) == (False, False)
