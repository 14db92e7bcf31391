"""Keys that name the columns of a table, and tables that no key can save."""

import pytest
from given_tables import FILE, prepared, read

from pipeline.errors import DataError


def problems(content: str, **keys: object) -> tuple[str, ...]:
    with pytest.raises(DataError) as raised:
        read(content, **keys)
    return raised.value.problems


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a,y\n", f"{FILE} has a header and no rows (0 rows); expected at least one a part"),
        (
            "a b y\n1 2 0\n",
            f"{FILE}: one column found, 'a b y'; expected the target and at least one more. If "
            "another sign parts the cells, say which: data.sep=;",
        ),
    ],
)
def test_a_table_without_rows_or_columns_is_refused(content: str, problem: str) -> None:
    assert problems(content) == (problem,)


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
