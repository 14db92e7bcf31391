import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline.data.series_file.recording import Layout, layout_of
from pipeline.errors import DataError

MONTHS = ["2020-01", "2020-02", "2020-03"]
VALUES = ["1.5", None, "7"]


def layout(
    first: Mapping[str, Sequence[str | None]],
    *,
    time: str | None = None,
    values: tuple[str, ...] = (),
    targets: tuple[str, ...] = (),
) -> Layout:
    with Path("f.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([first, *zip(*first.values(), strict=True)])
    wanted = Layout(time=time, values=values, targets=targets)
    return layout_of(Path("f.csv"), wanted, sep=None)


@pytest.mark.parametrize(
    ("first", "time"),
    [
        ({"a": VALUES, "when": MONTHS}, "when"),
        ({"Year": ["1900", "1901", "1902"], "a": VALUES}, "Year"),
        ({"a": VALUES, "date": ["20200101", "20200102", "20200104"]}, "date"),
        ({"": ["0", "1", "2"], "a": VALUES}, "unnamed_1"),
        ({"jahr": ["1900", "1901", "1902"], "a": VALUES}, "jahr"),
        ({"a": VALUES, "b": VALUES}, None),
        ({"a": ["3", "1", "2"], "b": VALUES}, None),
        ({"a": ["1", "2", "3"]}, None),
    ],
)
def test_the_times_are_found_by_name_or_content(
    first: Mapping[str, Sequence[str | None]], time: str | None
) -> None:
    found = layout(first)
    assert found.time == time
    assert time not in found.values


def test_of_two_columns_of_times_the_one_that_names_each_time_once_is_taken() -> None:
    first = {"since": ["2020-01", "2020-01", "2020-02"], "month": MONTHS, "a": VALUES}
    assert layout(first, values=("a",)).time == "month"


def test_a_column_that_is_named_as_a_value_holds_no_times() -> None:
    first = {"year": ["1900", "1901", "1902"], "a": VALUES}
    assert layout(first, values=("year", "a")).time is None


def test_all_other_columns_are_values_and_all_of_them_are_predicted() -> None:
    found = layout({"a": VALUES, "when": MONTHS, "b": VALUES})
    assert found == Layout(time="when", values=("a", "b"), targets=("a", "b"))


def test_named_columns_are_channels_in_the_order_in_which_they_are_named() -> None:
    first = {"when": MONTHS, "a": VALUES, "b": VALUES, "c": ["x", "y", "z"]}
    found = layout(first, values=("b", "a"), targets=("a",))
    assert found == Layout(time="when", values=("b", "a"), targets=("a",))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"time": "whn"}, r"data\.time=whn is no column of f\.csv; .*Did you mean 'when'\?"),
        (
            {"values": ("sale",)},
            r"data\.columns=sale is no column of f\.csv; its columns are when, sales, price, "
            r"city\. Did you mean 'sales'\?",
        ),
        ({"targets": ("sals",)}, r"data\.targets=sals is no column .*Did you mean 'sales'\?"),
        ({"values": ("sales", "sales")}, r"data\.columns names 'sales' twice"),
        (
            {"values": ("sales",), "targets": ("price",)},
            r"data\.targets=price is not among the values sales; expected one of them",
        ),
        (
            {"time": "when", "values": ("when", "sales")},
            r"'when' is both data\.time and one of data\.columns",
        ),
        (
            {},
            r"f\.csv: column 'city' holds no numbers but 'Oslo', …; name the columns of values, as "
            r"data\.columns=\[sales,price\], or that of the times, as data\.time=NAME",
        ),
    ],
)
def test_a_name_that_can_not_be_meant_is_refused_with_what_can(
    words: dict[str, tuple[str, ...]], message: str
) -> None:
    first = {"when": MONTHS, "sales": VALUES, "price": VALUES, "city": [None, "Oslo", "Oslo"]}
    with pytest.raises(DataError, match=message):
        layout(first, **words)


def test_all_names_that_are_no_columns_are_told_at_once() -> None:
    with pytest.raises(DataError) as caught:
        layout({"when": MONTHS, "a": VALUES}, time="wen", values=("b",), targets=("c",))
    told = [problem.split(" is no column")[0] for problem in caught.value.problems]
    assert told == ["data.time=wen", "data.columns=b", "data.targets=c"]


def test_times_without_values_beside_them_are_refused() -> None:
    with pytest.raises(DataError, match=r"f\.csv has one column, 'when', of times; expected one"):
        layout({"when": MONTHS})
