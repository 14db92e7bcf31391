"""Faults K1 to K7: files that are no model to ask, each told in one line that names it."""

import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import torch

import pipeline
from pipeline.predict import main

pytestmark = pytest.mark.slow

FEATURES = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
Change = Callable[[dict[str, Any]], object]


class Booby:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("trapped",)


@pytest.fixture
def file(trained: Path, own_folder: Path) -> Path:
    """A model by itself, beside rows to ask it about."""
    (own_folder / "new.csv").write_text(",".join(FEATURES) + "\n5,3,1,0.2\n", encoding="utf-8")
    return Path(shutil.copy(trained / "model" / "model.ckpt", own_folder / "model.ckpt"))


def altered(file: Path, change: Change) -> None:
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, file)


def asked(*words: str) -> int:
    return main(["model_from=model.ckpt", "input=new.csv", "output=out.csv", *words])


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """Ask; return the only line that is said, after looking at what is left behind."""
    before = sorted(Path.cwd().rglob("*"))
    assert asked() == 2
    assert sorted(Path.cwd().rglob("*")) == before
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def archive(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as content:
        content.writestr("weights.txt", "none")


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as known:
        largest = max(known.infolist(), key=lambda one: one.file_size)
    content[largest.header_offset + 200] ^= 1
    file.write_bytes(content)


FOREIGN = "model.ckpt is not a checkpoint of this project; expected "
UNWHOLE = r"model.ckpt is no whole checkpoint"
UNPICKLED = f"{UNWHOLE}|holds something else than tensors"
Damage = Callable[[Path], object]


def saving(content: object) -> Damage:
    return lambda file: torch.save(content, file)


def writing(content: bytes) -> Damage:
    return lambda file: file.write_bytes(content)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "plain weights": (saving({"weight": torch.zeros(2)}), FOREIGN),
    "Lightning's own": (saving({"state_dict": {}, "pytorch-lightning_version": "2"}), FOREIGN),
    "a list": (saving([torch.zeros(2)]), FOREIGN),
    "another archive": (archive, "is not a checkpoint of this project"),
    "empty": (writing(b""), rf"{UNWHOLE} \(0 bytes; empty, cut short or another kind of file\)"),
    "a text": (writing(b"text\n" * 9), rf"{UNWHOLE} \(45 bytes; empty, cut short or another kind"),
    "cut short": (lambda file: file.write_bytes(file.read_bytes()[:-1000]), UNWHOLE),
    "a flipped bit": (flip_a_bit, f"model.ckpt is .*checksum|{UNWHOLE}"),
    "code in an archive": (saving({"state_dict": {}, "pipeline": Booby()}), UNPICKLED),
    "bare code": (writing(pickle.dumps(Booby())), UNPICKLED),
    "nothing": (Path.unlink, r"run 'model.ckpt' is unknown below runs='runs'; expected a "),
    "a folder": (
        lambda file: (file.unlink(), file.mkdir()),
        r"'model.ckpt' holds no model; expected the folder of a run ",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_file_that_would_run_code_is_refused_and_its_code_not_run(
    file: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    damage, said = DAMAGES[kind]
    damage(file)
    assert re.search(said, refusal(capsys))
    assert not Path("trapped").exists()


def widen(content: dict[str, Any]) -> None:
    weights = content["state_dict"]
    name = next(key for key in weights if tuple(weights[key].shape) == (8, 4))
    weights[name] = torch.zeros(99, 4)


def spoil(value: float) -> Change:
    return lambda content: next(iter(content["state_dict"].values())).view(-1)[:1].fill_(value)


def in_schema(key: str, value: object) -> Change:
    return lambda content: content["pipeline"]["schema"].update({key: value})


def without(key: str, *above: str) -> Change:
    return lambda content: reduce(getitem, above, content).pop(key)


def decided(decision: object) -> Change:
    return lambda content: content["pipeline"].update(decision=decision)


ODDS = r"model.ckpt is at odds with itself: its task is "
UNREADABLE = "model.ckpt does not say how to read new rows: its schema "
UNDECIDED = "model.ckpt does not say how its outputs are decided$"
NO_NUMBERS = r"holds weights that are no numbers in \S+\.\S+$"
CHANGES: list[tuple[Change, str]] = [
    (
        lambda content: content["pipeline"].update(format=2, version="9.9.9"),
        r"model.ckpt has format 2, written by pipeline 9.9.9; this version reads format 1$",
    ),
    (
        widen,
        r"model.ckpt has a weight of shape 99×4 at .*"
        r"where the network has a weight of shape 8×4; its config says model.hidden=\[8\]",
    ),
    (lambda content: content["state_dict"].popitem(), "model.ckpt has nothing at "),
    (spoil(torch.nan), NO_NUMBERS),
    (spoil(torch.inf), NO_NUMBERS),
    (
        in_schema("task", "regression"),
        f"{ODDS}regression of table rows with 3 outputs, and it names 3",
    ),
    (
        in_schema("classes", ["a", "b"]),
        f"{ODDS}multiclass of table rows with 3 outputs, and it names 2",
    ),
    (in_schema("outputs", 10), f"{ODDS}multiclass of table rows with 10 outputs, and it names 3 "),
    *(
        (without(key, "pipeline", "schema"), UNREADABLE)
        for key in ("task", "features", "window", "input_scaler")
    ),
    (in_schema("reading", {"kind": "a.b"}), UNREADABLE),
    *((decided(decision), UNDECIDED) for decision in ({}, {"threshold": 0.5}, [])),
    *(
        (without(key, "pipeline"), f"{UNWHOLE}: it holds no {key}$")
        for key in ("config", "schema", "epoch")
    ),
    (without("state_dict"), f"{UNWHOLE}: it holds no weights$"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_model_that_lacks_a_part_or_contradicts_itself_is_refused_with_what_is_wrong(
    file: Path, capsys: pytest.CaptureFixture[str], change: Change, said: str
) -> None:
    altered(file, change)
    assert re.search(said, refusal(capsys))


def test_another_version_of_the_same_format_answers_and_is_named(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered(file, lambda content: content["pipeline"].update(version="9.9.9"))
    assert asked() == 0
    note = f"note: the model was written by pipeline 9.9.9; this is {pipeline.__version__}"
    assert capsys.readouterr().out.splitlines()[1:] == [note]


def test_a_model_of_a_class_outside_of_what_is_trusted_is_refused(
    file: Path, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_folder / "my_net.py").write_text("open('trapped', 'w')\n", encoding="utf-8")
    altered(file, lambda c: c["pipeline"]["config"]["model"].update(_target_="my_net.Net"))
    line = refusal(capsys)
    assert line.startswith("model.ckpt: model._target_='my_net.Net' lies outside of pipeline, ")
    assert "trust=[my_net]" in line
    assert not (own_folder / "trapped").exists()


def test_a_run_that_is_still_without_a_model_answers_from_its_best_checkpoint(
    trained: Path, file: Path
) -> None:
    assert asked() == 0
    shutil.copytree(trained, "running")
    shutil.rmtree("running/model")
    words = ["model_from=running", "input=new.csv", "output=other.csv"]
    assert main(words) == 0
    assert Path("other.csv").read_bytes() == Path("out.csv").read_bytes()
