"""What a study may be about, and which way is better."""

import pytest

from pipeline.data.source import Task
from pipeline.errors import ConfigError
from pipeline.study.ledger.definition import Objective, logged, read_objectives

TASKS: tuple[Task | None, ...] = ("binary", "multiclass", "regression", None)


def test_without_a_word_a_study_is_about_what_its_runs_follow() -> None:
    assert read_objectives(None, "val/f1") == (Objective(name="val/f1", direction="max"),)


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("val/accuracy", "max"),
        ("val/r2", "max"),
        ("val/loss", "min"),
        ("val/rmse", "min"),
        ("val/mae", "min"),
        ("train/loss", "min"),
        ("model/parameters", "min"),
        ("time/fit", "min"),
    ],
)
def test_the_better_way_is_known_from_the_metric(name: str, direction: str) -> None:
    (objective,) = read_objectives(name, "val/f1")
    assert objective.direction == direction


def test_two_objectives_keep_their_order() -> None:
    both = read_objectives(["model/parameters", "val/f1"], "val/loss")
    assert [objective.name for objective in both] == ["model/parameters", "val/f1"]


@pytest.mark.parametrize("task", TASKS)
def test_what_every_trial_has_may_be_an_objective(task: Task | None) -> None:
    for name in logged(task, validated=True):
        assert read_objectives(name, "val/loss", task=task)


@pytest.mark.parametrize(
    ("name", "task", "line"),
    [
        (
            "val/rmse",
            "binary",
            "sweep.objective='val/rmse' is not logged; expected one of val/loss",
        ),
        (
            "val/f1",
            "regression",
            "val/rmse, val/mae, val/r2, train/loss, model/parameters, time/fit",
        ),
        ("val/acuracy", "multiclass", "Did you mean 'val/accuracy'?"),
        ("test/f1", "multiclass", "sweep.objective='test/f1' is not logged"),
    ],
)
def test_a_value_that_is_never_logged_is_told_with_those_that_are(
    name: str, task: Task, line: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_objectives(name, "val/loss", task=task)
    assert line in str(caught.value)


def test_without_validation_rows_a_study_is_about_what_is_left() -> None:
    with pytest.raises(ConfigError, match="expected one of train/loss, model/parameters, time/fit"):
        read_objectives("val/f1", "train/loss", task="binary", validated=False)


def test_one_value_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="names one value twice; expected two, or one"):
        read_objectives(["val/f1", "val/f1"], "val/f1")
