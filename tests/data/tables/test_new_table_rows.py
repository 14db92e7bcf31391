"""Rows of a new table, read in the terms of a trained model."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from given_data import shipped
from given_tables import FILE, patients, prepared, read, source, text, write
from own_sources import new_rows, stored

from pipeline.data.reader import NewRows, Rules, reader_of
from pipeline.data.schema import UNKNOWN, Schema
from pipeline.data.source import Array
from pipeline.errors import DataError

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


def test_the_rows_of_the_training_file_are_read_as_in_training() -> None:
    samples = read(text(patients()), id="name")
    found = new_rows(FILE, schema())
    np.testing.assert_array_equal(found.raw, samples.inputs)
    assert found.names == samples.ids.tolist()
    _, content, part = reader_of(schema()).evaluated(source(path=FILE)[0], budget=1)
    assert content.targets.tolist() == samples.targets.tolist()
    assert len(part.inputs) == 60


def test_reordered_and_further_columns_give_the_same_rows() -> None:
    known = schema()
    turned = opened(known, Rules(), dict(reversed({**ONE, "colour": "red"}.items())))
    plain = opened(known, Rules(), ONE)
    assert (turned.ignored, plain.ignored) == (("colour",), ())
    assert raw(known, dict(reversed(ONE.items()))).tobytes() == raw(known, ONE).tobytes()


def test_columns_that_are_missing_are_named() -> None:
    with pytest.raises(
        DataError,
        match=r"new.csv lacks the columns 'town', 'dose', which the model was trained on; it has "
        r"age, ward, dos\.$",
    ):
        opened(schema(), Rules(), {"age": "1", "ward": "1", "dos": "1"})
    with pytest.raises(
        DataError,
        match=r"new.csv has no column 'nam', which id=nam asks for; it has name, age\. Did you",
    ):
        opened(schema(), Rules(id="nam"), {"name": "1", "age": "1"})


def test_an_unknown_category_is_counted_or_refused_as_asked() -> None:
    known, strange = schema(), {**ONE, "town": "Bon"}
    found = opened(known, Rules(), ONE, strange)
    (block,) = found.blocks
    assert found.unknown == {"town": 1}
    assert block.raw[1, 1] == UNKNOWN
    with pytest.raises(
        DataError,
        match=r"new.csv line 3, column 'town': 'Bon' is no category of the training table; "
        r"unknown=other counts it as other. Did you mean 'Bonn'\?",
    ):
        raw(known, ONE, strange, unknown="refuse")


def test_an_empty_cell_is_filled_in_where_training_had_some_and_refused_elsewhere() -> None:
    known = schema()
    found = opened(known, Rules(), {**ONE, "age": "", "town": "NA"})
    assert len(list(found.blocks)) == 1
    assert found.missing == {"age": 1, "town": 1}
    with pytest.raises(
        DataError,
        match=r"new.csv line 3, column 'dose': the cell is empty, and no training row had an empty "
        r"one there; fill it in, or .* missing=impute",
    ):
        raw(known, ONE, {**ONE, "dose": ""})
    assert np.isnan(raw(known, {**ONE, "dose": ""}, missing="impute")[0, 3])
    assert raw(known, {**ONE, "age": "-1"}, unknown="refuse")[0, 0] == -1  # no unknown category


def test_a_table_that_ships_is_read_by_the_names_of_its_features() -> None:
    known = shipped("iris").schema
    cells = dict.fromkeys(known.features, "1.5")
    assert raw(known, cells, missing="impute").tolist() == [[1.5] * 4]
    with pytest.raises(DataError, match=r"column 'petal length \(cm\)': the cell is empty"):
        raw(known, {**cells, "petal length (cm)": ""}, missing="impute")


@pytest.mark.parametrize(
    ("written", "read_again"),
    [
        (["0", "1"], ["0.0", "1.0"]),
        (["-1", "1"], ["-1.0", "+1"]),
        (["False", "True"], ["false", "TRUE"]),
        (["no", "yes"], ["no", "yes"]),
    ],
)
def test_labels_of_a_new_file_are_the_classes_of_training_however_they_are_written(
    written: list[str], read_again: list[str]
) -> None:
    known = schema("a,y\n" + "".join(f"{row},{written[row % 4 == 0]}\n" for row in range(40)))
    assert known.classes == tuple(written)
    assert truth(known, *read_again) == [0, 1]


@pytest.mark.parametrize(
    ("content", "cells", "problem"),
    [
        (
            NUMBERS,
            ("no", "yess"),
            "new.csv line 3, column 'y': 'yess' is no class; expected 'no', 'yes'. Did you mean "
            "'yes'?",
        ),
        (
            NUMBERS,
            ("no", ""),
            "new.csv line 3, column 'y': the cell is empty; expected what is tru",
        ),
        (VALUES, ("",), "new.csv line 2, column 'y': the cell is empty; expected what is true"),
    ],
)
def test_an_unknown_label_and_an_empty_one_are_refused_with_line_and_value(
    content: str, cells: tuple[str, ...], problem: str
) -> None:
    assert truth(schema(VALUES), "0.5", "-3") == [[0.5], [-3.0]]
    with pytest.raises(DataError, match=f"^{re.escape(problem)}"):
        truth(schema(content), *cells)
