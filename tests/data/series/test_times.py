import pandas as pd
import pytest
from given_series import PLACE, times_of

from pipeline.data.series_file.times import in_order
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


@pytest.mark.parametrize("form", ["day", "minute", "second", "microsecond"])
def test_days_and_moments_lie_where_pandas_puts_them(form: str) -> None:
    expected = [pd.Timestamp(label).value // 1000 for label in FORMS[form]]
    assert times_of(FORMS[form]).positions.tolist() == expected


def test_numbers_that_look_like_years_here_and_there_are_numbers() -> None:
    times = times_of(["999", "1000", "1001", "20200101"])
    assert times.form.kind == "whole"
    assert times.positions.tolist() == [999, 1000, 1001, 20200101]


def test_more_digits_after_the_second_are_no_other_form() -> None:
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


def test_a_time_that_comes_too_early_is_named_with_the_key_that_sorts() -> None:
    times = times_of(["2020-01", "2020-03", "2020-02"])
    with pytest.raises(
        DataError,
        match=r"f\.csv row 3, column 'time': '2020-02' comes after '2020-03'; expected the oldest "
        r"first\. Put them in order with data\.sort=true",
    ):
        in_order(times, PLACE, "time", sort=False)
    assert in_order(times, PLACE, "time", sort=True).tolist() == [0, 2, 1]


@pytest.mark.parametrize("sort", [False, True])
def test_a_time_that_stands_twice_is_refused_with_how_far_apart(sort: bool) -> None:
    times = times_of(["2020-01", "2020-02", "2020-03", "2020-02"])
    with pytest.raises(
        DataError,
        match=r"row 4, column 'time': '2020-02' stands 2 rows above already; expected each",
    ):
        in_order(times, PLACE, "time", sort=sort)
