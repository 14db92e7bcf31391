"""What a table's columns are for and become: numbers, categories, a target, or an error."""

from typing import Any

import numpy as np
import pytest
from data.tables.given_tables import (
    FILE,
    column,
    patients,
    prepared,
    problems,
    read,
    target,
    text,
    write,
)
from helpers.case_tables import cases, from_yaml, refusals
from helpers.sample_data import array_of


def case(content: str, problem: str, **keys: Any) -> tuple[str, dict[str, Any], str]:
    return content, keys, problem


FEW = "age,town,outcome\n" + "1,a,0\n2,b,1\n" * 9
SAME = "write it the same way or leave it empty"
LEVELS = "or take the column as categories: 'data.categorical=[a]'"
INFINITE = "is infinite in float32; expected a number between ±3.4e+38. Leave the cell empty"
# The cells of a column `a`, or of the target `y`, or the few rows of `FEW`, and keys. A message
# that ends with … goes on.
REFUSED = f"""
a: 1 | 2 | 1,5 | x | 4
- line 5, column 'a': 'x' is not a number written like '1,5' (1 of 5 cells is not); {SAME}, {LEVELS}

a: €3.04 | €2 | $3 | 5
- line 4, column 'a': '$3' is not a number written like '€3.04' (1 of 4 cells is not); {SAME},
  {LEVELS}

a: x | y | 7
- line 2, column 'a': 'x' is not a number (2 of 3 cells are not); write a number or leave it empty,
  {LEVELS}

a: x | y & numeric: [a]
- line 2, column 'a': 'x' is not a number; write a number or leave it empty, {LEVELS}

few: & target: age, drop: [age]
- data.drop=age is also the target; name another with data.target=COLUMN

few: & numeric: [age], drop: [age]
- data.drop=[age] drops a column that another key uses as a feature

few: & categorical: [age], numeric: [age]
- 'age' is in data.numeric and in data.categorical; expected one of them

few: & group: age, split: town
- data.group and data.split both split the rows; expected one

few: & drop: [age], id: town
- : no column is left to predict 'outcome' from; its columns are age, town, outcome. Drop fewer

y: 0 | 1 | 0.5 & task: binary
- line 4, column 'y': '0.5' is not a class; expected words or whole numbers, or data.task=regression

y: 0 | 1 | 2 & task: binary
- data.task=binary, but the target 'y' has 3 classes (0: 10, 1: 10, 2: 10); expected 2, or
  data.task=multiclass

y: 1 | 1e400 | -inf & task: binary
- data.task=binary, but the target 'y' has 3 classes (-inf: 10, 1: 10, 1e400: 10); expected 2, or
  data.task=multiclass

y: 1 | 2 | -inf & task: regression
- line 4, column 'y': '-inf' {INFINITE} if it is unknown

y: 1 | 2 | 1e400 & task: regression
- line 4, column 'y': '1e400' {INFINITE} if it is unknown

y: a | b & task: regression
- line 2, column 'y': 'a' is not a number; write a number or leave it empty, or take its words as
  classes: data.task=multiclass

y: a
- : the target 'y' has one class, 'a', in all 10 rows; expected at least 2 classes, or another
  column: data.target=COLUMN

y:
y: & task: regression
y: & task: regression, missing: mean
- : the target 'y' has only empty cells; set data.target=COLUMN

y: well | ill & positive: wel
- data.positive='wel' is not a class of this data; expected 'ill' or 'well'. Did you mean 'well'?

y: 1 | 2 | 3 & positive: 1
- data.positive=1 does not apply to 3 classes; remove it

y: 1.5 | 2 | 3 & positive: 1
- data.positive=1 does not apply to regression; remove it, or set data.task=binary

y: 1 | NA | 2 & missing: refuse
y: 1 | ? | 2 & missing: refuse
y: 1 |  | 2 & missing: refuse
- line 3, column 'y': the target is empty (10 rows in total); fill it in, or drop these rows:
  data.missing=drop

a: 1 & task: regression
- data.test=0.25 and data.validation=0.2 split 1 rows into train 0…

a: 1 | 2 & task: regression
- data.test=0.25 and data.validation=0.2 split 2 rows into train 0…
"""


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("table", "problem"), refusals(REFUSED))
def test_unlearnable_column_is_refused(table: str, problem: str) -> None:
    """Its cells or its keys do not suit what it is for."""
    columns, _, keys = table.partition("& ")
    name, _, cells = columns.strip().partition(": ")
    content = FEW
    if name.strip(":") != "few":
        write_table = column if name.strip(":") == "a" else target
        content = write_table(*cells.split(" | "))
    (told,) = problems(content, **from_yaml(f"{{{keys}}}"))
    place = FILE if problem.startswith(":") else f"{FILE} "
    assert told.removeprefix(place).startswith(problem.removesuffix("…"))
    assert problem.endswith("…") or told.endswith(problem)


def computed(content: str, problem: str, **keys: Any) -> tuple[str, dict[str, Any], str]:
    return content, keys, problem


NAMES = "text: 60 unique values in 60 cells, such as 'patient 0'"
REFUSED_TABLES = [
    computed("a,y\n", f"{FILE} has a header and no rows (0 rows); expected at least one per part"),
    computed(
        "a b y\n1 2 0\n",
        f"{FILE}: one column found, 'a b y'; expected the target and at least one more. For "
        "another separator, set data.sep=;",
    ),
    computed(
        text(patients()),
        f"{FILE}: columns that can't be features: name ({NAMES}): 'data.drop=[name]'",
        strict=True,
    ),
    computed(
        column(*(f"note {row}" for row in range(50)), name="my note"),
        f"{FILE}: no column is left to predict 'y' from; left out: my note (text: 50 unique "
        "values in 50 cells, such as 'note 0'); 'data.categorical=[COLUMN]' keeps one",
    ),
    computed(
        column(*(f"{row},5" for row in range(50)), "1.5"),
        f"{FILE} line 52, column 'a': '1.5' is not a number written like '0,5' (1 of 51 cells is "
        f"not); {SAME}, or leave the column out: 'data.drop=[a]'",
    ),
    computed(
        column(*(f"{row}.5" for row in range(50)), "1,5"),
        f"{FILE} line 52, column 'a': '1,5' is not a number (1 of 51 cells is not); write 1.5, "
        "or leave the column out: 'data.drop=[a]'",
    ),
    computed(
        "c,a,y\n" + "".join(f"{n},{'-' if n % 9 == 0 else f'${n}'},{n % 2}\n" for n in range(50)),
        f"{FILE} line 2, column 'a': '-' is not a number written like '$1' (6 of 50 cells are "
        f"not); {SAME}, or leave the column out: 'data.drop=[c,a]'",
        drop=["c"],
    ),
    computed(
        "c,a,y\n" + "".join(f"{n % 3},{'x' if n == 3 else n % 5},{n % 2}\n" for n in range(50)),
        f"{FILE} line 5, column 'a': 'x' is not a number (1 of 50 cells is not); write a number or "
        "leave it empty, or take the column as categories: 'data.categorical=[c,a]'",
        categorical=["c"],
    ),
    computed(
        "a,b,y\n" + "1,,0\n,2,1\n" * 5,
        "data.missing=drop removes all 10 rows: each has an empty cell (a (5), b (5)); leave "
        "out a column with data.drop=[COLUMN]",
        missing="drop",
    ),
    computed(
        target(*(f"{row}{',' if row == 7 else '.'}5" for row in range(50)), repeat=1),
        f"{FILE} line 9, column 'y': '7,5' is not a number; write 7.5",
    ),
    computed(
        target(*("ask" if row == 7 else f"€{row}" for row in range(50)), repeat=1),
        f"{FILE} line 9, column 'y': 'ask' is not a number written like '€0' (1 of 50 cells is "
        f"not); {SAME}, or take its words as classes: data.task=multiclass",
    ),
    computed(
        target(*(f"({row}.25)" if row % 2 else f"{row}.5" for row in range(50)), repeat=1),
        f"{FILE} line 3, column 'y': '(1.25)' is not a number; write a number or leave it empty",
        target="y",
    ),
    computed(
        target(*(f"person {row}" for row in range(50)), repeat=1),
        f"{FILE}: the target 'y' has 50 unique values in 50 cells, such as 'person 0', so it has "
        "no classes; set data.target=COLUMN",
    ),
    computed(
        "x,part,y\n"
        + "".join(f"{n},{'test' if n > 30 else 'train'},{'abc'[n % 2]}\n" for n in range(36))
        + "1,test,c\n",
        "class 'c' is in the test part but not in the training part; …",
        split="part",
    ),
    computed(target("a", "b") + "5,c\n", "class 'c' has only 1 row …"),
    computed(
        "a,b,y\n" + "".join(f"{n % 2},{n % 3 % 2},{n % 5 % 2}\n" for n in range(40)),
        "10 of 10 test rows have the inputs of training rows, which data.strict=true refuses…",
        strict=True,
    ),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("content", "keys", "problem"), REFUSED_TABLES)
def test_unlearnable_table_is_refused(content: str, keys: dict[str, Any], problem: str) -> None:
    (told,) = problems(content, **keys)
    assert told == problem if "…" not in problem else problem.strip("…") in told


def test_smallest_and_repeated_tables_are_accepted() -> None:
    assert len(prepared("a,y\n0,0\n1,0.3\n2,0.7\n").train) == 1
    assert prepared("a,b,y\n" + "1,2,0\n3,4,1\n" * 20).schema.task == "binary"


def test_numbers_and_categories_equal_the_file() -> None:
    lines = patients()
    samples = read(text(lines, sep=";", end="\r\n"), drop=["name"], categorical=["ward"])
    assert samples.features == ("age", "town", "ward", "dose")
    towns = ("Bad Ems, Lahn", "Bonn", "Köln")
    assert [column.levels for column in samples.columns] == [(), towns, ("1", "2", "3"), ()]
    for row, cells in zip(array_of(samples), lines[1:], strict=True):
        for cell, value, found in zip(cells[1:5], row, samples.columns, strict=True):
            if not cell:
                assert np.isnan(value)
            elif found.levels:
                assert found.levels[int(value)] == cell
            else:
                assert value == float(cell)


def test_words_become_categories_on_request() -> None:
    assert len(read(text(patients()), categorical=["name"]).columns[0].levels) == 60
    assert read(column("x", "y", "7"), categorical=["a"]).columns[0].levels == ("7", "x", "y")


def test_problems_of_several_columns_are_reported_together() -> None:
    content = "n,b,a,y\n" + "".join(f"{n % 2},{'xy'[n % 2]},inf,{n % 2}\n" for n in range(1, 29))
    assert [line.partition(";")[0] for line in problems(content, numeric=["b"])] == [
        f"{FILE} line 2, column 'b': 'y' is not a number",
        f"{FILE} line 2, column 'a': 'inf' is infinite in float32",
    ]
    told = f"is not a column of {FILE}; its columns are age, town, outcome."
    assert problems(FEW, target="outcom", drop=["x"], numeric=["aeg"], id="y") == (
        f"data.target=outcom {told} Did you mean 'outcome'?",
        f"data.id=y {told}",
        f"data.numeric=aeg {told} Did you mean 'age'?",
        f"data.drop=x {told}",
    )


TOWNS = [line[2] for line in patients()[1:]]


def test_rows_with_empty_cells_are_dropped_or_refused() -> None:
    """`data.missing` decides, and the message counts the rows and cells."""
    lines = patients()
    whole = [line for line in lines[1:] if all(line)]
    samples = read(text(lines), drop=["name"], missing="drop")
    assert array_of(samples)[:, 3].tolist() == [float(line[4]) for line in whole]
    assert samples.notes[-1] == (
        f"data.missing=drop: rows 60 → {len(whole)}; empty cells: age (5), town ({TOWNS.count('')})"
    )
    assert samples.numbers is not None
    assert samples.numbers.tolist() == [row for row, line in enumerate(lines[1:]) if all(line)]
    way = "set data.missing=mean, or drop these rows: data.missing=drop"
    assert problems(text(lines), drop=["name"], missing="refuse") == (
        f"{FILE} line 7, column 'age': a cell is empty (5 rows in total); {way}",
        f"{FILE} line {TOWNS.index('') + 2}, column 'town': a cell is empty ("
        f"{TOWNS.count('')} rows in total); {way}",
    )
    assert len(read(target("1", "NA", "2"), missing="drop").targets) == 20


ILL = "is 'ill' in {} rows and 'well' in {}; scores are for 'ill', the rarer one"


@pytest.mark.parametrize(
    ("whole", "empty", "told"),
    [
        ([10, 30], [4, 6], f"{ILL.format(10, 30)}; change"),
        ([30, 20], [4, 20], f"{ILL.format(30, 20)} in the file;"),
        ([10, 30, 20], [4, 6, 1], "has ill: 10, well: 30, x: 20"),
    ],
)
def test_kept_rows_are_counted_by_class(whole: list[int], empty: list[int], told: str) -> None:
    lines = [
        f"{cell},{n},{name}\n"
        for cell, rows in (("1", whole), ("", empty))
        for name, count in zip(("ill", "well", "x"), rows, strict=False)
        for n in range(count)
    ]
    content = "a,b,y\n" + "".join(lines)
    note = next(x for x in read(content, missing="drop").notes if x.startswith("task:"))
    assert f"'y' {told}" in note
    write(content, "other.csv")
    assert note in read(content, missing="drop", test_path="other.csv").notes
    named = read(content.replace("well", "rarer one"), missing="drop").notes
    assert any(told.replace("well", "rarer one") in note for note in named)


@pytest.mark.parametrize("truth", ["number", "word", "fraction"])
def test_feature_equal_to_target_is_reported(truth: str) -> None:
    """`data.strict` refuses such a table."""
    rows = []
    for n in range(40):
        copy = n / 7 if truth == "fraction" else n % 3 % 2
        rows.append([n * n % 11, copy, ["no", "yes"][n % 3 % 2] if truth == "word" else copy])
    content = "a,copy,y\n" + "".join("{},{},{}\n".format(*row) for row in rows)
    leak = (
        "column 'copy' determines the target 'y'; unless known before it, drop: 'data.drop=[copy]'"
    )
    assert leak in read(content).notes
    assert problems(content, strict=True) == (f"{FILE}: {leak}",)
    assert read(content, strict=True, drop=["copy"]).features == ("a",)
    twice = "a,copy,my copy,old,y\n" + "".join(f"{a},{c},{c},1.5,{y}\n" for a, c, y in rows)
    assert problems(twice, strict=True, drop=["old"])[0].endswith(
        "columns 'copy', 'my copy' determine the target 'y'; unless known before "
        "it, drop: 'data.drop=[old,copy,\"my copy\"]'"
    )
    most = "a,b,y\n" + "".join(f"{n % 2 if n else 1},{n // 20},{n % 2}\n" for n in range(40))
    assert not [note for note in read(most).notes if "determines the target" in note]


CLASSES = """
1 2 3 → 1 2 3
10 9 -1 → -1 9 10
-1 1 1 → -1 1
1 -1.0 1 → -1.0 1
0 1 0 → 0 1
0.0 1.0 0.0 → 0.0 1.0
True False False → False True
b a C → C a b
well ill well → well ill
1 1.0 2 → 1 2
"""


@pytest.mark.parametrize(("written", "names"), cases(CLASSES))
def test_class_names_equal_the_cells(written: str, names: str) -> None:
    cells = written.split()
    samples = read(target(*cells))
    assert " ".join(samples.classes) == names
    if len(set(cells)) == len(samples.classes):
        assert [samples.classes[index] for index in samples.targets] == cells * 10


def test_fractions_or_many_numbers_mean_regression() -> None:
    """The note says so and names the option for classes."""
    for targets in (("0", "1", "0.5"), tuple(map(str, range(21)))):
        samples = read(target(*targets), units="kg")
        assert (samples.task, samples.classes, samples.units) == ("regression", (), "kg")
        assert samples.targets.tolist() == [float(cell) for cell in targets * 10]
        assert samples.notes[-1] == (
            "task: regression of 'y'; data.task=multiclass reads its numbers as classes"
        )
    assert read(target(*map(str, range(20)))).task == "multiclass"


def test_given_task_overrides_inferred_task() -> None:
    few = target("1", "2", "3")
    assert read(few, task="regression").targets[:3].tolist() == [1, 2, 3]
    assert read(target(*map(str, range(21))), task="multiclass").classes[20] == "20"
    assert read(target("a", "b"), task="multiclass").task == "multiclass"
    assert "data.task=regression" in read(few).notes[1]
    assert "data.task=regression" not in read(target("red", "green", "blue")).notes[1]


def test_rarer_class_is_positive_by_default() -> None:
    """The note says so, and `data.positive` names another one."""
    content = target("well", "ill", "well")
    samples = read(content)
    assert samples.classes == ("well", "ill")
    assert samples.notes[1] == (
        "task: binary, 'y' is 'ill' in 10 rows and 'well' in 20; scores are for 'ill', "
        "the rarer one; change with data.positive=well"
    )
    named = read(content, positive="well")
    assert named.classes == ("ill", "well")
    assert (named.targets == 1 - samples.targets).all()
    assert "rarer" not in named.notes[1]


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        (["not ill", "ill", "ill"], "'not ill', the rarer one; change with data.positive=ill"),
        (["not ill", "ill"], "the second class; change with data.positive=ill"),
        (["not ill", "well"] * 2 + ["not ill"], "change with 'data.positive=\"not ill\"'"),
        (["well", "ill"], "for 'well', the second class; change with data.positive=ill"),
    ],
)
def test_positive_class_and_its_option_are_noted(cells: list[str], note: str) -> None:
    assert read(target(*cells)).notes[1].endswith(note)


@pytest.mark.parametrize("positive", [1, 1.0, "1", True])
def test_positive_class_accepts_number_or_boolean(positive: object) -> None:
    truths = positive is True
    samples = read(target("True", "False") if truths else target("1", "0"), positive=positive)
    assert samples.classes[1] == ("True" if truths else "1")


@pytest.mark.parametrize("word", ["NA", "None", "null", "nan"])
def test_missing_word_among_words_stays_a_class(word: str) -> None:
    """A note names the class, since it may mean a missing value."""
    samples = read(target("mild", word, "mild"))
    assert set(samples.classes) == {"mild", word}
    assert samples.notes[-1] == (
        f"{word!r} in the target 'y' is a class (10 rows); if it means a missing value, "
        "empty these cells"
    )


def test_last_column_is_the_default_target() -> None:
    """A note says so."""
    content = "y,x\n" + "".join(f"{row % 2},{row / 3}\n" for row in range(30))
    assert read(content).notes[0] == "target: 'x', the last column; change with data.target=COLUMN"
    named = read(content, target="y")
    assert (named.label, named.features) == ("y", ("x",))
    assert named.notes[0].startswith("task: binary")
