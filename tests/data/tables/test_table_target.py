"""What a table's target means: the task, the classes, the positive one."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from given_tables import FILE, prepared, read

from pipeline.errors import ConfigError, DataError


def table(*targets: str, repeat: int = 10) -> str:
    cells = targets * repeat
    return "x,y\n" + "".join(f"{row * 37 % 101},{cell}\n" for row, cell in enumerate(cells))


@pytest.mark.parametrize(
    ("targets", "classes"),
    [
        (("1", "2", "3"), ("1", "2", "3")),
        (("10", "9", "-1"), ("-1", "9", "10")),
        (("-1", "1", "1"), ("1", "-1")),
        (("0", "1", "0"), ("0", "1")),
        (("0.0", "1.0", "0.0"), ("0.0", "1.0")),
        (("True", "False", "False"), ("False", "True")),
        (("b", "a", "C"), ("C", "a", "b")),
        (("well", "ill", "well"), ("well", "ill")),
        (("1", "1.0", "2"), ("1", "2")),
    ],
)
def test_labels_become_classes_named_as_the_file_writes_them(
    targets: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    samples = read(table(*targets))
    assert samples.classes == classes
    values = [samples.classes[index] for index in samples.targets]
    if len(set(targets)) == len(classes):
        assert values == list(targets) * 10


def test_numbers_with_a_fraction_or_many_different_ones_are_a_regression_that_is_told() -> None:
    told = "task: regression of 'y'; data.task=multiclass would take its numbers as classes"
    for targets in (("0", "1", "0.5"), tuple(map(str, range(21)))):
        samples = read(table(*targets), units="kg")
        assert (samples.task, samples.classes, samples.units) == ("regression", (), "kg")
        assert samples.targets.tolist() == [float(cell) for cell in targets * 10]
        assert samples.notes[-1] == told
    assert read(table(*map(str, range(20)))).task == "multiclass"


def test_the_task_that_is_given_wins_over_the_one_that_is_found() -> None:
    few = table("1", "2", "3")
    assert read(few, task="regression").targets[:3].tolist() == [1, 2, 3]
    assert read(table(*map(str, range(21))), task="multiclass").classes[20] == "20"
    assert read(table("a", "b"), task="multiclass").task == "multiclass"


@pytest.mark.parametrize(
    ("targets", "keys", "problem"),
    [
        (
            ("0", "1", "0.5"),
            {"task": "binary"},
            f"{FILE} line 4, column 'y': '0.5' is no class; expected words or whole numbers, or "
            "data.task=regression",
        ),
        (
            ("0", "1", "2"),
            {"task": "binary"},
            "data.task=binary, but the target 'y' has 3 classes: '0' (10), '1' (10), '2' (10); "
            "expected 2, or data.task=multiclass",
        ),
        (
            ("a", "b"),
            {"task": "regression"},
            f"{FILE} line 2, column 'y': 'a' is no number; write a number or leave it empty, or "
            "take its words as classes: data.task=multiclass",
        ),
        (
            ("a",),
            {},
            "the target 'y' has one class, 'a', in all 10 rows; expected at least 2 classes",
        ),
        (("",), {}, "the target 'y' has no cell that is not empty"),
    ],
)
def test_a_target_that_is_none_is_refused(
    targets: tuple[str, ...], keys: dict[str, str], problem: str
) -> None:
    with pytest.raises(DataError) as raised:
        read(table(*targets), **keys)
    assert raised.value.problems == (problem,)


def test_one_number_written_with_a_comma_among_many_is_named() -> None:
    content = "x,y\n" + "".join(f'{row},"{row}{"," if row == 7 else "."}5"\n' for row in range(50))
    with pytest.raises(DataError, match=rf"{FILE} line 9, column 'y': '7,5' is no number; write 7"):
        read(content)


@pytest.mark.parametrize("cell", ["-inf", "1e400"])
@pytest.mark.parametrize("task", ["data.task=regression", "data.task=binary"])
def test_an_infinite_target_is_refused_without_a_warning_of_a_library(
    train: Callable[..., int],
    own_folder: Path,
    capsys: pytest.CaptureFixture[str],
    cell: str,
    task: str,
) -> None:
    (own_folder / "new.csv").write_text(table("1", "2", cell), encoding="utf-8")
    words = ("model=mlp", "data=table", "data.path=new.csv", "data.target=y", task)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train(*words, "tracking=none") == 2
    said = capsys.readouterr().err.splitlines()
    assert said
    assert all(line.startswith("error: ") for line in said)


def test_names_are_no_classes() -> None:
    content = "x,y\n" + "".join(f"{row % 7},person {row}\n" for row in range(50))
    with pytest.raises(
        DataError,
        match=r"the target 'y' has 50 different words in 50 cells, such as 'person 0': no classes; "
        r"name another: data.target=COLUMN",
    ):
        read(content)


def test_the_rarer_class_is_positive_unless_one_is_named_and_that_is_told() -> None:
    content = table("well", "ill", "well")
    samples = read(content)
    assert samples.classes == ("well", "ill")
    assert samples.notes[1] == (
        "task: binary, 'y' is 'ill' (10), 'well' (20); precision, recall and F1 speak of 'ill', "
        "the rarer one; or data.positive=well"
    )
    named = read(content, positive="well")
    assert named.classes == ("ill", "well")
    assert (named.targets == 1 - samples.targets).all()
    assert "rarer" not in named.notes[1]


def test_of_two_classes_as_frequent_as_each_other_none_is_called_rarer() -> None:
    note = read(table("well", "ill")).notes[1]
    assert note.endswith("speak of 'well', the second of two; or data.positive=ill")


def test_classes_with_names_are_not_offered_as_values() -> None:
    assert "data.task=regression" not in read(table("red", "green", "blue")).notes[1]
    assert "data.task=regression" in read(table("1", "2", "3")).notes[1]


@pytest.mark.parametrize("positive", [1, 1.0, "1", True])
def test_a_positive_class_may_be_typed_as_a_number_or_a_truth(positive: object) -> None:
    truths = positive is True
    samples = read(table("True", "False") if truths else table("1", "0"), positive=positive)
    assert samples.classes[1] == ("True" if truths else "1")


def test_a_positive_class_that_is_none_is_refused_with_the_nearest() -> None:
    content = table("well", "ill")
    with pytest.raises(
        ConfigError,
        match=r"data.positive='wel' is no class of this data; expected 'ill' or 'well'\. Did you "
        r"mean 'well'\?",
    ):
        read(content, positive="wel")
    with pytest.raises(ConfigError, match=r"data.positive=1 has no meaning for 3 classes"):
        read(table("1", "2", "3"), positive="1")
    with pytest.raises(ConfigError, match=r"data.positive=1 has no meaning for a regression"):
        read(table("1.5", "2", "3"), positive="1")


@pytest.mark.parametrize("word", ["NA", "None", "null", "nan"])
def test_a_word_for_missing_stays_a_class_among_words_and_is_told(word: str) -> None:
    samples = read(table("mild", word, "mild"))
    assert set(samples.classes) == {"mild", word}
    assert samples.notes[-1] == (
        f"{word!r} in the target 'y' is taken as a class (10 rows); where it means that nothing "
        "is known, leave the cell empty"
    )


@pytest.mark.parametrize("word", ["NA", "?", ""])
def test_a_missing_target_among_numbers_is_refused_with_row_column_and_count(word: str) -> None:
    with pytest.raises(DataError) as raised:
        read(table("1", word, "2"))
    assert raised.value.problems == (
        f"{FILE} line 3, column 'y': the target is empty, as in 10 rows in all; fill it in, or "
        "leave these rows out: data.missing=drop",
    )
    assert len(read(table("1", word, "2"), missing="drop").targets) == 20


def test_the_last_column_is_the_target_where_none_is_named_and_that_is_told() -> None:
    content = "y,x\n" + "".join(f"{row % 2},{row / 3}\n" for row in range(30))
    assert read(content).notes[0] == "target: 'x', the last column; another with data.target=COLUMN"
    named = read(content, target="y")
    assert (named.label, named.features) == ("y", ("x",))
    assert named.notes[0].startswith("task: binary")


def test_a_class_missing_from_the_training_part_is_refused_by_name() -> None:
    content = "x,part,y\n" + "".join(
        f"{row},{'test' if row > 30 else 'train'},{'c' if row > 35 else 'ab'[row % 2]}\n"
        for row in range(40)
    )
    with pytest.raises(DataError, match=r"class 'c' is in the test part but not in the training"):
        prepared(content, split="part")


def test_a_class_with_one_row_is_refused_with_what_shares_it_out() -> None:
    content = table("a", "b") + "5,c\n"
    with pytest.raises(DataError, match=r"class 'c' has 1 row .* data.stratify=false"):
        prepared(content)
