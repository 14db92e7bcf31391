"""Planted shifts are named, resamples are not, and the index is the one written by hand."""

from dataclasses import replace

import numpy as np
import pytest
from given_data import Given, labelled, options, valued

from pipeline.data.as_saved import rows_as_saved
from pipeline.data.prepare import Prepared, prepare
from pipeline.data.report import DataReport, report_of_test
from pipeline.data.report_text import LARGE, TOLD, drifted, stability_index
from pipeline.data.source import Column, Samples

NAN = float("nan")
COLORS = ("blue", "green", "red")


def table(rows: int, *, seed: int, shift: float = 0.0, reds: float = 0.2) -> Samples:
    """An age, an income that is often 0, a colour; two classes."""
    generator = np.random.default_rng(seed)
    age = generator.normal(50 + shift, 10, rows)
    income = np.where(generator.random(rows) < 0.6, 0.0, generator.lognormal(8, 1, rows))
    color = generator.choice(3, rows, p=[0.5, 0.5 - reds, reds]).astype(float)
    columns = (Column(name="age"), Column(name="income"), Column(name="color", levels=COLORS))
    return labelled(
        np.arange(rows) % 2,
        inputs=np.column_stack([age, income, color]),
        columns=columns,
        features=(),
    )


def trained(samples: Samples, **changes: object) -> Prepared:
    return prepare(Given(samples), options(**changes))


def report_on(prepared: Prepared, samples: Samples) -> DataReport:
    content = rows_as_saved(samples, prepared.schema)
    return report_of_test(samples, content, prepared.report, None)


def drift(prepared: Prepared, samples: Samples) -> list[str]:
    assert prepared.report is not None
    return drifted(prepared.report, report_on(prepared, samples))


@pytest.mark.parametrize(("trained_rows", "rows"), [(300, 40), (300, 200), (3000, 300)])
def test_rows_of_the_same_source_alarm_nobody_however_few_they_are(
    trained_rows: int, rows: int
) -> None:
    alarms = []
    for seed in range(60):
        prepared = trained(table(trained_rows, seed=1000 + seed))
        alarms += drift(prepared, table(rows, seed=seed))
    assert len(alarms) <= 1, alarms  # 60 tables at a chance of one in a thousand each


def test_a_shifted_column_is_named_with_its_figures_and_no_other_one_is() -> None:
    prepared = trained(table(3000, seed=0))
    other = table(400, seed=1, shift=15)
    (line,) = drift(prepared, other)
    before = table(3000, seed=0).inputs[prepared.train.rows, 0]
    now = other.inputs[:, 0]
    words = f"mean {now.mean():.4g} (sd {now.std():.4g}) and was {before.mean():.4g} "
    assert line.startswith(f"age: {words}(sd {before.std():.4g}) (stability index ")


def test_a_level_that_has_grown_is_named_with_both_shares() -> None:
    (line,) = drift(trained(table(3000, seed=0)), table(400, seed=1, reds=0.5))
    assert line.startswith("color: green is ")
    assert "stability index" in line


def test_the_index_is_the_sum_over_deciles_that_numpy_counts() -> None:
    prepared = trained(table(4000, seed=0), validation=0.0)
    other = table(2000, seed=1, shift=7)
    assert prepared.report is not None
    then, now = prepared.report.columns[0], report_on(prepared, other).columns[0]
    ages = table(4000, seed=0).inputs[prepared.train.rows, 0]
    edges = [-np.inf, *np.quantile(ages, np.arange(0.1, 0.95, 0.1)), np.inf]
    p = np.histogram(ages, edges)[0] / len(ages)
    q = np.histogram(other.inputs[:, 0], edges)[0] / 2000
    assert stability_index(then, now) == pytest.approx(((q - p) * np.log(q / p)).sum(), rel=0.02)
    assert stability_index(then, now) > LARGE


def test_a_constant_that_changes_is_found_in_either_direction() -> None:
    flat = valued(np.full((400, 1), 7.0), np.arange(400.0), features=("flat",))
    prepared = trained(flat)
    for value in (6.9, 7.1):
        other = valued(np.full((50, 1), value), np.arange(50.0), features=("flat",))
        assert any(line.startswith("flat: mean ") for line in drift(prepared, other))
    same = valued(np.full((50, 1), 7.0), np.arange(0, 400.0, 8), features=("flat",))
    assert drift(prepared, same) == []


def test_a_value_that_most_rows_share_and_that_goes_away_is_found() -> None:
    other = table(400, seed=1)
    other.inputs[:, 1] = np.abs(np.random.default_rng(2).normal(3000, 100, 400))
    (line,) = drift(trained(table(2000, seed=0)), other)
    assert line.startswith("income: mean ")


def test_new_levels_are_counted_and_gone_ones_named() -> None:
    other = table(400, seed=1)
    other.inputs[other.inputs[:, 2] == 1, 2] = 0  # nothing is green any more
    other.inputs[:12, 2] = 3
    columns = (*other.columns[:2], Column(name="color", levels=(*COLORS, "purple")))
    other = replace(other, columns=columns)
    (line,) = drift(trained(table(2000, seed=0)), other)
    assert "12 of 400 rows have a level that training never saw" in line
    assert "no row has green" in line


def test_a_single_row_of_a_new_level_is_told() -> None:
    other = table(400, seed=1)
    other.inputs[7, 2] = 3
    columns = (*other.columns[:2], Column(name="color", levels=(*COLORS, "[red]\x1b")))
    lines = drift(trained(table(2000, seed=0)), replace(other, columns=columns))
    assert lines == ["color: 1 of 400 rows have a level that training never saw"]


def test_more_missing_cells_than_chance_leaves_are_told() -> None:
    other = table(400, seed=1)
    other.inputs[:60, 0] = NAN
    (line,) = drift(trained(table(2000, seed=0)), other)
    assert line == "age: 15.0% are missing and 0.0% were"
    few = table(20, seed=1)
    few.inputs[:2, 0] = NAN
    before = table(2000, seed=0)
    before.inputs[::50, 0] = NAN
    assert drift(trained(before), few) == []


def test_levels_are_matched_by_name_whatever_their_order_in_the_other_table() -> None:
    other = table(400, seed=1)
    turned = replace(
        other,
        inputs=np.column_stack([other.inputs[:, :2], 2 - other.inputs[:, 2]]),
        columns=(*other.columns[:2], Column(name="color", levels=COLORS[::-1])),
    )
    assert drift(trained(table(2000, seed=0)), turned) == []


def test_of_many_drifted_columns_the_worst_few_are_told_and_the_rest_counted() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(1000, 12))
    prepared = trained(valued(inputs, np.arange(1000.0), features=tuple("abcdefghijkl")))
    moved = generator.normal(size=(200, 12)) + np.linspace(1, 3, 12)
    other = valued(moved, np.arange(0, 1000.0, 5), features=tuple("abcdefghijkl"))
    lines = drift(prepared, other)
    assert len(lines) == TOLD + 1
    assert lines[0].startswith(("l: ", "k: "))
    assert lines[-1] == "… and 4 more columns"


def test_the_target_of_a_regression_is_looked_at_as_well() -> None:
    generator = np.random.default_rng(0)
    prepared = trained(valued(generator.normal(size=(900, 1)), generator.normal(size=900)))
    other = valued(generator.normal(size=(200, 1)), generator.normal(3, 1, size=200))
    (line,) = drift(prepared, other)
    assert line.startswith("target: mean ")


def test_the_channels_of_pictures_count_by_their_rows_not_by_their_pixels() -> None:
    generator = np.random.default_rng(0)

    def pictures(rows: int, light: float = 0.0) -> Samples:
        base = generator.normal(0.5 + light, 0.2, size=(rows, 1, 1, 1))  # one mood a picture
        pixels = base + generator.normal(0, 0.05, size=(rows, 3, 8, 8))
        return labelled(np.arange(rows) % 2, inputs=pixels, features=("r", "g", "b"))

    prepared = trained(pictures(300))
    assert all(drift(prepared, pictures(40)) == [] for _ in range(10))
    assert len(drift(prepared, pictures(100, light=0.5))) == 3
