"""Amounts and dates of a table: read as numbers, in training and later, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from given_tables import (
    FILE,
    column,
    prepared,
    problems,
    read,
    source,
    write,
)
from own_sources import new_rows

from pipeline.data.reader import reader_of
from pipeline.data.schema import Schema
from pipeline.errors import PipelineError


@pytest.mark.parametrize(
    ("written", "values", "told"),
    [
        (
            ["€3.04", "€2", "€-1", "-€4.5", "7", "NA"],
            [3.04, 2, -1, -4.5, 7, None],
            "€3.04' as 3.04",
        ),
        (["$3", "$1,200.50", "", "$4"], [3, 1200.5, None, 4], "$3' as 3"),
        (["1,200.50", "15", "7.25"], [1200.5, 15, 7.25], "1,200.50' as 1200.5"),
        (["1,234", "15", "-7,000,000"], [1234, 15, -7e6], "1,234' as 1234"),
        (["20 %", "3.5%"], [20, 3.5], "20 %' as 20"),
        (["1,5", "2", "-0,25"], [1.5, 2, -0.25], "1,5' as 1.5"),
        (["0,512", "12,731", "-0,488"], [0.512, 12.731, -0.488], "0,512' as 0.512"),
        (["1.234,50 €", "3 €", "0,5\u00a0€"], [1234.5, 3, 0.5], "1.234,50 €' as 1234.5"),
    ],
)
def test_amounts_of_one_form_are_read_as_numbers_then_and_later(
    written: list[str], values: list[float | None], told: str
) -> None:
    content = column(*(written * 10))
    samples, expected = read(content), np.array(values * 10, dtype=float)
    np.testing.assert_array_equal(samples.inputs[:, 0], expected)
    commas = "decimal commas: " * ("," in told and "1,2" not in told)
    assert f"read as numbers: a ({commas}'{told})" in samples.notes
    made = prepared()
    reader = reader_of(Schema.from_dict(made.schema.to_dict()))
    np.testing.assert_array_equal(new_rows(FILE, reader.schema).raw[:, 0], expected)
    frame = pd.DataFrame({"a": [*written, 2.5]})
    found = reader.apply(frame, what="rows", missing="impute").raw[:, 0]
    np.testing.assert_array_equal(found, [*expected[: len(written)], 2.5])
    first = made.train.rows[np.isfinite(expected[made.train.rows])][0]
    example = reader.apply(pd.DataFrame(made.example), what="rows", missing="impute").raw
    assert example[0, 0] == expected[first]
    if len(set(written)) > 1:  # the same amounts as a target
        prices = "x,y\n" + "".join(f'{row}.5,"€{row}.25"\n' for row in range(40))
        known = prepared(prices).schema
        _, evaluated, _ = reader_of(known).evaluated(source()[0], budget=1)
        assert evaluated.targets[:, 0].tolist() == [row + 0.25 for row in range(40)]


@pytest.mark.parametrize(
    ("cells", "parts"),
    [
        (["2024-05-03", "2023-12-31"], [(2024, 5, 3, 4), (2023, 12, 31, 6)]),
        (["3.5.2024", "31.12.23"], [(2024, 5, 3, 4), (2023, 12, 31, 6)]),
        (["5/3/2024", "12/31/99"], [(2024, 5, 3, 4), (1999, 12, 31, 4)]),
        (["2024-05", "NA"], [(2024, 5, 1, 2), (np.nan,) * 4]),
        (["2024-05-03 10:30", "2023-12-31T07:00"], [(2024, 5, 3, 4, 10), (2023, 12, 31, 6, 7)]),
        (["5/31/24 10:00 PM", "5/31/24 12:30 a.m."], [(2024, 5, 31, 4, 22), (2024, 5, 31, 4, 0)]),
        (["5/31/24 12:00PM", "5/31/24 1:05 am"], [(2024, 5, 31, 4, 12), (2024, 5, 31, 4, 1)]),
    ],
)
def test_dates_become_their_parts_then_and_later(cells: list[str], parts: Any) -> None:
    content = "x,day,y\n" + "".join(f"{n}.5,{cells[n % 2]},{n % 3 % 2}\n" for n in range(30))
    names = [f"day.{part}" for part in ("year", "month", "day", "weekday", "hour")]
    samples = read(content, dates="parts")
    assert samples.features == ("x", *names[: len(parts[0])])
    np.testing.assert_array_equal(samples.inputs[:2, 1:], parts)
    made = prepared(dates="parts")
    reader = reader_of(Schema.from_dict(made.schema.to_dict()))
    assert reader.inputs()[1:] == [{"name": "day", "type": "string"}]
    np.testing.assert_array_equal(new_rows(FILE, reader.schema).raw, samples.inputs)
    first = samples.inputs[made.train.rows]
    first = first[~np.isnan(first).any(1)][:3]
    example = reader.apply(pd.DataFrame(made.example), what="rows", missing="impute").raw
    np.testing.assert_array_equal(example, first)
    write("x,day\n1,2024-05-03\n1,soon\n", "new.csv")
    with pytest.raises(PipelineError, match=r"line \d, column 'day': '.*' is no date; expected "):
        new_rows(Path("new.csv"), reader.schema)


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["5/6/24", "1/2/24"], "such as '1/2/24' may be day/month or month/day"),
        (["2024-13-03", "2024-12-03"], "such as '2024-12-03' are not all of one order"),
    ],
)
def test_dates_of_no_or_two_meanings_have_no_parts(cells: list[str], why: str) -> None:
    assert problems(column(*cells), dates="parts") == (
        f"{FILE}: column 'a': dates {why}; write them as 2024-05-31, or leave them out: "
        "'data.drop=[a]'",
    )


def test_words_among_which_there_are_few_amounts_are_categories() -> None:
    assert read(column(*(["10 %", "none"] * 9))).columns[0].levels == ("10 %", "none")
