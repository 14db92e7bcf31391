"""Which rows are looked at, by themselves or by name."""

import numpy as np
import pytest
import torch
from given_data import Given, labelled, options, series, valued

from pipeline.data.prepare import Prepared, prepare
from pipeline.errors import ConfigError
from pipeline.inside.views import chosen

TARGETS = np.random.default_rng(0).integers(0, 4, size=120)


def many_rows(**changes: object) -> Prepared:
    return prepare(Given(labelled(TARGETS)), options(**changes))


def test_the_first_test_row_of_each_class_is_looked_at() -> None:
    prepared = many_rows()
    rows, labels, inputs = chosen(prepared, None)
    assert labels == ("a", "b", "c", "d")
    test = [int(row) for row in prepared.test.rows]
    firsts = [next(row for row in test if TARGETS[row] == target) for target in range(4)]
    assert rows.tolist() == firsts
    expected = torch.stack([prepared.test.inputs[test.index(row)] for row in firsts])
    assert torch.equal(inputs, expected)


def test_rows_that_are_read_as_needed_are_the_same() -> None:
    held, streamed = chosen(many_rows(), None), chosen(many_rows(memory_budget=0), None)
    assert torch.equal(held.inputs, streamed.inputs)
    assert held.rows.tolist() == streamed.rows.tolist()


def test_of_a_hundred_classes_the_first_twelve_are_looked_at() -> None:
    names = tuple(f"class {number}" for number in range(100))
    content = labelled(np.arange(1000) % 100, classes=names)
    assert chosen(prepare(Given(content), options()), None).labels == names[:12]


def test_rows_are_taken_by_name_from_any_part_in_the_order_given() -> None:
    prepared = many_rows()
    parts = (prepared.train, prepared.test, prepared.validation)
    wanted = [int(part.rows[1]) for part in parts if part is not None]
    rows, labels, inputs = chosen(prepared, [*wanted, wanted[0]])
    assert rows.tolist() == wanted
    assert labels == tuple("abcd"[TARGETS[row]] for row in wanted)
    assert torch.equal(inputs, torch.stack([part.inputs[1] for part in parts if part is not None]))


def test_a_row_that_is_in_no_part_is_refused_by_its_number() -> None:
    prepared = many_rows()
    first, second, third = (int(row) for row in prepared.test.rows[:3])
    with pytest.raises(ConfigError) as caught:
        chosen(prepared, [first, 500, 7000])
    assert str(caught.value) == (
        f"feature_maps.samples=[{first},500,7000] names the rows 500, 7000, which no part of the "
        f"data has; expected numbers of rows in the source, such as {first}, {second}, {third}, … "
        "of the test part"
    )


def test_more_rows_than_a_picture_has_room_for_are_refused() -> None:
    assert len(chosen(many_rows(), range(16)).rows) == 16
    with pytest.raises(ConfigError, match=r"^feature_maps\.samples names 17 rows; expected at mo"):
        chosen(many_rows(), range(17))


def test_rows_of_a_regression_are_spread_over_the_test_part_and_named_by_their_value() -> None:
    inputs = np.random.default_rng(2).normal(size=(200, 3))
    targets = 1000 + 50 * inputs[:, :1]
    prepared = prepare(Given(valued(inputs, targets)), options(scale="standard"))
    rows, labels, _ = chosen(prepared, None)
    places = np.linspace(0, len(prepared.test) - 1, 6).round().astype(int)
    assert rows.tolist() == prepared.test.rows[places].tolist()
    assert labels == tuple(f"{targets[row, 0]:.4g}" for row in rows)


def test_a_forecast_is_named_by_its_value_in_units_before_differencing() -> None:
    values = np.random.default_rng(3).normal(size=(120, 1)).cumsum(axis=0)
    prepared = prepare(Given(series(values)), options(window=5, difference=1, scale="standard"))
    rows, labels, inputs = chosen(prepared, None)
    assert inputs.shape == (6, 5, 1)
    np.testing.assert_allclose([float(label) for label in labels], values[rows, 0], rtol=1e-3)
