"""What a run gets of its data: hash, notes, refusals, windows; what training rows teach."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.case_tables import from_yaml, refusals
from helpers.fixture_types import Patch
from helpers.refused_calls import refusal
from helpers.sample_data import (
    array_of,
    inputs_of,
    labelled,
    names,
    parts_of,
    prepared_of,
    series,
    shipped,
    validation_of,
    valued,
)
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from pipeline.data.parsing.cells.kind import UNKNOWN
from pipeline.data.parsing.cells.kinds.category import Category
from pipeline.data.preparation import schema as scale
from pipeline.data.preparation.reader import Block, regrouped
from pipeline.data.preparation.schema import Encoder, Scaler, Schema, fit_encoder
from pipeline.data.source import Column, Samples, Series


def rows(**changes: object) -> Samples:
    return labelled(np.arange(40) % 2, **changes)


def walk() -> Series:
    return series(np.random.default_rng(0).normal(size=(60, 1)).cumsum(0))


def content_hash(content: Samples | Series, **changes: object) -> str:
    if isinstance(content, Series):
        changes = {"window": 4, **changes}
    return prepared_of(content, **changes).content_hash


@pytest.mark.parametrize("content", [rows, walk])
def test_equal_content_has_equal_hash(content: Callable[[], Samples | Series]) -> None:
    """Scaling and batches do not change the hash."""
    hashes = {
        content_hash(content()),
        content_hash(content(), scale="standard"),
        content_hash(content(), batch_size=7, shuffle=False),
        content_hash(content(), memory_budget=0),
    }
    assert len(hashes) == 1


def test_changed_content_or_split_changes_the_hash() -> None:
    later = walk()
    later.values[-1] += 1e-12
    assert content_hash(later) != content_hash(walk())
    assert content_hash(walk(), validation=0.3) != content_hash(walk())
    other, relabelled = rows(), rows()
    array_of(other)[17, 1] = np.nextafter(array_of(other)[17, 1], 1)
    relabelled.targets[[3, 5, 4]] = [0, 1, 1]
    contents = (rows(), other, relabelled, rows(classes=("no", "yes")))
    hashes = {content_hash(content) for content in contents}
    assert len(hashes | {content_hash(rows(), split_seed=1)}) == 5


def test_clean_data_have_no_notes_or_warnings() -> None:
    for content, changes in ((rows(), {}), (walk(), {"window": 3})):
        prepared = prepared_of(content, batch_size=10, **changes)
        assert (prepared.notes, prepared.warnings) == ((), ())


def test_many_constant_columns_are_counted() -> None:
    prepared = prepared_of(rows(inputs=np.ones((40, 8)), features=()))
    assert prepared.warnings[0] == (
        "constant in the training rows: number 0, number 1, number 2, number 3, number 4, … "
        "(8 of 8 columns)"
    )


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_missing_or_infinite_value_is_refused_by_row(hole: float) -> None:
    content, targets, values = rows(), np.arange(20.0), walk()
    array_of(content)[[17, 23], 1] = targets[4] = values.values[9] = hole
    for each, problem in (
        (content, "the data has 2 rows with a missing or infinite value (first: row 17);"),
        (valued(np.ones((20, 1)), targets), "(first: row 4);"),
        (values, "the series has 1 rows with a missing or infinite value (first: row 9);"),
    ):
        assert problem in refusal(content_hash, each)


def test_no_rows_or_too_few_targets_are_refused() -> None:
    nothing = valued(np.ones((0, 2)), np.ones(0))
    assert refusal(content_hash, nothing) == (
        "the data has no rows; expected at least one in each part"
    )
    fewer = valued(np.ones((5, 2)), np.ones(4))
    assert "the data has 5 rows of inputs and 4 of targets" in refusal(content_hash, fewer)


def test_series_options_are_refused_for_independent_rows() -> None:
    problem = refusal(prepared_of, rows(), window=9, horizon=2, difference=12)
    applies = "applies to series, and this data has independent rows; expected"
    assert problem.splitlines() == [
        f"data.window=9 {applies} null",
        f"data.difference=12 {applies} null",
        f"data.horizon=2 {applies} 1",
    ]


COUNTING = np.arange(20.0)[:, None]


def test_windows_and_targets_equal_a_handmade_example() -> None:
    prepared = prepared_of(series(COUNTING), window=3, test=0.25, validation=0.2)
    assert inputs_of(prepared.train)[:, :, 0].tolist() == [[t, t + 1, t + 2] for t in range(9)]
    assert prepared.train.targets.tolist() == [[t] for t in range(3, 12)]
    validation = validation_of(prepared)
    assert inputs_of(validation)[0, :, 0].tolist() == [9, 10, 11]
    assert validation.targets.tolist() == [[12], [13], [14]]
    assert inputs_of(prepared.test)[0, :, 0].tolist() == [12, 13, 14]
    assert prepared.test.targets.tolist() == [[15], [16], [17], [18], [19]]
    assert prepared.test.rows.tolist() == [15, 16, 17, 18, 19]


@pytest.mark.parametrize(
    ("how", "horizon"), [("none", 1), ("standard", 2), ("minmax", 4), ("standard", 1)]
)
def test_targets_plus_offsets_are_the_raw_values(how: str, horizon: int) -> None:
    values = np.random.default_rng(0).normal(size=(80, 2)).cumsum(0)
    prepared = prepared_of(series(values), window=5, horizon=horizon, difference=4, scale=how)
    for part in parts_of(prepared):
        restored = prepared.schema.to_units(part.targets, part.offsets)
        expected = np.stack([values[first : first + horizon].reshape(-1) for first in part.rows])
        np.testing.assert_allclose(restored, expected, atol=1e-5)


IMPOSSIBLE = """
window: 20, horizon: 2
- the training part of the data has 12 steps; expected at least 22 for data.window=20, horizon 2.
  Choose a smaller window: data.window=10, or less

window: 9, difference: 3
- the training part of the data has 12 steps; expected at least 13 for data.window=9, horizon 1,
  difference 3. Choose a smaller window: data.window=8, or less

window: 1, horizon: 12
- the training part of the data has 12 steps; expected at least 13 for data.window=1, horizon 12

window: 3, horizon: 5
- data.test=0.25 and data.validation=0.2 split 6 rows into train 5, validation 0, test 1; expected
  at least one row in each part

window: null
- data.window=null, but this data is a series; expected a number of steps, such as 12

window: 3, horizon: 4, difference: 3
- data.horizon=4 is longer than data.difference=3; expected at most that: undoing it would need
  future values
"""


@pytest.mark.parametrize(("keys", "problem"), refusals(IMPOSSIBLE))
def test_impossible_windows_are_refused(keys: str, problem: str) -> None:
    assert refusal(prepared_of, series(COUNTING), **from_yaml(f"{{{keys}}}")) == problem


def table_content(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(80, 4)) * [1, 1e3, 1e-4, 1] + [0, 5, 1, -1e4]
    return inputs, generator.normal(size=80) * 77 + 150


@pytest.mark.parametrize(
    ("how", "oracle"), [("standard", StandardScaler), ("minmax", MinMaxScaler)]
)
def test_table_scaling_equals_scikit_learn(
    how: str, oracle: type[StandardScaler] | type[MinMaxScaler]
) -> None:
    """The scalers are fitted on the training rows."""
    inputs, targets = table_content(0)
    prepared = prepared_of(valued(inputs, targets), scale=how)
    for part in parts_of(prepared):
        fitted = oracle().fit(inputs[prepared.train.rows])
        scaled = fitted.transform(inputs[part.rows])
        np.testing.assert_allclose(inputs_of(part), scaled, atol=1e-5)
        fitted = oracle().fit(targets[prepared.train.rows, None])
        expected = fitted.transform(targets[part.rows, None])
        np.testing.assert_allclose(part.targets, expected, atol=1e-5)


def test_rows_outside_training_do_not_change_scaling() -> None:
    inputs, targets = table_content(1)
    before = prepared_of(valued(inputs, targets), scale="standard")
    outside = np.setdiff1d(np.arange(80), before.train.rows)
    inputs[outside], targets[outside] = 1e6, -1e6
    after = prepared_of(valued(inputs, targets), scale="standard")
    assert torch.equal(inputs_of(before.train), inputs_of(after.train))
    assert torch.equal(before.train.targets, after.train.targets)


def test_block_size_does_not_change_statistics(monkeypatch: Patch) -> None:
    inputs, _ = table_content(2)
    whole = scale.statistics(inputs, np.arange(80))
    monkeypatch.setattr("pipeline.data.parsing.row_blocks.BLOCK_BYTES", 7 * 4 * 8)
    parted = scale.statistics(inputs, np.arange(80))
    for name in ("minimum", "maximum", "mean", "deviation"):
        np.testing.assert_allclose(getattr(parted, name), getattr(whole, name), rtol=1e-12)


@pytest.mark.parametrize("how", ["none", "standard", "minmax"])
@pytest.mark.parametrize("constant", [0.1, 0.0, 1e8, -3.3e-7])
def test_constant_column_is_finite_and_reported(how: str, constant: float) -> None:
    inputs, targets = table_content(3)
    inputs[:, 2] = constant
    samples = valued(inputs, targets, features=("a", "b", "flat", "d"))
    prepared = prepared_of(samples, scale=how)
    expected = torch.tensor(constant if how == "none" else 0.0)
    assert (inputs_of(prepared.train)[:, 2] == expected).all()
    assert inputs_of(prepared.test).isfinite().all()
    assert prepared.warnings == ("constant in the training rows: flat (1 of 4 columns)",)


@pytest.mark.parametrize("how", ["standard", "minmax"])
@pytest.mark.parametrize("constant", [0.1, 0.3, 0.7, 1e8 / 3, np.pi])
def test_values_beside_a_trained_constant_keep_distance(how: str, constant: float) -> None:
    inputs, targets = np.full((80, 1), constant), np.arange(80.0)
    inputs[70:] += 0.5
    samples = valued(inputs, targets, test=np.arange(70, 80))
    prepared = prepared_of(samples, scale=how)
    assert inputs_of(prepared.test).flatten().tolist() == pytest.approx([0.5] * 10)


@pytest.mark.parametrize("how", ["standard", "minmax"])
def test_rounding_errors_of_constant_differences_are_ignored(how: str) -> None:
    """A rise of 0.14 in a week is 0.1399999999999997 in one week, 0.1400000000000006 in another."""
    times = np.arange(200)
    values = np.stack([np.sin(times), np.round(5 + times / 50, 3)], axis=1)
    prepared = prepared_of(series(values), scale=how, window=12, difference=7)
    assert np.ptp(np.diff(values[::7, 1])) > 0
    for part in parts_of(prepared):
        assert float(inputs_of(part)[..., 1].abs().max()) < 1e-12


def test_series_scaling_uses_training_values_by_channel() -> None:
    values = np.random.default_rng(0).normal(size=(60, 2)).cumsum(0) * [1, 50]
    prepared = prepared_of(series(values), scale="standard", window=4, test=0.25, validation=0.2)
    fitted = StandardScaler().fit(values[:36])
    first = inputs_of(prepared.test)[0]
    np.testing.assert_allclose(first, fitted.transform(values[41:45]), atol=1e-5)
    np.testing.assert_allclose(prepared.test.targets, fitted.transform(values[45:]), atol=1e-5)


def test_images_are_scaled_by_channel() -> None:
    """Without scaling, bytes become values from 0 to 1."""
    pictures = np.random.default_rng(0).integers(0, 256, size=(30, 3, 4, 5), dtype=np.uint8)
    samples = valued(pictures, np.arange(30.0))
    prepared = prepared_of(samples, scale="standard")
    trained = pictures[prepared.train.rows].astype(np.float64)
    mean, deviation = (each((0, 2, 3), keepdims=True) for each in (trained.mean, trained.std))
    scaled = inputs_of(prepared.train)
    np.testing.assert_allclose(scaled, (trained - mean) / deviation, atol=1e-5)
    prepared = prepared_of(samples, scale="none")
    np.testing.assert_allclose(inputs_of(prepared.train), trained / np.float64(255), atol=1e-7)


COLOURS = tuple(f"colour {index}" for index in range(26))
COLUMNS = (Column(name="length"), Column(name="colour", grammar=Category(levels=COLOURS)))
TRAIN = np.arange(200)


@pytest.fixture
def raw() -> np.ndarray:
    """Return (300 rows, 2 columns): a length with holes, a colour with holes and rare levels."""
    generator = np.random.default_rng(0)
    shares, lengths = 1 / np.arange(1, len(COLOURS) + 1), generator.normal(5, 2, 300)
    colours = generator.choice(len(COLOURS), 300, p=shares / shares.sum())
    cells = np.column_stack([lengths, colours.astype(float)])
    cells[generator.random(300) < 0.1, 0] = np.nan
    cells[generator.random(300) < 0.1, 1] = np.nan
    return cells


@pytest.fixture
def fitted(raw: np.ndarray) -> Encoder:
    """Return what the first 200 rows teach."""
    return fit_encoder(raw, COLUMNS, TRAIN)


def test_missing_number_becomes_the_training_mean(raw: np.ndarray, fitted: Encoder) -> None:
    expected = SimpleImputer().fit(raw[TRAIN, :1]).transform(raw[:, :1])
    np.testing.assert_allclose(fitted.encoded(raw)[:, :1], expected, rtol=1e-12)


def test_categories_equal_scikit_learn(raw: np.ndarray, fitted: Encoder) -> None:
    levels = (*COLOURS, "(missing)")  # an empty cell is one more category
    imputer = SimpleImputer(strategy="constant", fill_value=len(COLOURS))
    filled = imputer.fit(raw[TRAIN, 1:]).transform(raw[:, 1:])
    seen, counts = np.unique(filled[TRAIN], return_counts=True)
    assert len(seen) > 20
    oracle = OneHotEncoder(
        max_categories=21, handle_unknown="infrequent_if_exist", sparse_output=False
    ).fit(filled[TRAIN])
    ours, theirs = fitted.encoded(raw)[:, 1:], oracle.transform(filled)
    assert ours.shape == theirs.shape == (300, 21)
    assert (ours.sum(1) == 1).all()
    # Equally frequent levels at the border may be kept by either, so columns are matched by name.
    names = {f"colour={levels[int(level)]}": n for n, level in enumerate(oracle.categories_[0])}
    kept = [name for name in fitted.features[1:-1] if counts[names[name]] > counts.min() + 1]
    assert "colour=(missing)" in kept
    assert len(kept) > 10
    columns = {name: n for n, name in enumerate(oracle.get_feature_names_out(["colour"]))}
    for name in kept:
        level = float(levels.index(name.removeprefix("colour=")))
        theirs_of = theirs[:, columns[f"colour_{level}"]]
        np.testing.assert_array_equal(ours[:, fitted.features.index(name) - 1], theirs_of)


def test_rows_outside_training_do_not_change_encoding(raw: np.ndarray, fitted: Encoder) -> None:
    changed = raw.copy()
    changed[200:, 0] = 1e6
    changed[200:, 1] = 25.0
    assert fit_encoder(changed, COLUMNS, TRAIN) == fitted


def test_unknown_category_counts_as_other(fitted: Encoder) -> None:
    (row,) = fitted.encoded(np.array([[5.0, UNKNOWN]]))
    assert dict(zip(fitted.features, row, strict=True))["colour=other"] == 1
    assert row[1:].sum() == 1
    columns = (Column(name="sex", grammar=Category(levels=("f", "m"))),)
    encoder = fit_encoder(np.array([[0.0], [1.0], [1.0]]), columns, np.arange(3))
    assert encoder.features == ("sex=m", "sex=f")
    np.testing.assert_array_equal(encoder.encoded(np.array([[UNKNOWN], [0.0]])), [[0, 0], [0, 1]])


@pytest.mark.parametrize("name", names())
def test_schema_survives_weights_only_checkpoint(name: str) -> None:
    schema = shipped(name).schema
    file = io.BytesIO()
    torch.save(schema.to_dict(), file)
    file.seek(0)
    assert Schema.from_dict(torch.load(file, weights_only=True)) == schema
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_code_with_unknown_fields_is_refused(fitted: Encoder) -> None:
    count = len(fitted.features)
    schema = replace(
        shipped("iris").schema,
        encoder=fitted,
        features=fitted.features,
        input_shape=(count,),
        input_scaler=Scaler(shift=(0.0,) * count, spread=(1.0,) * count),
    )
    plain = schema.to_dict()
    assert Schema.from_dict(plain) == schema
    code = plain["encoder"]["codes"][0]
    fill = code.pop("fill")
    for other in ({}, {"fill": fill, "fil": 1}):
        plain["encoder"]["codes"][0] = {**code, **other}
        with pytest.raises(ValueError, match="the codes of the columns have other fields"):
            Schema.from_dict(plain)


def test_class_one_of_binary_task_is_positive() -> None:
    assert shipped("breast_cancer").schema.positive == "malignant"
    assert shipped("breast_cancer", positive="benign").schema.positive == "benign"
    assert shipped("iris").schema.positive is None


SIZES = [(), (0,), (3,), (4,), (5,), (1, 1, 1), (9, 0, 2), (2, 10, 1), (3, 1, 4, 1, 5, 9, 2, 6)]


def pieces(sizes: tuple[int, ...], taken: list[int], *, named: bool) -> Iterator[Block]:
    for start, end in pairwise(np.cumsum((0, *sizes))):
        taken.append(int(start))
        rows = np.arange(2 * start, 2 * end).reshape(-1, 2)
        yield Block(raw=rows, names=[f"row {n}" for n in rows[:, 0]] if named else None)


@pytest.mark.parametrize("sizes", SIZES)
def test_regrouped_rows_keep_their_order(sizes: tuple[int, ...]) -> None:
    blocks = list(regrouped(pieces(sizes, [], named=True), size=4))
    total = sum(sizes)
    assert [len(block) for block in blocks[:-1]] == [4] * ((total - 1) // 4)
    numbers = [n for block in blocks for n in block.raw.reshape(-1).tolist()]
    assert numbers == list(range(2 * total))
    names = [name for block in blocks for name in block.names or ()]
    assert names == [f"row {2 * n}" for n in range(total)]


def test_regrouping_reads_only_the_needed_blocks() -> None:
    taken: list[int] = []
    block = next(iter(regrouped(pieces((2,) * 50, taken, named=False), size=6)))
    assert (taken, block.names) == ([0, 2, 4], None)
