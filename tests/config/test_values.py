"""Values of a command line: all wrong ones at once, each with key, value and what is allowed."""

import inspect
import os
from pathlib import Path

import pytest
from command_line import CommandLine
from omegaconf import OmegaConf

from pipeline.config.check import MONITORED
from pipeline.config.options import REFUSED, TrainerOptions
from pipeline.paths import conf_folder


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("optimizer.lr=", "expected a number > 0."),
        ("optimizer.lr=0", "expected a number > 0."),
        ("optimizer.lr=-1", "expected a number > 0."),
        ("optimizer.lr=nan", "expected a number > 0."),
        ("optimizer.lr=inf", "expected a number > 0."),
        ("optimizer.lr=1e400", "expected a number > 0."),
        ("optimizer.lr=fast", "expected a number > 0."),
        ("optimizer.lr=true", "expected a number > 0."),
        ("optimizer.weight_decay=-1", "expected a number >= 0."),
        ("optimizer.betas=[0.9,1]", "expected a list [a number >= 0 and < 1, a number"),
        ("optimizer.amsgrad=no", "expected true or false."),
        ("trainer.max_epochs=abc", "expected a whole number > 0."),
        ("trainer.max_epochs=1.5", "expected a whole number > 0."),
        ("trainer.max_epochs=0", "expected a whole number > 0."),
        ("trainer.max_epochs=-1", "expected a whole number > 0."),
        ("trainer.max_epochs=-5", "expected a whole number > 0."),
        ("trainer.gradient_clip_val=-1", "expected a number > 0 or null."),
        ("trainer.gradient_clip_val=0", "expected a number > 0 or null."),
        ("trainer.gradient_clip_val=nan", "expected a number > 0 or null."),
        ("trainer.gradient_clip_algorithm=foo", "expected one of norm, value."),
        ("trainer.devices=0", "expected a whole number > 0, a list [a whole number >= 0, …]"),
        ("trainer.devices=-1", "expected a whole number > 0, a list [a whole number >= 0, …]"),
        ("trainer.devices=x", "expected a whole number > 0, a list [a whole number >= 0, …]"),
        ("trainer.devices=1.5", "expected a whole number > 0, a list [a whole number >= 0, …]"),
        ("trainer.devices=null", "expected a whole number > 0, a list [a whole number >= 0, …]"),
        ("trainer.devices=[]", "expected a whole number > 0, a list [a whole number >= 0, …]"),
        ("trainer.devices=[-1]", "expected a whole number > 0, a list [a whole number >= 0, …]"),
        ("trainer.precision=foo", "expected one of 32-true, bf16-mixed, 16-mixed,"),
        ("seed=-1", "expected a whole number >= 0 and < 4294967296."),
        ("seed=1099511627776", "expected a whole number >= 0 and < 4294967296."),
        ("seed=abc", "expected a whole number >= 0 and < 4294967296."),
        ("data.batch_size=0", "expected a whole number > 0."),
        ("data.batch_size=-1", "expected a whole number > 0."),
        ("data.validation=1", "expected a number >= 0 and < 1."),
        ("data.validation=-0.1", "expected a number >= 0 and < 1."),
        ("data.scale=robust", "expected one of none, standard, minmax."),
        ("model.hidden=[0]", "expected a list [a whole number > 0, …]."),
        ("model.hidden=-1", "expected a list [a whole number > 0, …]."),
        ("model.hidden=[a]", "expected a list [a whole number > 0, …]."),
        ("model.dropout=1.5", "expected a number >= 0 and < 1."),
        ("model.dropout=1.0", "expected a number >= 0 and < 1."),
        ("model.activation=rellu", "Did you mean 'relu'?"),
        ("keep=first", "expected one of best, last."),
        ("verbose=3", "expected a whole number >= 0 and <= 2 or null."),
        ("verbose=true", "expected a whole number >= 0 and <= 2 or null."),
        ("name=", "expected a text (not empty) or null."),
        ("output=", "expected a text (not empty)."),
        ("metrics.threshold=1", "number > 0 and < 1, best_f1 or a text such as recall_at_0.9."),
        ("metrics.threshold=best_f", "Did you mean 'best_f1'?"),
        ("metrics.threshold=recall_at_1.0", "such as recall_at_0.9."),
        ("scheduler.interval=batch", "expected one of epoch, step."),
    ],
)
def test_a_wrong_value_is_one_line_with_its_key_and_what_is_allowed(
    line: CommandLine, word: str, expected: str
) -> None:
    problem = line.problem(word)
    assert problem.startswith(word.partition("=")[0] + "=")
    assert expected in problem.replace("≥", ">=").replace("≤", "<=")


@pytest.mark.parametrize("model", sorted(path.stem for path in (conf_folder() / "model").iterdir()))
def test_no_parameter_of_a_network_may_be_minus_one(line: CommandLine, model: str) -> None:
    parameters = OmegaConf.load(conf_folder() / "model" / f"{model}.yaml")
    keys = [f"model.{key}" for key in parameters if key not in ("defaults", "_target_")]
    problems = line.problems(f"model={model}", *(f"{key}=-1" for key in keys))
    assert sorted(problem.partition("=")[0] for problem in problems) == sorted(keys)


@pytest.mark.parametrize(
    ("model", "word", "expected"),
    [
        ("cnn1d", "model.channels=[]", "expected a list [a whole number > 0, …] (not empty)."),
        ("cnn1d", "model.channels=[25,0,25]", "expected a list [a whole number > 0, …]"),
        ("cnn1d", "model.stride=0", "expected a whole number > 0 or a list"),
        ("cnn1d", "model.padding=[1,1,-1]", "expected same, a whole number >= 0 or a list"),
        ("cnn1d", "model.pool=learnt", "Did you mean 'learned'?"),
        ("lstm", "model.layers=0", "expected a whole number > 0."),
        ("lstm", "model.norm=batch", "expected one of none, layer."),
    ],
)
def test_a_wrong_parameter_of_a_network_is_told_with_what_is_allowed(
    line: CommandLine, model: str, word: str, expected: str
) -> None:
    problem = line.problem(f"model={model}", word)
    assert expected in problem.replace("≥", ">=").replace("≤", "<=")


def test_no_hidden_layers_and_whole_numbers_for_fractions_are_right(line: CommandLine) -> None:
    run = line.run("model.hidden=[]", "model.dropout=0", "optimizer.lr=1")
    assert (run.model["hidden"], run.optimizer["lr"]) == ([], 1)


def test_all_wrong_values_of_all_groups_are_told_together(line: CommandLine) -> None:
    problems = line.problems(
        "seed=-1", "trainer.max_epochs=0", "model.dropout=2", "optimizer.lr=0", "monitor=val/los"
    )
    assert [problem.partition("=")[0] for problem in problems] == [
        "seed",
        "trainer.max_epochs",
        "model.dropout",
        "optimizer.lr",
        "monitor",
    ]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("monitor=${nope}", "monitor=${nope} can't be resolved: there is no key 'nope'."),
        (
            "monitor=${oc.env:NOPE}",
            "monitor=${oc.env:NOPE} can't be resolved: Environment variable 'NOPE' not found.",
        ),
        (
            "monitor=${monitor}",
            "monitor=${monitor} can't be resolved: Recursive interpolation detected.",
        ),
        ("output=???", "output has no value yet (???); give it one: output=VALUE."),
        ("name=${oc.env:NOPE}", "name=${oc.env:NOPE} can't be resolved: Environment variable"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named_with_its_key(
    line: CommandLine, word: str, says: str
) -> None:
    assert line.problem(word).startswith(says)


def test_a_ring_of_references_is_found(line: CommandLine) -> None:
    problems = line.problems("name=${monitor}", "monitor=${name}")
    assert all("Recursive interpolation detected" in problem for problem in problems)


def test_what_refers_to_a_wrong_value_is_not_told_as_well(line: CommandLine) -> None:
    assert line.problem("trainer.max_epochs=many").startswith("trainer.max_epochs='many'")


def test_an_unknown_metric_to_monitor_lists_those_that_are_logged(line: CommandLine) -> None:
    assert line.problem("monitor=val/los") == (
        f"monitor='val/los' is never logged; expected one of {', '.join(MONITORED)}."
        " Did you mean 'val/loss'?"
    )


@pytest.mark.parametrize("group", ["callbacks=early_stopping", "scheduler=plateau"])
def test_a_followed_metric_must_be_logged_and_its_direction_right(
    line: CommandLine, group: str
) -> None:
    key = "scheduler" if "scheduler" in group else "callbacks.early_stopping"
    assert f"{key}.monitor='f1' is never logged" in line.problem(group, f"{key}.monitor=f1")
    assert line.problem(group, f"{key}.monitor=val/f1") == (
        f"{key}.mode=min looks for the worst val/f1; expected max."
    )


NO_NAME = "is not a name; expected 1 to"
RULES = {
    "trainer=cpu trainer.precision=16-mixed": (
        "trainer.precision=16-mixed does not exist on the CPU; expected one of 32-true, "
        "bf16-mixed, bf16-true, 64-true."
    ),
    "trainer=cpu trainer.precision=16-true": "trainer.precision=16-true does not exist on the CPU;",
    "trainer.devices=[0,0]": "trainer.devices=[0, 0] names a device twice.",
    "trainer.min_epochs=30": "trainer.min_epochs=30 is more than trainer.max_epochs=20.",
    "tags=['a;b']": "tags: 'a;b' is no tag; expected up to 250",
    "+tags.fold=3": "tags=",
    "trust=['../net']": "trust=[../net] is no package",
    **{
        f"{key}={name}": f"{key}={name!r} {NO_NAME}"
        for key in ("name", "tracking.experiment")
        for name in ("a/b", "../etc", "/etc", ".hidden", "x" * 65)
    },
}


@pytest.mark.parametrize("words", RULES)
def test_what_types_can_not_state_is_refused_too(line: CommandLine, words: str) -> None:
    assert line.problem(*words.split()).startswith(RULES[words])


def test_an_output_that_is_a_file_is_refused(line: CommandLine, own_folder: Path) -> None:
    (own_folder / "taken").touch()
    assert line.problem("output=taken") == (
        "output='taken' is a file; expected a folder. Choose another."
    )


def test_an_output_inside_a_run_is_refused(line: CommandLine, own_folder: Path) -> None:
    (own_folder / "run").mkdir()
    (own_folder / "run" / "journal.jsonl").touch()
    problem = line.problem(f"output=run{os.sep}more")
    assert problem.startswith("output='run/more' lies inside the run ")


def test_the_trainers_options_are_lightnings_own_and_four_of_ours() -> None:
    from pytorch_lightning import Trainer

    lightning = set(inspect.signature(Trainer).parameters)
    refused = {key.removeprefix("trainer.") for key in REFUSED}
    assert set(TrainerOptions.model_fields) - lightning == {
        "threads",
        "compile",
        "matmul_precision",
    }
    assert lightning - set(TrainerOptions.model_fields) == refused


def _needs_path(choice: str) -> bool:
    file = conf_folder() / "data" / f"{choice.removeprefix('data=')}.yaml"
    return OmegaConf.is_missing(OmegaConf.load(file), "path")


# Each experiment runs in tests/running/test_presets.py.
@pytest.mark.parametrize(
    "choice",
    [
        f"{path.parent.name}={path.stem}"
        for path in sorted(conf_folder().glob("*/*.yaml"))
        if path.parent.name not in ("experiment", "hydra", "sweeps")
    ],
)
def test_every_choice_that_ships_is_right_as_it_stands(line: CommandLine, choice: str) -> None:
    from pipeline.config.check import check_callbacks

    words = ["data.path=file"] if choice.startswith("data=") and _needs_path(choice) else []
    run = line.run(choice, *words)
    if choice.startswith("callbacks"):
        check_callbacks(run)


@pytest.mark.parametrize("more", [(), ("-m", "seed=3,4")])
def test_a_mapping_may_stand_where_the_yaml_has_a_list(
    line: CommandLine, more: tuple[str, ...]
) -> None:
    assert line("model=cnn1d", "model.kernel_size={shapes: [3, 5]}", *more) == 0, line.err
    assert [run.model["kernel_size"] for run in line.runs] == [{"shapes": [3, 5]}] * (
        1 + len(more) // 2
    )


def test_a_mapping_in_place_of_a_list_is_a_wrong_value_where_a_list_is_needed(
    line: CommandLine,
) -> None:
    assert line.problem("model.hidden={a: 1}") == (
        "model.hidden={'a': 1} is not allowed; expected a list [a whole number > 0, …]."
    )
