import re
from typing import Any

import numpy as np
import pytest
from given_data import Given, labelled, options

from pipeline.data.labels import Asked, Target, target_of
from pipeline.data.prepare import prepare
from pipeline.data.reader import rows_as_saved
from pipeline.data.source import Samples
from pipeline.errors import ConfigError, DataError


def target(values: Any, **asked: Any) -> Target:
    return target_of(np.asarray(values), Asked(**asked), lambda row: f"x.npz: y[{row}]")


def named(values: Any, **asked: Any) -> list[str]:
    """The class of each row, by its name."""
    found = target(values, **asked)
    return [found.classes[index] for index in found.values]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([1, 2, 3, 1], ("1", "2", "3")),
        ([10, 9, 11], ("9", "10", "11")),
        ([1.0, 2.0, 3.0], ("1", "2", "3")),
        ([[1], [2], [3]], ("1", "2", "3")),
        ([1, -1, -1], ("-1", "1")),
        ([0.0, 1.0, 0.0], ("0", "1")),
        ([True, False, False], ("False", "True")),
        (["b", "a", "c", "a"], ("a", "b", "c")),
        ([b"b", b"a", "ü".encode()], ("a", "b", "ü")),
        ([[0, 1, 0], [0, 0, 1], [1, 0, 0]], ("0", "1", "2")),
        ([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], ("0", "1")),
        (np.array([1, 2], dtype=">i8"), ("1", "2")),
    ],
)
def test_labels_of_any_kind_become_classes_named_by_their_text(
    labels: Any, classes: tuple[str, ...]
) -> None:
    found = target(labels)
    assert found.classes == classes
    assert found.values.dtype == np.int64
    assert found.task == ("binary" if len(classes) == 2 else "multiclass")


def test_each_row_keeps_its_own_label() -> None:
    assert named([3, 1, 2, 1]) == ["3", "1", "2", "1"]
    assert named([[0, 0, 1], [1, 0, 0]], classes=["x", "y", "z"]) == ["z", "x"]
    assert named(["no", "yes", "no"]) == ["no", "yes", "no"]


@pytest.mark.parametrize(
    ("labels", "positive"), [([1, 1, 0], "0"), ([0, 1, 0], "1"), ([0, 1], "1")]
)
def test_the_rarer_of_two_classes_is_positive_and_told(labels: list[int], positive: str) -> None:
    found = target(labels)
    assert found.classes[1] == positive
    assert f"the positive class is '{positive}'" in found.notes[0]


def test_other_rows_keep_the_model_s_positive_class_and_tell_of_no_other() -> None:
    rows = np.arange(40.0).reshape(20, 2)

    def samples(labels: list[str]) -> Samples:
        found = target(labels)
        fields = {"classes": found.classes, "notes": (*found.notes, "told")}
        return labelled(found.values, inputs=rows, features=("a", "b"), **fields)

    model = prepare(Given(samples(["A"] * 14 + ["B"] * 6)), options()).schema
    content = rows_as_saved(samples(["A"] * 5 + ["B"] * 15), model)
    assert (content.schema.positive, content.targets.tolist()) == ("B", [0] * 5 + [1] * 15)
    assert content.notes == ("told",)


@pytest.mark.parametrize("positive", ["-1", -1, -1.0])
def test_a_named_class_is_positive_whatever_type_it_is_typed_in(positive: Any) -> None:
    found = target([1, -1, -1, -1], positive=positive)
    assert found.classes == ("1", "-1")
    assert found.values.tolist() == [0, 1, 1, 1]
    assert found.notes == ()


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ([0, 0.5, 1], (3, 1)),
        (np.linspace(0, 1, 9).reshape(9, 1), (9, 1)),
        (np.linspace(0, 1, 9).reshape(3, 3), (3, 3)),
        (np.arange(21), (21, 1)),
        (np.r_[18:60, 18:60], (84, 1)),
    ],
)
def test_fractions_many_numbers_and_columns_are_a_regression_and_told(
    values: Any, shape: tuple[int, int]
) -> None:
    found = target(values)
    assert found.task == "regression"
    assert found.values.shape == shape
    assert "the target is a regression" in found.notes[0]


def test_many_classes_numbered_without_a_gap_are_classes() -> None:
    assert len(target(np.arange(400) % 100).classes) == 100


def test_what_the_user_says_wins() -> None:
    assert target([0, 1, 2], task="regression").task == "regression"
    assert target([[0, 1], [1, 0]], task="regression").values.tolist() == [[0, 1], [1, 0]]
    assert len(target(np.arange(30), task="multiclass").classes) == 30
    assert target([1, 2, 3], always_classes=True).task == "multiclass"


def test_names_of_classes_follow_the_order_of_the_labels() -> None:
    assert named([7, 5, 9], classes=["five", "seven", 9]) == ["seven", "five", "9"]


def test_a_name_may_stand_for_a_class_without_a_row() -> None:
    found = target([0, 3, 3], classes=["a", "b", "c", "d"])
    assert found.classes == ("a", "b", "c", "d")
    assert found.values.tolist() == [0, 3, 3]


@pytest.mark.parametrize(
    ("labels", "asked", "problem"),
    [
        ([0, 0.5, 1], {"task": "binary"}, "x.npz: y[1] is 0.5, but data.task=binary expects whole"),
        ([0, np.nan, 1], {}, "x.npz: y[1] is missing or infinite, 1 in all; expected a label"),
        ([[0, 1.5], [np.inf, 1]], {}, "x.npz: y[1] is missing or infinite, 1 in all"),
        ([[0, 1], [1, 1]], {}, "x.npz: y[1] has 2 ones; expected exactly one in a one-hot row"),
        ([[0.2, 0.8]], {"task": "multiclass"}, "labels of shape (1, 2) are not one-hot"),
        (np.zeros((2, 2, 2)), {}, "labels of shape (2, 2, 2) can't be read; expected (rows,)"),
        ([["a", "b"]], {}, "labels of shape (1, 2) can't be read"),
        ([1j, 2j], {}, "labels of type complex128 can't be read"),
        (
            ["a", "b"],
            {"task": "regression"},
            "data.task=regression expects numbers, but the labels",
        ),
        ([0, 7], {"classes": list("abc")}, "x.npz: y[1] is 7, but data.classes has 3 names"),
    ],
)
def test_labels_that_can_not_be_learned_are_refused_by_row(
    labels: Any, asked: dict[str, Any], problem: str
) -> None:
    with pytest.raises(DataError, match=re.escape(problem)):
        target(labels, **asked)


@pytest.mark.parametrize(
    ("labels", "asked", "problem"),
    [
        (
            [0, 1, 2],
            {"task": "binary"},
            "data.task=binary expects 2 classes, this data has 3: 0, 1",
        ),
        ([0, 1], {"task": "multiclass"}, "data.task=multiclass expects more than 2 classes"),
        ([0, 1, 2], {"positive": 1}, "data.positive='1' is for two classes, this data has 3"),
        (["no", "yes"], {"positive": "yess"}, "data.positive='yess' is no class of this data;"),
        ([1, 2, 3], {"classes": ["a", "b"]}, "data.classes has 2 names, 2 of them different, but "),
        (["x", "y"], {"classes": ["a", "a"]}, "data.classes has 2 names, 1 of them different"),
        ([0.5, 1], {"positive": 1}, "data.positive is for classes, but the target is fractions"),
    ],
)
def test_a_wish_that_the_labels_can_not_fulfil_is_refused(
    labels: Any, asked: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        target(labels, **asked)
