"""Files that are no checkpoint to go on from, each told in one line that names it."""

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from records import checkpoint, epochs, events, only_run

from pipeline import __version__
from pipeline.config.compose import compose
from pipeline.config.record import plain

Train = Callable[..., int]
WORDS = ("model=mlp", "data=iris", "scheduler=none", "verbose=0", "tracking=none")


class Booby:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("trapped",)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pipeline.train import main

    output = tmp_path_factory.mktemp("stopped") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(output.parent)
        assert main([*WORDS, "trainer.max_epochs=2", f"output={output}", "name=old"]) == 0
    return output


@pytest.fixture
def run(stopped: Path, own_folder: Path) -> Path:
    """A run of two epochs that left one checkpoint, below `runs`."""
    shutil.copytree(stopped, own_folder / "runs")
    folder = only_run(own_folder / "runs")
    (folder / "checkpoints" / "best.ckpt").unlink()
    return folder


def refusal(train: Train, run: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Try to go on; return the only line that is said."""
    before = events(run)
    assert train(f"resume={run}", "trainer.max_epochs=4", "verbose=0", *words) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f"error: {run / 'checkpoints' / 'last.ckpt'} ")
    assert "Traceback" not in captured.err
    assert events(run) == before
    return line


def last(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def altered(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = checkpoint(run, "last")
    change(content)
    last(run).unlink()
    torch.save(content, last(run))


def test_a_checkpoint_holds_all_that_reading_it_needs_as_plain_values(run: Path) -> None:
    content = checkpoint(run, "last")  # read with weights_only=True
    ours = content["pipeline"]
    assert (ours["format"], ours["version"], ours["epoch"]) == (1, __version__, 2)
    words = (*WORDS, "trainer.max_epochs=2", f"output={ours['config']['output']}", "name=old")
    assert ours["config"] == plain(compose(words))
    assert ours["config"]["format"] == 1
    schema = ours["schema"]
    assert (schema["task"], schema["outputs"]) == ("multiclass", 3)
    assert schema["classes"] == ["setosa", "versicolor", "virginica"]
    assert len(schema["input_scaler"]["shift"]) == 4


def zipped(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights.txt", "none")


LIGHTNINGS = {"state_dict": {"weight": torch.zeros(2)}, "pytorch-lightning_version": "2.6.6"}
OTHER_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (
        lambda file: file.write_bytes(b""),
        "is no whole checkpoint (0 bytes; empty, cut short or another kind of file)",
    ),
    "text": (lambda file: file.write_bytes(b"weights\n" * 9), "is no whole checkpoint (72 bytes; "),
    "cut short": (
        lambda file: file.write_bytes(file.read_bytes()[:-1000]),
        "is no whole checkpoint",
    ),
    "another archive": (zipped, "is not a checkpoint of this project"),
    **{
        kind: (
            lambda file, content=content: torch.save(content, file),  # type: ignore[misc] # bound now
            "is not a checkpoint of this project; expected one that a run",
        )
        for kind, content in {
            "plain weights": {"weight": torch.zeros(2)},
            "Lightning's own": LIGHTNINGS,
            "a list": [torch.zeros(2)],
            "a tensor": torch.zeros(2),
        }.items()
    },
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_a_file_that_is_no_checkpoint_is_refused(
    train: Train, run: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    write, words = OTHER_FILES[kind]
    content = last(run).read_bytes()
    last(run).unlink()
    last(run).write_bytes(content)  # the run's own file alone, which other names may share
    write(last(run))
    assert words in refusal(train, run, capsys)


def test_a_folder_in_place_of_a_checkpoint_is_refused(
    train: Train, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last(run).unlink()
    last(run).mkdir()
    assert "is a folder; expected a checkpoint file" in refusal(train, run, capsys)


def test_a_run_without_a_checkpoint_is_refused(
    train: Train, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last(run).unlink()
    assert train(f"resume={run}", "trainer.max_epochs=4") == 2
    assert capsys.readouterr().err == (
        f"error: {run} holds no checkpoint: no epoch of that run was finished\n"
    )


@pytest.mark.parametrize("way", ["inside torch's archive", "bare"])
def test_a_file_that_would_run_code_is_refused_and_its_code_not_run(
    train: Train,
    run: Path,
    own_folder: Path,
    capsys: pytest.CaptureFixture[str],
    way: str,
) -> None:
    last(run).unlink()
    if way == "bare":
        last(run).write_bytes(pickle.dumps(Booby()))
    else:
        torch.save({"state_dict": {}, "pipeline": Booby()}, last(run))
    line = refusal(train, run, capsys)
    assert "is no whole checkpoint" in line or "holds something else than tensors" in line
    assert not (own_folder / "trapped").exists()


def test_another_format_is_refused_with_the_version_that_wrote_it(
    train: Train, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered(run, lambda content: content["pipeline"].update(format=2, version="9.9.9"))
    assert refusal(train, run, capsys).endswith(
        "has format 2, written by pipeline 9.9.9; this version reads format 1"
    )


def test_another_version_of_the_same_format_is_named(
    train: Train, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered(run, lambda content: content["pipeline"].update(version="9.9.9"))
    assert train(f"resume={run}", "trainer.max_epochs=3", "verbose=2") == 0
    said = capsys.readouterr().out
    assert f"note: {last(run)} was written by pipeline 9.9.9; this is {__version__}" in said


@pytest.mark.parametrize("key", ["config", "schema", "epoch", "state_dict"])
def test_a_checkpoint_that_lacks_a_part_is_refused(
    train: Train, run: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    def remove(content: dict[str, Any]) -> None:
        del (content if key == "state_dict" else content["pipeline"])[key]

    altered(run, remove)
    what = "weights" if key == "state_dict" else key
    assert refusal(train, run, capsys).endswith(f"is no whole checkpoint: it holds no {what}")


def test_weights_that_are_no_numbers_are_refused(
    train: Train, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = next(iter(checkpoint(run, "last")["state_dict"]))

    def spoil(content: dict[str, Any]) -> None:
        content["state_dict"][name].view(-1)[0] = float("nan")

    altered(run, spoil)
    assert refusal(train, run, capsys).endswith(f"holds weights that are no numbers in {name}")


def test_weights_of_another_shape_are_refused_with_both_shapes_and_the_config(
    train: Train, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def widen(content: dict[str, Any]) -> None:
        weights = content["state_dict"]
        name = next(key for key in weights if weights[key].ndim == 2)
        weights[name] = torch.zeros(99, 4)

    altered(run, widen)
    line = refusal(train, run, capsys)
    assert "has a weight of shape 99×4 at " in line
    assert "where the network has a weight of shape 64×4; its config says model.hidden=" in line


def test_another_model_is_refused_with_both_configs(
    train: Train, run: Path, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("model.hidden=[8]", "trainer.max_epochs=1", "output=other")
    assert train(*WORDS, *words) == 0
    shutil.copy(only_run(own_folder / "other") / "checkpoints" / "last.ckpt", last(run))
    assert train(f"resume={run}", "trainer.max_epochs=4", "verbose=0") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: model.hidden was '[8]' and is '[64, 128, 64]' now; ")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("task", "regression", "its task was 'regression' and is 'multiclass' now"),
        ("outputs", 10, "its outputs was 10 and is 3 now"),
        ("classes", ["a", "b", "c"], "its classes was ['a', 'b', 'c'] and is ['setosa',"),
    ],
)
def test_a_checkpoint_of_another_task_is_refused_with_both(
    train: Train,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    key: str,
    value: object,
    words: str,
) -> None:
    altered(run, lambda content: content["pipeline"]["schema"].update({key: value}))
    assert f"is of another task: {words}" in refusal(train, run, capsys)


def test_with_the_last_weights_kept_no_best_ones_are_written(
    train: Train, own_folder: Path
) -> None:
    assert train(*WORDS, "keep=last", "trainer.max_epochs=2") == 0
    names = [path.name for path in (only_run(own_folder / "runs") / "checkpoints").iterdir()]
    assert names == ["last.ckpt"]


def test_the_best_checkpoint_is_that_of_the_best_epoch(train: Train, own_folder: Path) -> None:
    words = ("optimizer=sgd", "optimizer.lr=0.5", "optimizer.momentum=0.9", "monitor=val/loss")
    assert train(*WORDS, *words, "trainer.max_epochs=8") == 0
    run = only_run(own_folder / "runs")
    losses = {
        event["epoch"]: event["values"]["val/loss"]
        for event in events(run)
        if "val/loss" in event.get("values", {})
    }
    assert checkpoint(run, "best")["pipeline"]["epoch"] == min(losses, key=lambda e: losses[e])
    assert checkpoint(run, "last")["pipeline"]["epoch"] == 8


def test_a_run_recorded_with_keys_that_are_gone_is_resumed_and_evaluated(
    train: Train, run: Path
) -> None:
    from pipeline.evaluate import main as evaluate

    gone = {"limit_predict_batches": None, "reload_dataloaders_every_n_epochs": 0}
    for file in (last(run), run / "model" / "model.ckpt"):
        content = torch.load(file, weights_only=True)
        content["pipeline"]["config"]["trainer"] |= {**gone, "model_registry": "shelf"}
        file.unlink()
        torch.save(content, file)
    config = run / "artifacts" / "config.yaml"
    lines = [f"  {key}: {'null' if value is None else value}\n" for key, value in gone.items()]
    given = config.read_text(encoding="utf-8")
    config.write_text(given.replace("trainer:\n", f"trainer:\n{''.join(lines)}"), encoding="utf-8")
    command = json.loads((run / "command.json").read_text(encoding="utf-8"))
    command["overrides"].append("trainer.model_registry=shelf")
    (run / "command.json").write_text(json.dumps(command), encoding="utf-8")
    assert evaluate([f"model_from={run}", "tracking=none", "verbose=0", "output=again"]) == 0
    assert train(f"resume={run}", "trainer.max_epochs=4", "verbose=0") == 0
    assert len(epochs(run)) == 4


@pytest.mark.parametrize("trainer", [{}, {"trainer": None}])
def test_a_config_on_record_without_a_trainer_has_the_default_one_or_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], trainer: dict[str, None]
) -> None:
    from pipeline.evaluate import main as evaluate

    config = run / "artifacts" / "config.yaml"
    given = yaml.safe_load(config.read_text(encoding="utf-8"))
    del given["trainer"]
    config.write_text(yaml.safe_dump({**given, **trainer}), encoding="utf-8")
    code = evaluate([f"model_from={run}", "tracking=none", "verbose=0", "output=again"])
    assert (code, "bug" in capsys.readouterr().err) == (2 if trainer else 0, False)
