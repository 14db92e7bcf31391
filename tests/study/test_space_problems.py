"""Wrong spaces: every problem with the place it stands in, all at once, before torch."""

from pathlib import Path

import pytest
from command_line import choices
from spaces import checked, problem, problems

from pipeline.errors import ConfigError

LR = "tag(log, interval(1e-4, 1e-1))"


WHEN_MLP = "sweep.when={model\\=mlp: {optimizer.lr: 'interval(1, 2)'}}"
PROBLEMS = {
    "nothing varied": (
        ["model=lstm"],
        "sweep.space is empty; name what is varied, such as "
        "'optimizer.lr=tag(log, interval(1e-4, 1e-1))', or choose a file of sweeps/, such as "
        "sweeps=quick.",
    ),
    "a wrong range": (
        ["optimizer.lr=interval(1, 0.1)"],
        "sweep.space.optimizer.lr=interval(1, 0.1): low 1 > high 0.1; expected low < high.",
    ),
    "an unknown key": (
        ["optimizer.lrr=interval(0, 1)"],
        "sweep.space.optimizer.lrr: optimizer.lrr is unknown. Did you mean 'optimizer.lr'?",
    ),
    "an unknown choice": (
        ["model=choice(mlp, lstn)"],
        "sweep.space.model=choice(mlp, lstn): model=lstn is unknown; expected one of "
        f"{choices('model')}. Did you mean 'lstm'?",
    ),
    "a group varied by numbers": (
        ["scheduler=interval(0, 1)"],
        "sweep.space.scheduler=interval(0, 1): scheduler is a group; expected "
        f"choice({choices('scheduler')}).",
    ),
    "a key that not every varied model has": (
        ["model=mlp,lstm", "model.readout=choice(mean, last)"],
        "sweep.space.model.readout: model.readout is unknown where model=mlp.",
    ),
    "an unknown key under a condition": (
        ["model=lstm", "sweep.when={model\\=lstm: {model.readuot: 'choice(mean, last)'}}"],
        "sweep.when.model=lstm.model.readuot: model.readuot is unknown where model=lstm. "
        "Did you mean 'model.readout'?",
    ),
    "an unknown choice in a condition": (
        ["sweep.when={model\\=lstmm: {seed: 'range(0, 5)'}}"],
        f"sweep.when.model=lstmm: model=lstmm is unknown; expected one of {choices('model')}. "
        "Did you mean 'lstm'?",
    ),
    "an unknown key in a condition": (
        ["sweep.when={modl\\=lstm: {seed: 'range(0, 5)'}}"],
        "sweep.when.modl=lstm: modl is unknown. Did you mean 'model'?",
    ),
    "no condition": (
        ["sweep.when={lstm: {seed: 'range(0, 5)'}}"],
        "sweep.when.lstm: a condition is key=value, such as model=lstm.",
    ),
    "a condition of several values": (
        ["sweep.when={model\\=choice\\(mlp\\,gru\\): {seed: 'range(0, 5)'}}"],
        "sweep.when.model=choice(mlp,gru): 'choice(mlp,gru)' gives several values; expected one "
        "value, such as model=lstm.",
    ),
    "a condition on a key of a varied group": (
        ["model=mlp,cnn1d", "sweep.when={model.norm\\=batch: {seed: 'range(0, 5)'}}"],
        "sweep.when.model.norm=batch: model is varied, so model.norm is not known; "
        "vary model.norm too.",
    ),
    "conditions in a ring": (
        [
            "sweep.when={seed\\=1: {trainer.max_epochs: 'range(1, 3)'}, "
            "trainer.max_epochs\\=1: {seed: 'range(0, 5)'}}"
        ],
        "sweep.when.seed=1.trainer.max_epochs and sweep.when.trainer.max_epochs=1.seed depend on "
        "each other in a ring; take one condition away.",
    ),
    "a key that is fixed and varied": (
        ["sweeps=quick", "optimizer.lr=0.1"],
        "optimizer.lr is fixed by optimizer.lr=0.1 and varied by sweep.space.optimizer.lr="
        f"{LR}; keep one.",
    ),
    "a group that is fixed and varied": (
        ["sweeps=seeds", "sweep.space={model: 'mlp,gru'}", "model=gru"],
        "model is fixed by model=gru and varied by sweep.space.model=mlp,gru; keep one: "
        "'~sweep.space.model' takes the range away.",
    ),
    "a key in two files": (
        ["sweeps=[quick,lr_epochs_clip]"],
        "sweep.space.optimizer.lr stands in sweeps/quick.yaml and in "
        "sweeps/lr_epochs_clip.yaml; keep one.",
    ),
    "a range everywhere and one under a condition": (
        ["sweeps=quick", WHEN_MLP],
        f"optimizer.lr has two ranges: sweep.space.optimizer.lr={LR} and "
        "sweep.when.model=mlp.optimizer.lr=interval(1, 2); keep one.",
    ),
    "two ranges that could both hold": (
        ["sweep.when={model\\=mlp: {seed: 'range(0, 5)'}, data\\=iris: {seed: 'range(0, 3)'}}"],
        "seed has two ranges that could both hold: sweep.when.model=mlp.seed=range(0, 5) and "
        "sweep.when.data=iris.seed=range(0, 3); let them depend on the same key.",
    ),
    "a grid over a continuous range": (
        ["sweeps=quick", "sweep.sampler=grid"],
        "sweep.space.optimizer.lr=tag(log, interval(0.0001, 0.1)): a grid needs values that can "
        "be counted; expected range(start, stop, step), choice(a, b) or int(interval(low, high)).",
    ),
    "a grid larger than its limit": (
        [
            *("seed=range(0, 200)", "model.norm=choice(none, batch)"),
            *("sweep.sampler=grid", "sweep.max_grid=100"),
        ],
        "sweep.space has 400 points, more than sweep.max_grid=100; raise it, or shorten a range, "
        "such as sweep.space.seed=range(0, 200) with 200 values.",
    ),
    **{
        f"{key}, on which no result depends": (
            [f"++sweep.space={{{key}: 'choice(a, b)'}}"],
            f"sweep.space.{key}: no result depends on {key}; take it out of the space.",
        )
        for key in ("name", "tracking.uri", "sweep.n_trials")
    },
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_wrong_space_is_told_with_its_place(case: str) -> None:
    words, says = PROBLEMS[case]
    assert problem(*words) == says


def test_a_grid_is_counted_without_listing_its_points() -> None:
    words = ["data.split_seed=int(interval(1, 134217728))", "seed=int(interval(1, 67108864))"]
    said = problem(*words, "sweep.sampler=grid")
    assert "sweep.space has 9,007,199,254,740,992 points" in said


@pytest.mark.parametrize(
    "word", ["optimizer.lr=interval(0.1, 1)", "trainer.gradient_clip_val=choice(1.0, 2.0)"]
)
def test_a_range_on_the_command_line_settles_what_files_and_conditions_say(word: str) -> None:
    files = "[quick,lr_epochs_clip]" if word.startswith("optimizer") else "lr_epochs_clip"
    assert checked(f"sweeps={files}", word)


def test_two_sweep_files_are_joined_where_they_vary_different_keys(own_folder: Path) -> None:
    folder = sweep_file(own_folder, "space:\n  seed: range(0, 5)")
    assert checked("sweeps=[quick,mine]", config_dir=folder) == ["sweeps=[quick,mine]"]


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


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("space: [1, 2]", "Cannot merge DictConfig with ListConfig"),
        ("when:\n  model=mlp: 3", "sweep.when.model=mlp=3 is no mapping; expected KEY: RANGE."),
        ("space:\n  seed: 3", "sweep.space.seed=3: 3 is one value; expected interval"),
        ("space:\n  optimizer.lrr: interval(0, 1)", "optimizer.lrr is unknown. Did you mean 'opt"),
    ],
)
def test_a_wrong_sweep_file_of_the_users_own_is_refused(
    content: str, says: str, own_folder: Path
) -> None:
    folder = sweep_file(own_folder, content)
    with pytest.raises(ConfigError, match=says):
        checked("sweeps=mine", config_dir=folder)


def sweep_file(folder: Path, content: str) -> Path:
    """Write `sweeps/mine.yaml` in a user's own folder of configuration."""
    file = folder / "conf" / "sweeps" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"# @package sweep\n# Mine.\n{content}\n", encoding="utf-8")
    return folder / "conf"
