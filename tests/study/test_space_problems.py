"""Spaces on a command line and in files: how they arrive, and all that is wrong with them."""

from pathlib import Path

import pytest
from helpers.config_command import choices, written
from helpers.fixture_types import Capture
from study.spaces import cases, checked, problems, study

from pipeline.base.errors import ConfigError
from pipeline.config.compose import compose
from pipeline.config.options import SweepConfig
from pipeline.study.space.space import with_space
from pipeline.sweep import main

# ── ranges on a command line ────────────────────────────────────────────────────────────────────

WITHOUT_RANGES = """
model=lstm  sweeps=lr_epochs_clip  sweep.n_trials=20

optimizer.lr=0.1  model.hidden=[64,128]  data.path='a,b'  output=a,b

sweep.objective=[val/f1,time/fit]  sweep.enqueue=[{optimizer.lr: 0.1}]

--cfg  job  --config-dir  a=1,2  model=mlp

--help

--info  defaults

-sc  query=bash

--colour
"""


@pytest.mark.parametrize("words", [[], *(words for words, _ in cases(WITHOUT_RANGES))])
def test_command_line_without_ranges_is_unchanged(words: list[str]) -> None:
    assert with_space(words) == words


@pytest.mark.parametrize(
    "word",
    [
        "optimizer.lr=tag(log, interval(1e-4, 1e-1))",
        "trainer.max_epochs=int(interval(5, 40))",
        "seed=range(0, 5)",
        "seed=1,2",
        "seed=sort(3, 1, 2)",
        "model.hidden=choice([64], [128, 64])",
        "model=choice(mlp, lstm)",
        "data.scale=choice('none', \"standard\")",
    ],
)
def test_every_range_form_reaches_the_space_unchanged(word: str) -> None:
    key, _, text = word.partition("=")
    escaped = text.replace("'", "\\'")
    flags = ["--config-dir", "x,y", "--cfg", "job"]
    space = f"++sweep.space={{{key}: '{escaped}'}}"
    assert with_space([*flags[:2], word, *flags[2:]]) == [*flags, space]


def test_typed_range_replaces_the_range_in_files() -> None:
    space_word = "sweep.space={seed: 'range(0, 5)'}"  # is joined with the ranges beside it
    space, _ = study("sweeps=lr_epochs_clip", "optimizer.lr=choice(0.1, 0.2)", space_word)
    ranges = {parameter.key: str(parameter) for parameter in space.parameters}
    assert ranges["optimizer.lr"] == "choice(0.1, 0.2)"
    assert ranges["seed"] == "range(0, 5)"
    assert ranges["trainer.max_epochs"] == "int(interval(5, 40))"


def test_typed_value_replaces_the_range_in_files() -> None:
    space, trials = study("sweeps=models", "data=mnist1d")
    assert space.keys == ("model", "seed")
    assert trials.config({"model": "gru"}).data["_target_"] == "pipeline.data.mnist1d.MNIST1D"
    space, _ = study("sweeps=architecture", "model=mlp", "model.hidden=[8]", "model.norm=none")
    used = {parameter.key for parameter in space.parameters if not space.is_idle(parameter)}
    assert used == {"optimizer.lr", "model.activation", "model.dropout"}


@pytest.mark.parametrize(
    ("words", "range_of_lr"),
    [
        (["optimizer.lr=0.1", "optimizer.lr=interval(0, 1)"], "interval(0, 1)"),
        (["optimizer.lr=interval(0, 1)", "optimizer.lr=interval(2, 3)"], "interval(2, 3)"),
        (["optimizer.lr=interval(0, 1)", "seed=1,2", "optimizer.lr=0.1"], None),
    ],
)
def test_last_range_or_value_of_key_counts(words: list[str], range_of_lr: str | None) -> None:
    space, _ = study(*words)
    ranges = {parameter.key: str(parameter) for parameter in space.parameters}
    assert ranges.get("optimizer.lr") == range_of_lr


def test_experiment_may_set_study_options(own_folder: Path) -> None:
    text = "# @package _global_\nsweep: {n_trials: 3, sampler: random, pruner: none}\n"
    written(own_folder / "conf", {"experiment/mine.yaml": text})

    def options(*words: str) -> tuple[int, str, str]:
        tree = compose(
            ["experiment=mine", *words],
            config_name="sweep",
            config_dir=own_folder / "conf",
            options=SweepConfig,
        )
        return tree.sweep.n_trials, tree.sweep.sampler, tree.sweep.pruner

    assert options() == (3, "random", "none")
    assert options("sweeps=quick") == (10, "random", "none")
    assert options("sweeps=quick", "sweep.n_trials=5") == (5, "random", "none")


CONTRADICTIONS = """
sweep.space={seed: '1,2'}  seed=3,4
- seed has two ranges: 1,2 and 3,4; keep one.

sweep.space={seed: choice(1, 2)}
- 'sweep.space={seed: choice(1, 2)}' has a range without quotes; write it as a separate word, such
  as 'seed=choice(a, b)'.

sweep.space=3
- 'sweep.space=3' is not a search space; expected sweep.space={KEY: 'RANGE', …}.

-m  seed=1,2
- -m starts a run for each value, but a sweep tries the values itself; remove -m
"""


@pytest.mark.parametrize(("words", "lines"), cases(CONTRADICTIONS))
def test_contradictory_command_line_is_refused(words: list[str], lines: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        with_space(words)
    assert list(refused.value.problems) == lines


QUESTIONS = {
    ("--help",): "sweep.n_trials",
    ("--info", "defaults"): "sweep",
    ("--cfg", "job", "--package", "sweep.space", "seed=range(0, 5)"): (
        "# @package sweep.space\nseed: range(0, 5)\n"
    ),
    ("--cfg", "job"): "space: {}",
}


@pytest.mark.parametrize("words", QUESTIONS, ids=" ".join)
def test_hydra_question_about_a_study_is_answered(
    words: tuple[str, ...], own_folder: Path, capsys: Capture
) -> None:
    assert main(words) == 0
    assert QUESTIONS[words] in capsys.readouterr().out
    assert list(own_folder.iterdir()) == []


TABLE = "sweeps=quick data=table data.target=x data.path="


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("sweeps=quick model=lstm", "quick-lstm-mnist1d"),
        ("sweeps=quick model=cnn2d", "quick-cnn2d-digits"),
        ("sweeps=[quick] data=iris", "quick-mlp-iris"),
        ("sweeps=quick data=table data.path=wards.csv data.target=x", "quick-mlp-wards"),
        (f"{TABLE}a/wards.csv", "quick-mlp-wards-a"),
        (f"{TABLE}../b/wards.csv", "quick-mlp-wards-b"),
        (f"{TABLE}../wards.csv", "quick-mlp-wards"),
        (f"{TABLE}/wards.csv", "quick-mlp-wards"),
        (f"{TABLE}数据/wards.csv", "quick-mlp-wards-7b3d"),
        (f"{TABLE}https://me.org/wards.csv", "quick-mlp-wards"),
        (f"{TABLE}{'x' * 60}/wards.csv", f"quick-mlp-wards-{'x' * 40}"),
        (f"{TABLE}a/wards.csv sweep.space={{data:'choice(table,iris)'}}", "quick-mlp"),
        ("sweeps=seeds experiment=mnist1d_gru", "seeds-gru-mnist1d-mnist1d_gru"),
        ("seed=range(0,5)", "sweep-mlp-mnist1d"),
        ("seed=range(0,5) model=mlp,lstm", "sweep-mnist1d"),
        ("sweeps=models", "models"),
        ("sweeps=models data=mnist1d", "models-mnist1d"),
        ("sweeps=mnist1d_table", "mnist1d_table"),
        ("sweeps=quick sweep.name=mine", "mine"),
    ],
)
def test_unnamed_study_gets_a_descriptive_name(words: str, name: str) -> None:
    tree = compose(with_space(words.split()), config_name="sweep", options=SweepConfig)
    assert tree.sweep.name == name


# ── wrong spaces: every problem with the place it stands in, all at once ────────────────────────

PROBLEMS = r"""
model=lstm
- sweep.space is empty; set what is varied, such as 'optimizer.lr=tag(log, interval(1e-4, 1e-1))',
  or choose a file of sweeps/, such as sweeps=quick.

modle=lstm  optimizer.lrr=interval(0, 1)  seed=range(5, 1)
- modle is unknown. Did you mean 'model=lstm'?
- sweep.space.seed=range(5, 1): start 5 > stop 1; expected start < stop.
- sweep.space.optimizer.lrr: optimizer.lrr is unknown. Did you mean 'optimizer.lr'?

trials=5  seed=1,2
- trials is unknown. Did you mean 'sweep.n_trials=5'?

optimizer.lr=interval(1, 0.1)
- sweep.space.optimizer.lr=interval(1, 0.1): low 1 > high 0.1; expected low < high.

optimizer.lrr=interval(0, 1)
- sweep.space.optimizer.lrr: optimizer.lrr is unknown. Did you mean 'optimizer.lr'?

model=choice(mlp, lstn)
- sweep.space.model=choice(mlp, lstn): model=lstn is unknown; expected one of MODELS. Did you mean
  'lstm'?

scheduler=interval(0, 1)
- sweep.space.scheduler=interval(0, 1): scheduler is a config group; expected choice(SCHEDULERS).

model=mlp,lstm  model.readout=choice(mean, last)
- sweep.space.model.readout: model.readout is unknown where model=mlp.

model=lstm  sweep.when={model\=lstm: {model.readuot: 'choice(mean, last)'}}
- sweep.when.model=lstm.model.readuot: model.readuot is unknown where model=lstm. Did you mean
  'model.readout'?

sweep.when={model\=lstmm: {seed: 'range(0, 5)'}}
- sweep.when.model=lstmm: model=lstmm is unknown; expected one of MODELS. Did you mean 'lstm'?

sweep.when={modl\=lstm: {seed: 'range(0, 5)'}}
- sweep.when.modl=lstm: modl is unknown. Did you mean 'model'?

sweep.when={lstm: {seed: 'range(0, 5)'}}
- sweep.when.lstm: a condition is key=value, such as model=lstm.

sweep.when={model\=choice\(mlp\,gru\): {seed: 'range(0, 5)'}}
- sweep.when.model=choice(mlp,gru): 'choice(mlp,gru)' has several values; expected one value, such
  as model=lstm.

model=mlp,cnn1d  sweep.when={model.norm\=batch: {seed: 'range(0, 5)'}}
- sweep.when.model.norm=batch: model is varied, so model.norm may not exist; vary it too.

sweep.when={seed\=1: {test: 'true,false'}, test\=true: {seed: 'range(0, 5)'}}
- sweep.when.seed=1.test and sweep.when.test=true.seed form a cycle; remove one condition.

sweeps=quick  optimizer.lr=0.1
- sweep.space is empty, since the command line sets optimizer.lr=0.1; remove it to vary its key, or
  train a single run with pipeline train.

sweeps=seeds  sweep.space={model: 'mlp,gru'}  model=gru
- model is fixed by model=gru and varied by sweep.space.model=mlp,gru; keep one:
  '~sweep.space.model' removes the range.

sweeps=[quick,lr_epochs_clip]
- sweep.space.optimizer.lr is in sweeps/quick.yaml and in sweeps/lr_epochs_clip.yaml; keep one.

sweeps=quick  sweep.when={model\=mlp: {optimizer.lr: 'interval(1, 2)'}}
- optimizer.lr has two ranges: sweep.space.optimizer.lr=tag(log, interval(1e-4, 1e-1)) and
  sweep.when.model=mlp.optimizer.lr=interval(1, 2); keep one.

sweep.when={model\=mlp: {seed: 'range(0, 5)'}, data\=iris: {seed: 'range(0, 3)'}}
- seed has two ranges that can both apply: sweep.when.model=mlp.seed=range(0, 5) and
  sweep.when.data=iris.seed=range(0, 3); make them depend on the same key.

sweeps=quick  sweep.sampler=grid
- sweep.space.optimizer.lr=tag(log, interval(0.0001, 0.1)): a grid needs countable values; expected
  range(start, stop, step), choice(a, b) or int(interval(low, high)).

seed=range(0, 200)  model.norm=choice(none, batch)  sweep.sampler=grid  sweep.max_grid=100
- sweep.space has 400 points, more than sweep.max_grid=100; raise it, or shorten a range, such as
  sweep.space.seed=range(0, 200) with 200 values.

data.split_seed=int(interval(1, 134217728))  seed=int(interval(1, 67108864))  sweep.sampler=grid
- sweep.space has 9,007,199,254,740,992 points, more than sweep.max_grid=10000; raise it, or shorten
  a range, such as sweep.space.data.split_seed=int(interval(1, 134217728)) with 134,217,728 values.

++sweep.space={name: 'choice(a, b)'}
- sweep.space.name: no result depends on name; remove it from the space.

++sweep.space={tracking.uri: 'choice(a, b)'}
- sweep.space.tracking.uri: no result depends on tracking.uri; remove it from the space.

++sweep.space={sweep.n_trials: 'choice(a, b)'}
- sweep.space.sweep.n_trials: no result depends on sweep.n_trials; remove it from the space.

sweeps=quick,seeds
- 'sweeps=quick,seeds' has several values; expected one, a list 'sweeps=[quick,seeds]', a quoted
  string 'sweeps="quick,seeds"', or -m for one run each.

sweeps=quik
- sweeps=quik is unknown; expected one of architecture, folds, lr_epochs_clip, mnist1d_table,
  models, preflight, quick, seeds. Did you mean 'quick'?

sweeps=quick  sweep.enqueue=[{optimizer.lr: 1}, {lr: 0.01}, 3]
- sweep.enqueue[0].optimizer.lr=1 is outside of
  sweep.space.optimizer.lr=tag(log, interval(0.0001, 0.1)).
- sweep.enqueue[1].lr is not varied by this study. Did you mean 'optimizer.lr'?
- sweep.enqueue[2] is not a mapping; expected {KEY: VALUE}.
"""
TABLE = PROBLEMS.replace("MODELS", choices("model")).replace("SCHEDULERS", choices("scheduler"))


@pytest.mark.parametrize(("words", "lines"), cases(TABLE))
def test_invalid_space_is_reported_with_its_place(words: list[str], lines: list[str]) -> None:
    assert problems(*words) == lines


@pytest.mark.parametrize("name", ["''", "a/b", "a" * 65, "数据"])
def test_invalid_study_name_is_refused_with_the_rule(name: str) -> None:
    (line,) = problems("sweeps=quick", f"sweep.name={name}")
    assert line.endswith(
        "is not a name; expected 1 to 64 letters, digits, '_', '-' or '.', not beginning with '.'."
    )


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ("[quick,lr_epochs_clip]", "optimizer.lr=interval(0.1, 1)"),
        ("lr_epochs_clip", "trainer.gradient_clip_val=choice(1.0, 2.0)"),
    ],
)
def test_typed_range_resolves_conflicts_of_files(files: str, word: str) -> None:
    """It resolves conflicts of conditions too."""
    assert checked(f"sweeps={files}", word)


# ── files of the user's own ─────────────────────────────────────────────────────────────────────


def with_file(content: str, sweeps: str) -> list[str]:
    """Check a study that names `sweeps/mine.yaml` of this content, in a folder of the user's."""
    file = Path("conf/sweeps/mine.yaml")
    file.parent.mkdir(parents=True)
    file.write_text(f"# @package sweep\n# Mine.\n{content}\n", encoding="utf-8")
    return checked(sweeps, config_dir=Path("conf").absolute())


def test_sweep_files_with_different_keys_are_joined() -> None:
    word = "sweeps=[quick,mine]"
    assert with_file("space:\n  seed: range(0, 5)", word) == [word]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("space: [1, 2]", "Cannot merge DictConfig with ListConfig"),
        ("when:\n  model=mlp: 3", "sweep.when.model=mlp=3 is not a mapping; expected KEY: RANGE."),
        ("space:\n  seed: 3", "sweep.space.seed=3: 3 is a single value; expected interval"),
        ("space:\n  optimizer.lrr: interval(0, 1)", "optimizer.lrr is unknown. Did you mean 'opt"),
    ],
)
def test_invalid_own_sweep_file_is_refused(content: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        with_file(content, "sweeps=mine")
