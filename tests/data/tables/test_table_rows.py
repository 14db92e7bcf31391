"""Which rows of a table train, validate and test; new rows, in the terms of a trained model."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from given_tables import FILE, patients, prepared, read, source, text, write
from helpers.file_sources import new_rows, stored
from helpers.sample_data import shipped

from pipeline.base.errors import ConfigError, DataError
from pipeline.data.preparation.prepare import Prepared
from pipeline.data.preparation.reader import NewRows, Rules, reader_of
from pipeline.data.preparation.schema import UNKNOWN, Schema
from pipeline.data.source import Array

HEADER, *ROWS = patients(80)
KEYS = {"target": "outcome", "drop": ["name"]}


def refused(message: str) -> Any:
    return pytest.raises(DataError, match=message)


def parts(made: Prepared) -> list[list[int]]:
    return [part.rows.tolist() for part in (made.train, made.validation, made.test)]


def with_column(name: str, cells: list[str]) -> str:
    return text([[*HEADER, name], *([*row, cell] for row, cell in zip(ROWS, cells, strict=True))])


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
    assert samples.inputs[20:, 0].tolist() == [UNKNOWN, 0, UNKNOWN]
    told = "categories not in the training file count as 'other': town (2)"
    assert samples.notes[-1] == told
    write('town,x,y\n"a\n",1,no\na,2,maybe\n', "test.csv")
    with refused(r"test.csv line 4, column 'y': 'maybe' is not a class; expected 'no', 'yes'"):
        read(train, test_path="test.csv")


@pytest.mark.parametrize("key", ["test_path", "validation_path"])
def test_file_without_usable_rows_is_refused(key: str) -> None:
    train = "a,b,y\n" + "1,2,no\n2,3,yes\n" * 20
    write("a,b,y\n1,2,\n2,3, \n", "other.csv")
    with refused(r"^other.csv has no row with a target 'y'; expected at least one$"):
        read(train, **{key: "other.csv"})
    write("a,b,y\n,2,no\n2,,yes\n", "other.csv")
    with refused(r"^other.csv has no row without empty cells; expected at least one$"):
        read(train, missing="drop", **{key: "other.csv"})


def test_split_column_assigns_rows_to_parts() -> None:
    words = ["Train", "train", "val", "test", "train"] * 16
    found = prepared(with_column("part", words), **KEYS, split="part")
    assert parts(found) == [
        [row for row in range(80) if row % 5 in places] for places in ((0, 1, 4), (2,), (3,))
    ]
    assert "part" not in [code.name for code in found.schema.encoder.codes]


def test_rows_of_one_group_share_a_part() -> None:
    groups = [f"hospital {row * 7 % 16}" for row in range(80)]
    found = prepared(with_column("hospital", groups), **KEYS, group="hospital")
    homes = [{groups[row] for row in rows} for rows in parts(found)]
    assert sum(map(len, homes)) == 16
    assert len(homes) == 3


@pytest.mark.parametrize(
    "written",
    [
        lambda day: f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}",
        lambda day: f"2024-01-01 {day // 60:02d}:{day % 60:02d}",
        lambda day: f"{1990 + day // 12}-{1 + day % 12:02d}",
        lambda day: str(day * 0.5 - 20),
    ],
)
def test_time_column_puts_newest_rows_into_test(written) -> None:
    days = [row * 37 % 80 for row in range(80)]
    found = prepared(with_column("day", [written(day) for day in days]), **KEYS, time="day")
    newest = [{days[row] for row in rows} for rows in parts(found)]
    assert newest == [set(range(48)), set(range(48, 60)), set(range(60, 80))]


@pytest.mark.parametrize(
    ("key", "cells", "problem"),
    [
        (
            "time",
            ["2024-05-30", "2024-05-31", "31.5.2024"],
            "'31.5.2024' is not a time; expected num",
        ),
        ("time", ["2024-05-30", "2024-05-31", ""], "the cell is empty; expected a time in every "),
        ("group", ["a", "b", ""], "the cell is empty; expected the group that the row belongs to"),
        (
            "split",
            ["train", "val", "tset"],
            r"'tset' is not a part; expected train, validation or test\. Did you mean 'test'\?",
        ),
    ],
)
def test_unknown_part_name_is_refused(key: str, cells: list[str], problem: str) -> None:
    content = with_column("x", [*cells, *[cells[0]] * 77])
    with refused(rf"{FILE} line 4, column 'x': {problem}"):
        read(content, **KEYS, **{key: "x"})


def test_incompatible_test_file_or_key_is_refused() -> None:
    write("dose,outcome\n1,ill\n", "test.csv")
    content = text([HEADER, *ROWS])
    with refused(r"test.csv lacks the columns 'age', 'town', 'ward'; it has"):
        read(content, **KEYS, test_path="test.csv")
    both = r"data.test_path and data.time both split the rows"
    with pytest.raises(ConfigError, match=both):
        read(content, test_path=FILE, time="age")


def test_training_part_ignores_cells_of_other_parts() -> None:
    """Changed validation and test rows leave the training inputs equal to the last bit."""
    keys = {**KEYS, "categorical": ["ward"], "scale": "standard"}
    first = prepared(text([HEADER, *ROWS]), **keys)
    kept, other = parts(first)[0], ["79.5", "Atlantis", "9", "1000"]
    changed = [row if index in kept else [row[0], *other, row[5]] for index, row in enumerate(ROWS)]
    second = prepared(text([HEADER, *changed]), **keys)
    assert parts(second) == parts(first)
    assert second.train.inputs.numpy().tobytes() == first.train.inputs.numpy().tobytes()
    assert second.schema.input_scaler == first.schema.input_scaler
    assert second.schema.encoder.features == first.schema.encoder.features
    assert not (second.test.inputs.numpy() == first.test.inputs.numpy()).all()


NUMBERS = "a,b,y\n" + "".join(
    f"{row},{row % 5},{'no' if row % 3 else 'yes'}\n" for row in range(40)
)
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


def raw(known: Schema, *rows: dict[str, str], **rules: str) -> Array:
    (block,) = opened(known, Rules(**rules), *rows).blocks
    return block.raw


def truth(known: Schema, *cells: str, name: str = "new.csv") -> list[object]:
    target = known.reading["target"]
    write(f"a,b,{target}\n" + "".join(f"1,2,{cell}\n" for cell in cells), name)
    _, content, _ = reader_of(known).evaluated(source(path=name)[0], budget=1)
    return content.targets.tolist()


def test_training_file_is_read_again_as_trained() -> None:
    samples = read(text(patients()), id="name")
    found = new_rows(FILE, schema())
    np.testing.assert_array_equal(found.raw, samples.inputs)
    assert found.names == [row[0] for row in patients()[1:]]
    _, content, part = reader_of(schema()).evaluated(source(path=FILE)[0], budget=1)
    assert content.targets.tolist() == samples.targets.tolist()
    assert len(part.inputs) == 60


def test_column_order_and_extra_columns_are_irrelevant() -> None:
    known = schema()
    turned = opened(known, Rules(), dict(reversed({**ONE, "colour": "red"}.items())))
    plain = opened(known, Rules(), ONE)
    assert (turned.ignored, plain.ignored) == (("colour",), ())
    assert raw(known, dict(reversed(ONE.items()))).tobytes() == raw(known, ONE).tobytes()


def test_missing_columns_are_named() -> None:
    lacks = r"new.csv lacks the columns 'town', 'dose', which the model was trained on; it has "
    with refused(lacks + r"age, ward, dos\.$"):
        opened(schema(), Rules(), {"age": "1", "ward": "1", "dos": "1"})
    write("50,Bonn,1,5\n51,Bonn,2,6\n", "new.csv")  # without names
    with refused(r"^new.csv lacks the columns 'age', 'town', 'ward', 'dose', which the model was"):
        new_rows("new.csv", schema())
    with refused(r"id=nam is not a column of new.csv; it has name, age\. Did you"):
        opened(schema(), Rules(id="nam"), {"name": "1", "age": "1"})


def test_unknown_category_is_counted_or_refused() -> None:
    known, strange = schema(), {**ONE, "town": "Bon"}
    found = opened(known, Rules(), ONE, strange)
    (block,) = found.blocks
    assert found.unknown == {"town": 1}
    assert block.raw[1, 1] == UNKNOWN
    told = r"new.csv line 3, column 'town': 'Bon' is not a category of the training table; unknown="
    with refused(told + r"other counts it as other. Did you mean 'Bonn'\?"):
        raw(known, ONE, strange, unknown="refuse")


@pytest.mark.parametrize(
    ("written", "read_again", "indices"),
    [
        (["1", "2"], ["2.0", "1.0", "2", "01", "2.5"], [1, 0, 1, UNKNOWN, UNKNOWN]),
        (["1.0", "2.0"], ["2", "1", "2.0", "3"], [1, 0, 1, UNKNOWN]),
        (["1", "1.0"], ["1.0", "1"], [1, 0]),
        (["v1", "v2"], ["v1", "v1.0"], [0, UNKNOWN]),
    ],
)
def test_integer_categories_match_with_and_without_decimal_zero(
    written: list[str], read_again: list[str], indices: list[float]
) -> None:
    rows = "".join(f"{written[row % 2]},{row % 3 % 2}\n" for row in range(40))
    known, new = schema("rooms,y\n" + rows, categorical=["rooms"]), {"rooms": read_again}
    assert raw(known, *({"rooms": cell} for cell in read_again))[:, 0].tolist() == indices
    held = reader_of(known).apply(pd.DataFrame(new), what="the input")
    assert held.raw[:, 0].tolist() == indices


def test_empty_cell_is_filled_if_training_had_any() -> None:
    """A column that was complete in training refuses an empty cell."""
    known = schema()
    found = opened(known, Rules(), {**ONE, "age": "", "town": "NA"})
    assert len(list(found.blocks)) == 1
    assert found.missing == {"age": 1, "town": 1}
    told = "column 'dose': the cell is empty, unlike in training;"
    with refused(rf"^new.csv line 3, {told} missing=impute fills it in$"):
        raw(known, ONE, {**ONE, "dose": ""})
    with refused(rf"^the input row 1, {told} fill it in$"):  # a served model has no such key
        reader_of(known).apply(pd.DataFrame([{**ONE, "dose": ""}]), what="the input")
    assert np.isnan(raw(known, {**ONE, "dose": ""}, missing="impute")[0, 3])
    assert raw(known, {**ONE, "age": "-1"}, unknown="refuse")[0, 0] == -1  # no unknown category


def test_shipped_table_is_read_by_feature_names() -> None:
    known = shipped("iris").schema
    cells = dict.fromkeys(known.features, "1.5")
    assert raw(known, cells, missing="impute").tolist() == [[1.5] * 4]
    with refused(r"column 'petal length \(cm\)': the cell is empty, unlike .*; fill it in$"):
        raw(known, {**cells, "petal length (cm)": ""}, missing="impute")
    kinds = ["", *known.classes, "", known.classes[0]]
    table = text([[*cells, "kind"], *([*cells.values(), kind] for kind in kinds)])
    _, content, part = reader_of(known).evaluated(source(table, target="kind")[0], budget=1)
    assert content.targets.tolist() == [0, 1, 2, 0]
    assert part.rows.tolist() == [1, 2, 3, 5]  # their numbers in the file


@pytest.mark.parametrize(
    ("written", "read_again"),
    [
        (["0", "1"], ["0.0", "1.0"]),
        (["-1", "1"], ["-1.0", "+1"]),
        (["False", "True"], ["false", "TRUE"]),
        (["no", "yes"], ["no", "yes"]),
    ],
)
def test_new_labels_use_the_trained_classes(written: list[str], read_again: list[str]) -> None:
    known = schema("a,y\n" + "".join(f"{row},{written[row % 4 == 0]}\n" for row in range(40)))
    assert known.classes == tuple(written)
    assert truth(known, *read_again) == [0, 1]


@pytest.mark.parametrize(
    ("content", "cells", "problem"),
    [
        (
            NUMBERS,
            ("no", "yess"),
            "'yess' is not a class; expected 'no', 'yes'. Did you mean 'yes'?",
        ),
    ],
)
def test_unknown_label_is_refused(content: str, cells: Any, problem: str) -> None:
    assert truth(schema(VALUES), "0.5", "-3") == [[0.5], [-3.0]]
    with refused(f"^new.csv line 3, column 'y': {re.escape(problem)}"):
        truth(schema(content), *cells)
