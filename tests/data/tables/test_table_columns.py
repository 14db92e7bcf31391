"""What a table's columns are for and become: numbers, categories, or an error; the keys."""

import numpy as np
import pytest
from given_tables import FILE, patients, prepared, read, text

from pipeline.errors import DataError


def column(*cells: str, name: str = "a", repeat: int = 1) -> str:
    rows = cells * repeat
    return f"{name},y\n" + "".join(f'"{cell}",{row % 2}\n' for row, cell in enumerate(rows))


def problems(content: str, **keys: object) -> tuple[str, ...]:
    with pytest.raises(DataError) as raised:
        read(content, **keys)
    return raised.value.problems


def test_numbers_and_categories_come_out_as_the_file_has_them() -> None:
    lines = patients()
    samples = read(text(lines, sep=";", end="\r\n"), drop=["name"], categorical=["ward"])
    assert samples.features == ("age", "town", "ward", "dose")
    levels = {column.name: column.levels for column in samples.columns}
    assert levels == {
        "age": (),
        "town": ("Bad Ems, Lahn", "Bonn", "Köln"),
        "ward": ("1", "2", "3"),
        "dose": (),
    }
    for row, cells in zip(samples.inputs, lines[1:], strict=True):
        for cell, value, found in zip(cells[1:5], row, samples.columns, strict=True):
            if not cell:
                assert np.isnan(value)
            elif found.levels:
                assert found.levels[int(value)] == cell
            else:
                assert value == float(cell)


@pytest.mark.parametrize(
    ("content", "keys", "problem"),
    [
        ("a,y\n", {}, f"{FILE} has a header and no rows (0 rows); expected at least one a part"),
        (
            "a b y\n1 2 0\n",
            {},
            f"{FILE}: one column found, 'a b y'; expected the target and at least one more. If "
            "another sign parts the cells, say which: data.sep=;",
        ),
        (
            text(patients()),
            {},
            f"{FILE}: column 'name' has 60 different words in 60 cells, such as 'patient 0': free "
            "text or names, which are no feature; leave it out: data.drop=[name], or name the rows "
            "by it: data.id=name",
        ),
        (
            column("1", "2", "1,5", "x", "4"),
            {},
            f"{FILE} line 4, column 'a': '1,5' is no number; write 1.5. The column has 3 numbers "
            "beside 2 other cells",
        ),
        (
            column("x", "y", "7"),
            {},
            f"{FILE} line 2, column 'a': 'x' is no number; write a number or leave it empty, or "
            "take the column as categories: data.categorical=[a]. The column has 1 number beside 2 "
            "other cells",
        ),
        (
            column("x", "y", "x"),
            {"numeric": ["a"]},
            f"{FILE} line 2, column 'a': 'x' is no number; write a number or leave it empty, or "
            "take the column as categories: data.categorical=[a]",
        ),
        (
            "a,b,y\n" + "1,,0\n,2,1\n" * 5,
            {"missing": "drop"},
            "data.missing=drop leaves none of 10 rows: each has an empty cell (a (5), b (5)); "
            "leave out a column with data.drop=[COLUMN]",
        ),
    ],
)
def test_a_table_that_can_not_be_learned_from_is_refused(
    content: str, keys: dict[str, object], problem: str
) -> None:
    assert problems(content, **keys) == (problem,)


def test_words_are_taken_as_categories_where_the_user_says_so() -> None:
    assert len(read(text(patients()), categorical=["name"]).columns[0].levels) == 60
    assert read(column("x", "y", "7"), categorical=["a"]).columns[0].levels == ("7", "x", "y")


@pytest.mark.parametrize("date", ["2024-05-{:02d}", "{}.5.2024", "5/{}/24", "2024-05-{:02d} 10:00"])
def test_dates_are_refused_by_name_with_three_ways_out(date: str) -> None:
    content = column(*(date.format(day) for day in range(1, 13)), name="admitted")
    (problem,) = problems(content)
    assert problem.startswith(f"{FILE}: column 'admitted' holds dates, such as '")
    assert "data.drop=[admitted]" in problem
    assert "data.time=admitted" in problem
    assert read(content, categorical=["admitted"]).columns[0].levels


def test_the_problems_of_several_columns_are_told_at_once() -> None:
    content = "n,d,a,y\n" + "".join(
        f"person {n},2024-01-{n:02d},inf,{n % 2}\n" for n in range(1, 29)
    )
    assert [line.partition(";")[0].partition(", such")[0] for line in problems(content)] == [
        f"{FILE}: column 'n' has 28 different words in 28 cells",
        f"{FILE}: column 'd' holds dates",
        f"{FILE} line 2, column 'a': 'inf' is infinite in single precision",
    ]


def test_rows_with_an_empty_cell_are_left_out_where_the_user_says_so() -> None:
    lines = patients()
    whole = [line for line in lines[1:] if all(line)]
    samples = read(text(lines), drop=["name"], missing="drop")
    assert samples.inputs[:, 3].tolist() == [float(line[4]) for line in whole]
    assert samples.notes[-1].startswith(f"left out {60 - len(whole)} rows with an empty cell: age")


def test_empty_cells_are_refused_with_row_column_and_count_where_the_user_says_so() -> None:
    lines = patients()
    towns = [line[2] for line in lines[1:]]
    assert problems(text(lines), drop=["name"], missing="refuse") == (
        f"{FILE} line 7, column 'age': a cell is empty, as in 5 rows in all; fill it in, "
        "data.missing=mean fills them in, or leave these rows out: data.missing=drop",
        f"{FILE} line {towns.index('') + 2}, column 'town': a cell is empty, as in "
        f"{towns.count('')} rows in all; fill it in, data.missing=mean fills them in, or leave "
        "these rows out: data.missing=drop",
    )


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        (
            [str(row) for row in range(50)],
            "column 'a' counts the rows, as an index does; if it is one, leave it out: "
            "data.drop=[a], or data.id=a to name the rows by it",
        ),
        (
            [str(1000 - row) for row in range(50)],
            "column 'a' counts the rows, as an index does; if it is one, leave it out: "
            "data.drop=[a], or data.id=a to name the rows by it",
        ),
        (
            [str(2**53 + 2 + row * row) for row in range(50)],
            "column 'a' has numbers above 2^53, which are rounded; it looks like an id: "
            "data.drop=[a], or data.id=a to name the rows by it",
        ),
        ([""] * 50, "column 'a' is empty: it says nothing; data.drop=[a]"),
    ],
)
def test_a_suspicious_column_is_told(cells: list[str], note: str) -> None:
    assert note in read(column(*cells)).notes


@pytest.mark.parametrize(
    "cells",
    [
        ["1", "1", "4", "4"] * 12,
        [str(row * 2) for row in range(50)],
        [f"1e{row}" for row in range(30)],
        ["", *map(str, range(40))],
    ],
)
def test_a_column_of_plain_numbers_is_not_suspicious(cells: list[str]) -> None:
    assert not [note for note in read(column(*cells)).notes if "column 'a'" in note]


@pytest.mark.parametrize(
    ("copy", "target"),
    [
        (lambda n: n % 3, lambda n: n % 3),
        (lambda n: f"level {n % 3}", lambda n: n % 3),
        (lambda n: n % 2, lambda n: "yes" if n % 2 else "no"),
        (lambda n: n / 7, lambda n: n / 7),
    ],
)
def test_a_feature_that_is_the_target_is_told_and_refused_if_strict(copy, target) -> None:
    content = "a,copy,y\n" + "".join(f"{n * n % 11},{copy(n)},{target(n)}\n" for n in range(40))
    leak = (
        "column 'copy' tells the target 'y' in every row: if it is not known before the answer "
        "is, leave it out: data.drop=[copy]"
    )
    assert leak in read(content).notes
    assert problems(content, strict=True) == (f"{FILE}: {leak}",)
    assert read(content, strict=True, drop=["copy"]).features == ("a",)


def test_a_feature_that_only_parts_most_rows_is_no_leak() -> None:
    content = "a,b,y\n" + "".join(f"{n % 2 if n else 1},{n // 20},{n % 2}\n" for n in range(40))
    assert not [note for note in read(content).notes if "tells the target" in note]


def test_test_rows_that_also_train_are_refused_if_strict() -> None:
    content = "a,b,y\n" + "1,2,0\n3,4,1\n" * 20
    assert prepared(content).schema.task == "binary"
    with pytest.raises(
        DataError,
        match=r"10 of 10 test rows have inputs that also stand in the training part; expected "
        r"none, since data.strict=true",
    ):
        prepared(
            "a,b,y\n" + "".join(f"{n % 2},{n % 3 % 2},{n % 5 % 2}\n" for n in range(40)),
            strict=True,
        )


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_fewer_rows_than_parts_need_are_refused_with_their_numbers(rows: int) -> None:
    content = "a,y\n" + "".join(f"{row},{row / 3}\n" for row in range(rows))
    if rows == 3:
        assert len(prepared(content).train) == 1
        return
    with pytest.raises(DataError, match=rf"split {rows} rows into train 0"):
        prepared(content, task="regression")


def test_wrong_names_are_told_all_at_once_with_the_nearest_and_the_columns() -> None:
    told = f"is no column of {FILE}; its columns are age, town, outcome."
    content = "age,town,outcome\n" + "1,a,0\n2,b,1\n" * 9
    assert problems(content, target="outcom", drop=["x"], numeric=["aeg"], id="y") == (
        f"data.target=outcom {told} Did you mean 'outcome'?",
        f"data.id=y {told}",
        f"data.numeric=aeg {told} Did you mean 'age'?",
        f"data.drop=x {told}",
    )


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            {"target": "age", "drop": ["age"]},
            "data.drop=age is also the target; name another with data.target=COLUMN",
        ),
        (
            {"drop": ["age"], "numeric": ["age"]},
            "data.drop=[age] leaves out a column that another key wants as a feature",
        ),
        (
            {"categorical": ["age"], "numeric": ["age"]},
            "'age' is in data.numeric and in data.categorical; expected one of them",
        ),
        (
            {"group": "age", "split": "town"},
            "data.group and data.split both say how rows are parted; expected one",
        ),
        (
            {"drop": ["age"], "id": "town"},
            f"{FILE}: no column is left to predict 'outcome' from; its columns are age, town, "
            "outcome. Drop fewer",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys: dict[str, object], problem: str) -> None:
    assert problems("age,town,outcome\n" + "1,a,0\n2,b,1\n" * 9, **keys) == (problem,)
