"""Targets: judged after they are resolved, their constructors as their schema, then built."""

from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine, choices, written
from omegaconf import OmegaConf

from pipeline.config.check import check, check_callbacks
from pipeline.config.compose import compose
from pipeline.config.values import build
from pipeline.errors import ConfigError

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


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "pandas.read_pickle",
        "torch_nn.Linear",
        "pipeline_evil.Net",
    ],
)
def test_a_class_from_elsewhere_is_refused_before_it_is_imported(
    line: CommandLine, path: str
) -> None:
    assert line.problem(f"model._target_={path}") == (
        f"model._target_={path!r} lies outside of pipeline, torch.nn, torch.optim, "
        "pytorch_lightning.callbacks; if it is your own, add "
        f"trust=[{path.partition('.')[0]}] to the command line."
    )


def test_a_path_through_torchs_own_modules_runs_no_pickle(line: CommandLine) -> None:
    path = "torch.nn.modules.module.torch.load"
    assert "is not there" in line.problem(f"model._target_={path}", "+model.f=x")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("torch.nn.modules.module.OrderedDict", "is defined in 'collections', outside of"),
        ("torch.nn.functional.relu", "is no class"),
        ("torch.optim.Adam", "is no torch.nn.Module"),
        ("pipeline.networks.mlp.MLPP", "is not there. Did you mean 'MLP'?"),
        ("pipeline.networks.mpl.MLP", "is not there: no module 'pipeline.networks.mpl'"),
        ("3", "=3 is not allowed; expected the dotted path of a class"),
    ],
)
def test_what_a_target_is_decides_and_not_where_its_path_begins(
    line: CommandLine, path: str, says: str
) -> None:
    assert says in line.problems(f"model._target_={path}")[0]


def test_a_network_of_ones_own_is_one_file_and_one_yaml_and_needs_trust(
    line: CommandLine, own_network: str, tmp_path: Path
) -> None:
    text = f"_target_: {own_network}.Net\nwidth: 3\n"
    words = [*written(tmp_path / "conf", {"model/mine.yaml": text}), "model=mine"]
    assert f"add trust=[{own_network}]" in line.problem(*words)
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


def test_a_function_of_a_trusted_package_is_still_no_network(
    line: CommandLine, own_network: str
) -> None:
    words = [f"model._target_={own_network}.function", f"trust=[{own_network}]"]
    assert line.problem(*words).endswith("is no class.")


def test_trust_from_a_file_is_refused(line: CommandLine, tmp_path: Path) -> None:
    text = "# @package _global_\ntrust: [os]\n"
    words = written(tmp_path / "conf", {"experiment/mine.yaml": text})
    assert line.problem(*words, "experiment=mine") == (
        "trust stands in a file; it counts on the command line alone: trust=[PACKAGE]."
    )


def test_trust_given_to_the_check_replaces_that_of_the_config(own_network: str) -> None:
    config = with_inner(own_network, None)
    assert check(config, trust=[own_network]).trust == [own_network]
    with pytest.raises(ConfigError, match="lies outside of"):
        check(config, trust=[])


def with_inner(package: str, inner: object) -> dict[str, Any]:
    """Return a config whose model is the user's own network around `inner`."""
    config: Any = OmegaConf.to_container(compose([f"trust=[{package}]"]), resolve=False)
    config["model"] = {"_target_": f"{package}.Net", "width": 3, "inner": inner}
    return dict(config)


def test_a_nested_target_is_judged_like_any_other(own_network: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.inner\._target_='os\.getcwd' lies outside"):
        check(with_inner(own_network, {"_target_": "os.getcwd"}))


def test_the_arguments_of_a_target_in_a_list_are_checked_too(own_network: str) -> None:
    inner = [{"_target_": "torch.nn.Linear", "in_features": 2, "out_feature": 3}]
    with pytest.raises(ConfigError, match=r"model\.inner\[0\]\.out_feature is unknown"):
        check(with_inner(own_network, inner))


def test_a_nested_target_is_built_first(own_network: str) -> None:
    inner = {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}
    run = check(with_inner(own_network, inner))
    network = build(run.model, input_shape=(4,), outputs=2)
    assert network.inner.out_features == 3


def test_a_parameter_that_the_program_fills_in_is_refused(line: CommandLine) -> None:
    assert line.problem("+model.outputs=3") == (
        "model.outputs is filled in by the program; leave it away."
    )


def test_a_parameter_that_no_constructor_has_is_named_with_the_nearest(line: CommandLine) -> None:
    assert line.problem("+model.activatoin=relu") == (
        "model.activatoin is unknown. Did you mean 'model.activation'?"
    )


def test_a_parameter_that_a_constructor_needs_is_missed(line: CommandLine) -> None:
    assert line.problem("~model.hidden") == (
        "model.hidden is missing; expected a list [a whole number > 0, …]."
    )


def test_arguments_reach_the_constructor_as_it_declares_them() -> None:
    from torch import nn, zeros

    adam = build(
        {"_target_": "torch.optim.Adam", "lr": 1, "betas": [0.8, 0.9]},
        params=[nn.Parameter(zeros(1))],
    )
    assert adam.defaults["betas"] == (0.8, 0.9)
    assert adam.defaults["lr"] == 1.0


def test_a_partial_target_is_a_function_that_makes_it() -> None:
    make = build({"_target_": "torch.nn.Linear", "_partial_": True, "in_features": 2})
    assert make(out_features=3).weight.shape == (3, 2)


def test_what_the_program_knows_is_passed_where_it_is_wanted() -> None:
    linear = build({"_target_": "torch.nn.Linear", "in_features": 2}, out_features=3, total_steps=7)
    assert linear.weight.shape == (3, 2)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("callbacks.early_stopping.patience=-1", "patience=-1 is not allowed; expected a whole"),
        ("callbacks.early_stopping.mode=3", "mode=3 is not allowed; expected a text."),
        ("+callbacks.early_stopping.paitence=3", "Did you mean 'callbacks.early_stopping.patie"),
        (
            "callbacks.early_stopping._target_=pytorch_lightning.callbacks.EarlyStop",
            "Did you mean 'EarlyStopping'?",
        ),
    ],
)
def test_a_callbacks_arguments_are_checked_where_lightning_is(
    line: CommandLine, word: str, says: str
) -> None:
    run = line.run("callbacks=early_stopping", word)
    with pytest.raises(ConfigError) as caught:
        check_callbacks(run)
    assert says in str(caught.value)


def test_a_network_is_no_callback() -> None:
    run = check(compose(["callbacks=ema", "callbacks.ema._target_=torch.nn.Linear"]))
    with pytest.raises(ConfigError, match=r"'torch.nn.Linear' is no pytorch_lightning.Callback"):
        check_callbacks(run)


def test_a_callback_from_elsewhere_is_refused_without_lightning(line: CommandLine) -> None:
    problem = line.problem("callbacks=ema", "callbacks.ema._target_=os.system")
    assert problem.startswith("callbacks.ema._target_='os.system' lies outside of what may be")
