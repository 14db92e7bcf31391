"""Files that are no checkpoint to go on from, each told in one line that names it."""

import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped] # PyYAML brings no types
from faults.test_strangers import change, save_command, saved_command
from helpers.fixture_types import Capture, Train
from helpers.run_files import checkpoint, epochs, events, only_run
from helpers.sample_findings import config_of

from pipeline import __version__
from pipeline.evaluate import main

Content = dict[str, Any]
Change = Callable[[Content], Any]
"""Returns what lies in the place of a checkpoint with this content: bytes, or what is saved."""
WORDS = ("model=mlp", "data=iris", "scheduler=none", "verbose=0", "tracking=none")
MORE = ("trainer.max_epochs=4", "verbose=0")


class Booby:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("trapped",)


def put(file: Path, content: Any) -> None:
    """Replace a file, and no other name of it: checkpoints of one epoch share theirs."""
    file.unlink()
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)


def evaluated(run: Path) -> int:
    return main([f"model_from={run}", "tracking=none", "verbose=0", "output=again"])


@pytest.fixture
def last(run: Path) -> Path:
    """The only checkpoint of a run of three epochs."""
    (run / "checkpoints" / "best.ckpt").unlink()
    return run / "checkpoints" / "last.ckpt"


def test_checkpoint_describes_itself_in_plain_values(run: Path) -> None:
    content = checkpoint(run, "last")["pipeline"]  # read with weights_only=True
    assert (content["format"], content["version"], content["epoch"]) == (1, __version__, 3)
    assert content["config"] == config_of(*WORDS, "trainer.max_epochs=3")
    assert content["config"]["format"] == 1
    schema = content["schema"]
    assert (schema["task"], schema["outputs"]) == ("multiclass", 3)
    assert schema["classes"] == ["setosa", "versicolor", "virginica"]
    assert len(schema["input_scaler"]["shift"]) == 4


def archive(_: Content) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as other:
        other.writestr("weights.txt", "none")
    return file.getvalue()


def with_facts(**facts: object) -> Change:
    """Other facts about the weights; `None` = none of that name."""

    def change(content: Content) -> Content:
        merged = {**content["pipeline"], **facts}
        return {**content, "pipeline": {k: fact for k, fact in merged.items() if fact is not None}}

    return change


def of_schema(**facts: object) -> Change:
    return lambda content: with_facts(schema={**content["pipeline"]["schema"], **facts})(content)


def with_matrix(values: torch.Tensor) -> Change:
    """Another first matrix among the weights."""

    def change(content: Content) -> Content:
        weights = content["state_dict"]
        name = next(key for key in weights if weights[key].ndim == 2)
        return {**content, "state_dict": {**weights, name: values}}

    return change


FOREIGN = "is not a checkpoint of this project"
PARTIAL = "is not a complete checkpoint: it holds no"
LIGHTNINGS = {"state_dict": {"weight": torch.zeros(2)}, "pytorch-lightning_version": "2.6.6"}
OTHER: dict[str, tuple[Change, str]] = {
    "empty": (
        lambda _: b"",
        "is not a complete checkpoint (0 bytes; empty, incomplete or another kind of file)",
    ),
    "another archive": (archive, FOREIGN),
    "code": (lambda _: pickle.dumps(Booby()), "is not a complete checkpoint"),
    "Lightning's own": (lambda _: LIGHTNINGS, f"{FOREIGN}; expected one saved"),
    "a tensor": (lambda _: torch.zeros(2), FOREIGN),
    "code within": (
        lambda _: {"state_dict": {}, "pipeline": Booby()},
        f"{FOREIGN}: it holds objects other than tensors",
    ),
    "format": (
        with_facts(format=2, version="9.9.9"),
        "has format 2, written by pipeline 9.9.9; this version reads format 1",
    ),
    "no weights": (lambda content: {"pipeline": content["pipeline"]}, f"{PARTIAL} weights"),
    **{
        f"no {key}": (with_facts(**{key: None}), f"{PARTIAL} {key}")
        for key in ("config", "schema", "epoch")
    },
    "no numbers": (
        with_matrix(torch.full((64, 4), float("nan"))),
        "holds weights that are not numbers in network.layers.",
    ),
    "shape": (with_matrix(torch.zeros(99, 4)), "has a weight of shape 99×4 at "),
    "task": (
        of_schema(task="regression"),
        "was trained for another task: task was 'regression', now 'multiclass'",
    ),
    "outputs": (of_schema(outputs=10), "was trained for another task: outputs was 10, now 3"),
    "classes": (
        of_schema(classes=["a", "b", "c"]),
        "was trained for another task: classes was ['a', 'b', 'c'], now ['setosa',",
    ),
    "data": (
        with_facts(data="0123456789abcdef"),
        "was trained on data with the hash 0123456789ab, but their hash is now ",
    ),
}
#: Ends of these lines, where they tell more than the beginning.
ENDS = {
    "shape": r"where the network has a weight of shape 64×4; its config has model\..*",
    "data": "; other data need a new run[.]",
    "no numbers": r"network\.layers\.\S+",
}


@pytest.mark.parametrize("kind", OTHER)
def test_invalid_checkpoint_is_refused_in_one_line(
    train: Train, run: Path, last: Path, capsys: Capture, kind: str
) -> None:
    before, (change, words) = events(run), OTHER[kind]
    put(last, change(checkpoint(run, "last")))
    assert train(f"resume={run}", *MORE) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {last} {words}")
    assert re.search(f"{ENDS.get(kind, '')}$", line)
    assert events(run) == before
    assert not Path("trapped").exists()


def test_missing_checkpoint_is_refused(
    train: Train, run: Path, last: Path, capsys: Capture
) -> None:
    """A folder in its place is refused too."""
    last.unlink()
    assert train(f"resume={run}", *MORE) == 2
    none = f"error: {run} has no checkpoint: the run finished no epoch\n"
    assert capsys.readouterr().err == none
    last.mkdir()
    assert train(f"resume={run}", *MORE) == 2
    assert capsys.readouterr().err.startswith(
        f"error: {last} is a folder; expected a checkpoint file"
    )


def test_checkpoint_of_another_version_is_noted(
    train: Train, run: Path, last: Path, capsys: Capture
) -> None:
    put(last, with_facts(version="9.9.9")(checkpoint(run, "last")))
    assert train(f"resume={run}", MORE[0], "verbose=2") == 0
    printed = capsys.readouterr().out
    assert f"note: {last} was written by pipeline 9.9.9; this is {__version__}" in printed


def test_kept_checkpoints_are_of_the_expected_epochs(train: Train, own_folder: Path) -> None:
    words = ("optimizer=sgd", "optimizer.lr=0.5", "optimizer.momentum=0.9", "monitor=val/loss")
    assert train(*WORDS, "trainer.max_epochs=2", "keep=last", "output=kept") == 0
    names = [path.name for path in (only_run(own_folder / "kept") / "checkpoints").iterdir()]
    assert names == ["last.ckpt"]
    assert train(*WORDS, *words, "trainer.max_epochs=8") == 0
    run = only_run(own_folder / "runs")
    losses = {epoch: values["val/loss"] for epoch, values in epochs(run).items()}
    assert checkpoint(run, "best")["pipeline"]["epoch"] == min(losses, key=lambda e: losses[e])
    assert checkpoint(run, "last")["pipeline"]["epoch"] == 8


def test_run_with_retired_keys_is_resumed_and_evaluated(train: Train, run: Path) -> None:
    gone = {"limit_predict_batches": None, "reload_dataloaders_every_n_epochs": 0}
    change(run, lambda config: config["trainer"].update(gone, model_registry="shelf"))
    save_command(run, *saved_command(run), "trainer.model_registry=shelf")
    assert evaluated(run) == 0
    assert train(f"resume={run}", *MORE) == 0
    assert len(epochs(run)) == 4


def test_recorded_config_without_trainer_gets_the_default(run: Path, capsys: Capture) -> None:
    """A trainer that is null is refused."""
    config = run / "artifacts" / "config.yaml"
    recorded = yaml.safe_load(config.read_text(encoding="utf-8"))
    del recorded["trainer"]
    for trainer, code in (({}, 0), ({"trainer": None}, 2)):
        config.write_text(yaml.safe_dump(recorded | trainer), encoding="utf-8")
        assert (evaluated(run), "bug" in capsys.readouterr().err) == (code, False)
