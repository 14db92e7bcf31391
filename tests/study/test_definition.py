"""What a study is: its objectives, and that one gone on with is the one that was begun."""

from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
from study.ledgers import BASE, database, open_ledger, space_of

from pipeline.base.errors import ConfigError
from pipeline.data.source import Task
from pipeline.study.ledger.definition import Objective, logged_names, read_objectives

REMEDY = (
    "restore it, start a new study with sweep.name=NAME, or continue anyway with "
    "sweep.allow_change=true"
)
OTHER_NAME = "choose another name for this study: sweep.name=NAME"
FOREIGN = f"the study 'lr' was created by another program or version; {OTHER_NAME}"


@pytest.mark.parametrize(
    ("option", "directions"),
    [
        (None, ["max"]),
        ("val/accuracy", ["max"]),
        ("val/r2", ["max"]),
        ("val/loss", ["min"]),
        ("val/rmse", ["min"]),
        ("val/mae", ["min"]),
        ("train/loss", ["min"]),
        ("time/fit", ["min"]),
        (["model/parameters", "val/f1"], ["min", "max"]),
    ],
)
def test_objectives_default_to_the_monitored_metric(
    option: str | list[str] | None, directions: list[str]
) -> None:
    """Given ones keep their order."""
    objectives = read_objectives(option, "val/f1")
    names = [option] if isinstance(option, str) else option or ["val/f1"]
    assert [(objective.name, objective.direction) for objective in objectives] == list(
        zip(names, directions, strict=True)
    )


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression", None])
def test_every_logged_metric_may_be_an_objective(task: Task | None) -> None:
    for name in logged_names(task, validated=True):
        assert read_objectives(name, "val/loss", task=task)


@pytest.mark.parametrize(
    ("option", "task", "validated", "line"),
    [
        ("val/rmse", "binary", True, "='val/rmse' is not logged; expected one of val/loss"),
        ("val/f1", "regression", True, "val/rmse, val/mae, val/r2, train/loss, model/parameters"),
        ("val/acuracy", "multiclass", True, "Did you mean 'val/accuracy'?"),
        ("test/f1", "multiclass", True, "sweep.objective='test/f1' is not logged"),
        ("val/f1", "binary", False, "expected one of train/loss, model/parameters, time/fit"),
        (["val/f1", "val/f1"], None, True, "has one value twice; expected one or two values"),
    ],
)
def test_objective_that_is_not_logged_is_refused(
    option: str | list[str], task: Task | None, validated: bool, line: str
) -> None:
    """The message names those that are."""
    with pytest.raises(ConfigError) as caught:
        read_objectives(option, "val/loss", task=task, validated=validated)
    assert line in str(caught.value)


def refusal_lines(path: Path, **settings: Any) -> tuple[str, ...]:
    """Open a study as another one, and return the lines that refuse it."""
    with pytest.raises(ConfigError) as caught:
        open_ledger(path, **settings)
    return caught.value.problems


@pytest.mark.parametrize(
    "changed",
    [
        {"verbose": 2},
        {"output": "elsewhere"},
        {"tracking": {"uri": "http://host"}},
        {"trainer": {"max_epochs": 5, "devices": 2}},
        {"optimizer": {"lr": 0.5}},
    ],
)
def test_options_without_effect_on_trials_may_change(changed: dict[str, Any], path: Path) -> None:
    open_ledger(path)
    open_ledger(path, base={**BASE, **changed}, n_trials=99, workers=3, timeout=1.0)


@pytest.mark.parametrize("allow_change", [False, True])
@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"space": space_of({"optimizer.lr": "interval(1e-4, 1e-1)"})},
            "sweep.space.optimizer.lr was tag(log, interval(0.0001, 0.1)) and is "
            "interval(0.0001, 0.1) now",
        ),
        (
            {"objectives": (Objective(name="val/loss", direction="min"),)},
            "sweep.objective was val/f1 (max) and is val/loss (min) now; earlier trials can't "
            "be compared by it",
        ),
    ],
)
def test_another_objective_always_needs_another_name(
    settings: dict[str, Any], line: str, allow_change: bool, path: Path
) -> None:
    """So does another kind of range of a parameter."""
    open_ledger(path)
    assert refusal_lines(path, **settings, allow_change=allow_change) == (f"{line}; {OTHER_NAME}",)


@pytest.mark.parametrize(
    ("directions", "attributes"),
    [
        (["maximize"], {"format": 99}),
        (["minimize"], {}),
        (["minimize", "maximize"], {}),
    ],
)
@pytest.mark.parametrize("n_trials", [0, 1])
def test_foreign_study_is_refused_and_left_unchanged(
    directions: list[Literal["minimize", "maximize"]],
    attributes: dict[str, int],
    n_trials: int,
    path: Path,
) -> None:
    study = optuna.create_study(storage=f"sqlite:///{path}", study_name="lr", directions=directions)
    study.optimize(lambda _: [0.5] * len(directions), n_trials=n_trials)
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    assert refusal_lines(path) == (FOREIGN,)
    stored_study = optuna.load_study(storage=f"sqlite:///{path}", study_name="lr")
    assert (stored_study.directions, stored_study.user_attrs) == (study.directions, attributes)
    assert len(stored_study.trials) == n_trials


def test_allowed_data_are_those_of_the_study(path: Path) -> None:
    base = {**BASE, "data": {"path": "rows.csv", "scale": "standard", "batch_size": 8}}
    open_ledger(path, base=base, data="a" * 64)
    open_ledger(path, base=base, data="b" * 64, allow_change=True)
    line = (
        f"data.path=rows.csv: the data had the hash {'b' * 12} in this study and now have "
        f"{'a' * 12}; {REMEDY}"
    )
    assert refusal_lines(path, base=base, data="a" * 64) == (line,)


def test_each_data_config_has_its_own_hash(tmp_path: Path) -> None:
    ledger = open_ledger(database(tmp_path))
    first, second = ({"data": {"path": "rows.csv", "split_seed": seed}} for seed in (0, 1))
    assert ledger.note_data(first, "a") == "a"
    assert ledger.data_of(second) is None
    assert ledger.note_data(second, "b") == "b"
    assert ledger.note_data(first, "c") == "a"
    assert ledger.data_of({"data": {**first["data"], "batch_size": 9}}) == "a"
