"""What a study is: its objectives, and that one gone on with is the one that was begun."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from ledgers import BASE, COMPLETE, LR, complete_all, database, open_ledger, space_of, take

from pipeline.data.source import Task
from pipeline.errors import ConfigError
from pipeline.study.ledger.definition import Objective, logged, read_objectives
from pipeline.sweep import main as sweep

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


REMEDY = (
    "put it back, go on all the same with sweep.allow_change=true, or begin a new study with "
    "sweep.name=NAME"
)
OTHER_NAME = "choose another name for this study: sweep.name=NAME"


def refused(path: Path, **given: Any) -> tuple[str, ...]:
    """Open a study as another one, and return the lines that refuse it."""
    with pytest.raises(ConfigError) as caught:
        open_ledger(path, **given)
    return caught.value.problems


def test_every_change_of_space_and_run_is_told_in_a_line_of_its_own(tmp_path: Path) -> None:
    path = database(tmp_path)
    open_ledger(path)
    space = space_of({"optimizer.lr": "tag(log, interval(1e-5, 1e-1))"})
    base = {**BASE, "seed": 1, "trainer": {"max_epochs": 9}}
    assert refused(path, space=space, base=base) == (
        "sweep.space.optimizer.lr was tag(log, interval(0.0001, 0.1)) and is "
        f"tag(log, interval(1e-05, 0.1)) now; {REMEDY}",
        f"seed was 0 and is 1 now; {REMEDY}",
        f"trainer.max_epochs was 5 and is 9 now; {REMEDY}",
    )


def test_a_change_that_is_allowed_is_what_the_study_has_from_then_on(tmp_path: Path) -> None:
    path = database(tmp_path)
    complete_all(open_ledger(path, n_trials=12))  # more than TPE wants before it learns
    space = space_of({"optimizer.lr": "tag(log, interval(1, 2))"})
    base = {**BASE, "seed": 1}
    ledger = open_ledger(path, space=space, base=base, allow_change=True, n_trials=18)
    points = complete_all(ledger)
    assert len(points) == 6
    assert all(1 <= float(point["optimizer.lr"]) <= 2 for point in points)
    open_ledger(path, space=space, base=base)
    assert len(refused(path)) == 2


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
def test_what_changes_no_trial_may_change(changed: dict[str, Any], tmp_path: Path) -> None:
    path = database(tmp_path)
    open_ledger(path)
    open_ledger(path, base={**BASE, **changed}, n_trials=99, workers=3, timeout=1.0)


@pytest.mark.parametrize("allow_change", [False, True])
def test_another_kind_of_parameter_always_needs_another_name(
    allow_change: bool, tmp_path: Path
) -> None:
    path = database(tmp_path)
    open_ledger(path)
    space = space_of({"optimizer.lr": "interval(1e-4, 1e-1)"})
    assert refused(path, space=space, allow_change=allow_change) == (
        "sweep.space.optimizer.lr was tag(log, interval(0.0001, 0.1)) and is "
        f"interval(0.0001, 0.1) now; {OTHER_NAME}",
    )


@pytest.mark.parametrize("allow_change", [False, True])
def test_another_objective_always_needs_another_name(allow_change: bool, tmp_path: Path) -> None:
    path = database(tmp_path)
    open_ledger(path)
    objectives = (Objective(name="val/loss", direction="min"),)
    assert refused(path, objectives=objectives, allow_change=allow_change) == (
        "sweep.objective was val/f1 (max) and is val/loss (min) now; what was tried so far can't "
        f"be judged by it; {OTHER_NAME}",
    )


def test_a_study_under_another_name_is_a_study_of_its_own(tmp_path: Path) -> None:
    path = database(tmp_path)
    first = open_ledger(path, name="one", n_trials=1)
    complete_all(first)
    other = open_ledger(path, name="two", space=space_of({**LR, "seed": "range(0, 4)"}))
    assert other.uid != first.uid
    assert other.trials() == []


@pytest.mark.parametrize("attributes", [{}, {"format": 99}])
def test_a_study_of_another_program_is_not_gone_on_with(
    attributes: dict[str, int], tmp_path: Path
) -> None:
    path = database(tmp_path)
    study = optuna.create_study(storage=f"sqlite:///{path}", study_name="lr")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    assert refused(path) == (
        f"the study 'lr' was made by another program, or another version of this one; {OTHER_NAME}",
    )


@pytest.mark.parametrize("directions", [["minimize"], ["minimize", "maximize"]])
def test_a_foreign_study_with_other_directions_is_refused_and_left_as_it_is(
    directions: list[str], tmp_path: Path
) -> None:
    path = database(tmp_path)
    study = optuna.create_study(storage=f"sqlite:///{path}", study_name="lr", directions=directions)
    assert refused(path) == (
        f"the study 'lr' was made by another program, or another version of this one; {OTHER_NAME}",
    )
    found = optuna.load_study(storage=f"sqlite:///{path}", study_name="lr")
    assert found.directions == study.directions
    assert found.user_attrs == {}
    assert found.trials == []


def test_other_data_are_refused_with_both_hashes_and_nothing_is_noted(tmp_path: Path) -> None:
    path = database(tmp_path)
    base = {**BASE, "data": {"path": "rows.csv", "scale": "standard", "batch_size": 8}}
    ledger = open_ledger(path, base=base, data="a" * 64)
    before = ledger.facts
    line = (
        f"data.path=rows.csv: the data had the hash {'a' * 12} in this study and have {'b' * 12} "
        f"now; {REMEDY}"
    )
    assert refused(path, base=base, data="b" * 64) == (line,)
    assert ledger.facts == before
    open_ledger(path, base=base, data="a" * 64)
    open_ledger(path, base=base, data="b" * 64, allow_change=True)
    assert "b" * 12 in refused(path, base=base, data="a" * 64)[0].partition(" in this study")[0]


def test_each_config_of_a_study_over_data_has_data_of_its_own(tmp_path: Path) -> None:
    ledger = open_ledger(database(tmp_path))
    one, other = ({"data": {"path": "rows.csv", "split_seed": seed}} for seed in (0, 1))
    assert ledger.note_data(one, "a") == "a"
    assert ledger.data_of(other) is None
    assert ledger.note_data(other, "b") == "b"
    assert ledger.note_data(one, "c") == "a"
    assert ledger.data_of({"data": {**one["data"], "batch_size": 9}}) == "a"


def test_a_start_point_outside_of_the_space_is_refused_before_anything_is_created(
    tmp_path: Path,
) -> None:
    path = tmp_path / "optuna.db"
    lines = refused(path, enqueue=[{"optimizer.lr": 99}, {"optimizer.lrr": 0.1}])
    assert [line.partition("=")[0].partition(" ")[0] for line in lines] == [
        "sweep.enqueue[0].optimizer.lr",
        "sweep.enqueue[1].optimizer.lrr",
    ]
    assert not path.exists()


def test_a_base_trial_that_lies_outside_of_the_space_is_refused_where_asked_for(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=mlp", "data=iris", "optimizer.lr=interval(0.5, 0.6)", "tracking=none"]
    assert sweep([*words, "sweep.base_trial=true", "sweep.workers=1"]) == 2
    assert capsys.readouterr().err == (
        "error: sweep.base_trial=true, but the config as it stands lies outside of the space; "
        "widen the space, or leave that trial out with sweep.base_trial=false\n"
    )
    assert not (own_folder / "optuna.db").exists()


def test_what_was_refused_has_left_the_study_as_it_was(tmp_path: Path) -> None:
    path = database(tmp_path)
    ledger = open_ledger(path)
    before = ledger.facts
    refused(path, base={**BASE, "seed": 1}, enqueue=[{"optimizer.lr": 0.01}])
    assert ledger.facts == before
    taken = take(ledger)
    assert ledger.finish(taken, COMPLETE)


UNVALIDATED = ("model=mlp", "data=iris", "data.validation=0", "trainer.max_epochs=1", "verbose=0")
SMALL = (*UNVALIDATED, "sweep.workers=1", "tracking=none")


@pytest.mark.slow
def test_seeds_are_compared_by_their_test_figures(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep([*SMALL, "sweeps=seeds", "seed=range(0,2)"]) == 0
    assert capsys.readouterr() == ("", "")
    table = own_folder / "runs" / "seeds-mlp-iris" / "artifacts" / "comparison.md"
    heading = table.read_text(encoding="utf-8").splitlines()[2]
    assert heading == "| predictor | n | test/f1 | test/accuracy | 95 % interval |"


def test_a_study_that_chooses_refuses_to_do_so_on_training_rows(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep([*SMALL, "sweeps=quick"]) == 2
    assert "sweep.objective='val/f1' is not logged; expected one of train/loss" in (
        capsys.readouterr().err
    )
    assert not (own_folder / "optuna.db").exists()
