"""A series in a file: its columns, order, holes, and the same for a trained model."""

import io
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from data.tables.given_tables import write
from helpers.case_tables import cases, from_yaml, refusals
from helpers.file_sources import new_rows, refused_rows, stored
from helpers.refused_calls import refusal
from helpers.sample_data import Shipped, inputs_of, options

from pipeline.data.preparation.content import Part
from pipeline.data.preparation.prepare import Prepared, filled, prepare
from pipeline.data.preparation.reader import reader_of
from pipeline.data.preparation.schema import Schema
from pipeline.data.series import SeriesFile
from pipeline.data.source import Series


def source(content: str | bytes, name: str = "f.csv", **changes: Any) -> SeriesFile:
    """The source as `conf/data/series.yaml` builds it, of a file that is written first."""
    path = write(content, name)
    return cast(SeriesFile, Shipped("series", {"path": str(path), **changes}).source())


def read(content: str | bytes, **changes: Any) -> Series:
    return source(content, **changes).read()


def prepared(series: SeriesFile, **changes: Any) -> Prepared:
    return prepare(series, options(**{"window": 3, **changes}))


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
)
def test_csv_dialects_of_series_are_read(content: str | bytes) -> None:
    series = read(content)
    assert series.values.tolist() == [[1.5, 0], [2.5, 3], [3.5, 1]]
    assert series.times == ("2020-01-01", "2020-01-02", "2020-01-03")
    assert series.names == series.targets == ("level", "rain")
    assert (series.reading["time"], series.reading["step"]) == ("day", "1 day")


DOLLARS = 'day,level,rain\n2020-01-01,"$1,200.50",0\n2020-01-02,,3\n2020-01-03,$5,1\n'
GERMAN = "tag;menge\n" + "".join(f"{row + 1:02d}.01.2020;{row},5\n" for row in range(30))


@pytest.mark.parametrize(
    ("content", "values", "told"),
    [
        (DOLLARS, [1200.5, 1200.5, 5], "level ('$1,200.50' as 1200.5)"),
        (GERMAN, [row + 0.5 for row in range(30)], "menge (decimal commas: '0,5' as 0.5)"),
        (DOLLARS.replace("$", "CHF "), [1200.5, 1200.5, 5], "level ('CHF 1,200.50' as 1200.5)"),
    ],
)
def test_new_amounts_are_read_as_in_training(content: str, values: list[float], told: str) -> None:
    series = read(content, missing="previous")
    assert series.values[:, 0].tolist() == values
    assert f"read as numbers: {told}" in series.notes


def test_model_reads_times_and_amounts_as_trained() -> None:
    trained = source(GERMAN)
    parts = prepared(trained)
    schema = stored(parts.schema)
    reader = reader_of(schema)
    assert reader.inputs() == [
        {"name": "tag", "type": "string"},
        {"name": "menge", "type": "string"},
    ]
    for block in (
        new_rows("f.csv", schema),
        reader.apply(pd.DataFrame(parts.example), what="rows"),
        reader.apply(pd.read_csv("f.csv", sep=";"), what="rows"),
    ):
        assert block.raw[:, :, 0].tolist() == [[27.5, 28.5, 29.5]]
        assert block.names == ["31.01.2020"]
    problem = refused_rows(GERMAN.replace("9,5", ""), schema)
    assert problem.startswith("new.csv line 11, column 'menge' is empty; ")
    assert problem.endswith(". Fill it in")
    # Plain numbers alone are still read by the form of the training.
    problem = refused_rows(GERMAN.replace(",5", ".125"), schema)
    told = "new.csv line 3, column 'menge': '1.125' is ambiguous among decimal commas; "
    assert problem.startswith(told)
    assert refusal(again, source(GERMAN.replace(",5", ".125"), "new.csv"), schema) == problem
    plain = source(GERMAN.replace(",5", ""), "new.csv")
    assert again(plain, schema).rows.tolist() == again(trained, schema).rows.tolist()


def test_grouped_integers_beside_decimal_commas_are_refused() -> None:
    """`1.000` is ambiguous in a file whose other columns have decimal commas."""
    header, *rows = GERMAN.replace("menge", "menge;stück").splitlines()
    content = "\n".join([header, *(f"{row};{n + 971}" for n, row in enumerate(rows))])
    place = "new.csv line 2, column 'stück': '1.000' "
    schema = stored(prepared(source(content)).schema)
    ambiguous = content.replace("971", "1.000")
    problem = refused_rows(ambiguous, schema)
    assert problem == f"{place}is ambiguous among decimal commas; write 1,0000 or 1000"
    new = source(ambiguous, "new.csv")
    assert refusal(again, new, schema) == problem
    assert refusal(new.read).startswith(
        f"{place}may be 1.000 or 1000; 'data.decimal=[\"stück: point\"]' reads 1.000 and "
    )
    keys = {"decimal": {"stück": "comma"}}
    assert source(ambiguous, "new.csv", **keys).read().values[0].tolist() == [0.5, 1000]


@pytest.mark.parametrize("written", ["%d/%m/%Y", "%m/%d/%Y", "%-m/%-d/%Y"])
def test_model_keeps_order_of_day_and_month(written: str) -> None:
    """New rows whose dates have no day above 12 are read as in training."""
    labels = pd.date_range("2019-12-20", periods=60).strftime(written).tolist()
    lines = ["day,level", *(f"{label},{n}" for n, label in enumerate(labels))]
    series = source("\n".join(lines), test_from=labels[50])
    parts = prepared(series)
    assert parts.schema.reading["step"] == "1 day"
    assert parts.test.rows.min() >= 50
    schema = stored(parts.schema)
    source("\n".join([lines[0], *lines[13:24]]), "new.csv")
    assert new_rows("new.csv", schema).names == [labels[23]]  # no day of these is above 12
    again(series, schema)


def test_series_without_header_needs_header_option() -> None:
    """The error names `data.header`, and `data.header=false` reads the file."""
    content = PLAIN.partition("\n")[2]
    problem = refusal(read, content)
    told = "f.csv: its first line holds dates and numbers ('2020-01-01', '1.5', '0')"
    assert problem.startswith(told)
    assert "data.header=false" in problem
    series = read(content, header=False)
    assert series.values.tolist() == [[1.5, 0], [2.5, 3], [3.5, 1]]
    assert (series.names, series.reading["time"]) == (("column2", "column3"), "column1")
    assert series.reading["header"] is False


@pytest.mark.parametrize("name", ["parquet", "feather", "excel"])
def test_typed_file_equals_its_csv(name: str) -> None:
    frame = pd.read_csv(write(PLAIN), parse_dates=["day"])
    if name == "excel":
        frame.to_excel("f.xlsx", index=False)
    else:
        getattr(frame, f"to_{name}")("f.xlsx")
    other, series = read(Path("f.xlsx").read_bytes()), read(PLAIN)
    assert (other.values.tolist(), other.names) == (series.values.tolist(), series.names)
    assert other.reading["step"] == "1 day"


def test_schema_has_columns_targets_and_units() -> None:
    schema = prepared(source(MONTHLY, columns=("b", "a"), targets=("a",), units="cm")).schema
    assert (schema.features, schema.targets, schema.label) == (("b", "a"), ("a",), "a")
    assert (schema.units, schema.input_shape, schema.outputs) == ("cm", (3, 2), 1)
    assert schema.reading["kind"] == "series"


def test_note_describes_times_and_step() -> None:
    """Without a time column, each row is a step."""
    assert read(MONTHLY, targets=("a",)).notes == (
        "60 times from 2000-01 to 2004-12, step 1 month (column 'month'); targets: a; other "
        "inputs: b",
    )
    series = read("a,b\n5,1\n4,2\n9,4\n", targets=("a",))
    assert (series.times, series.reading["time"]) == (("1", "2", "3"), None)
    assert series.notes[0].startswith("3 times from 1 to 3, one per row; targets: a;")


def test_unsorted_rows_are_sorted_on_request() -> None:
    header, *rows = PLAIN.splitlines()
    backwards = "\n".join([header, *reversed(rows)])
    assert read(backwards, sort=True).values.tolist() == read(PLAIN).values.tolist()


def test_missing_and_irregular_steps_are_reported() -> None:
    """`data.strict` refuses such a series."""
    lines = MONTHLY.splitlines()
    gappy = "\n".join([*lines[:5], *lines[6:20], *lines[22:]])
    told = (
        "f.csv: 3 steps of 1 month are missing: 1 after 2000-04, 2 after 2001-07; a window treats "
        "the rows on both sides as neighbours"
    )
    assert read(gappy).notes[1:] == (told,)
    one = "f.csv: 1 step of 1 month is missing: 1 after 2000-04;"
    assert read("\n".join([*lines[:5], *lines[6:]])).notes[1].startswith(one)
    assert f"{told}. data.strict=false trains anyway" in refusal(read, gappy, strict=True)
    irregular = "day,a\n2020-01-01,1\n2020-01-02,2\n2020-01-09,3\n2020-03-01,4\n2020-03-21,5\n"
    series = read(irregular)
    assert series.reading["step"] == "irregular"
    assert "f.csv: the times of column 'day' have no common step" in series.notes[1]


def test_test_part_begins_at_named_time() -> None:
    """If that time is missing, the test part begins at the next one."""
    for content, first in (
        (MONTHLY, "2003-01"),
        (MONTHLY.replace("2003-01,36,1296\n", ""), "2003-02"),
    ):
        series_source = source(content, test_from="2003-01")
        times = series_source.read().times
        assert times[prepared(series_source).test.rows[0]] == first


HOLEY = ["month,a,b", "2020-01,1,5", "2020-02,,6", "2020-03,3,", "2020-04,,", "2020-05,7,9"]
# The files that `REFUSED` names. In `turned` the last month stands first.
FILES = {
    "city": "when,sales,price,city\n2020-01,1.5,1.5,\n2020-02,,,Oslo\n2020-03,7,7,Oslo\n",
    "dollars": DOLLARS.replace("$5", "€5"),
    "slashes": "day,level\n1/5/20,1\n2/5/20,2\n",
    "unsorted": "month,a\n2020-01,1\n2020-03,2\n2020-02,3\n",
    "twice": "month,a\n2020-01,1\n2020-01,2\n",
    "later": "month,a\n2020-01,1\n2020-02,2\n2020-03,3\n2020-02,4\n",
    "monthly": MONTHLY,
    "header": "month,a\n",
    "infinite": PLAIN.replace("2.5", "1e39"),
    "word": PLAIN.replace("2.5", "two"),
    "holey": "\n".join(HOLEY),
    "turned": "\n".join([HOLEY[0], HOLEY[5], *HOLEY[1:5]]),
    "late": "month,a\n2020-01,\n2020-02,\n2020-03,1\n",
    "empty": "month,a,b\n2020-01,,1\n2020-02,,2\n",
}
# Several messages go on, and three dots stand for what is left out.
REFUSED = """
city time: whn
- data.time=whn is not a column of f.csv; … mean 'when'?

city columns: [sale]
- data.columns=sale is not a column of f.csv; its columns are when, sales, price, city. Did you mean
  'sales'?

city targets: sals
- data.targets=sals is not a column … Did you mean 'sales'?

city columns: [sales, sales]
- data.columns names 'sales' twice; expected each

city columns: [sales], targets: [price]
- data.targets=price is not among the values sales; expected one of them

city time: when, columns: [when, sales]
- 'when' is both data.time and one of data.columns

city
- f.csv line 3, column 'city': 'Oslo' is not a number; write a number or leave it empty, or name
  only the value columns: 'data.columns=[sales,price]'

dollars columns: [level]
- f.csv line 4, column 'level': '€5' is not a number written like '$1,200.50' (1 of 2 cells is not);
  write it the same way or leave it empty

dollars
- f.csv line 4, … or leave it empty, or name only the value columns: 'data.columns=[rain]'

slashes
- f.csv line 2, column 'day': '1/5/20' is not a number; write a number or leave it empty, or name
  only the value columns: 'data.columns=[level]', or name the column of times: data.time=NAME

unsorted
- f.csv line 4, column 'month': '2020-02' comes after '2020-03'; expected the oldest first. Sort
  them with data.sort=true

twice
- f.csv line 3, … '2020-01' repeats the time 1 row above;

later sort: true
later sort: false
- f.csv line 5, column 'month': '2020-02' repeats the time 2 rows above; expected unique times

monthly test_from: 2005-01
- data.test_from=2005-01 is not a time of the series; expected one after 2000-01 and up to 2004-12

monthly test_from: 2000-01
- data.test_from=2000-01 is not a time of the series;

monthly test_from: 1.5.2003
- data.test_from=1.5.2003 is not a time of the series;

monthly test_from: 3
- data.test_from=3 is not a time of the series;

header
- f.csv … 0 rows

infinite
- f.csv line 3, column 'level': '1e39' is infinite

word
- f.csv line 3, column 'level': 'two' is not a number (1 of 3 cells is not); write a number or leave
  it empty, or name only the value columns: 'data.columns=[rain]'

holey
- f.csv line 3, column 'a' is empty, one of 4 such cells; expected a number. Fill it in, or set
  data.missing=previous … or data.missing=linear

turned sort: true
- f.csv line 4, column 'a' is em

late missing: previous
late missing: linear
- f.csv line 2, column 'a' is empty and has no previous value to fill it; leave out the 2 rows
  before its first value

empty missing: previous, columns: [a, b]
- f.csv line 2, column 'a' is empty … ; leave out this column
"""


@pytest.mark.parametrize(("table", "problem"), refusals(REFUSED))
def test_unusable_series_is_refused(table: str, problem: str) -> None:
    name, _, keys = table.partition(" ")
    begin, *parts = problem.split(" … ")
    message = refusal(read, FILES[name], **from_yaml(f"{{{keys}}}"))
    assert message.startswith(begin)
    assert all(part in message for part in parts)
    if name == "dollars" and keys:
        assert message == problem


def test_split_seed_has_no_effect_on_series() -> None:
    first, second = (prepared(source(MONTHLY), split_seed=seed) for seed in (0, 3))
    assert np.array_equal(first.test.rows, second.test.rows)
    assert first.content_hash == second.content_hash
    assert "data.split_seed=3 has no effect: a series is split by time" in second.notes[-1]


def table_of(columns: str) -> str:
    """Return a table whose columns are separated by bars, each a name and its cells."""
    lines = zip(*(column.split(" ") for column in columns.split(" | ")), strict=True)
    return "\n".join(",".join(line) for line in lines)


# Columns, and that of the times; a dash stands for none.
FOUND = """
a 1.5 2 7 | when 2020-01 2020-02 2020-03 → when
Year 1900 1901 1902 | a 1.5 2 7 → Year
a 1.5 2 7 | date 20200101 20200102 20200104 → date
 0 1 2 | a 1.5 2 7 → unnamed_1
a 1.5 2 7 | tag 30.01.2020 31.01.2020 01.02.2020 → tag
jahr 1900 1901 1902 | a 1.5 2 7 → jahr
a 1.5 2 7 | b 1.5 2 7 → -
a 3 1 2 | b 1.5 2 7 → -
a 1 2 3 → -
since 2020 2020 2021 | month 2020-01 2020-02 2020-03 | a 1.5 2 7 → month
"""


@pytest.mark.parametrize(("columns", "time"), cases(FOUND))
def test_times_are_found_by_name_or_content(columns: str, time: str) -> None:
    """A column whose cells are unique is preferred."""
    content = table_of(columns)
    series = read(content)
    names = [name or "unnamed_1" for name in content.partition("\n")[0].split(",")]
    assert series.reading["time"] == (None if time == "-" else time)
    assert series.names == series.targets == tuple(name for name in names if name != time)


def test_channels_are_chosen_in_the_given_order() -> None:
    """A named column of years is a channel."""
    content = table_of("year 1900 1901 1902 | a 1.5 2 7 | b 3 4 5 | c x y z")
    series = read(content, columns=("b", "year"), targets=("b",))
    assert (series.reading["time"], series.names) == (None, ("b", "year"))
    assert series.targets == ("b",)


def test_unknown_column_names_are_reported_together() -> None:
    """A file with only a time column is not a series either."""
    content = table_of("when 2020-01 2020-02 2020-03 | a 1.5 2 7")
    problem = refusal(read, content, time="wen", columns=("b",), targets=("c",))
    told = [line.split(" is not a column")[0] for line in problem.splitlines()]
    assert told == ["data.time=wen", "data.columns=b", "data.targets=c"]
    problem = refusal(read, table_of("when 2020-01 2020-02 2020-03"))
    assert problem.startswith("f.csv has only the time column 'when'; expected a")


HOLE = float("nan")


def test_holes_are_filled_by_previous_or_linear() -> None:
    values = np.random.default_rng(1).normal(size=(200, 3))
    values[np.random.default_rng(2).random((200, 3)) < 0.3] = np.nan
    values[[0, -1]] = 1.0
    times = np.arange(200)
    previous = filled(values, "previous", borders=(50, 120))
    line = filled(values, "linear", borders=())
    for channel in range(3):
        known = np.flatnonzero(~np.isnan(values[:, channel]))
        content = values[known, channel]
        last = np.searchsorted(known, times, "right") - 1
        np.testing.assert_array_equal(previous[:, channel], content[last])
        np.testing.assert_allclose(line[:, channel], np.interp(times, known, content))


def test_interpolation_stops_at_part_borders() -> None:
    """After a border a line begins at the last known value."""
    values = np.array([[0.0], [1.0], [HOLE], [HOLE], [HOLE], [5.0]])
    assert filled(values, "linear", borders=(3,))[:, 0].tolist() == [0, 1, 1, 3, 4, 5]


def test_filled_cells_are_counted_by_column() -> None:
    series = read(FILES["holey"], missing="previous")
    assert series.values.tolist() == [[1, 5], [1, 6], [3, 6], [3, 6], [7, 9]]
    assert series.notes[1:] == (
        "f.csv: empty cells of column 'a' (2, the first at 2020-02) are filled with the previous "
        "value (data.missing=previous)",
        "f.csv: empty cells of column 'b' (2, the first at 2020-03) are filled with the previous "
        "value (data.missing=previous)",
    )
    assert (
        "(data.missing=linear), using later values"
        in read(FILES["holey"], missing="linear").notes[1]
    )


@pytest.mark.parametrize(("missing", "lag"), [("previous", None), ("linear", None), ("linear", 2)])
def test_later_values_leave_training_rows_unchanged(missing: str, lag: Any) -> None:
    """Neither filled holes nor scaling use values after the training part."""
    generator = np.random.default_rng(0)
    values = np.round(generator.normal(size=(100, 1)), 3)
    values[1:][generator.random((99, 1)) < 0.4] = HOLE
    values[55:65] = HOLE  # an empty stretch across the border at 60
    changed = values.copy()
    changed[60:] += 1000
    trained = []
    for content in (values, changed):
        rows = "".join("\n" if np.isnan(value) else f"{value}\n" for value in content[:, 0])
        lines = (f"{time},{row}" for time, row in enumerate(rows.splitlines()))
        series = source("time,a\n" + "\n".join(lines), missing=missing)
        shape = {"test": 0.25, "validation": 0.2, "difference": lag}
        trained.append(prepared(series, scale="standard", **shape).train)
    assert trained[0].rows[-1] == 59
    assert torch.equal(inputs_of(trained[0]), inputs_of(trained[1]))
    assert torch.equal(trained[0].targets, trained[1].targets)


def test_holes_in_training_part_are_interpolated() -> None:
    rows = "".join(f"{row},{'' if row % 5 == 3 else row}\n" for row in range(60))
    train = prepared(source(f"time,a\n{rows}", missing="linear")).train
    assert inputs_of(train)[:, :, 0].tolist() == [
        [row, row + 1, row + 2] for row in range(len(train))
    ]


def content(rows: int, *, columns: str = "a,b") -> str:
    values = np.random.default_rng(0).normal(size=(rows, 2)).cumsum(0)
    frame = pd.DataFrame({"a": values[:, 0], "b": values[:, 1], "c": values[:, 0] * 0})
    frame.index = pd.date_range("2000-01", periods=rows, freq="MS").strftime("%Y-%m")
    return frame[columns.split(",")].to_csv(index_label="month")


def again(series: SeriesFile, schema: Schema) -> Part:
    return reader_of(schema).evaluated(series, budget=64)[2]


def test_new_series_is_scaled_as_in_training() -> None:
    schema = prepared(source(content(80)), window=3, scale="standard").schema
    frame = pd.read_csv(io.StringIO(content(40)), index_col="month") + 50.0
    lifted = source(frame.to_csv(), "new.csv")
    values = lifted.read().values
    part = again(lifted, schema)
    raw = schema.input_scaler.unscaled(inputs_of(part)).numpy()
    np.testing.assert_allclose(raw[0], values[:3], rtol=1e-5)
    targets = schema.to_units(part.targets, None)[:, 0].numpy()
    np.testing.assert_allclose(targets, values[3:, 0], rtol=1e-5)
    assert part.offsets is None


def test_test_rows_are_read_again_bit_exactly() -> None:
    trained = source(content(80), targets=("b",))
    parts = prepared(trained, window=4, horizon=2, difference=3, scale="standard")
    part = again(trained, parts.schema)
    tested = torch.from_numpy(np.isin(part.rows, parts.test.rows))
    assert part.rows[tested].tolist() == parts.test.rows.tolist()
    assert torch.equal(inputs_of(part)[tested], inputs_of(parts.test))
    assert torch.equal(part.targets[tested], parts.test.targets)
    assert part.offsets is not None
    assert parts.test.offsets is not None
    assert torch.equal(part.offsets[tested], parts.test.offsets)


def test_new_series_channels_are_matched_by_name() -> None:
    """Another step, a missing channel and too few steps are refused."""
    schema = prepared(source(content(80)), window=3).schema
    straight, turned = (
        again(source(content(40, columns=columns), "new.csv"), schema)
        for columns in ("a,b", "c,b,a")
    )
    assert torch.equal(inputs_of(straight), inputs_of(turned))
    assert torch.equal(straight.targets, turned.targets)
    yearly = "year,a,b\n" + "".join(f"{year},1,2\n" for year in range(1900, 1940))
    for rows, problem in (
        (content(40, columns="a,c"), "the series lacks the column 'b'; "),
        (yearly, "the times have step 1 year; expected 1 month"),
        (content(3), "new.csv has 3 steps; expected at least 4 for data.window=3, horizon 1"),
    ):
        assert problem in refusal(again, source(rows, "new.csv"), schema)
