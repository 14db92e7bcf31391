"""Amounts, dates and times as files write them: read, written again, or refused."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from data.tables.given_tables import (
    FILE,
    assert_read_again,
    column,
    prepared,
    problems,
    read,
    targets_read,
    write,
)
from helpers.case_tables import cases, from_yaml, refusals
from helpers.file_sources import new_rows, refused_rows, stored
from helpers.refused_calls import refusal
from helpers.sample_data import array_of

from pipeline.data.parsing.tables.file import CellLocation
from pipeline.data.parsing.times import (
    Step,
    Times,
    find_step,
    fits,
    labels_after,
    missing_told,
    read_times,
    season_of,
    step_of,
)
from pipeline.data.preparation.reader import reader_of
from pipeline.data.preparation.schema import Schema

SAME = "write it the same way or leave it empty, or leave the column out:"


def cells_of(text: str) -> list[str]:
    """Return the cells of a column, which a table of cases separates by bars."""
    return text.split(" | ")


def numbers_of(text: str) -> list[float]:
    return [float(number) for number in text.split()]


UNIFORM = """
€3.04 | €2 | €-1 | -€4.5 | 7 | NA → 3.04 2 -1 -4.5 7 nan → '€3.04' as 3.04
$3 | $1,200.50 |  | $4 → 3 1200.5 nan 4 → '$3' as 3
1,200.50 | 15 | 7.25 → 1200.5 15 7.25 → '1,200.50' as 1200.5
1,234 | 15 | -7,000,000 → 1234 15 -7e6 → '1,234' as 1234
20 % | 3.5% → 20 3.5 → '20 %' as 20
1,5 | 2 | -0,25 → 1.5 2 -0.25 → decimal commas: '1,5' as 1.5
0,512 | 12,731 | -0,488 → 0.512 12.731 -0.488 → decimal commas: '0,512' as 0.512
1.234,50 € | 3 € | 0,5\u00a0€ → 1234.5 3 0.5 → decimal commas: '1.234,50 €' as 1234.5
1.043,09 EUR | 12,50 EUR → 1043.09 12.5 → decimal commas: '1.043,09 EUR' as 1043.09
12.50 EUR | 1,043.09\u00a0EUR | -3 EUR → 12.5 1043.09 -3 → '12.50 EUR' as 12.5
CHF 12.50 | CHF 1'030.32 | CHF 1’000 → 12.5 1030.32 1000 → 'CHF 12.50' as 12.5
USD 3 | USD 1,200 | -USD 4 → 3 1200 -4 → 'USD 3' as 3
"""


@pytest.mark.parametrize(("written", "values", "reading"), cases(UNIFORM))
def test_uniform_amounts_are_read_as_numbers(written: str, values: str, reading: str) -> None:
    """New rows and data frames are read like the training file."""
    cells = cells_of(written)
    expected = numbers_of(values)
    samples = read(column(*(cells * 10)))
    np.testing.assert_array_equal(array_of(samples)[:, 0], expected * 10)
    assert f"read as numbers: a ({reading})" in samples.notes
    schema = assert_read_again(prepared(), samples)
    frame = pd.DataFrame({"a": [*(f" {cell} " for cell in cells), 2.5]})
    block = reader_of(schema).apply(frame, what="rows", missing="impute")
    np.testing.assert_array_equal(block.raw[:, 0], [*expected, 2.5])


DATES = """
2024-05-03 | 2023-12-31 → 2024 5 3 4 | 2023 12 31 6
3.5.2024 | 31.12.23 → 2024 5 3 4 | 2023 12 31 6
5/3/2024 | 12/31/99 → 2024 5 3 4 | 1999 12 31 4
2024-05 | NA → 2024 5 1 2 | nan nan nan nan
2024-05-03 10:30 | 2023-12-31T07:00 → 2024 5 3 4 10 | 2023 12 31 6 7
5/31/24 10:00 PM | 5/31/24 12:30 a.m. → 2024 5 31 4 22 | 2024 5 31 4 0
5/31/24 12:00PM | 5/31/24 1:05 am → 2024 5 31 4 12 | 2024 5 31 4 1
"""


@pytest.mark.parametrize(("written", "parts"), cases(DATES))
def test_new_dates_become_parts_as_in_training(written: str, parts: str) -> None:
    cells = cells_of(written)
    expected = [numbers_of(numbers) for numbers in cells_of(parts)]
    content = "x,day,y\n" + "".join(f"{n}.5,{cells[n % 2]},{n % 3 % 2}\n" for n in range(30))
    names = [f"day.{part}" for part in ("year", "month", "day", "weekday", "hour")]
    samples = read(content, dates="parts")
    assert samples.features == ("x", *names[: len(expected[0])])
    np.testing.assert_array_equal(array_of(samples)[:2, 1:], expected)
    schema = assert_read_again(prepared(dates="parts"), samples)
    assert reader_of(schema).inputs()[1:] == [{"name": "day", "type": "string"}]
    problem = refused_rows("x,day\n1,2024-05-03\n1,soon\n", schema)
    assert re.match(r"new.csv line \d, column 'day': '.*' is not a date; expected ", problem)


JUNE = " | ".join(f"2024-06-{day}" for day in range(10, 30))
UNLIKE = f"""
NA | 5/6/24 | 1/2/24
- line 3, column 'a': '5/6/24' is ambiguous (day/month?), since no day of the column is above 12;
  set data.dayfirst=true or data.dayfirst=false, or leave the column out:

5/6/24 | 13/6/24 | 12/31/24
- line 4, column 'a': '12/31/24' is not a date written like '13/6/24' (1 of 3 cells is not); {SAME}

2024-05-03 | NA | {JUNE} | 5.3.24
- line 24, column 'a': '5.3.24' is not a date written like '2024-05-03' (1 of 22 cells is not);
  {SAME}

2024-13-03
- line 2, column 'a': '2024-13-03' is not a date written like '2024-05-31' (1 of 1 cells is not);
  {SAME}
"""


@pytest.mark.parametrize(("written", "problem"), refusals(UNLIKE))
def test_ambiguous_dates_are_not_split_into_parts(written: str, problem: str) -> None:
    content = "old," + column(*cells_of(written)).replace("\n", "\n1,").removesuffix("1,")
    (told,) = problems(content, dates="parts", drop=["old"])
    assert told == f"{FILE} {problem} 'data.drop=[old,a]'"


# Dots of `1.043 EUR` may separate groups.
MIXED = """
10 % | none
10 kg | 5 kg
3 EUROS | 4 EUROS
1.043 EUR | 12 EUR
1.043,09 EUR | 12.50 EUR
EUR 3 | USD 4
--3,5 | 3,5
12.345% | nein
"""


@pytest.mark.parametrize("written", MIXED.strip().splitlines())
def test_mixed_amount_formats_are_categories(written: str) -> None:
    levels = cells_of(written)
    assert read(column(*(levels * 9))).columns[0].levels == tuple(levels)


def test_ambiguous_number_among_decimal_commas_is_refused() -> None:
    """A text may have a thousands separator; a number of a Parquet file or a frame has none."""
    known = prepared(column(*(["1,5", "2", "12,25"] * 10))).schema
    assert refused_rows("a\n2.5\n0.125\n1000.125\n1.234\n", known) == (
        "new.csv line 5, column 'a': '1.234' is ambiguous among decimal commas; write 1,2340 or "
        "1234"
    )
    frame = pd.DataFrame({"a": [1.234]})
    frame.to_parquet("new.parquet")
    assert new_rows("new.parquet", known).raw.tolist() == [[1.234]]
    assert reader_of(known).apply(frame, what="rows").raw.tolist() == [[1.234]]


AMONG, EITHER = "is ambiguous among decimal commas", "is ambiguous (decimals or thousands?)"
PRICES = "3,50 | 12,25 | 7"
REMEDY = re.compile(r"'data\.decimal=\{(\w+): (point|comma)\}' reads ([-\d.]+)")


def columns(written: str, *, sep: str = ";") -> str:
    """Return a table of columns `a`, `b1`, …, whose cells are repeated, and classes.

    An ampersand separates the columns.
    """
    cells = [cells_of(text) for text in written.split(" & ")]
    lines = [["a", *(f"b{n}" for n in range(1, len(cells))), "y"]]
    for row in range(60):
        lines.append([*(column[row % len(column)] for column in cells), str(row // 3 % 2)])
    return "".join(sep.join(f'"{cell}"' for cell in line) + "\n" for line in lines)


# Separator, cells, the line that is refused, its cell, and how each sign of decimals reads it; in
# place of a dash other cells of the column are not written so.
HUNDREDS = " | ".join(f"€{n}.{n}" for n in range(100, 160))
AMBIGUOUS = f"""
; → 375 | 1.728 & {PRICES} → 3 → 1.728 → 1.728 → 1728
; → 1.728 | -2.050 & {PRICES} → 2 → 1.728 → 1.728 → 1728
; → 241 € | 1.177 € & {PRICES} → 3 → 1.177 € → 1.177 → 1177
; → 1.177 % & {PRICES} → 2 → 1.177 % → 1.177 → 1177
; → 718 | 1.067 | 1.234.567 → 3 → 1.067 → - → 1067
; → 1,763 | -375 → 2 → 1,763 → 1763 → 1.763
, → €2410 | €1.028 → 3 → €1.028 → 1.028 → 1028
, → {HUNDREDS} → 2 → €100.100 → 100.100 → 100100
, → 3.008 | 4,812 → 2 → 3.008 → 3.008 → 3008
"""


@pytest.mark.parametrize(("sep", "written", "line", "cell", "point", "comma"), cases(AMBIGUOUS))
def test_ambiguous_number_is_refused(
    sep: str, written: str, line: str, cell: str, point: str, comma: str
) -> None:
    """The refusal names the keys that decide, and each reads what it says."""
    content = columns(written, sep=sep)
    (problem,) = problems(content, numeric=["a"])
    assert problem.startswith(f"{FILE} line {line}, column 'a': '{cell}' may be ")
    assert problem.endswith(
        (", or leave the column out: 'data.drop=[a]'", "'data.categorical=[a]'")
    )
    remedies = REMEDY.findall(problem)
    assert [name for name, _, _ in remedies] == ["a", "a"]
    for (_, mark, number), expected in zip(remedies, (point, comma), strict=True):
        if expected != "-":
            assert number == expected
            samples = read(content, numeric=["a"], decimal={"a": mark})
            assert array_of(samples)[int(line) - 2, 0] == float(expected)


SHARES = """
20.3% | 87% | 45% | 0.87
- line 5, column 'a': '0.87' is not a number written like '20.3%' (15 of 60 cells are not);

20.3% | 0.87 | 0.35
- line 2, column 'a': '20.3%' is not a number (20 of 60 cells are not); write 20.3 or 0.203,
"""


@pytest.mark.parametrize(("written", "problem"), refusals(SHARES))
def test_shares_among_percentages_are_refused(written: str, problem: str) -> None:
    (told,) = problems(columns(written, sep=","), numeric=["a"])
    assert told.startswith(f"{FILE} {problem}")


def test_each_column_has_its_own_number_format() -> None:
    """Decimal points of one column stay beside decimal commas of another."""
    samples = read(columns(f"47.081 | 7.1 & {PRICES}"))
    assert array_of(samples)[:2, 0].tolist() == [47.081, 7.1]
    samples = read(columns(f"47.081 | 8.682 & {PRICES}"), decimal={"a": "point"})
    assert array_of(samples)[:2].tolist() == [[47.081, 3.5], [8.682, 12.25]]


RESOLVED = """
decimal: comma → 1.728 | 375 → 1728 375
decimal: comma → 1.728,5 | 0,25 → 1728.5 0.25
decimal: comma → NA | 375 → nan 375
decimal: point → €1.028 | €2410 → 1.028 2410
decimal: point → 1,763 | -375 → 1763 -375
decimal: ["a: point"] → 1,763 | -375 → 1763 -375
thousands: comma → 1,763 | 2,500.5 → 1763 2500.5
thousands: point → 1.763 | 2.500 € → 1763 2500
thousands: space → 1 763 | 2\u202f500,5 → 1763 2500.5
thousands: apostrophe → 1'763 | 2.500 → 1763 2.5
thousands: none → 1,763 | 2,500 → 1.763 2.5
"""


@pytest.mark.parametrize(("option", "written", "values"), cases(RESOLVED))
def test_options_resolve_ambiguous_cells(option: str, written: str, values: str) -> None:
    keys = from_yaml(option)
    samples = read(columns(written), **keys)
    np.testing.assert_array_equal(array_of(samples)[:2, 0], numbers_of(values))
    assert_read_again(prepared(**keys), samples)


def test_option_with_unknown_column_is_refused() -> None:
    (problem,) = problems(columns("1.728"), decimal={"b": "point"})
    assert problem == f"data.decimal=b is not a column of {FILE}; its columns are a, y."


def test_decimal_option_refuses_unfitting_words() -> None:
    (problem,) = problems(columns("1,5 | 2,25 | 7"), decimal="point", numeric=["a"])
    assert "'1,5' is not a number (40 of 60 cells are not); write 1.5" in problem


@pytest.mark.parametrize(("dayfirst", "month"), [(True, 6), (False, 5)])
def test_dayfirst_decides_open_dates(dayfirst: bool, month: int) -> None:
    content = column(*["5/6/24", "1/2/24"] * 10)
    samples = read(content, dates="parts", dayfirst=dayfirst)
    assert array_of(samples)[0, 1] == month


# A dash stands for a column of plain numbers, which no note mentions.
TOLD_APART = f"""
375 | 1.728 → 375 1.728 → -
1,763 & {PRICES} → 1.763 → a (decimal commas: '1,763' as 1.763), b1 (decimal
$1,763 | $5 → 1763 5 → a ('$1,763' as 1763)
0.5 | 1.728 & {PRICES} → 0.5 1.728 → a ('0.5' as 0.5), b1 (decimal commas
€1.028 | 241 | 1.0280 → 1.028 241 1.028 → a ('€1.028' as 1.028)
12.345% | 20.125% → 12.345 20.125 → a ('12.345%' as 12.345)
12.5% | 0 | 3 → 12.5 0 3 → a ('12.5%' as 12.5)
"""


@pytest.mark.parametrize(("written", "values", "reading"), cases(TOLD_APART))
def test_other_cells_resolve_an_ambiguous_separator(
    written: str, values: str, reading: str
) -> None:
    samples = read(columns(written))
    expected = numbers_of(values)
    assert array_of(samples)[: len(expected), 0].tolist() == expected
    notes = [note for note in samples.notes if note.startswith("read as numbers")]
    assert "".join(notes).startswith("" if reading == "-" else f"read as numbers: {reading}")
    assert len(notes) == (reading != "-")
    assert_read_again(prepared(), samples)


def test_ambiguous_target_is_refused() -> None:
    cells = [f"{row // 40}.{row % 40:03d}" if row > 40 else str(row) for row in range(80)]
    told = f"{FILE} line 43, column 'y': '1.001' may be 1.001 or 1001; 'data.decimal={{y: point}}'"
    lines = [f"{row % 9},5;{cell}" for row, cell in enumerate(cells)]
    (problem,) = problems("x;y\n" + "\n".join(lines))
    assert problem.startswith(told)
    assert problem.endswith(", or take its words as classes: data.task=multiclass")
    assert read(decimal={"y": "comma"}).targets[41] == 1001
    lines = [f"{row % 9},€{cell}" for row, cell in enumerate(cells)]
    (problem,) = problems("x,y\n" + "\n".join(lines))
    assert problem.startswith(told.replace("'1.0", "'€1.0"))
    assert read(decimal="point").targets[41] == 1.001


def test_new_ambiguous_amount_or_share_is_refused() -> None:
    known = prepared(columns(f"375 | 20 & {PRICES} & 20% | 30")).schema
    for row, told in (
        ("1.728;3,50;20%", f"'a': '1.728' {AMONG}; write 1,7280 or 1728"),
        ("1,728;3,50;20%", f"'a': '1,728' {EITHER}; write 1,7280 or 1728"),
        ("375;€1.234;20%", "'b1': '€1.234' is not a number; write 1,2340 or 1234"),
        ("375;3,50;0.87", "'b2': '0.87' is ambiguous among percentages; write 0.87% or 87%"),
    ):
        problem = refused_rows(f"a;b1;b2\n{row}\n", known)
        assert problem == f"new.csv line 2, column {told}"


def frame(*cells: object) -> pd.DataFrame:
    return pd.DataFrame({"a": cells}, dtype=object)


def as_column(cells: Sequence[str], name: str = "a") -> str:
    """Return a file of new rows with one column."""
    return f"{name}\n" + "".join(f'"{cell}"\n' for cell in cells)


def model_of_target(trained: list[str]) -> Schema:
    """Return a model whose target has these amounts."""
    lines = [f'{n % 7}.5,"{trained[n % len(trained)]}"\n' for n in range(40)]
    return prepared("x,y\n" + "".join(lines), task="regression").schema


def write_targets(cells: Sequence[str]) -> None:
    write("x,y\n" + "".join(f'1,"{cell}"\n' for cell in cells), "new.csv")


# The cells trained on, new ones that are clear, one that is not, and both ways to write it.
WITHOUT_PRECEDENT = """
€710,415 | €1,133,045 → €93,304 | €5.25 → €393.304 → 393.3040 → 393304
€15.11 | €980.50 → €15.11 | €1,200 | €0.125 → -€3.019 → -3.0190 → -3019
12.50 EUR | 7 EUR → 3.5 EUR → 3.019 EUR → 3.0190 → 3019
20.3% | 87% → 12.25% → 12.345 % → 12.3450 → 12345
1,5 | 12,25 → 1,75 | 0,125 | 1.234,5 → -1,234 → -1,2340 → -1234
12,50 € | 3 € → 7,25 € | 1.234.567 € → 1,234 € → 1,2340 → 1234
"""


@pytest.mark.parametrize(
    ("written", "usual", "unclear", "remedy", "other"), cases(WITHOUT_PRECEDENT)
)
def test_new_three_decimals_without_precedent_are_refused(
    written: str, usual: str, unclear: str, remedy: str, other: str
) -> None:
    """Training had no number with three decimals, so `1.728` may be 1728."""
    trained = cells_of(written)
    clear = cells_of(usual)
    schema = stored(prepared(column(*(trained * 20))).schema)
    reader = reader_of(schema)
    told = f"column 'a': '{unclear}' {EITHER}; write {remedy} or {other}"
    problem = refused_rows(as_column([*clear, unclear]), schema)
    assert problem == f"new.csv line {len(clear) + 2}, {told}"
    # One row alone, as it is sent to a served model.
    problem = refusal(reader.apply, frame(unclear), what="the input")
    assert problem == f"the input row 1, {told}"
    readable = [*clear, *trained, remedy, other, 3.019]
    assert len(reader.apply(frame(*readable), what="the input").raw) == len(readable)
    write_targets([trained[0], unclear])
    problem = refusal(targets_read, model_of_target(trained), "new.csv")
    assert problem.startswith(f"new.csv line 3, column 'y': '{unclear}' is ambiguous")


WITH_PRECEDENT = """
€1.028 | €241.5 → €3.019 → 3.019
€0.12345 | €1,241 → €3.019 → 3.019
0,512 | 12,731 → 1,234 → 1.234
"""


@pytest.mark.parametrize(("written", "cell", "value"), cases(WITH_PRECEDENT))
def test_new_three_decimals_with_precedent_are_read(written: str, cell: str, value: str) -> None:
    trained = cells_of(written)
    known = prepared(column(*(trained * 20))).schema
    write(as_column([cell]), "new.csv")
    assert new_rows("new.csv", known).raw.tolist() == [[float(value)]]
    assert reader_of(known).apply(frame(cell), what="the input").raw.tolist() == [[float(value)]]
    write_targets([cell])
    assert targets_read(model_of_target(trained), "new.csv") == [[float(value)]]


NUMBER = "a number or leave it empty, as the model was trained on numbers there"
BAD = f"""
€3,019.79 | €12 → ask → {NUMBER}
€3,019.79 | €12 → n/a → {NUMBER}
€3,019.79 | €12 → - → {NUMBER}
€3,019.79 | €12 → € call → {NUMBER}
€3,019.79 | €12 → $1,200.50 → 1200.50
€3,019.79 | €12 → $12.345 → 12.3450 or 12345
€3.019,79 | €12 → $12,50 → 12.50
€3.019,79 | €12 → $12,505 → 12,5050 or 12505
1,5 | -2,25 → $-3,5 → -3.5
20.3% | 87% → 0,87% → 0.87%
20,3% | 87 % → 0.87% → 0,87%
1,200.50 | 7 → 12,5 → 12.5
"""


@pytest.mark.parametrize(("written", "bad", "way"), cases(BAD))
def test_bad_amount_is_named_with_working_fix(written: str, bad: str, way: str) -> None:
    trained = cells_of(written)
    known = prepared(column(*(trained * 20))).schema
    cells = trained * 15 + [bad] + trained * 4
    told = f": '{bad}' is not a number; write {way}"
    assert refused_rows(as_column(cells), known) == f"new.csv line 32, column 'a'{told}"
    problem = refusal(reader_of(known).apply, frame(*cells), what="the input")
    assert problem == f"the input row 31, column 'a'{told}"
    for remedy in way.split(" or ") if way != NUMBER else ():
        write(as_column([remedy]), "new.csv")
        assert len(new_rows("new.csv", known).raw) == 1
    write_targets(cells)
    problem = refusal(targets_read, model_of_target(trained), "new.csv")
    assert problem == f"new.csv line 32, column 'y'{told}"


def test_parquet_numbers_stay_numbers_beside_decimal_commas() -> None:
    frame = pd.DataFrame({"a": [1.728, 375.0], "b": ["3,50", "7"], "y": [0, 1]})
    pd.concat([frame] * 20).to_parquet("f.parquet")
    assert array_of(read(path="f.parquet"))[:2, 0].tolist() == [1.728, 375]


def test_distant_cells_of_a_file_are_compared() -> None:
    rows = ["0.5"] * 400_000 + ["20%"] * 10
    content = "a,b,y\n" + "".join(f"{cell},some text,{n % 2}\n" for n, cell in enumerate(rows))
    assert "'20%' is not a number (10 of 400010 cells are not)" in problems(content)[0]
    assert len(content) > 2**22  # more than one batch


@pytest.mark.parametrize("sign", ["%", "€"])
def test_example_amounts_of_any_size_are_read_again(sign: str) -> None:
    values = [5e-05, 12.5, 3e17]
    made = prepared(column(*(f"{sign}{value:.5f}" for value in values * 10)))
    example = reader_of(made.schema).apply(pd.DataFrame(made.example), what="rows").raw
    assert {*example[:, 0]} <= {*values}
    assert len(example) == 3


def test_date_part_named_like_a_column_is_refused() -> None:
    rows = "".join(f"2024-05-{n + 1:02d},{n % 7},{n % 2}\n" for n in range(28))
    assert problems(f"joined,joined.year,y\n{rows}", dates="parts", drop=[]) == (
        f"{FILE}: column 'joined.year' has the name of a part of the dates in 'joined'; rename it, "
        "or leave one of them out: 'data.drop=[joined.year]'",
    )


def times_of(labels: Sequence[str]) -> Times:
    return read_times(labels, CellLocation(file="f.csv"), "time")


FORMS = """
1700,1701,1705
1949-01,1949-02,1950-01
1949/01,1949/02
2020-02-28,2020-02-29,2021-01-01
20200228,20200229
31.12.2019,01.01.2020
2020-01-01 00:00,2020-01-01 23:59
31.12.2019 23:59,01.01.2020 00:00
31/12/2019,01/01/2020
01/02/2020 23:59,01/31/2020 00:00
2019-12-31,2020-1-2,2020-10-5
2020/1/5,2020/10/10
31.12.2019,1.1.2020
12/31/2019 23:59,1/5/2020 00:00
1969-12-31T23:59:59,2020-01-01T00:00:00
2020-01-01 00:00:00.000001,2020-01-01 00:00:00.250000
2020-01-01T00:00:00Z,2020-01-01T06:30:00Z
2020-01-01 00:00+05:30,2020-01-02 00:00+05:30
2020-01-01 00:00:00.000000+0100
-3,0,12
1.0,2.0
"""


@pytest.mark.parametrize("labels", FORMS.strip().splitlines())
def test_position_is_formatted_as_its_original_label(labels: str) -> None:
    times = times_of(labels.split(","))
    assert ",".join(times.form.written(int(position)) for position in times.positions) == labels


def test_numbers_like_years_stay_numbers() -> None:
    """Fractions of a second are no other form of time either."""
    times = times_of(["999", "1000", "1001", "20200101"])
    assert times.form.kind == "whole"
    assert times.positions.tolist() == [999, 1000, 1001, 20200101]
    assert times_of(["2020115", "20201105"]).form.kind == "whole"
    times = times_of(["2020-01-01 00:00:00", "2020-01-01 00:00:00.5"])
    assert times.positions[1] - times.positions[0] == 500_000


# Labels, and the beginning and the end of what is wrong with them.
UNREADABLE = """
2020-01,2020-13 → f.csv row 2, column 'time': '2020-13' is not a time; … '2020-01'
2020-02-30 → f.csv row 1, column 'time': '2020-02-30' is not a time; expected YYYY, YYYY-MM
12.31.2020 → f.csv row 1, column 'time': '12.31.2020' is not a time; … DD.MM.YYYY,
2020.12.31,01.01.2021 → f.csv row 2, … '01.01.2021' differs in format from '2020.12.31'
31/01/2020,01/31/2020 → f.csv row 2, … '01/31/2020' differs in format from '31/01/2020'
31/01/2020,32/01/2020 → f.csv row 2, … '32/01/2020' is not a time; expected YYYY, YYYY-MM,
2020-01-10,2020-1-11 → f.csv row 2, … '2020-1-11' differs in format from '2020-01-10'
2020-1-10,2020-1-05 → f.csv row 2, … '2020-1-05' is not a time; expected YYYY, YYYY-MM,
5/6/2020,5/6/2021 → f.csv row 1, … '5/6/2020' is ambiguous (day/month?)
2020-01,2020-02,12 → f.csv row 3, … '12' differs in format from '2020-01'
2020-01, → f.csv row 2, … column 'time' is empty; expected a time. Fill it in
2020-01,2020-02-01 → f.csv row 2, … '2020-02-01' differs in format from '2020-01'
2020-01-01 00:00Z,2020-01-01 01:00 → f.csv row 2, … has zone 'none' and … has 'Z'
2020-03-29 00:00+01:00,2020-03-29 03:00+02:00 → f.csv … has '+01:00'; expected one zone. Write all
01/02/2020,02/02/2020 → f.csv … in neither; set data.dayfirst=true or data.dayfirst=false
"""


@pytest.mark.parametrize(("labels", "problem"), cases(UNREADABLE))
def test_first_unreadable_time_is_named(labels: str, problem: str) -> None:
    begin, *parts = problem.split(" … ")
    message = refusal(times_of, labels.split(","))
    assert message.startswith(begin)
    assert all(part in message for part in parts)


# pandas' frequency, how labels are written, the step.
FREQUENCIES = """
YS → %Y → 1 year
10YS → %Y → 10 years
MS → %Y-%m → 1 month
QS → %Y-%m → 3 months
MS → %Y-%m-%d → 1 month
ME → %Y-%m-%d → 1 month
QE → %Y-%m-%d → 3 months
YE → %Y/%m/%d → 1 year
D → %Y-%m-%d → 1 day
W → %Y-%m-%d → 7 days
W → %d.%m.%Y → 7 days
W → %d/%m/%Y → 7 days
MS → %d/%m/%Y → 1 month
D → %m/%d/%Y → 1 day
D → %Y-%-m-%-d → 1 day
W → %-m/%-d/%Y → 7 days
h → %-d.%-m.%Y %H:%M → 1 hour
B → %Y-%m-%d → 1 weekday
D → %Y%m%d → 1 day
h → %Y-%m-%d %H:%M → 1 hour
12h → %Y-%m-%dT%H:%M:%SZ → 12 hours
15min → %Y-%m-%d %H:%M:%S+02:00 → 15 minutes
MS → %Y-%m-%d %H:%M:%S → 1 month
B → %Y-%m-%d %H:%M → 1 weekday
10ms → %Y-%m-%d %H:%M:%S.%f → 10 milliseconds
"""


@pytest.mark.parametrize(("frequency", "written", "step"), cases(FREQUENCIES))
def test_following_labels_equal_pandas(frequency: str, written: str, step: str) -> None:
    # The dates of pandas 2 end in 2262.
    start = "1769-11-05" if frequency == "10YS" else "2019-11-05"
    labels = pd.date_range(start, periods=50, freq=frequency).strftime(written).tolist()
    past = times_of(labels[:40])
    found = find_step(past)
    assert str(found) == step
    assert step_of(step) == found
    assert list(labels_after(past, found, 10)) == labels[40:]


@pytest.mark.parametrize("frequency", ["MS", "B", "7D", "h"])
def test_missing_steps_are_counted_by_place(frequency: str) -> None:
    dates = pd.date_range("2020-01-01", periods=60, freq=frequency)
    whole = dates.strftime("%Y-%m-%d %H:%M").tolist()
    times = times_of(whole[:10] + whole[11:40] + whole[43:])
    step = find_step(times)
    assert step == find_step(times_of(whole))
    (told,) = missing_told(times, step)
    assert told.startswith(
        f"4 steps of {step} are missing: 1 after {whole[9]}, 3 after {whole[39]};"
    )


FOLLOWING = """
1,2,3 → 4,5
0,10,20,40 → 50,60
-2.0,-1.0,0.0 → 1.0,2.0
2020-11-30,2020-12-30,2021-01-30 → 2021-02-28,2021-03-30
2020-01-01,2020-01-02,2020-01-09,2020-03-01,2020-03-20 → +1,+2
2020-01-01 00:00:01,2020-01-01 00:00:07,2020-01-01 00:00:20 → +1,+2
1,4,6,13 → +1,+2
1 → +1,+2
"""


@pytest.mark.parametrize(("labels", "following"), cases(FOLLOWING))
def test_numbers_and_month_ends_continue_by_steps(labels: str, following: str) -> None:
    """Irregular times have no step, and are numbered from the last."""
    times = times_of(labels.split(","))
    step = find_step(times)
    assert (step is None) == following.startswith("+")
    assert ",".join(labels_after(times, step, 2)) == following


SEASONS = """
1 month → 12
3 months → 4
5 months → None
1 year → None
7 days → 52
1 day → 7
2 days → None
1 weekday → 5
1 hour → 24
15 minutes → 96
7 hours → None
1 → None
irregular → None
"""


@pytest.mark.parametrize(("step", "season"), cases(SEASONS))
def test_time_step_determines_the_season(step: str, season: str) -> None:
    assert str(season_of({"step": step})) == season


def test_times_fit_only_steps_of_their_unit() -> None:
    weekday = Step(unit="weekday", count=1)
    assert fits(times_of([f"2024-01-0{day}" for day in range(1, 6)]), weekday)  # no weekend in it
    assert not fits(times_of(["2024-01-01", "2024-02-01"]), weekday)
    hours = times_of([f"2024-01-01 0{hour}:00" for hour in range(3)])
    days = times_of([f"2024-01-0{day} 00:00" for day in range(1, 4)])
    hour = Step(unit="clock", count=3_600 * 10**6)
    day = Step(unit="clock", count=24 * 3_600 * 10**6)
    assert fits(hours, hour)
    assert not fits(days, hour)
    assert not fits(hours, day)
    assert fits(days, day)
