"""Which rows of a table train, validate and test; new rows, in the terms of a trained model."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from data.tables.given_tables import (
    FILE,
    patients,
    prepared,
    read,
    source,
    targets_read,
    text,
    write,
)
from helpers.case_tables import cases, refusals
from helpers.file_sources import new_rows, refused_rows, stored
from helpers.refused_calls import refusal
from helpers.sample_data import array_of, inputs_of, parts_of, shipped

from pipeline.data.parsing.cells.kind import UNKNOWN
from pipeline.data.preparation.prepare import Prepared
from pipeline.data.preparation.reader import NewRows, Rules, reader_of
from pipeline.data.preparation.schema import Schema
from pipeline.data.source import Array

HEADER, *ROWS = patients(80)
KEYS: dict[str, Any] = {"target": "outcome", "drop": ["name"]}


def parts(made: Prepared) -> list[list[int]]:
    return [part.rows.tolist() for part in parts_of(made)]


def with_column(name: str, cells: list[str]) -> str:
    rows = [[*row, cell] for row, cell in zip(ROWS, cells, strict=True)]
    return text([[*HEADER, name], *rows])


def test_validation_and_test_may_be_separate_files() -> None:
    write(text([HEADER, *ROWS[60:]]), "test.csv")
    write(text([HEADER, *ROWS[50:60]], sep=";"), "validation.csv")
    others = {"test_path": "test.csv", "validation_path": "validation.csv"}
    found = prepared(text([HEADER, *ROWS[:50]]), **KEYS, **others)
    assert parts(found) == [[*range(50)], [*range(50, 60)], [*range(60, 80)]]


def test_columns_of_test_file_are_matched_by_name() -> None:
    """A note names the columns that the training file lacks."""
    order = [5, 4, 0, 2, 1, 3]
    turned = [[*(row[index] for index in order), "red"] for row in [HEADER, *ROWS[60:]]]
    turned[0][-1] = "colour"
    write(text(turned), "test.csv")
    samples = read(text([HEADER, *ROWS[:60]]), **KEYS, test_path="test.csv")
    together = read(text([HEADER, *ROWS]), **KEYS)
    np.testing.assert_array_equal(samples.inputs, together.inputs)
    assert samples.targets.tolist() == together.targets.tolist()
    assert "test.csv: ignored columns (not in training): colour" in samples.notes


def test_unseen_category_is_other_but_unseen_class_fails() -> None:
    train = "town,x,y\n" + "a,1,no\nb,2,yes\n" * 10
    write("town,x,y\nc,1,no\na,2,yes\nc,5,no\n", "test.csv")
    samples = read(train, test_path="test.csv")
    assert array_of(samples)[20:, 0].tolist() == [UNKNOWN, 0, UNKNOWN]
    told = "categories not in the training file count as 'other': town (2)"
    assert samples.notes[-1] == told
    write('town,x,y\n"a\n",1,no\na,2,maybe\n', "test.csv")
    problem = "test.csv line 4, column 'y': 'maybe' is not a class; expected 'no', 'yes'"
    assert refusal(read, train, test_path="test.csv").startswith(problem)


@pytest.mark.parametrize("key", ["test_path", "validation_path"])
def test_file_without_usable_rows_is_refused(key: str) -> None:
    train = "a,b,y\n" + "1,2,no\n2,3,yes\n" * 20
    write("a,b,y\n1,2,\n2,3, \n", "other.csv")
    problem = "other.csv has no row with a target 'y'; expected at least one"
    assert refusal(read, train, **{key: "other.csv"}) == problem
    write("a,b,y\n,2,no\n2,,yes\n", "other.csv")
    problem = "other.csv has no row without empty cells; expected at least one"
    assert refusal(read, train, missing="drop", **{key: "other.csv"}) == problem


def test_split_column_assigns_rows_to_parts() -> None:
    words = ["Train", "train", "val", "test", "train"] * 16
    found = prepared(with_column("part", words), **KEYS, split="part")
    assert parts(found) == [
        [row for row in range(80) if row % 5 in places] for places in ((0, 1, 4), (2,), (3,))
    ]
    assert found.schema.encoder is not None
    assert "part" not in [code.name for code in found.schema.encoder.codes]


def test_rows_of_one_group_share_a_part() -> None:
    groups = [f"hospital {row * 7 % 16}" for row in range(80)]
    found = prepared(with_column("hospital", groups), **KEYS, group="hospital")
    homes = [{groups[row] for row in rows} for rows in parts(found)]
    assert sum(map(len, homes)) == 16
    assert len(homes) == 3


@pytest.mark.parametrize("written", ["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m", "number"])
def test_time_column_puts_newest_rows_into_test(written: str) -> None:
    numbers = [row * 37 % 80 for row in range(80)]
    dates = pd.date_range("2024-01-01", periods=80, freq="MS").strftime(written)
    if written == "number":
        dates = pd.Index([str(row * 0.5 - 20) for row in range(80)])
    cells = [str(dates[number]) for number in numbers]
    found = prepared(with_column("day", cells), **KEYS, time="day")
    newest = [{numbers[row] for row in rows} for rows in parts(found)]
    assert newest == [set(range(48)), set(range(48, 60)), set(range(60, 80))]


MISFITS = """
time: 2024-05-30 | 2024-05-31 | 31.5.2024
- '31.5.2024' is not a time; expected num

time: 2024-05-30 | 2024-05-31 |
- the cell is empty; expected a time in every

group: a | b |
- the cell is empty; expected the group that the row belongs to

split: train | val | tset
- 'tset' is not a part; expected train, validation or test. Did you mean 'test'?
"""


@pytest.mark.parametrize(("column", "problem"), refusals(MISFITS))
def test_cell_unfit_for_the_split_is_refused(column: str, problem: str) -> None:
    key, _, written = column.partition(": ")
    cells = [cell.strip() for cell in written.split("|")]
    content = with_column("x", [*cells, *[cells[0]] * 77])
    message = refusal(read, content, **KEYS, **{key: "x"})
    assert message.startswith(f"{FILE} line 4, column 'x': {problem}")


def test_incompatible_test_file_or_key_is_refused() -> None:
    write("dose,outcome\n1,ill\n", "test.csv")
    content = text([HEADER, *ROWS])
    problem = refusal(read, content, **KEYS, test_path="test.csv")
    assert problem.startswith("test.csv lacks the columns 'age', 'town', 'ward'; it has")
    problem = refusal(read, content, test_path=FILE, time="age")
    assert problem.startswith("data.test_path and data.time both split the rows")


def test_training_part_ignores_cells_of_other_parts() -> None:
    """Changed validation and test rows leave the training inputs equal to the last bit."""
    keys: dict[str, Any] = {**KEYS, "categorical": ["ward"], "scale": "standard"}
    first = prepared(text([HEADER, *ROWS]), **keys)
    kept, other = parts(first)[0], ["79.5", "Atlantis", "9", "1000"]
    changed = [row if index in kept else [row[0], *other, row[5]] for index, row in enumerate(ROWS)]
    second = prepared(text([HEADER, *changed]), **keys)
    assert parts(second) == parts(first)
    assert torch.equal(inputs_of(second.train), inputs_of(first.train))
    assert second.schema.input_scaler == first.schema.input_scaler
    assert second.schema.features == first.schema.features
    assert not torch.equal(inputs_of(second.test), inputs_of(first.test))


VALUES = "a,y\n" + "".join(f"{row},{row / 7}\n" for row in range(40))
ONE = {"age": "50", "town": "Bonn", "ward": "1", "dose": "5"}


def schema(content: str | None = None, **keys: object) -> Schema:
    keys = {"id": "name", **keys} if content is None else keys
    return stored(prepared(content or text(patients()), **keys).schema)


def opened(known: Schema, rules: Rules, *rows: dict[str, str]) -> NewRows:
    with Path("new.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return reader_of(known).open(Path("new.csv"), rules, size=1000)


def raw(known: Schema, *rows: dict[str, str], **rules: Any) -> Array:
    (block,) = opened(known, Rules(**rules), *rows).blocks
    return block.raw


def test_training_file_is_read_again_as_trained() -> None:
    samples = read(text(patients()), id="name")
    found = new_rows(FILE, schema())
    np.testing.assert_array_equal(found.raw, samples.inputs)
    assert found.names == [row[0] for row in patients()[1:]]
    assert targets_read(schema()) == samples.targets.tolist()


def test_column_order_and_extra_columns_are_irrelevant() -> None:
    known = schema()
    turned = opened(known, Rules(), dict(reversed({**ONE, "colour": "red"}.items())))
    plain = opened(known, Rules(), ONE)
    assert (turned.ignored, plain.ignored) == (("colour",), ())
    assert raw(known, dict(reversed(ONE.items()))).tobytes() == raw(known, ONE).tobytes()


def test_missing_columns_are_named() -> None:
    assert refused_rows("age,ward,dos\n1,1,1\n", schema()) == (
        "new.csv lacks the columns 'town', 'dose', which the model was trained on; it has age, "
        "ward, dos."
    )
    problem = refused_rows("50,Bonn,1,5\n51,Bonn,2,6\n", schema())  # without names
    told = "new.csv lacks the columns 'age', 'town', 'ward', 'dose', which the model was"
    assert problem.startswith(told)
    problem = refusal(opened, schema(), Rules(id="nam"), {"name": "1", "age": "1"})
    assert problem.startswith("id=nam is not a column of new.csv; it has name, age. Did you")


def test_unknown_category_is_counted_or_refused() -> None:
    known, strange = schema(), {**ONE, "town": "Bon"}
    found = opened(known, Rules(), ONE, strange)
    (block,) = found.blocks
    assert found.unknown == {"town": 1}
    assert block.raw[1, 1] == UNKNOWN
    assert refusal(raw, known, ONE, strange, unknown="refuse") == (
        "new.csv line 3, column 'town': 'Bon' is not a category of the training table; "
        "unknown=other counts it as other. Did you mean 'Bonn'?"
    )


LEVELS = """
1 2 → 2.0 1.0 2 01 2.5 → 1 0 1 -1 -1
1.0 2.0 → 2 1 2.0 3 → 1 0 1 -1
1 1.0 → 1.0 1 → 1 0
v1 v2 → v1 v1.0 → 0 -1
"""


@pytest.mark.parametrize(("written", "asked", "indices"), cases(LEVELS))
def test_integer_categories_match_with_and_without_decimal_zero(
    written: str, asked: str, indices: str
) -> None:
    levels = written.split()
    cells = asked.split()
    rows = "".join(f"{levels[row % 2]},{row % 3 % 2}\n" for row in range(40))
    known = schema("rooms,y\n" + rows, categorical=["rooms"])
    frame = reader_of(known).apply(pd.DataFrame({"rooms": cells}), what="the input").raw
    for block in (raw(known, *({"rooms": cell} for cell in cells)), frame):
        assert block[:, 0].tolist() == [float(index) for index in indices.split()]


def test_empty_cell_is_filled_if_training_had_any() -> None:
    """A column that was complete in training refuses an empty cell."""
    known = schema()
    found = opened(known, Rules(), {**ONE, "age": "", "town": "NA"})
    assert len(list(found.blocks)) == 1
    assert found.missing == {"age": 1, "town": 1}
    told = "column 'dose': the cell is empty, unlike in training;"
    problem = refusal(raw, known, ONE, {**ONE, "dose": ""})
    assert problem == f"new.csv line 3, {told} missing=impute fills it in"
    # A served model has no such key.
    problem = refusal(reader_of(known).apply, pd.DataFrame([{**ONE, "dose": ""}]), what="the input")
    assert problem == f"the input row 1, {told} fill it in"
    assert np.isnan(raw(known, {**ONE, "dose": ""}, missing="impute")[0, 3])
    assert raw(known, {**ONE, "age": "-1"}, unknown="refuse")[0, 0] == -1  # no unknown category


def test_shipped_table_is_read_by_feature_names() -> None:
    known = shipped("iris").schema
    cells = dict.fromkeys(known.features, "1.5")
    assert raw(known, cells, missing="impute").tolist() == [[1.5] * 4]
    problem = refusal(raw, known, {**cells, "petal length (cm)": ""}, missing="impute")
    assert "column 'petal length (cm)': the cell is empty, unlike" in problem
    assert problem.endswith("; fill it in")
    kinds = ["", *known.classes, "", known.classes[0]]
    table = text([[*cells, "kind"], *([*cells.values(), kind] for kind in kinds)])
    _, content, part = reader_of(known).evaluated(source(table, target="kind")[0], budget=1)
    assert content.targets.tolist() == [0, 1, 2, 0]
    assert part.rows.tolist() == [1, 2, 3, 5]  # their numbers in the file


LABELS = """
0 1 → 0.0 1.0
-1 1 → -1.0 +1
False True → false TRUE
no yes → no yes
"""


@pytest.mark.parametrize(("written", "asked"), cases(LABELS))
def test_new_labels_use_the_trained_classes(written: str, asked: str) -> None:
    classes = written.split()
    known = schema("a,y\n" + "".join(f"{row},{classes[row % 4 == 0]}\n" for row in range(40)))
    assert known.classes == tuple(classes)
    write("a,y\n" + "".join(f"1,{cell}\n" for cell in asked.split()), "new.csv")
    assert targets_read(known, "new.csv") == [0, 1]


def test_new_values_are_read_and_unknown_label_refused() -> None:
    write("a,y\n1,0.5\n1,-3\n", "new.csv")
    assert targets_read(schema(VALUES), "new.csv") == [[0.5], [-3.0]]
    known = schema("a,y\n" + "1,no\n2,yes\n3,no\n" * 9)
    write("a,y\n1,no\n1,yess\n", "new.csv")
    problem = "'yess' is not a class; expected 'no', 'yes'. Did you mean 'yes'?"
    assert problem in refusal(targets_read, known, "new.csv")
