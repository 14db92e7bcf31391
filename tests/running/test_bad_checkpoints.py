"""Files that are no checkpoint to go on from, each told in one line that names it."""

import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fixture_types import Capture, Train
from records import checkpoint, epochs, events, only_run

from pipeline import __version__
from pipeline.config.compose import compose
from pipeline.config.record import plain
from pipeline.evaluate import main as evaluate
from pipeline.train import main as trained

Content = dict[str, Any]
Change = Callable[[Path, Content], Any]
"""Puts something else in the place of a checkpoint with this content."""
WORDS = ("model=mlp", "data=iris", "scheduler=none", "verbose=0", "tracking=none")
SHORT = (*WORDS, "trainer.max_epochs=2")


class Booby:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("trapped",)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("stopped") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(output.parent)
        assert trained([*SHORT, f"output={output}", "name=old"]) == 0
    return output


@pytest.fixture
def run(stopped: Path, own_folder: Path) -> Path:
    """A run of two epochs that left one checkpoint, below `runs`."""
    shutil.copytree(stopped, own_folder / "runs")
    folder = only_run(own_folder / "runs")
    (folder / "checkpoints" / "best.ckpt").unlink()
    return folder


def last(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def test_a_checkpoint_holds_all_that_reading_it_needs_as_plain_values(run: Path) -> None:
    ours = checkpoint(run, "last")["pipeline"]  # read with weights_only=True
    assert (ours["format"], ours["version"], ours["epoch"]) == (1, __version__, 2)
    words = (*SHORT, f"output={ours['config']['output']}", "name=old")
    assert ours["config"] == plain(compose(words))
    assert ours["config"]["format"] == 1
    schema = ours["schema"]
    assert (schema["task"], schema["outputs"]) == ("multiclass", 3)
    assert schema["classes"] == ["setosa", "versicolor", "virginica"]
    assert len(schema["input_scaler"]["shift"]) == 4


def written(content: bytes) -> Change:
    return lambda file, _: file.write_bytes(content)


def archive(file: Path, _: Content) -> None:
    with zipfile.ZipFile(file, "w") as other:
        other.writestr("weights.txt", "none")


def saved(content: object) -> Change:
    return lambda file, _: torch.save(content, file)


def changed(change: Callable[[Content], Any]) -> Change:
    def put(file: Path, content: Content) -> None:
        change(content)
        torch.save(content, file)

    return put


def cut_off(part: str, key: str) -> Callable[[Content], Any]:
    def change(content: Content) -> None:
        del (content[part] if part else content)[key]

    return change


def spoiled(content: Content) -> None:
    next(iter(content["state_dict"].values())).view(-1)[0] = float("nan")


def widened(content: Content) -> None:
    weights = content["state_dict"]
    name = next(key for key in weights if weights[key].ndim == 2)
    weights[name] = torch.zeros(99, 4)


def of_schema(**changes: object) -> Change:
    return changed(lambda content: content["pipeline"]["schema"].update(changes))


FOREIGN = "is not a checkpoint of this project"
LIGHTNINGS = {"state_dict": {"weight": torch.zeros(2)}, "pytorch-lightning_version": "2.6.6"}
OTHER: dict[str, tuple[Change, str]] = {
    "empty": (
        written(b""),
        "is no whole checkpoint (0 bytes; empty, cut short or another kind of file)",
    ),
    "another archive": (archive, FOREIGN),
    "code": (written(pickle.dumps(Booby())), "is no whole checkpoint"),
    "a folder": (lambda file, _: file.mkdir(), "is a folder; expected a checkpoint file"),
    "plain weights": (saved({"weight": torch.zeros(2)}), f"{FOREIGN}; expected one that a run"),
    "Lightning's own": (saved(LIGHTNINGS), FOREIGN),
    "a list": (saved([torch.zeros(2)]), FOREIGN),
    "a tensor": (saved(torch.zeros(2)), FOREIGN),
    "code within": (
        saved({"state_dict": {}, "pipeline": Booby()}),
        f"{FOREIGN}: it holds something else than tensors",
    ),
    "format": (
        changed(lambda content: content["pipeline"].update(format=2, version="9.9.9")),
        "has format 2, written by pipeline 9.9.9; this version reads format 1",
    ),
    "no weights": (
        changed(cut_off("", "state_dict")),
        "is no whole checkpoint: it holds no weights",
    ),
    **{
        f"no {key}": (
            changed(cut_off("pipeline", key)),
            f"is no whole checkpoint: it holds no {key}",
        )
        for key in ("config", "schema", "epoch")
    },
    "no numbers": (changed(spoiled), "holds weights that are no numbers in network.layers."),
    "shape": (changed(widened), "has a weight of shape 99×4 at "),
    "task": (
        of_schema(task="regression"),
        "is of another task: its task was 'regression' and is 'multiclass' now",
    ),
    "outputs": (of_schema(outputs=10), "is of another task: its outputs was 10 and is 3 now"),
    "classes": (
        of_schema(classes=["a", "b", "c"]),
        "is of another task: its classes was ['a', 'b', 'c'] and is ['setosa',",
    ),
    "data": (
        changed(lambda content: content["pipeline"].update(data="0123456789abcdef")),
        "was trained on data with the hash 0123456789ab, and those there now have ",
    ),
}


@pytest.mark.parametrize("kind", OTHER)
def test_what_is_no_checkpoint_to_go_on_from_is_refused_in_one_line(
    train: Train, run: Path, own_folder: Path, capsys: Capture, kind: str
) -> None:
    before, content, (change, words) = events(run), checkpoint(run, "last"), OTHER[kind]
    last(run).unlink()  # the run's own file alone, which other names may share
    change(last(run), content)
    assert train(f"resume={run}", "trainer.max_epochs=4", "verbose=0") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {last(run)} {words}")
    if kind == "shape":
        assert "where the network has a weight of shape 64×4; its config says model." in line
    if kind == "data":
        assert line.endswith("; a run with other data is a new run.")
    if kind == "no numbers":
        assert re.search(r"network\.layers\.\S+$", line)
    assert events(run) == before
    assert not (own_folder / "trapped").exists()


def test_a_run_without_a_checkpoint_is_refused(train: Train, run: Path, capsys: Capture) -> None:
    last(run).unlink()
    assert train(f"resume={run}", "trainer.max_epochs=4") == 2
    assert capsys.readouterr().err == (
        f"error: {run} holds no checkpoint: no epoch of that run was finished\n"
    )


def test_another_version_of_the_same_format_is_named(
    train: Train, run: Path, capsys: Capture
) -> None:
    content = checkpoint(run, "last")
    content["pipeline"]["version"] = "9.9.9"
    last(run).unlink()
    torch.save(content, last(run))
    assert train(f"resume={run}", "trainer.max_epochs=3", "verbose=2") == 0
    said = capsys.readouterr().out
    assert f"note: {last(run)} was written by pipeline 9.9.9; this is {__version__}" in said


def test_which_checkpoints_are_kept_and_of_which_epoch(train: Train, own_folder: Path) -> None:
    words = ("optimizer=sgd", "optimizer.lr=0.5", "optimizer.momentum=0.9", "monitor=val/loss")
    assert train(*SHORT, "keep=last", "output=kept") == 0
    names = [path.name for path in (only_run(own_folder / "kept") / "checkpoints").iterdir()]
    assert names == ["last.ckpt"]
    assert train(*WORDS, *words, "trainer.max_epochs=8") == 0
    run = only_run(own_folder / "runs")
    losses = {epoch: values["val/loss"] for epoch, values in epochs(run).items()}
    assert checkpoint(run, "best")["pipeline"]["epoch"] == min(losses, key=lambda e: losses[e])
    assert checkpoint(run, "last")["pipeline"]["epoch"] == 8


def test_a_run_recorded_with_keys_that_are_gone_is_resumed_and_evaluated(
    train: Train, run: Path
) -> None:
    gone = {"limit_predict_batches": None, "reload_dataloaders_every_n_epochs": 0}
    for file in (last(run), run / "model" / "model.ckpt"):
        content = torch.load(file, weights_only=True)
        content["pipeline"]["config"]["trainer"] |= {**gone, "model_registry": "shelf"}
        file.unlink()
        torch.save(content, file)
    config = run / "artifacts" / "config.yaml"
    given = yaml.safe_load(config.read_text(encoding="utf-8"))
    given["trainer"] |= gone
    config.write_text(yaml.safe_dump(given), encoding="utf-8")
    command = json.loads((run / "command.json").read_text(encoding="utf-8"))
    command["overrides"].append("trainer.model_registry=shelf")
    (run / "command.json").write_text(json.dumps(command), encoding="utf-8")
    assert evaluate([f"model_from={run}", "tracking=none", "verbose=0", "output=again"]) == 0
    assert train(f"resume={run}", "trainer.max_epochs=4", "verbose=0") == 0
    assert len(epochs(run)) == 4


@pytest.mark.parametrize("trainer", [{}, {"trainer": None}])
def test_a_config_on_record_without_a_trainer_has_the_default_one_or_is_refused(
    run: Path, capsys: Capture, trainer: dict[str, None]
) -> None:
    config = run / "artifacts" / "config.yaml"
    given = yaml.safe_load(config.read_text(encoding="utf-8"))
    del given["trainer"]
    config.write_text(yaml.safe_dump({**given, **trainer}), encoding="utf-8")
    code = evaluate([f"model_from={run}", "tracking=none", "verbose=0", "output=again"])
    assert (code, "bug" in capsys.readouterr().err) == (2 if trainer else 0, False)
