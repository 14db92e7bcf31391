"""Wrong spaces: every problem with the place it stands in, all at once, before torch."""

from pathlib import Path

import pytest
from command_line import choices
from spaces import checked, problem, problems

from pipeline.config.compose import checked_lines
from pipeline.config.options import SweepConfig
from pipeline.errors import ConfigError
from pipeline.study.space.reading import names_of_study

LR = "tag(log, interval(1e-4, 1e-1))"


def test_a_study_that_varies_nothing_is_told_how_a_parameter_is_named() -> None:
    assert problem("model=lstm") == (
        "sweep.space is empty; name what is varied, such as "
        "'optimizer.lr=tag(log, interval(1e-4, 1e-1))', or choose a file of sweeps/, such as "
        "sweeps=quick."
    )


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("optimizer.lr=interval(1, 0.1)", "low 1 > high 0.1; expected low < high."),
        ("optimizer.lr=interval(nan, 1)", "low is nan; expected a finite number."),
        (
            "optimizer.lr=interval('1e-4', 1)",
            "a bound is a text; expected a number without quotes, such as 1e-4.",
        ),
        ("seed=int(interval(1.5, 3.7))", "1.5 is no whole number, which int needs."),
        ("seed=choice()", "choice() is empty; expected two values or more."),
    ],
)
def test_a_wrong_range_is_told_with_its_place(word: str, says: str) -> None:
    assert problem(word) == f"sweep.space.{word}: {says}"


def test_a_parameter_that_is_no_key_is_told_with_the_nearest() -> None:
    assert problem("optimizer.lrr=interval(0, 1)") == (
        "sweep.space.optimizer.lrr: optimizer.lrr is unknown. Did you mean 'optimizer.lr'?"
    )


def test_a_group_whose_choice_is_unknown_is_told_with_the_choices() -> None:
    assert problem("model=choice(mlp, lstn)") == (
        "sweep.space.model=choice(mlp, lstn): model=lstn is unknown; expected one of "
        f"{choices('model')}. Did you mean 'lstm'?"
    )


def test_a_group_can_not_be_varied_by_numbers() -> None:
    assert problem("scheduler=interval(0, 1)") == (
        "sweep.space.scheduler=interval(0, 1): scheduler is a group; expected "
        f"choice({choices('scheduler')})."
    )


def test_a_key_that_not_every_varied_model_has_is_told_with_the_model() -> None:
    assert problem("model=mlp,lstm", "model.readout=choice(mean, last)") == (
        "sweep.space.model.readout: model.readout is unknown where model=mlp."
    )


def test_a_key_under_a_condition_is_looked_up_where_the_condition_holds() -> None:
    when = "sweep.when={model\\=lstm: {model.readuot: 'choice(mean, last)'}}"

    assert problem("model=lstm", when) == (
        "sweep.when.model=lstm.model.readuot: model.readuot is unknown where model=lstm. "
        "Did you mean 'model.readout'?"
    )


@pytest.mark.parametrize("key", ["name", "verbose", "output", "tracking.uri", "sweep.n_trials"])
def test_a_key_on_which_no_result_depends_can_not_be_varied(key: str) -> None:
    assert problem(f"++sweep.space={{{key}: 'choice(a, b)'}}") == (
        f"sweep.space.{key}: no result depends on {key}; take it out of the space."
    )


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        (
            "model\\=lstmm",
            f"model=lstmm: model=lstmm is unknown; expected one of {choices('model')}. "
            "Did you mean 'lstm'?",
        ),
        ("modl\\=lstm", "modl=lstm: modl is unknown. Did you mean 'model'?"),
        ("lstm", "lstm: a condition is key=value, such as model=lstm."),
        (
            "model\\=choice(mlp\\,gru)",
            "model=choice(mlp,gru): 'choice(mlp,gru)' gives several values; expected one value, "
            "such as model=lstm.",
        ),
    ],
)
def test_a_wrong_condition_says_what_is_known(condition: str, says: str) -> None:
    condition = condition.replace("(", "\\(").replace(")", "\\)")

    assert problem(f"sweep.when={{{condition}: {{seed: 'range(0, 5)'}}}}") == f"sweep.when.{says}"


def test_a_condition_on_a_key_of_a_varied_group_needs_that_key_in_the_space() -> None:
    when = "sweep.when={model.norm\\=batch: {seed: 'range(0, 5)'}}"

    assert problem("model=mlp,cnn1d", when) == (
        "sweep.when.model.norm=batch: model is varied, so model.norm is not known; "
        "vary model.norm too."
    )


def test_conditions_that_run_in_a_ring_are_refused() -> None:
    when = (
        "sweep.when={seed\\=1: {trainer.max_epochs: 'range(1, 3)'}, "
        "trainer.max_epochs\\=1: {seed: 'range(0, 5)'}}"
    )

    assert problem(when) == (
        "sweep.when.seed=1.trainer.max_epochs and sweep.when.trainer.max_epochs=1.seed depend on "
        "each other in a ring; take one condition away."
    )


def test_a_key_that_is_fixed_and_varied_is_told_with_both_places() -> None:
    assert problem("sweeps=quick", "optimizer.lr=0.1") == (
        "optimizer.lr is fixed by optimizer.lr=0.1 and varied by sweep.space.optimizer.lr="
        f"{LR}; keep one."
    )
    assert problem("sweeps=models", "model=gru") == (
        "model is fixed by model=gru and varied by sweep.space.model="
        "choice(mlp, cnn1d, rnn, gru, lstm); keep one: '~sweep.space.model' takes the range away."
    )


def test_a_key_in_two_sweep_files_is_told_with_both_files() -> None:
    assert problem("sweeps=[quick,lr_epochs_clip]") == (
        "sweep.space.optimizer.lr stands in sweeps/quick.yaml and in "
        "sweeps/lr_epochs_clip.yaml; keep one."
    )


def test_two_sweep_files_are_joined_where_they_vary_different_keys(own_folder: Path) -> None:
    folder = sweep_file(own_folder, "space:\n  seed: range(0, 5)")

    assert checked_in(folder, "sweeps=[quick,mine]") == ["sweeps=[quick,mine]"]


def test_the_command_line_settles_what_two_sweep_files_disagree_on() -> None:
    assert checked("sweeps=[quick,lr_epochs_clip]", "optimizer.lr=interval(0.1, 1)")


def test_a_key_with_a_range_everywhere_and_one_under_a_condition_is_refused() -> None:
    when = "sweep.when={model\\=mlp: {optimizer.lr: 'interval(1, 2)'}}"

    assert problem("sweeps=quick", when) == (
        f"optimizer.lr has two ranges: sweep.space.optimizer.lr={LR} and "
        "sweep.when.model=mlp.optimizer.lr=interval(1, 2); keep one."
    )


def test_two_ranges_that_could_both_hold_are_refused() -> None:
    when = "sweep.when={model\\=mlp: {seed: 'range(0, 5)'}, data\\=iris: {seed: 'range(0, 3)'}}"

    assert problem(when) == (
        "seed has two ranges that could both hold: sweep.when.model=mlp.seed=range(0, 5) and "
        "sweep.when.data=iris.seed=range(0, 3); let them depend on the same key."
    )


def test_a_range_on_the_command_line_takes_the_place_of_those_under_conditions() -> None:
    assert checked("sweeps=lr_epochs_clip", "trainer.gradient_clip_val=choice(1.0, 2.0)")


def test_a_grid_over_a_continuous_range_names_the_parameter() -> None:
    assert problem("sweeps=quick", "sweep.sampler=grid") == (
        "sweep.space.optimizer.lr=tag(log, interval(0.0001, 0.1)): a grid needs values that can "
        "be counted; expected range(start, stop, step), choice(a, b) or int(interval(low, high))."
    )


def test_a_grid_larger_than_its_limit_says_its_size_and_the_longest_range() -> None:
    words = ["seed=range(0, 200)", "model.norm=choice(none, batch)", "sweep.sampler=grid"]

    assert problem(*words, "sweep.max_grid=100") == (
        "sweep.space has 400 points, more than sweep.max_grid=100; raise it, or shorten a range, "
        "such as sweep.space.seed=range(0, 200) with 200 values."
    )
    assert "sweep.space has 9,007,199,254,740,992 points" in problem(
        "data.split_seed=int(interval(1, 134217728))",
        "seed=int(interval(1, 67108864))",
        "sweep.sampler=grid",
    )


def test_a_start_point_is_looked_at_before_anything_is_created() -> None:
    assert problems("sweeps=quick", "sweep.enqueue=[{optimizer.lr: 1}, {lr: 0.01}, 3]") == (
        "sweep.enqueue[0].optimizer.lr=1 lies outside of sweep.space.optimizer.lr="
        "tag(log, interval(0.0001, 0.1)).",
        "sweep.enqueue[1].lr is not varied by this study. Did you mean 'optimizer.lr'?",
        "sweep.enqueue[2] is no mapping; expected {KEY: VALUE}.",
    )


@pytest.mark.parametrize("name", ["''", "a/b", "a" * 65, "数据"])
def test_a_name_that_is_no_name_is_refused_with_the_rule(name: str) -> None:
    assert problem("sweeps=quick", f"sweep.name={name}").endswith(
        "is not a name; expected 1 to 64 letters, digits, '_', '-' or '.', not beginning with '.'."
    )


def test_all_wrong_names_of_a_command_line_are_told_together() -> None:
    found = problems(
        "modle=gru",
        "sweep.n_trial=3",
        "optimizer.lrr=interval(2, 1)",
        "model=choice(mlp, lstn)",
        "trainer.max_epochs=interval(5, 1)",
        "sweep.name=a/b",
    )

    assert [line.partition(":")[0].partition(" is ")[0] for line in found] == [
        "modle",
        "sweep.n_trial",
        "sweep.name='a/b'",
        "sweep.space.optimizer.lrr=interval(2, 1)",
        "sweep.space.trainer.max_epochs=interval(5, 1)",
        "sweep.space.optimizer.lrr",
        "sweep.space.model=choice(mlp, lstn)",
    ]


def test_a_users_own_sweep_file_is_read_and_checked_as_ours_are(own_folder: Path) -> None:
    folder = sweep_file(own_folder, "space:\n  optimizer.lrr: interval(0, 1)")

    with pytest.raises(ConfigError) as refused:
        checked_in(folder, "sweeps=mine")

    assert refused.value.problems == (
        "sweep.space.optimizer.lrr: optimizer.lrr is unknown. Did you mean 'optimizer.lr'?",
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("space: [1, 2]", "Cannot merge DictConfig with ListConfig"),
        ("when:\n  model=mlp: 3", "sweep.when.model=mlp=3 is no mapping; expected KEY: RANGE."),
        ("space:\n  seed: 3", "sweep.space.seed=3: 3 is one value; expected interval"),
    ],
)
def test_a_sweep_file_of_another_form_is_refused(content: str, says: str, own_folder: Path) -> None:
    folder = sweep_file(own_folder, content)

    with pytest.raises(ConfigError, match=says):
        checked_in(folder, "sweeps=mine")


def sweep_file(folder: Path, content: str) -> Path:
    """Write `sweeps/mine.yaml` in a user's own folder of configuration."""
    file = folder / "conf" / "sweeps" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"# @package sweep\n# Mine.\n{content}\n", encoding="utf-8")
    return folder / "conf"


def checked_in(folder: Path, *words: str) -> list[str]:
    return checked_lines(
        words,
        config_name="sweep",
        config_dir=folder,
        options=SweepConfig,
        more=names_of_study,
    )
