"""Values of a command line: all wrong ones at once, each with key, value and what is allowed.

Targets are judged after they are resolved, their constructors as their schema, then built.
"""

import inspect
import resource
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from helpers.case_tables import cases, refusals
from helpers.config_command import CommandLine, choices, written
from helpers.fixture_types import Capture
from helpers.refused_calls import refusal
from omegaconf import OmegaConf
from torch import nn, zeros

from pipeline.base.paths import conf_folder
from pipeline.config.check import check, check_callbacks
from pipeline.config.compose import compose
from pipeline.config.options import REFUSED, TrainerOptions
from pipeline.config.targets import build
from pipeline.evaluate import main as evaluate
from pipeline.metrics import monitored
from pipeline.sweep import main as sweep
from pipeline.train import main as train

OLD_RUNS = Path(__file__).parents[1] / "old_records" / "bcca06e" / "runs"
HIDDEN = "expected a list [a whole number > 0, …] of at most 1000."
# By the words beside them: a key, wrong values of it, and what is allowed.
WRONG = {
    "": """
optimizer.lr → "" 0 -1 nan inf 1e400 fast true → expected a number > 0.
optimizer.weight_decay → -1 → expected a number ≥ 0.
optimizer.betas → [0.9,1] → expected a list [a number ≥ 0 and < 1, a number
optimizer.amsgrad → no → expected true or false.
trainer.max_epochs → abc 1.5 0 -1 -5 → expected a whole number > 0.
trainer.gradient_clip_val → -1 0 nan → expected a number > 0 or null.
trainer.gradient_clip_algorithm → foo → expected one of norm, value.
trainer.devices → 0 -1 x 1.5 null [] [-1] → expected a whole number > 0, a list [a whole number ≥ 0
trainer.precision → foo → expected one of 32-true, bf16-mixed, 16-mixed,
seed → -1 1099511627776 abc → expected a whole number ≥ 0 and < 4294967296.
data.batch_size → 0 -1 → expected a whole number > 0.
data.validation → 1 -0.1 → expected a number ≥ 0 and < 1.
data.scale → robust → expected one of none, standard, minmax.
model.hidden → [0] -1 [a] {a:1} → expected a list [a whole number > 0, …] of at most 1000.
model.dropout → 1.5 1.0 → expected a number ≥ 0 and < 1.
model.activation → rellu → Did you mean 'relu'?
keep → first → expected one of best, last.
verbose → 3 true → expected a whole number ≥ 0 and ≤ 2 or null.
name → "" → expected a string (not empty) or null.
output → "" → expected a string (not empty).
metrics.threshold → 1 recall_at_1.0 → number > 0 and < 1, best_f1 or a string such as recall_at_0.9.
scheduler.interval → batch → expected one of epoch, step.
""",
    "model=mlp": "metrics.threshold → best_f → Did you mean 'best_f1'?",
    "model=mlp data=arrays data.path=x": "data.layout → image → Did you mean 'images'?",
    "model=mlp data=ucr data.path=x": "data.length → 0 → expected a whole number > 0 or null.",
    "model=mlp data=images data.path=x": "data.image_mode → rgb → expected one of L, RGB or null.",
    "model=cnn1d": f"""
model.channels → [] [25,0,25] [1{",1" * 1000}] → (not empty) and of at most 1000.
model.stride → 0 → expected a whole number > 0 and ≤ 10000 or a list
model.padding → [1,1,-1] → expected same, a whole number ≥ 0 and ≤ 10000 or a
model.pool → learnt → Did you mean 'learned'?
""",
    "model=lstm": """
model.layers → 0 1001 → expected a whole number > 0 and ≤ 1000.
model.norm → batch → expected one of none, layer.
""",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_values_are_reported_by_key(line: CommandLine, words: str) -> None:
    """Each line says what is allowed."""
    expected = {key: allowed for key, _, allowed in cases(WRONG[words])}
    values_by_key = {key: values.split() for key, values, _ in cases(WRONG[words])}
    for turn in range(max(map(len, values_by_key.values()))):
        values = {key: wrong[turn] for key, wrong in values_by_key.items() if turn < len(wrong)}
        problems = line.problems(*words.split(), *(f"{key}={values[key]}" for key in values))
        by_key = {problem.partition("=")[0]: problem for problem in problems}
        assert len(problems) == len(by_key)  # none more, of what refers to them
        assert by_key.keys() == values.keys()
        for key, problem in by_key.items():
            assert expected[key] in problem


@pytest.mark.parametrize("model", sorted(path.stem for path in (conf_folder() / "model").iterdir()))
def test_network_parameters_may_not_be_minus_one(line: CommandLine, model: str) -> None:
    parameters = OmegaConf.load(conf_folder() / "model" / f"{model}.yaml")
    keys = [f"model.{key!s}" for key in parameters if key not in ("defaults", "_target_")]
    problems = line.problems(f"model={model}", *(f"{key}=-1" for key in keys))
    assert sorted(problem.partition("=")[0] for problem in problems) == sorted(keys)


def test_empty_hidden_and_integers_are_valid(line: CommandLine) -> None:
    run = line.run("model.hidden=[]", "model.dropout=0", "optimizer.lr=1")
    assert (run.model["hidden"], run.optimizer["lr"]) == ([], 1)


def test_wrong_values_of_all_groups_are_reported_together(line: CommandLine) -> None:
    wrong = {"seed": -1, "trainer.max_epochs": 0, "model.dropout": 2, "optimizer.lr": 0}
    problems = line.problems(*(f"{key}={value}" for key, value in wrong.items()), "monitor=val/los")
    assert [problem.partition("=")[0] for problem in problems] == [*wrong, "monitor"]


def test_unresolvable_reference_is_named_with_its_key(line: CommandLine) -> None:
    told = {
        "name=${nope}": "there is no key 'nope'.",
        "monitor=${oc.env:NOPE}": "Environment variable 'NOPE' not found.",
        "optimizer.lr=${optimizer.lr}": "Recursive interpolation detected.",
    }
    lines = [f"{word} can't be resolved: {says}" for word, says in told.items()]
    missing = "output is missing; give it a value: output=VALUE."
    problems = line.problems(*told, "output=???")
    assert sorted(problems) == sorted([*lines, missing])
    ring = line.problems("name=${monitor}", "monitor=${name}")
    assert all("Recursive interpolation detected" in problem for problem in ring)


def test_unknown_monitor_lists_logged_metrics(line: CommandLine) -> None:
    assert line.problem("monitor=val/los") == (
        f"monitor='val/los' is not logged; expected one of {', '.join(monitored())}."
        " Did you mean 'val/loss'?"
    )


@pytest.mark.parametrize(
    ("main", "words", "said"),
    [
        (train, "~tracking", "tracking is missing; expected a mapping {key: value}."),
        (train, "~find_lr test=maybe", "find_lr is missing; expected true or false."),
        (train, "experiment=odd", "tracking=null is not allowed; expected a mapping {key: value}."),
        (
            lambda words: sweep([*words, "sweeps=quick"]),
            "~tracking",
            "tracking is missing; expected a mapping {key: value}.",
        ),
    ],
)
def test_early_read_values_are_reported_by_the_check(
    words: str, said: str, main: Callable[..., int], own_folder: Path, capsys: Capture
) -> None:
    """No process is started before the check."""
    odd = own_folder / "conf" / "experiment" / "odd.yaml"
    odd.parent.mkdir(parents=True)
    odd.write_text("# @package _global_\ntracking: null\n", encoding="utf-8")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert main(["model=mlp", *words.split(), "--config-dir", "conf"]) == 2
    assert resource.getrusage(resource.RUSAGE_CHILDREN) == before
    assert f"error: {said}" in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("group", ["callbacks=early_stopping", "scheduler=plateau"])
def test_followed_metric_must_be_logged_and_directed(line: CommandLine, group: str) -> None:
    """Its direction must be the right one."""
    key = "scheduler" if "scheduler" in group else "callbacks.early_stopping"
    assert f"{key}.monitor='f1' is not logged" in line.problem(group, f"{key}.monitor=f1")
    assert line.problem(group, f"{key}.monitor=val/f1") == (
        f"{key}.mode=min selects the worst val/f1; expected max."
    )


RULES = """
trainer=cpu trainer.precision=16-mixed
- trainer.precision=16-mixed is not supported on the CPU; expected one of 32-true, bf16-mixed,
  bf16-true, 64-true.

trainer.devices=[0,0]
- trainer.devices=[0, 0] names a device twice.

trainer.min_epochs=30
- trainer.min_epochs=30 is more than trainer.max_epochs=20.

tags=['a;b']
- tags: 'a;b' is not a valid tag; expected up to 250

+tags.fold=3
- tags=

trust=['../net']
- trust=[../net] is not a package

register=ward tracking=none
- register='ward' needs MLflow, but tracking=none is set; choose tracking=local, or remove register.
"""


@pytest.mark.parametrize(("words", "message"), refusals(RULES))
def test_rules_beyond_types_are_checked(line: CommandLine, words: str, message: str) -> None:
    assert line.problem(*words.split()).startswith(message)


@pytest.mark.parametrize("name", ["a/b", "../etc", "/etc", ".hidden", "x" * 65])
def test_path_components_must_be_plain_names(line: CommandLine, name: str) -> None:
    keys = ("name", "register", "tracking.experiment")
    problems = line.problems(*(f"{key}={name}" for key in keys))
    for key, problem in zip(keys, problems, strict=True):
        assert problem == (
            f"{key}={name!r} is not a name; expected 1 to 64 letters, digits, '_', '-' or '.', not "
            "beginning with '.'."
        )


def test_output_inside_a_run_is_refused(line: CommandLine) -> None:
    (line.folder / "run").mkdir()
    (line.folder / "run" / "journal.jsonl").touch()
    assert line.problem("output=run/more").startswith("output='run/more' is inside the run ")


def test_trainer_options_are_those_of_lightning() -> None:
    """There are four more of our own."""
    from pytorch_lightning import Trainer

    lightning = set(inspect.signature(Trainer).parameters)
    refused = {key.removeprefix("trainer.") for key in REFUSED if key.startswith("trainer.")}
    ours = {"threads", "compile", "matmul_precision", "checkpoint_seconds"}
    assert set(TrainerOptions.model_fields) - lightning == ours
    assert lightning - set(TrainerOptions.model_fields) == refused


# Each experiment runs in tests/running/test_presets.py.
GROUPS = [
    sorted(f"{folder.name}={path.stem}" for path in folder.glob("*.yaml"))
    for folder in sorted(conf_folder().iterdir())
    if folder.is_dir() and folder.name not in ("experiment", "hydra", "sweeps")
]


@pytest.mark.parametrize("choices", zip_longest(*GROUPS))
def test_every_shipped_choice_is_valid(line: CommandLine, choices: Sequence[str | None]) -> None:
    words = [choice for choice in choices if choice is not None]
    for name in (word.removeprefix("data=") for word in words if word.startswith("data=")):
        if OmegaConf.is_missing(OmegaConf.load(conf_folder() / "data" / f"{name}.yaml"), "path"):
            words.append("data.path=file")
    check_callbacks(line.run(*words))


def test_mapping_may_replace_a_yaml_list(line: CommandLine) -> None:
    for more in ((), ("-m", "seed=3,4")):
        assert line("model=cnn1d", "model.kernel_size={shapes: [3, 5]}", *more) == 0, line.err
        assert len(line.runs) == 1 + len(more) // 2
        assert all(run.model["kernel_size"] == {"shapes": [3, 5]} for run in line.runs)


# ── targets ────────────────────────────────────────────────────────────────────────────────

OWN_NETWORK = """
from typing import Annotated
from annotated_types import Gt
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shape, outputs, *, width: Annotated[int, Gt(0)], inner=None):
        super().__init__()
        self.inner = inner
        self.layer = nn.Linear(input_shape[0], outputs)

def function():
    pass
"""


@pytest.fixture
def own_network(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put a user's own network into the current folder; return the name of its package."""
    name = f"net_{abs(hash(own_folder))}"
    (own_folder / f"{name}.py").write_text(OWN_NETWORK)
    monkeypatch.syspath_prepend(own_folder)
    return name


ELSEWHERE = (
    "os.system builtins.eval torch.load torch.hub.load pandas.read_pickle torch_nn.Linear "
    "pipeline_evil.Net"
)


@pytest.mark.parametrize("path", ELSEWHERE.split())
def test_untrusted_class_is_refused_before_import(line: CommandLine, path: str) -> None:
    assert line.problem(f"model._target_={path}") == (
        f"model._target_={path!r} is outside of pipeline, torch.nn, torch.optim, "
        "pytorch_lightning.callbacks; if it is your own, add "
        f"'trust=[{path.partition('.')[0]}]' to the command line."
    )


# The path of `torch.load` below a trusted module would run a pickle.
TARGETS = """
torch.nn.modules.module.OrderedDict → is defined in 'collections', outside of
torch.nn.functional.relu → is not a class
torch.nn.modules.module.torch.load → does not exist
torch.optim.Adam → is not a torch.nn.Module
pipeline.networks.mlp.MLPP → does not exist. Did you mean 'MLP'?
pipeline.networks.mpl.MLP → does not exist: no module 'pipeline.networks.mpl'
3 → =3 is not allowed; expected the dotted path of a class
"""


@pytest.mark.parametrize(("path", "problem"), cases(TARGETS))
def test_target_is_judged_by_its_object(line: CommandLine, path: str, problem: str) -> None:
    """The beginning of its path does not decide."""
    assert problem in line.problems(f"model._target_={path}")[0]


def test_own_network_needs_file_yaml_and_trust(
    line: CommandLine, own_network: str, tmp_path: Path
) -> None:
    text = f"_target_: {own_network}.Net\nwidth: 3\n"
    words = [*written(tmp_path / "conf", {"model/mine.yaml": text}), "model=mine"]
    assert f"add 'trust=[{own_network}]'" in line.problem(*words)
    assert line.problem(*words, f"trust=[{own_network}]", "model.width=0") == (
        "model.width=0 is not allowed; expected a whole number > 0."
    )
    run = line.run(*words, f"trust=[{own_network}]")
    assert run.name == "mine-mnist1d"
    listed = ", ".join(sorted([*choices("model").split(", "), "mine"]))
    assert line.problem(*words[:-1], "model=minne") == (
        f"model=minne is unknown; expected one of {listed}. Did you mean 'mine'?"
    )
    assert type(build(run.model, input_shape=(4,), outputs=2)).__module__ == own_network
    function = [f"model._target_={own_network}.function", f"trust=[{own_network}]"]
    assert line.problem(*function).endswith("is not a class.")


def test_trust_from_a_file_is_refused(line: CommandLine, tmp_path: Path) -> None:
    text = "# @package _global_\ntrust: [os]\n"
    words = written(tmp_path / "conf", {"experiment/mine.yaml": text})
    assert line.problem(*words, "experiment=mine") == (
        "trust is set in a file; it is read from the command line only: 'trust=[PACKAGE]'."
    )


def test_trust_argument_replaces_trust_of_config(own_network: str) -> None:
    config = with_inner(own_network, None)
    assert check(config, trust=[own_network]).trust == [own_network]
    assert " is outside of" in refusal(check, config, trust=[])


def with_inner(package: str, inner: object) -> dict[str, Any]:
    """Return a config whose model is the user's own network around `inner`."""
    config: Any = OmegaConf.to_container(compose([f"trust=[{package}]"]), resolve=False)
    config["model"] = {"_target_": f"{package}.Net", "width": 3, "inner": inner}
    return dict(config)


def test_nested_target_is_checked_and_built_first(own_network: str) -> None:
    problem = refusal(check, with_inner(own_network, {"_target_": "os.getcwd"}))
    assert problem.startswith("model.inner._target_='os.getcwd' is outside")
    wrong = [{"_target_": "torch.nn.Linear", "in_features": 2, "out_feature": 3}]
    problem = refusal(check, with_inner(own_network, wrong))
    assert "model.inner[0].out_feature is unknown" in problem
    inner = {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}
    run = check(with_inner(own_network, inner))
    assert build(run.model, input_shape=(4,), outputs=2).inner.out_features == 3


def test_unknown_or_missing_parameter_is_named(line: CommandLine) -> None:
    """So is one that the program sets."""
    for word, problem in {
        "+model.outputs=3": "model.outputs is set by the program; remove it.",
        "+model.activatoin=relu": ("model.activatoin is unknown. Did you mean 'model.activation'?"),
        "~model.hidden": f"model.hidden is missing; {HIDDEN}",
    }.items():
        assert line.problem(word) == problem


def test_arguments_have_the_declared_types() -> None:
    weights = {"params": [nn.Parameter(zeros(1))]}
    adam = build({"_target_": "torch.optim.Adam", "lr": 1, "betas": [0.8, 0.9]}, **weights)
    assert (adam.defaults["betas"], adam.defaults["lr"]) == ((0.8, 0.9), 1.0)
    linear = {"_target_": "torch.nn.Linear", "in_features": 2}
    assert build({**linear, "_partial_": True})(out_features=3).weight.shape == (3, 2)
    # What the program knows is passed where it is wanted.
    assert build(linear, out_features=3, total_steps=7).weight.shape == (3, 2)


CALLBACKS = """
callbacks.early_stopping.patience=-1 → patience=-1 is not allowed; expected a whole number ≥ 0.
callbacks.early_stopping.mode=3 → mode=3 is not allowed; expected a string.
+callbacks.early_stopping.paitence=3 → Did you mean 'callbacks.early_stopping.patience'?
callbacks.early_stopping._target_=pytorch_lightning.callbacks.EarlyStop → mean 'EarlyStopping'?
callbacks.ema._target_=torch.nn.Linear → 'torch.nn.Linear' is not a pytorch_lightning.Callback
"""


@pytest.mark.parametrize(("word", "problem"), cases(CALLBACKS))
def test_callback_arguments_are_checked_with_lightning(
    line: CommandLine, word: str, problem: str
) -> None:
    run = line.run("callbacks=[early_stopping,ema]", word)
    assert problem in refusal(check_callbacks, run)


def test_untrusted_callback_is_refused_before_lightning(line: CommandLine) -> None:
    assert line.problem("callbacks=ema", "callbacks.ema._target_=os.system").startswith(
        "callbacks.ema._target_='os.system' is not in a trusted"
    )


SECTIONS = """
metrics=standard → metrics='standard' is not allowed; expected a mapping {key: value}.
metrics=null → metrics=null is not allowed; expected a mapping {key: value}.
trust=5 → trust=5 is not allowed; expected a list [a string, …].
trust=mine → trust='mine' is not allowed; expected a list [a string, …].
"""


@pytest.mark.parametrize(("word", "problem"), cases(SECTIONS))
def test_evaluation_section_cannot_be_a_value(word: str, problem: str, capsys: Capture) -> None:
    (run,) = OLD_RUNS.glob("*-irises-*")
    assert evaluate([f"model_from={run}", word]) == 2
    assert capsys.readouterr().err == f"error: {problem}\n"
