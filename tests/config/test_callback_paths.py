"""Paths in the arguments of callbacks: they lie in the run's folder, or the class is trusted."""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from helpers.config_command import CommandLine, written
from helpers.fixture_types import Train
from helpers.refused_calls import refusal
from omegaconf import OmegaConf
from pytorch_lightning import callbacks as lightning

from pipeline.config.check import check, check_callbacks, in_folder
from pipeline.config.compose import compose
from pipeline.config.targets import TARGET, path_parameters

SPIKES = "pytorch_lightning.callbacks.SpikeDetection"
#: Each step whose loss falls counts as a spike.
SPIKY = f"_target_: {SPIKES}, mode: max, atol: 0.0, rtol: 0.0"
QUICK = ("data=iris", "model=mlp", "scheduler=none", "tracking=none", "verbose=0")
OUTSIDE = ("/tmp/stolen", "../stolen", "deep/../../stolen", "file:///tmp/stolen", "s3://b/stolen")
OWN = """
from pytorch_lightning.callbacks import *

class Writes(Callback):
    def __init__(self, path: str) -> None:
        open(path, "w").close()
"""


def classes_of_lightning() -> Iterator[type]:
    """Yield all classes of callbacks that Lightning has, also those that it does not export."""
    for module in pkgutil.walk_packages(lightning.__path__, f"{lightning.__name__}."):
        importlib.import_module(module.name)
    kinds = list(pl.Callback.__subclasses__())
    for kind in kinds:
        kinds += kind.__subclasses__()
    for kind in dict.fromkeys(kinds):
        if kind.__module__.startswith(f"{lightning.__name__}."):
            yield kind


CLASSES = list(classes_of_lightning())


@pytest.mark.parametrize("place", OUTSIDE)
def test_lightning_arguments_lead_to_no_outer_path(place: str) -> None:
    config: Any = OmegaConf.to_container(compose(QUICK))
    keys = []
    for number, kind in enumerate(CLASSES):
        values = dict.fromkeys(inspect.signature(kind).parameters, place)
        config["callbacks"][f"c{number}"] = {TARGET: f"{kind.__module__}.{kind.__name__}", **values}
        keys += [f"callbacks.c{number}.{name}" for name in values]
    lines = [
        f"{key}='{place}' is outside of the run's folder; expected a relative path, which is "
        "taken from that folder."
        for key in keys
    ]
    problems = refusal(check, config).splitlines()
    assert [line for line in problems if "outside" in line] == lines


def test_all_path_arguments_of_lightning_are_known() -> None:
    """A new version's new path is noticed here: it must be one that the run's folder confines."""
    words = ("path", "dir", "folder", "root")
    names = {
        (kind.__name__, name) for kind in CLASSES for name in inspect.signature(kind).parameters
    }
    confined = {(kind.__name__, name) for kind in CLASSES for name in path_parameters(kind)}
    assert confined == {
        ("ModelCheckpoint", "dirpath"),
        ("OnExceptionCheckpoint", "dirpath"),
        ("SpikeDetection", "exclude_batches_path"),
    }
    assert confined == {pair for pair in names if any(word in pair[1] for word in words)}


def test_nested_arguments_are_checked_too(line: CommandLine) -> None:
    argument = "console_kwargs: {a: [b, ../c]}"
    target = f"{{_target_: pytorch_lightning.callbacks.RichProgressBar, {argument}}}"
    problem = line.problem(*QUICK, f"+callbacks.x={target}")
    assert problem.startswith("callbacks.x.console_kwargs.a[1]='../c' is outside of the run's fol")


@pytest.mark.parametrize("argument", ["", ", exclude_batches_path: deep/batches.json"])
def test_relative_path_is_in_the_run_folder(train: Train, own_folder: Path, argument: str) -> None:
    words = (*QUICK, "trainer.max_epochs=3", f"+callbacks.x={{{SPIKY}{argument}}}")
    assert train(*words) == 1  # Lightning ends a training by an error of its own
    assert [path.name for path in own_folder.iterdir()] == ["runs"]
    (run,) = (own_folder / "runs").iterdir()
    file = run / ("deep/batches.json" if argument else "skip_batches.json")
    assert json.loads(file.read_text(encoding="utf-8")) == [0, 1]


def test_link_out_of_the_run_folder_is_refused(line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (line.folder / "run").mkdir()
    (line.folder / "run" / "out").symlink_to(tmp_path / "outside")
    word = f"+callbacks.x={{{SPIKY}, exclude_batches_path: out/batches.json}}"
    run = line.run(*QUICK, word)
    assert refusal(check_callbacks, run, line.folder / "run") == (
        f"callbacks.x.exclude_batches_path: a link leads from '{line.folder}/run/out/batches.json' "
        "out of the run's folder."
    )
    check_callbacks(run)


@pytest.mark.parametrize("main", ["train", "sweep"])
def test_shared_experiment_writes_only_in_run_folder(
    line: CommandLine, tmp_path: Path, main: str
) -> None:
    target = f"{{{SPIKY}, exclude_batches_path: {tmp_path}/stolen.json}}"
    text = f"# @package _global_\ncallbacks: {{x: {target}}}\n"
    words = written(tmp_path / "conf", {"experiment/x.yaml": text})
    called: Any = importlib.import_module(f"pipeline.{main}").main
    study = ["optimizer.lr=interval(0.1,0.2)", "sweep.workers=1"] if main == "sweep" else []
    assert called([*words, "experiment=x", *QUICK, *study]) == 2
    problem = line.capsys.readouterr().err
    assert problem.startswith("error: callbacks.x.exclude_batches_path='/")
    assert "is outside of the run's folder" in problem
    assert list(line.folder.iterdir()) == []
    assert not (tmp_path / "stolen.json").exists()


def test_trusted_package_may_write_anywhere(
    line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_writer.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    trusted = partial(line.run, *QUICK, "trust=[own_writer]")
    place = f"{tmp_path}/file"
    run = trusted(f"+callbacks.x={{_target_: own_writer.Writes, path: {place}}}")
    check_callbacks(run)
    target = run.callbacks["x"]
    assert in_folder(target, line.folder, trust=run.trust)["path"] == place
    # The class is Lightning's, whichever module names it.
    argument = f"exclude_batches_path: {place}"
    run = trusted(f"+callbacks.x={{_target_: own_writer.SpikeDetection, {argument}}}")
    assert "is outside of the run's folder" in refusal(check_callbacks, run)


def test_checkpoint_class_of_the_program_is_refused(line: CommandLine, train: Train) -> None:
    target = "_target_: pipeline.callbacks.checkpoints.Checkpoints, monitor: null, facts: {}"
    word = f"+callbacks.x={{{target}, better: min, folder: elsewhere, seconds: 1}}"
    assert train(*QUICK, word) == 2
    problem = line.capsys.readouterr().err
    assert problem == (
        "error: callbacks.x is a Keeper, which is refused: a run keeps its weights itself; set "
        "keep=best|last instead.\n"
    )
    assert list(line.folder.iterdir()) == []
