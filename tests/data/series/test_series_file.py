import re

import numpy as np
import pandas as pd
import pytest
from given_series import options, prepared, read, source, written

from pipeline.data.prepare import prepare
from pipeline.errors import ConfigError, DataError

MONTHLY = "month,a,b\n" + "".join(
    f"{2000 + row // 12}-{row % 12 + 1:02d},{row},{row * row}\n" for row in range(60)
)
PLAIN = "day,level,rain\n2020-01-01,1.5,0\n2020-01-02,2.5,3\n2020-01-03,3.5,1\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("day,level,rain", '"day", level ,rain'),
        PLAIN + "\n\n",
    ],
    ids=[
        "plain",
        "BOM and CRLF",
        "semicolons",
        "tabs",
        "quotes and spaces",
        "blank lines at the end",
    ],
)
def test_a_csv_is_read_however_it_is_written(content: str | bytes) -> None:
    series = read(content)
    assert series.values.tolist() == [[1.5, 0], [2.5, 3], [3.5, 1]]
    assert series.times == ("2020-01-01", "2020-01-02", "2020-01-03")
    assert series.names == series.targets == ("level", "rain")
    assert series.reading["time"] == "day"
    assert series.reading["step"] == "1 day"


def test_a_parquet_file_gives_the_series_of_its_csv() -> None:
    frame = pd.read_csv(written(PLAIN), parse_dates=["day"])
    frame.to_parquet("f.parquet")
    series = source(written(PLAIN)).read()
    other = source(written(b"", "unused.csv").with_name("f.parquet")).read()
    assert other.values.tolist() == series.values.tolist()
    assert other.names == series.names
    assert other.reading["step"] == "1 day"


def test_columns_targets_and_units_travel_to_the_schema() -> None:
    path = written(MONTHLY)
    schema = prepared(source(path, columns=("b", "a"), targets=("a",), units="cm")).schema
    assert schema.features == ("b", "a")
    assert schema.targets == ("a",)
    assert schema.label == "a"
    assert schema.units == "cm"
    assert schema.input_shape == (3, 2)
    assert schema.outputs == 1
    assert schema.reading["kind"] == "series"


def test_a_note_says_what_was_found() -> None:
    assert read(MONTHLY, targets=("a",)).notes == (
        "60 times from 2000-01 to 2004-12, step 1 month (column 'month'); to predict: a; the "
        "network also sees b",
    )


def test_without_a_column_of_times_each_row_is_a_step() -> None:
    series = read("a,b\n5,1\n4,2\n9,4\n", targets=("a",))
    assert series.times == ("1", "2", "3")
    assert series.reading["time"] is None
    assert series.notes[0].startswith("3 times from 1 to 3, step 1, a row each; to predict: a;")


def test_rows_out_of_order_are_sorted_where_that_is_asked_for() -> None:
    header, *rows = PLAIN.splitlines()
    backwards = "\n".join([header, *reversed(rows)])
    with pytest.raises(DataError, match=r"line 3, .*Put them in order with data\.sort=true"):
        read(backwards)
    assert read(backwards, sort=True).values.tolist() == read(PLAIN).values.tolist()


def test_missing_steps_are_told_where_they_are_and_refused_if_strict() -> None:
    lines = MONTHLY.splitlines()
    gappy = "\n".join([*lines[:5], *lines[6:20], *lines[22:]])
    told = (
        "f.csv: 3 steps of 1 month are missing: 1 after 2000-04, 2 after 2001-07; a window takes "
        "the rows on both sides for neighbours"
    )
    assert read(gappy).notes[1:] == (told,)
    with pytest.raises(
        DataError, match=re.escape(f"{told}. data.strict=false trains all the same")
    ):
        read(gappy, strict=True)


def test_irregular_times_are_told() -> None:
    content = "day,a\n2020-01-01,1\n2020-01-02,2\n2020-01-09,3\n2020-03-01,4\n2020-03-21,5\n"
    series = read(content)
    assert series.reading["step"] == "irregular"
    assert "f.csv: the times of column 'day' have no common step" in series.notes[1]


@pytest.mark.parametrize(("test_from", "first"), [("2003-01", "2003-01"), ("2004-06", "2004-06")])
def test_the_test_begins_at_the_time_that_is_named(test_from: str, first: str) -> None:
    series_source = source(written(MONTHLY), test_from=test_from)
    times = series_source.read().times
    assert times[prepare(series_source, options()).test.rows[0]] == first


def test_a_test_may_begin_where_the_file_has_no_row() -> None:
    content = MONTHLY.replace("2003-01,36,1296\n", "")
    series = read(content, test_from="2003-01")
    assert series.test_from is not None
    assert series.times[series.test_from] == "2003-02"


@pytest.mark.parametrize("test_from", ["2005-01", "2000-01", "1.5.2003", 3])
def test_a_test_outside_the_series_is_refused(test_from: str | int) -> None:
    with pytest.raises(
        DataError,
        match=rf"data\.test_from={test_from} is no time within the series; expected one after "
        r"2000-01 and up to 2004-12",
    ):
        read(MONTHLY, test_from=test_from)


def test_a_series_without_a_row_is_refused() -> None:
    with pytest.raises(DataError, match=r"0 rows"):
        read("month,a\n")


@pytest.mark.parametrize("value", ["1e39", "inf"])
def test_a_value_beyond_single_precision_is_refused_by_line_and_column(value: str) -> None:
    with pytest.raises(DataError, match=r"f\.csv line 3, column 'level': .* infinite"):
        read(PLAIN.replace("2.5", value))


def test_a_word_among_numbers_is_refused_by_line_and_column() -> None:
    with pytest.raises(
        DataError,
        match=r"f\.csv line 3, column 'level': 'two' is no number; .* data\.columns=",
    ):
        read(PLAIN.replace("2.5", "two"))


def test_a_url_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.path=https://example\.org/a.csv .*data\.allow_url"
    ):
        source("https://example.org/a.csv").read()


def test_a_window_longer_than_the_series_is_refused_with_both_lengths() -> None:
    with pytest.raises(DataError, match=r"has 3 steps; expected at least 13 for data\.window=12"):
        prepared(source(written(PLAIN)), window=12)


def test_a_seed_of_the_split_is_told_to_change_nothing() -> None:
    first, second = (prepared(source(written(MONTHLY)), split_seed=seed) for seed in (0, 3))
    assert np.array_equal(first.test.rows, second.test.rows)
    assert first.content_hash == second.content_hash
    assert "data.split_seed=3 changes nothing: a series is split in time" in second.notes[-1]
