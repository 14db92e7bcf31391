"""What the report says of the data, held against numpy, and what has drifted since."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.sample_data import (
    Given,
    array_of,
    labelled,
    options,
    prepared_of,
    series,
    shipped,
    valued,
)

from pipeline.base.markup import as_markdown
from pipeline.data.parsing.cells.kinds.category import Category
from pipeline.data.preparation.prepare import Prepared, prepare
from pipeline.data.preparation.reader import rows_as_saved
from pipeline.data.preparation.report import MOST_CELLS, MOST_COLUMNS, DataReport, data_report
from pipeline.data.preparation.report_text import LARGE, TOLD, drifted, lines, tables
from pipeline.data.preparation.report_text import warnings as warned
from pipeline.data.source import Array, Column, OnDemand, Samples, Series
from pipeline.running.datasets import Datasets

NAN = float("nan")
LEVELS = ("blue", "green", "red")
NOTE = "target: 'outcome', the last column"
COLOR = Column(name="color", grammar=Category(levels=LEVELS))


def table(cells: dict[str, Array], targets: Array, **changes: object) -> Samples:
    """Columns by name, that of colours with its levels; two classes."""
    columns = tuple(COLOR if name == "color" else Column(name=name) for name in cells)
    inputs = np.column_stack([*cells.values()])
    return labelled(targets, inputs=inputs, columns=columns, features=(), **changes)


def patients(rows: int = 400) -> Samples:
    """An age with holes, a colour with holes, a column of ones, and the age once more."""
    generator = np.random.default_rng(0)
    age = generator.normal(50, 10, rows)
    age[::8] = NAN
    color = generator.choice(3, rows, p=[0.5, 0.3, 0.2]).astype(float)
    color[1::40] = NAN
    changes = {"classes": ("well", "ill"), "label": "outcome", "notes": (NOTE,)}
    cells = {"age": age, "flat": np.ones(rows), "again": age, "color": color}
    return table(cells, (generator.random(rows) < 0.3).astype(int), **changes)


def customers(rows: int, *, seed: int, shift: float = 0.0, reds: float = 0.2) -> Samples:
    """An age, an income that is often 0, a colour; two classes."""
    generator = np.random.default_rng(seed)
    age = generator.normal(50 + shift, 10, rows)
    income = np.where(generator.random(rows) < 0.6, 0.0, generator.lognormal(8, 1, rows))
    color = generator.choice(3, rows, p=[0.5, 0.5 - reds, reds]).astype(float)
    return table({"age": age, "income": income, "color": color}, np.arange(rows) % 2)


def report_of(data: Prepared) -> DataReport:
    assert data.report is not None
    return data.report


def report(content: Samples | Series, **changes: object) -> DataReport:
    return report_of(prepared_of(content, **changes))


def test_columns_are_measured_on_training_rows() -> None:
    samples = patients()
    data = prepared_of(samples)
    found = report_of(data)
    column, *_, color = found.columns
    cells, colors = array_of(samples)[data.train.rows][:, [0, 3]].T
    known = cells[~np.isnan(cells)]
    assert (column.name, column.rows) == ("age", len(data.train))
    assert column.missing == np.isnan(cells).sum() > 0
    measured = (column.mean, column.deviation, column.minimum, column.maximum)
    assert measured == pytest.approx((known.mean(), known.std(), known.min(), known.max()))
    assert column.edges == pytest.approx(np.quantile(known, np.arange(1, 10) / 10))
    counts = np.histogram(known, [-np.inf, *column.edges, np.inf])[0]
    assert np.asarray(column.shares) * len(known) == pytest.approx(counts, abs=1)
    assert column.filled == f"the mean {known.mean():.4g}"
    by_level = {name: int((colors == index).sum()) for index, name in enumerate(LEVELS)}
    assert color.levels == tuple(sorted(by_level, key=lambda name: -by_level[name]))
    expected = [by_level[name] / sum(by_level.values()) for name in color.levels]
    assert color.shares == pytest.approx([*expected, 0.0])
    assert color.missing == np.isnan(colors).sum() > 0
    assert color.filled == "a category of its own"


def test_filled_cells_are_counted_by_column() -> None:
    found = report(patients())
    holed = [column for column in found.columns if column.name != "flat"]
    shares = ", ".join(f"{c.name} {100 * c.missing / c.rows:.1f} % ({c.filled})" for c in holed)
    assert lines(found)[1] == (
        f"filled  {sum(c.missing for c in holed)} cells in 3 columns of the training rows: {shares}"
    )
    many = replace(found, columns=tuple(replace(column, missing=500) for column in holed))
    assert lines(many)[1].startswith("filled  1,500 cells in 3 columns of the training rows: ")


def test_constant_and_equal_columns_are_reported() -> None:
    samples = patients()
    found = report(samples)
    assert (found.constant, found.equal) == (("flat",), (("age", "again"),))
    told = [
        "constant in the training rows: flat (1 of 4 columns)",
        "duplicate columns: age = again",
        "12 of 100 test rows have the inputs of a training row, as few different rows are possible",
    ]
    data, filled, *others = lines(found)
    assert (data[:8], filled[:8]) == ("data    ", "filled  ")
    assert others == [f"warning: {one}" for one in told]
    assert lines(found, details=True) == lines(found)  # each check has found something
    array_of(samples)[:, 3] = 1  # a category
    found = report(samples)
    assert found.constant == ("flat", "color")
    assert warned(found)[0] == "constant in the training rows: flat, color (2 of 4 columns)"
    array_of(samples)[prepared_of(samples).train.rows, 3] = NAN
    assert report(samples).constant == ("flat", "color")


def test_nearly_equal_columns_are_not_equal() -> None:
    """They differ in one cell or in the names of their levels."""
    cells = np.random.default_rng(0).integers(0, 3, 200).astype(float)
    other = cells.copy()
    other[0] = (cells[0] + 1) % 3
    levels = {"one": LEVELS, "changed": LEVELS, "renamed": ("a", "b", "c"), "same": LEVELS}
    columns = tuple(
        Column(name=name, grammar=Category(levels=each)) for name, each in levels.items()
    )
    inputs = np.column_stack([cells, other, cells, cells])
    changes = {"inputs": inputs, "columns": columns, "features": ()}
    samples = labelled(np.arange(200) % 2, test=np.arange(100, 200), **changes)
    assert report(samples).equal == (("one", "same"),)


@pytest.mark.parametrize("is_copied", [True, False])
def test_repeats_are_optimistic_unless_they_are_chance(is_copied: bool) -> None:
    """Few rows are possible in two columns of four values that depend on each other."""
    generator = np.random.default_rng(0)
    levels = generator.integers(0, 4, 400).astype(float)
    other = np.where(generator.random(400) < 0.5, levels, generator.integers(0, 4, 400))
    columns = {"first": levels, "second": other}
    if is_copied:
        columns = {name: np.repeat(generator.normal(size=80), 5) for name in columns}
    found = report(table(columns, np.arange(400) % 2))
    assert found.repeated is not None
    assert found.repeated > 90
    (sentence,) = warned(found)
    assert sentence.endswith("optimistic" if is_copied else "few different rows are possible")


@pytest.mark.parametrize(("noise", "least", "most"), [(0.005, 45, 100), (None, 0, 5)])
def test_rows_with_a_little_noise_are_near_copies(
    noise: float | None, least: int, most: int
) -> None:
    generator = np.random.default_rng(0)
    cells = generator.normal(size=(400, 4))
    if noise is not None:
        cells[200:] = cells[:200] + noise * generator.normal(size=(200, 4))
    columns = {f"x{number}": column for number, column in enumerate(cells.T)}
    found = report(table(columns, np.arange(400) % 2))
    assert found.repeated == 0
    assert least <= found.near_copies <= most


def test_points_on_a_curve_are_no_copies() -> None:
    positions = np.random.default_rng(0).uniform(size=400)
    columns = {"x": positions, "y": positions**2, "z": np.sin(6 * positions)}
    assert report(table(columns, np.arange(400) % 2)).near_copies == 0


def test_classes_are_counted_in_each_part() -> None:
    """A warning names a class that a part lacks."""
    targets = np.array([0, 1] * 40 + [2] * 4)
    samples = labelled(targets, test=np.arange(60, 80), classes=("a", "b", "[c]|x"))
    found, absent = report(samples, validation=0.25), "no test rows of class [c]|x"
    assert [one.rows["test"] for one in found.classes] == [10, 10, 0]
    assert sum(found.classes[2].rows.values()) == 4
    assert f"warning: {absent}" in lines(found)
    assert absent in warned(found)
    classes, _ = tables(found)
    assert [line[0] for line in classes.lines] == ["a", "b", "[c]|x"]
    assert [line[-1] for line in classes.lines] == ["10 (50.0 %)", "10 (50.0 %)", "0 (0.0 %)"]


SHIPPED = """
mnist1d
5,000 rows: 3,200 train, 800 val, 1,000 test · 40 steps · 10 classes
- rows by class → 0

breast_cancer
569 rows: 340 train, 86 val, 143 test · 30 columns · malignant: 37.3 %
- rows by class → benign 213 (62.6 %) 54 (62.8 %) 90 (62.9 %)

digits
1,797 rows: 1,077 train, 270 val, 450 test · 8×8 pixels · 10 classes
- rows by class → 0

diabetes
442 rows: 264 train, 67 val, 111 test · 10 columns · regression
- target → target 0

airline
144 times from 1949-01 to 1960-12, 120 windows: 52 train, 20 val, 48 test · 12 steps · regression
 of passengers
- channels → passengers 0 186.58 48.806 104 302
"""


@pytest.mark.parametrize(
    "description", SHIPPED.strip().split("\n\n"), ids=lambda text: text.partition("\n")[0]
)
def test_report_describes_each_data_set(description: str) -> None:
    """Its name, its line, and the title and the first row of its table."""
    name, *data, shown_table = description.splitlines()
    found = report_of(shipped(name))
    line = f"data    {''.join(data)}"
    assert lines(found) == [line]
    first_line, missing, checks = lines(found, details=True)
    assert (first_line, missing) == (line, "missing none")
    assert checks.startswith("checks  no constant ")
    title, first_row = shown_table.removeprefix("- ").split(" → ")
    shown = tables(found)[0]
    assert shown.title.startswith(title)
    assert " ".join(shown.lines[0]).startswith(first_row)
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert DataReport.from_dict(json.loads(text)) == found


def test_series_report_covers_training_times() -> None:
    values = np.random.default_rng(0).normal(size=(80, 2)).cumsum(0) * [1, 50]
    content = replace(series(values), units="kWh", targets=("c1",))
    found = report(content, window=5, difference=3, test=0.25, validation=0.2)
    assert found.span == ("0", "79", "80")
    trained = values[: 80 - 20 - 12]
    assert [c.mean for c in found.columns] == pytest.approx(trained.mean(0))
    assert lines(found)[0].startswith("data    80 times from 0 to 79, ")
    (channels,) = tables(found)
    assert channels.lines[1][4] == f"{trained[:, 1].min():.5g}"
    assert channels.notes == [f"measured on {len(trained)} times of the training rows"]


def test_images_are_measured_by_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, size=(60, 3, 9, 9), dtype=np.uint8)
    pixels[:, 2] = pixels[:, 1]
    data = prepared_of(labelled(np.arange(60) % 2, inputs=pixels, features=("r", "g", "b")))
    found = report_of(data)
    assert [column.name for column in found.columns] == ["r", "g", "b"]
    assert found.columns[0].mean == pytest.approx(pixels[data.train.rows][:, 0].mean())
    assert found.equal == (("g", "b"),)


class Drawn(OnDemand):
    """Pictures that are made when they are taken; counts how many are."""

    def __init__(self, rows: int) -> None:
        self.shape, self.dtype = (rows, 1, 4, 4), np.dtype(np.float32)
        self.fingerprints = np.arange(rows, dtype=np.uint64)
        self.taken = 0

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        numbers = np.arange(len(self))[rows]
        self.taken += len(numbers)
        return np.random.default_rng(0).normal(size=(len(numbers), *self.shape[1:]))


def test_costly_rows_are_sampled_for_the_report() -> None:
    pictures = Drawn(3000)
    samples = labelled(np.arange(3000) % 2, inputs=pictures, features=())
    prepare(Given(samples), options(memory_budget=0), reports=False)
    without = pictures.taken
    assert report(samples, memory_budget=0).measured == 200
    assert pictures.taken - 2 * without == 200


def test_cells_measured_in_large_tables_are_bounded() -> None:
    names = tuple(f"x{n}" for n in range(1500))
    wide = report(valued(np.zeros((200, 1500)), np.arange(200.0), features=names))
    assert (len(wide.columns), wide.unlisted) == (MOST_COLUMNS, 500)
    assert "1,500 columns" in lines(wide)[0]
    assert tables(wide)[-1].notes[1] == "1,400 more columns are not listed"
    long = report(valued(np.zeros((240_000, 1)), np.zeros(240_000), features=("x",)))
    assert long.measured == 100_000 <= MOST_CELLS
    note = "measured on 100,000 evenly spaced rows out of 144,000 training rows"
    assert tables(long)[-1].notes == [note]
    unnamed = report(valued(np.random.default_rng(0).normal(size=(90, 144)), np.arange(90.0)))
    assert [column.name for column in unnamed.columns] == ["all columns"]  # pixels, or steps
    assert "144 numbers" in lines(unnamed)[0]


def test_names_with_markup_stay_text_in_tables() -> None:
    nasty = "a|b*<script>\n\x1b[31m"
    samples = replace(patients(), label=nasty, classes=(nasty, "ill"))
    samples = replace(samples, columns=(Column(name=nasty), *samples.columns[1:]))
    found = report(samples)
    for line in (*lines(found), *warned(found)):
        assert line.isprintable(), line
    classes, columns = map(as_markdown, tables(found))
    for page in (classes, columns):
        assert "a\\|b\\*&lt;script&gt;" in page
        assert "\x1b" not in page
    rows = [line.replace("\\|", "") for line in columns.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {8}
    assert NOTE in found.notes


def test_study_workers_do_not_measure_the_data() -> None:
    from pipeline.config.check import check
    from pipeline.config.compose import compose

    data = Datasets(keeps=True).prepared(check(compose(["model=mlp", "data=iris"])))
    assert (data.report, data.warnings) == (None, ())


def drift(data: Prepared, samples: Samples) -> list[str]:
    content = rows_as_saved(samples, data.schema)
    trained = report_of(data)
    return drifted(trained, data_report(samples, content, like=trained))


@pytest.fixture(scope="module")
def model() -> Prepared:
    return prepared_of(customers(3000, seed=0), validation=0.0)


@pytest.mark.parametrize(("trained_rows", "rows"), [(300, 40), (300, 200), (3000, 300)])
def test_rows_of_same_source_show_no_drift(trained_rows: int, rows: int) -> None:
    alarms = []
    for seed in range(60):
        alarms += drift(
            prepared_of(customers(trained_rows, seed=1000 + seed)), customers(rows, seed=seed)
        )
    assert len(alarms) <= 1, alarms  # 60 tables at a chance of one in a thousand each


def test_only_the_shifted_column_drifts(model: Prepared) -> None:
    other = customers(2000, seed=1, shift=7)
    (line,) = drift(model, other)
    ages, now = array_of(customers(3000, seed=0))[model.train.rows, 0], array_of(other)[:, 0]
    words = f"mean {now.mean():.4g} (sd {now.std():.4g}), {ages.mean():.4g} "
    assert line.startswith(f"age: {words}(sd {ages.std():.4g}) in training (stability index ")
    edges = [-np.inf, *np.quantile(ages, np.arange(0.1, 0.95, 0.1)), np.inf]
    p, q = np.histogram(ages, edges)[0] / len(ages), np.histogram(now, edges)[0] / 2000
    index = float(line.rpartition("(stability index ")[2].removesuffix(")"))
    assert index == pytest.approx(((q - p) * np.log(q / p)).sum(), rel=0.02, abs=0.005)
    assert index > LARGE
    (line,) = drift(model, customers(400, seed=1, reds=0.5))
    assert line.startswith("color: green ")
    assert "stability index" in line


def test_changed_constant_drifts_in_either_direction() -> None:
    def flat(value: float, rows: int = 50) -> Samples:
        return valued(np.full((rows, 1), value), np.arange(0, 400, 400 / rows), features=("flat",))

    seven = prepared_of(flat(7.0, 400))
    for value in (6.9, 7.1):
        assert any(line.startswith("flat: mean ") for line in drift(seven, flat(value)))
    assert drift(seven, flat(7.0)) == []


def test_vanished_common_value_is_drift(model: Prepared) -> None:
    other = customers(400, seed=1)
    array_of(other)[:, 1] = np.abs(np.random.default_rng(2).normal(3000, 100, 400))
    (line,) = drift(model, other)
    assert line.startswith("income: mean ")


def of_levels(*levels: str) -> Samples:
    other = customers(400, seed=1)
    return replace(
        other, columns=(*other.columns[:2], Column(name="color", grammar=Category(levels=levels)))
    )


def test_categories_are_compared_by_name(model: Prepared) -> None:
    """New ones are counted and missing ones are named."""
    other = of_levels(*LEVELS[::-1])
    array_of(other)[:, 2] = 2 - array_of(other)[:, 2]
    assert drift(model, other) == []
    other = of_levels(*LEVELS, "[purple]\x1b")
    array_of(other)[7, 2] = 3
    told = "rows have a new category"
    assert drift(model, other) == [f"color: 1 of 400 {told}"]
    array_of(other)[array_of(other)[:, 2] == 1, 2] = 0  # nothing is green any more
    array_of(other)[:12, 2] = 3
    (line,) = drift(model, other)
    assert f"12 of 400 {told}" in line
    assert "no rows with green" in line


def test_excess_missing_cells_are_drift(model: Prepared) -> None:
    other = customers(400, seed=1)
    array_of(other)[:60, 0] = NAN
    assert drift(model, other) == ["age: 15.0 % missing, 0.0 % in training"]
    few, before = customers(20, seed=1), customers(2000, seed=0)
    array_of(few)[:2, 0] = array_of(before)[::50, 0] = NAN
    assert drift(prepared_of(before), few) == []


def test_worst_drifted_columns_are_listed_first() -> None:
    """The others are counted."""
    generator, names = np.random.default_rng(0), tuple("abcdefghijkl")
    before = valued(generator.normal(size=(1000, 12)), np.arange(1000.0), features=names)
    moved = generator.normal(size=(200, 12)) + np.linspace(1, 3, 12)
    told = drift(prepared_of(before), valued(moved, np.arange(0, 1000.0, 5), features=names))
    assert len(told) == TOLD + 1
    assert told[0].startswith(("l: ", "k: "))
    assert told[-1] == "… and 4 more columns"


def test_regression_target_is_checked_for_drift() -> None:
    def values(rows: int, mean: float) -> Samples:
        return valued(generator.normal(size=(rows, 1)), generator.normal(mean, 1, size=rows))

    generator = np.random.default_rng(0)
    (line,) = drift(prepared_of(values(900, 0)), values(200, 3))
    assert line.startswith("target: mean ")


def test_image_drift_counts_rows_not_pixels() -> None:
    generator = np.random.default_rng(0)

    def pictures(rows: int, light: float = 0.0) -> Samples:
        base = generator.normal(0.5 + light, 0.2, size=(rows, 1, 1, 1))  # one mood a picture
        pixels = base + generator.normal(0, 0.05, size=(rows, 3, 8, 8))
        return labelled(np.arange(rows) % 2, inputs=pixels, features=("r", "g", "b"))

    seen = prepared_of(pictures(300))
    assert all(drift(seen, pictures(40)) == [] for _ in range(10))
    assert len(drift(seen, pictures(100, light=0.5))) == 3
