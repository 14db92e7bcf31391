"""A series in a file: its columns, order, holes, and the same for a trained model."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from given_tables import write
from helpers.file_sources import new_rows
from helpers.sample_data import Shipped, options

from pipeline.base.errors import DataError
from pipeline.data.parsing.tables.file import CsvOptions
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.prepare import Prepared, filled, prepare
from pipeline.data.preparation.reader import reader_of
from pipeline.data.preparation.schema import Schema
from pipeline.data.series import SeriesFile
from pipeline.data.series_values import SeriesLayout, find_layout
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
TWO_FORMS = (
    r"^f\.csv line 4, column 'level': '€5' is not a number written like '\$1,200\.50' \(1 of 2 "
    r"cells is not\); write it the same way or leave it empty"
)
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
    schema = Schema.from_dict(parts.schema.to_dict())
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
    source(GERMAN.replace("9,5", ""), "new.csv")
    with pytest.raises(DataError, match=r"line 11, column 'menge' is empty; .*\. Fill it in$"):
        new_rows("new.csv", schema)
    # Plain numbers alone are still read by the form of the training.
    grouped = source(GERMAN.replace(",5", ".125"), "new.csv")
    for ask in (lambda: again(grouped, schema), lambda: new_rows("new.csv", schema)):
        with pytest.raises(DataError, match=r"new\.csv line 3, .*'1\.125' is ambiguous among dec"):
            ask()
    plain = source(GERMAN.replace(",5", ""), "new.csv")
    assert again(plain, schema).rows.tolist() == again(trained, schema).rows.tolist()


def test_grouped_integers_beside_decimal_commas_are_refused() -> None:
    """`1.000` is ambiguous in a file whose other columns have decimal commas."""
    lines = GERMAN.replace("menge", "menge;stück").splitlines()
    content = "\n".join(f"{line};{n + 970}" * bool(n) or line for n, line in enumerate(lines))
    ambiguous = r"is ambiguous among decimal commas; write 1,0000 or 1000"
    may_be = r"may be 1\.000 or 1000; 'data\.decimal=\[\"stück: point\"\]' reads 1\.000 and "
    schema = Schema.from_dict(prepared(source(content)).schema.to_dict())
    new = source(content.replace("971", "1.000"), "new.csv")
    for ask, problem in (
        (lambda: new_rows("new.csv", schema), ambiguous),
        (lambda: again(new, schema), ambiguous),
        (new.read, may_be),
    ):
        with pytest.raises(
            DataError, match=rf"^new\.csv line 2, column 'stück': '1\.000' {problem}"
        ):
            ask()
    keys = {"decimal": {"stück": "comma"}}
    read_as_thousands = source(content.replace("971", "1.000"), "new.csv", **keys).read()
    assert read_as_thousands.values[0].tolist() == [0.5, 1000]


@pytest.mark.parametrize("written", ["%d/%m/%Y", "%m/%d/%Y", "%-m/%-d/%Y"])
def test_model_keeps_order_of_day_and_month(written: str) -> None:
    """New rows whose dates have no day above 12 are read as in training."""
    labels = pd.date_range("2019-12-20", periods=60).strftime(written).tolist()
    lines = ["day,level", *(f"{label},{n}" for n, label in enumerate(labels))]
    series = source("\n".join(lines), test_from=labels[50])
    parts = prepared(series)
    assert parts.schema.reading["step"] == "1 day"
    assert parts.test.rows.min() >= 50
    schema = Schema.from_dict(parts.schema.to_dict())
    source("\n".join([lines[0], *lines[13:24]]), "new.csv")
    assert new_rows("new.csv", schema).names == [labels[23]]  # no day of these is above 12
    again(series, schema)


def test_series_without_header_needs_header_option() -> None:
    """The error names `data.header`, and `data.header=false` reads the file."""
    content = PLAIN.partition("\n")[2]
    told = (
        r"f\.csv: its first line holds dates and numbers \('2020-01-01', '1.5', '0'\).*data\.head"
    )
    with pytest.raises(DataError, match=told):
        read(content)
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
    with pytest.raises(DataError, match=re.escape(f"{told}. data.strict=false trains anyway")):
        read(gappy, strict=True)
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
FILE = "\n".join([*HOLEY, ""])
OUTSIDE = r"data\.test_from={} is not a time of the series; expected one after 2000-01 and up to "
LATE = "month,a\n2020-01,\n2020-02,\n2020-03,1\n"
BEGINS = (
    r"f\.csv line 2, column 'a' is empty and has no previous value to fill it; leave out the 2 "
    r"rows before its first value"
)


CITY = "when,sales,price,city\n2020-01,1.5,1.5,\n2020-02,,,Oslo\n2020-03,7,7,Oslo\n"
EARLY = (
    r"f\.csv line 4, column 'month': '2020-02' comes after '2020-03'; expected the oldest first\. "
    r"Sort them with data\.sort=true"
)
TWICE = r"line 5, column 'month': '2020-02' repeats the time 2 rows above; expected unique times"
COLUMNS = r"its columns are when, sales, price, city\. Did you mean 'sales'\?"
NO_NUMBERS = (
    r"^f\.csv line 3, column 'city': 'Oslo' is not a number; write a number or leave it empty, or "
    r"name only the value columns: 'data\.columns=\[sales,price\]'$"
)


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        (CITY, {"time": "whn"}, r"data\.time=whn is not a column of f\.csv; .* mean 'when'\?"),
        (CITY, {"columns": ["sale"]}, rf"data\.columns=sale is not a column of f\.csv; {COLUMNS}"),
        (
            CITY,
            {"targets": "sals"},  # as a list of one
            r"data\.targets=sals is not a column .*Did you mean 'sales'\?",
        ),
        (
            CITY,
            {"columns": ["sales", "sales"]},
            r"data\.columns names 'sales' twice; expected each",
        ),
        (
            CITY,
            {"columns": ["sales"], "targets": ["price"]},
            r"data\.targets=price is not among the values sales; expected one of them",
        ),
        (
            CITY,
            {"time": "when", "columns": ["when", "sales"]},
            r"'when' is both data\.time and one of data\.columns",
        ),
        (CITY, {}, NO_NUMBERS),
        *(
            (DOLLARS.replace("$5", "€5"), keys, rf"{TWO_FORMS}{way}$")
            for keys, way in (
                ({}, r", or name only the value columns: 'data\.columns=\[rain\]'"),
                ({"columns": ["level"]}, ""),
            )
        ),
        (
            "day,level\n" + "1/5/20,1\n2/5/20,2\n",
            {},
            r"^f\.csv line 2, column 'day': '1/5/20' is not a number; write a number or leave it "
            r"empty, or name only the value columns: 'data\.columns=\[level\]', or name the column "
            r"of times: data\.time=NAME$",
        ),
        ("month,a\n2020-01,1\n2020-03,2\n2020-02,3\n", {}, EARLY),
        ("month,a\n2020-01,1\n2020-01,2\n", {}, "'2020-01' repeats the time 1 row above; "),
        *(
            ("month,a\n2020-01,1\n2020-02,2\n2020-03,3\n2020-02,4\n", {"sort": sort}, TWICE)
            for sort in (False, True)
        ),
        *(
            (MONTHLY, {"test_from": time}, f"{OUTSIDE.format(time)}2004-12")
            for time in ("2005-01", "2000-01", "1.5.2003", 3)
        ),
        ("month,a\n", {}, r"0 rows"),
        (PLAIN.replace("2.5", "1e39"), {}, r"f\.csv line 3, column 'level': '1e39' is infinite"),
        (
            PLAIN.replace("2.5", "two"),
            {},
            r"f\.csv line 3, column 'level': 'two' is not a number \(1 of 3 cells is not\); "
            r"write a number or leave it empty, or name only the value columns: "
            r"'data\.columns=\[rain\]'$",
        ),
        (
            FILE,
            {},
            r"f\.csv line 3, column 'a' is empty, one of 4 such cells; expected a number\. Fill it "
            r"in, or set data\.missing=previous .* or data\.missing=linear",
        ),
        ("\n".join([HOLEY[0], HOLEY[5], *HOLEY[1:5]]), {"sort": True}, r"line 4, column 'a' is em"),
        *((LATE, {"missing": how}, BEGINS) for how in ("previous", "linear")),
        (
            "month,a,b\n2020-01,,1\n2020-02,,2\n",
            {"missing": "previous", "columns": ("a", "b")},
            r"line 2, column 'a' is empty .*; leave out this column",
        ),
    ],
)
def test_unusable_series_is_refused(content: str, keys: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(content, **keys)


def test_split_seed_has_no_effect_on_series() -> None:
    first, second = (prepared(source(MONTHLY), split_seed=seed) for seed in (0, 3))
    assert np.array_equal(first.test.rows, second.test.rows)
    assert first.content_hash == second.content_hash
    assert "data.split_seed=3 has no effect: a series is split by time" in second.notes[-1]


MONTHS = ["2020-01", "2020-02", "2020-03"]
VALUES = ["1.5", None, "7"]


def layout(first: Mapping[str, Sequence[str | None]], **wanted: Any) -> SeriesLayout:
    with Path("f.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([first, *zip(*first.values(), strict=True)])
    wanted = {"time": None, "values": (), "targets": (), **wanted}
    return find_layout(Path("f.csv"), SeriesLayout(**wanted), CsvOptions())


@pytest.mark.parametrize(
    ("first", "time"),
    [
        ({"a": VALUES, "when": MONTHS}, "when"),
        ({"Year": ["1900", "1901", "1902"], "a": VALUES}, "Year"),
        ({"a": VALUES, "date": ["20200101", "20200102", "20200104"]}, "date"),
        ({"": ["0", "1", "2"], "a": VALUES}, "unnamed_1"),
        ({"a": VALUES, "tag": ["30.01.2020", "31.01.2020", "01.02.2020"]}, "tag"),
        ({"jahr": ["1900", "1901", "1902"], "a": VALUES}, "jahr"),
        ({"a": VALUES, "b": VALUES}, None),
        ({"a": ["3", "1", "2"], "b": VALUES}, None),
        ({"a": ["1", "2", "3"]}, None),
    ],
)
def test_times_are_found_by_name_or_content(first: Any, time: str | None) -> None:
    found = layout(first)
    values = tuple(name or "unnamed_1" for name in first if (name or "unnamed_1") != time)
    assert found == SeriesLayout(time=time, values=values, targets=values)


def test_time_column_and_channels_are_chosen() -> None:
    """Each time is unique, and named columns are channels in the order of the option."""
    first = {"since": ["2020-01", "2020-01", "2020-02"], "month": MONTHS, "a": VALUES}
    assert layout(first, values=("a",)).time == "month"
    first = {"year": ["1900", "1901", "1902"], "a": VALUES}
    assert layout(first, values=("year", "a")).time is None
    first = {"when": MONTHS, "a": VALUES, "b": VALUES, "c": ["x", "y", "z"]}
    found = layout(first, values=("b", "a"), targets=("a",))
    assert found == SeriesLayout(time="when", values=("b", "a"), targets=("a",))


def test_unknown_column_names_are_reported_together() -> None:
    """A file with only a time column is not a series either."""
    with pytest.raises(DataError) as caught:
        layout({"when": MONTHS, "a": VALUES}, time="wen", values=("b",), targets=("c",))
    told = [problem.split(" is not a column")[0] for problem in caught.value.problems]
    assert told == ["data.time=wen", "data.columns=b", "data.targets=c"]
    with pytest.raises(DataError, match=r"f\.csv has only the time column 'when'; expected a"):
        layout({"when": MONTHS})


HOLE = float("nan")


def holey(rows: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(rows, 3))
    values[generator.random(values.shape) < 0.4] = HOLE
    values[0] = 0
    return values


def test_holes_are_filled_by_previous_or_linear() -> None:
    values, times = holey(200), np.arange(200)
    before = filled(values, "previous", borders=(50, 120))
    line = filled(values, "linear", borders=())
    for channel in range(3):
        known = np.flatnonzero(~np.isnan(values[:, channel]))
        content, last = values[known, channel], np.searchsorted(known, times, "right") - 1
        np.testing.assert_array_equal(before[:, channel], content[last])
        np.testing.assert_allclose(line[:, channel], np.interp(times, known, content))


def test_interpolation_stops_at_part_borders() -> None:
    values = holey(200)
    changed = values.copy()
    changed[120:] = np.where(np.isnan(changed[120:]), HOLE, 1e6)
    before, after = (filled(content, "linear", borders=(120,)) for content in (values, changed))
    np.testing.assert_array_equal(before[:120], after[:120])
    assert not np.isnan(after).any()
    # After a border a line begins at the last known value.
    values = np.array([[0.0], [1.0], [HOLE], [HOLE], [HOLE], [5.0]])
    assert filled(values, "linear", borders=(3,))[:, 0].tolist() == [0, 1, 1, 3, 4, 5]


def test_filled_cells_are_counted_by_column() -> None:
    series = read(FILE, missing="previous")
    assert series.values.tolist() == [[1, 5], [1, 6], [3, 6], [3, 6], [7, 9]]
    assert series.notes[1:] == (
        "f.csv: empty cells of column 'a' (2, the first at 2020-02) are filled with the previous "
        "value (data.missing=previous)",
        "f.csv: empty cells of column 'b' (2, the first at 2020-03) are filled with the previous "
        "value (data.missing=previous)",
    )
    assert "(data.missing=linear), using later values" in read(FILE, missing="linear").notes[1]


@pytest.mark.parametrize(("missing", "lag"), [("previous", None), ("linear", None), ("linear", 2)])
def test_later_values_leave_training_rows_unchanged(missing: str, lag: Any) -> None:
    """Neither filled holes nor scaling use values after the training part."""
    values = np.round(holey(100)[:, :1], 3)
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
    assert (trained[0].inputs == trained[1].inputs).all()
    assert (trained[0].targets == trained[1].targets).all()


def test_holes_in_training_part_are_interpolated() -> None:
    rows = "".join(f"{row},{'' if row % 5 == 3 else row}\n" for row in range(60))
    train = prepared(source(f"time,a\n{rows}", missing="linear")).train
    assert train.inputs[:, :, 0].tolist() == [[row, row + 1, row + 2] for row in range(len(train))]


def content(rows: int, *, columns: str = "a,b", lift: float = 0.0) -> str:
    values = np.random.default_rng(0).normal(size=(rows, 2)).cumsum(0) + lift
    frame = pd.DataFrame({"a": values[:, 0], "b": values[:, 1], "c": values[:, 0] * 0})
    frame.index = pd.date_range("2000-01", periods=rows, freq="MS").strftime("%Y-%m")
    return frame[columns.split(",")].to_csv(index_label="month")


def again(series: SeriesFile, schema: Schema) -> Part:
    return reader_of(schema).evaluated(series, budget=64)[2]


def test_test_rows_are_read_again_bit_exactly() -> None:
    trained = source(content(80), targets=("b",))
    parts = prepared(trained, window=4, horizon=2, difference=3, scale="standard")
    part = again(trained, parts.schema)
    tested = torch.from_numpy(np.isin(part.rows, parts.test.rows))
    assert part.rows[tested].tolist() == parts.test.rows.tolist()
    assert torch.equal(part.inputs[tested], parts.test.inputs)
    assert torch.equal(part.targets[tested], parts.test.targets)
    assert torch.equal(part.offsets[tested], parts.test.offsets)


def test_new_series_is_scaled_as_in_training() -> None:
    schema = prepared(source(content(80)), window=3, scale="standard").schema
    lifted = source(content(40, lift=50.0), "new.csv")
    part, values = again(lifted, schema), lifted.read().values
    raw = schema.input_scaler.unscaled(part.inputs).numpy()
    np.testing.assert_allclose(raw[0], values[:3], rtol=1e-5)
    np.testing.assert_allclose(
        schema.to_units(part.targets, None)[:, 0].numpy(), values[3:, 0], rtol=1e-5
    )
    assert float(part.inputs.mean()) > 5
    assert part.offsets is None


def test_new_series_channels_are_matched_by_name() -> None:
    """Another step, a missing channel and too few steps are refused."""
    schema = prepared(source(content(80)), window=3).schema
    straight, turned = (
        again(source(content(40, columns=columns), "new.csv"), schema)
        for columns in ("a,b", "c,b,a")
    )
    assert torch.equal(straight.inputs, turned.inputs)
    assert torch.equal(straight.targets, turned.targets)
    yearly = "year,a,b\n" + "".join(f"{year},1,2\n" for year in range(1900, 1940))
    for rows, problem in (
        (content(40, columns="a,c"), r"the series lacks the column 'b'; .* a, c"),
        (yearly, r"the times have step 1 year; expected 1 month"),
        (content(3), r"^new.csv has 3 steps; expected at least 4 for data.window=3, horizon 1$"),
    ):
        with pytest.raises(DataError, match=problem):
            again(source(rows, "new.csv"), schema)
