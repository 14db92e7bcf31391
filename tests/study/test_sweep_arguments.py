"""Ranges on a command line: taken out, put into the space, all else left as it was."""

import subprocess
import sys
from pathlib import Path

import pytest
from spaces import checked, study

from pipeline.config.compose import compose
from pipeline.config.options import SweepConfig
from pipeline.errors import ConfigError
from pipeline.study.space.space import with_space

SCRIPT = """
import sys
from pipeline.sweep import main
code = main(None)
heavy = ("torch", "optuna", "pytorch_lightning", "mlflow")
print("loaded:", *(name for name in heavy if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


def process(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], check=False, text=True, capture_output=True
    )


@pytest.mark.parametrize(
    "words",
    [
        ["model=lstm", "sweeps=lr_epochs_clip", "sweep.n_trials=20"],
        ["optimizer.lr=0.1", "model.hidden=[64,128]", "data.path='a,b'", "output=a,b"],
        ["sweep.objective=[val/f1,time/fit]", "sweep.enqueue=[{optimizer.lr: 0.1}]"],
        ["--cfg", "job", "--config-dir", "a=1,2", "model=mlp"],
        ["--help"],
        ["--info", "defaults"],
        ["-sc", "query=bash"],
        ["--colour"],
        [],
    ],
)
def test_a_command_line_without_ranges_is_left_as_it_was(words: list[str]) -> None:
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
def test_every_form_of_a_range_arrives_in_the_space_as_it_was_typed(word: str) -> None:
    key, _, text = word.partition("=")
    escaped = text.replace("'", "\\'")
    assert with_space([word]) == [f"++sweep.space={{{key}: '{escaped}'}}"]


def test_a_range_on_the_command_line_takes_the_place_of_the_files() -> None:
    whole = "sweep.space={seed: 'range(0, 5)'}"  # is joined with the ranges beside it
    space, _ = study("sweeps=lr_epochs_clip", "optimizer.lr=choice(0.1, 0.2)", whole)
    ranges = {one.key: str(one) for one in space.parameters}
    assert ranges["optimizer.lr"] == "choice(0.1, 0.2)"
    assert ranges["seed"] == "range(0, 5)"
    assert ranges["trainer.max_epochs"] == "int(interval(5, 40))"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["seed=1,2", "seed=3,4"], "seed is given two ranges: 1,2 and 3,4; keep one."),
        (["sweep.space={seed: '1,2'}", "seed=3,4"], "seed is given two ranges: 1,2 and 3,4; keep"),
        (
            ["sweep.space={seed: choice(1, 2)}"],
            "'sweep.space={seed: choice(1, 2)}' holds a range without quotes; write it as a word "
            "of its own, such as 'seed=choice(a, b)'.",
        ),
        (["sweep.space=3"], "'sweep.space=3' is no space; expected sweep.space={KEY: 'RANGE', …}."),
        (
            ["-m", "seed=1,2"],
            "-m starts a run for each value, and a sweep tries the values by itself; leave -m away",
        ),
    ],
)
def test_a_command_line_that_contradicts_itself_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        with_space(words)
    (line,) = refused.value.problems
    assert line.startswith(says)


def test_flags_and_their_values_stay_where_they_are() -> None:
    flags = ["--config-dir", "x,y", "--cfg", "job"]
    assert with_space([*flags[:2], "seed=1,2", *flags[2:]]) == [
        *flags,
        "++sweep.space={seed: '1,2'}",
    ]


def test_several_sweep_files_without_brackets_say_how_a_list_is_written() -> None:
    with pytest.raises(ConfigError, match=r"expected one, a list sweeps=\[quick,seeds\]"):
        checked("sweeps=quick,seeds")


def test_wrong_spaces_are_told_by_the_command_without_torch_or_optuna(own_folder: Path) -> None:
    result = process("optimizer.lrr=interval(0, 1)", "seed=range(5, 1)", "modle=lstm")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "error: modle is unknown. Did you mean 'model'?",
        "error: sweep.space.seed=range(5, 1): start 5 > stop 1; expected start < stop.",
        "error: sweep.space.optimizer.lrr: optimizer.lrr is unknown. Did you mean 'optimizer.lr'?",
        "loaded:",
    ]
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "shows"),
    [
        (["--help"], "sweep.n_trials"),
        (["--info", "defaults"], "sweep"),
        (
            ["--cfg", "job", "--package", "sweep.space", "seed=range(0, 5)"],
            "# @package sweep.space\nseed: range(0, 5)\n",
        ),
        (["--cfg", "job"], "space: {}"),
    ],
)
def test_a_question_needs_no_space_and_creates_nothing(
    words: list[str], shows: str, own_folder: Path
) -> None:
    result = process(*words)
    assert result.returncode == 0
    assert result.stderr == "loaded:\n"
    assert shows in result.stdout
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["sweeps=quick", "model=lstm"], "quick-lstm-mnist1d"),
        (["sweeps=quick", "model=cnn2d"], "quick-cnn2d-digits"),
        (["sweeps=[quick]", "data=iris"], "quick-mlp-iris"),
        (["seed=range(0, 5)"], "sweep-mlp-mnist1d"),
        (["seed=range(0, 5)", "model=mlp,lstm"], "sweep-mnist1d"),
        (["sweeps=models"], "models"),
        (["sweeps=mnist1d_table"], "mnist1d_table"),
        (["sweeps=quick", "sweep.name=mine"], "mine"),
    ],
)
def test_a_study_without_a_name_is_called_after_what_it_is(words: list[str], name: str) -> None:
    tree = compose(with_space(words), config_name="sweep", options=SweepConfig)
    assert tree.sweep.name == name
