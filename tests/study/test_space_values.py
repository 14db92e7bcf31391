"""Values of a space that their keys do not allow: each end and each choice, before a study."""

import pytest
from spaces import study

from pipeline.paths import conf_folder
from pipeline.study.space.trial_configs import value_problems

FILES = sorted((conf_folder() / "sweeps").glob("*.yaml"))
SWEEPS = [file.stem for file in FILES if "  space:" in file.read_text(encoding="utf-8")]
MODELS = sorted(path.stem for path in (conf_folder() / "model").glob("*.yaml"))


def wrong(*words: str) -> list[str]:
    return value_problems(*study(*words))


@pytest.mark.parametrize("sweeps", SWEEPS)
def test_every_study_that_ships_holds_nothing_that_a_key_refuses(sweeps: str) -> None:
    assert wrong(f"sweeps={sweeps}") == []


def test_the_architecture_of_every_model_can_be_varied_at_once() -> None:
    words = ["sweeps=architecture", f"model=choice({','.join(MODELS)})"]

    space, trees = study(*words)

    assert {str(one.when) for one in space.parameters if one.when} == {
        f"model={model}" for model in MODELS
    }
    assert value_problems(space, trees) == []


def test_each_end_that_a_key_refuses_is_told_with_what_is_allowed() -> None:
    assert wrong("optimizer.lr=interval(-1, 0)", "model.dropout=interval(0, 1)") == [
        "sweep.space.optimizer.lr=interval(-1, 0): optimizer.lr=-1.0 is not allowed; expected a "
        "number > 0.",
        "sweep.space.optimizer.lr=interval(-1, 0): optimizer.lr=0.0 is not allowed; expected a "
        "number > 0.",
        "sweep.space.model.dropout=interval(0, 1): model.dropout=1.0 is not allowed; expected a "
        "number ≥ 0 and < 1.",
    ]


def test_a_range_of_numbers_for_a_key_of_whole_ones_says_how_it_is_written() -> None:
    assert wrong("trainer.max_epochs=interval(5, 40)")[0] == (
        "sweep.space.trainer.max_epochs=interval(5, 40): trainer.max_epochs=5.0 is not allowed; "
        "expected a whole number > 0. Write int(interval(5, 40))."
    )


def test_each_choice_that_a_key_refuses_is_told() -> None:
    assert wrong("model=lstm", "model.readout=choice(mean, lats)", "seed=choice(1, -1)") == [
        "sweep.space.model.readout=choice(mean, lats): model.readout='lats' is not allowed; "
        "expected one of last, mean, flatten. Did you mean 'last'?",
        "sweep.space.seed=choice(1, -1): seed=-1 is not allowed; expected a whole number ≥ 0 and "
        "< 4294967296.",
    ]


def test_off_is_refused_where_a_key_may_not_be_null() -> None:
    assert wrong("optimizer.lr=tag(off, interval(0.1, 1))") == [
        "sweep.space.optimizer.lr=tag(off, interval(0.1, 1)): optimizer.lr=null is not allowed; "
        "expected a number > 0."
    ]


def test_a_value_that_one_of_the_varied_models_refuses_names_the_model() -> None:
    assert wrong("model=choice(mlp, lstm)", "model.hidden=int(interval(8, 64))")[0] == (
        "sweep.space.model.hidden=int(interval(8, 64)) where model=mlp: model.hidden=8 is not "
        "allowed; expected a list [a whole number > 0, …]."
    )


def test_a_condition_on_a_value_that_its_key_refuses_is_told() -> None:
    when = "sweep.when={trainer.gradient_clip_algorithm\\=nrom: {seed: 'range(0, 5)'}}"

    assert wrong(when) == [
        "sweep.when.trainer.gradient_clip_algorithm=nrom: "
        "trainer.gradient_clip_algorithm='nrom' is not allowed; expected one of norm, value. "
        "Did you mean 'norm'?"
    ]


def test_what_is_wrong_without_the_space_is_not_told_of_the_space() -> None:
    assert wrong("optimizer.lr=interval(0.1, 1)", "seed=-1") == []
