"""Which rows of a table train, validate and test, and that training rows alone are learned from."""

import numpy as np
import pytest
from given_tables import FILE, patients, prepared, read, text, write

from pipeline.data.prepare import Prepared
from pipeline.data.schema import UNKNOWN
from pipeline.errors import ConfigError, DataError

HEADER, *ROWS = patients(80)
KEYS = {"target": "outcome", "drop": ["name"]}


def named(prepared: Prepared) -> dict[str, list[int]]:
    parts = {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
    return {name: part.rows.tolist() for name, part in parts.items() if part is not None}


def with_column(name: str, cells: list[str]) -> str:
    return text([[*HEADER, name], *([*row, cell] for row, cell in zip(ROWS, cells, strict=True))])


def test_files_of_their_own_validate_and_test() -> None:
    write(text([HEADER, *ROWS[60:]]), "test.csv")
    write(text([HEADER, *ROWS[50:60]], sep=";"), "validation.csv")
    found = prepared(
        text([HEADER, *ROWS[:50]]),
        **KEYS,
        test_path="test.csv",
        validation_path="validation.csv",
    )
    assert named(found) == {
        "train": list(range(50)),
        "validation": list(range(50, 60)),
        "test": list(range(60, 80)),
    }


def test_further_files_are_read_by_name_and_their_further_columns_ignored_and_told() -> None:
    order = [5, 4, 0, 2, 1, 3]
    turned = [[*(row[index] for index in order), "red"] for row in [HEADER, *ROWS[60:]]]
    turned[0][-1] = "colour"
    write(text(turned), "test.csv")
    samples = read(text([HEADER, *ROWS[:60]]), **KEYS, test_path="test.csv")
    together = read(text([HEADER, *ROWS]), **KEYS)
    np.testing.assert_array_equal(samples.inputs, together.inputs)
    assert samples.targets.tolist() == together.targets.tolist()
    assert "test.csv: ignored, as the training file has no colour" in samples.notes


def test_what_the_training_file_lacks_is_other_in_a_feature_and_an_error_in_the_target() -> None:
    train = "town,x,y\n" + "a,1,no\nb,2,yes\n" * 10
    write("town,x,y\nc,1,no\na,2,yes\nc,5,no\n", "test.csv")
    samples = read(train, test_path="test.csv")
    assert samples.inputs[20:, 0].tolist() == [UNKNOWN, 0, UNKNOWN]
    assert samples.notes[-1] == (
        "categories that the training file does not have count as other: town (2)"
    )
    write('town,x,y\n"a\n",1,no\na,2,maybe\n', "test.csv")
    with pytest.raises(
        DataError, match=r"test.csv line 4, column 'y': 'maybe' is no class; expected 'no', 'yes'"
    ):
        read(train, test_path="test.csv")


def test_rows_are_parted_by_the_words_of_a_column() -> None:
    words = ["Train", "train", "val", "test", "train"] * 16
    found = prepared(with_column("part", words), **KEYS, split="part")
    assert named(found) == {
        part: [row for row in range(80) if row % 5 in places]
        for part, places in (("train", (0, 1, 4)), ("validation", (2,)), ("test", (3,)))
    }
    assert "part" not in [code.name for code in found.schema.encoder.codes]


def test_the_rows_of_a_group_stay_in_one_part() -> None:
    groups = [f"hospital {row * 7 % 16}" for row in range(80)]
    found = prepared(with_column("hospital", groups), **KEYS, group="hospital")
    homes = [{groups[row] for row in rows} for rows in named(found).values()]
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
def test_the_newest_rows_test_and_those_before_them_validate(written) -> None:
    days = [row * 37 % 80 for row in range(80)]
    found = prepared(
        with_column("day", [written(day) for day in days]),
        **KEYS,
        time="day",
    )
    newest = {name: {days[row] for row in rows} for name, rows in named(found).items()}
    assert newest == {
        "train": set(range(48)),
        "validation": set(range(48, 60)),
        "test": set(range(60, 80)),
    }


@pytest.mark.parametrize(
    ("key", "cells", "problem"),
    [
        ("time", ["2024-05-30", "2024-05-31", "31.5.2024"], "'31.5.2024' is no time; expected num"),
        ("time", ["2024-05-30", "2024-05-31", ""], "the cell is empty; expected a time in every "),
        ("group", ["a", "b", ""], "the cell is empty; expected the group that the row belongs to"),
        (
            "split",
            ["train", "val", "tset"],
            r"'tset' is no part; expected train, validation or test\. Did you mean 'test'\?",
        ),
    ],
)
def test_a_cell_that_says_no_part_is_refused_with_its_row(
    key: str, cells: list[str], problem: str
) -> None:
    content = with_column("x", [*cells, *[cells[0]] * 77])
    with pytest.raises(DataError, match=rf"{FILE} line 4, column 'x': {problem}"):
        read(content, **KEYS, **{key: "x"})


def test_files_that_do_not_go_with_the_training_file_or_a_key_are_refused() -> None:
    write("dose,outcome\n1,ill\n", "test.csv")
    content = text([HEADER, *ROWS])
    lacks = r"test.csv lacks the columns 'age', 'town', 'ward'; it has"
    with pytest.raises(DataError, match=lacks):
        read(content, **KEYS, test_path="test.csv")
    both = r"data.test_path and data.time both say how rows are parted"
    with pytest.raises(ConfigError, match=both):
        read(content, test_path=FILE, time="age")


def test_other_cells_outside_of_the_training_part_change_no_bit_of_it() -> None:
    keys = {**KEYS, "categorical": ["ward"], "scale": "standard"}
    first = prepared(text([HEADER, *ROWS]), **keys)
    kept, other = named(first)["train"], ["79.5", "Atlantis", "9", "1000"]
    changed = [row if index in kept else [row[0], *other, row[5]] for index, row in enumerate(ROWS)]
    second = prepared(text([HEADER, *changed]), **keys)
    assert named(second) == named(first)
    assert second.train.inputs.numpy().tobytes() == first.train.inputs.numpy().tobytes()
    assert second.schema.input_scaler == first.schema.input_scaler
    assert second.schema.encoder.features == first.schema.encoder.features
    assert not (second.test.inputs.numpy() == first.test.inputs.numpy()).all()
