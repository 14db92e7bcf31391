"""Faults K1 to K7: files that are no model to ask, each told in one line that names it."""

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import __version__
from pipeline.predict import main

pytestmark = pytest.mark.slow

FEATURES = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")


class Booby:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("trapped",)


@pytest.fixture
def file(trained: Path, own_folder: Path) -> Path:
    """A model by itself, beside rows to ask it about."""
    (own_folder / "new.csv").write_text(",".join(FEATURES) + "\n5,3,1,0.2\n", encoding="utf-8")
    return Path(shutil.copy(trained / "model" / "model.ckpt", own_folder / "model.ckpt"))


def altered(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, file)


def asked(*words: str) -> int:
    return main(["model_from=model.ckpt", "input=new.csv", "output=out.csv", *words])


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Ask; return the only line that is said, after looking at what is left behind."""
    before = sorted(Path.cwd().rglob("*"))
    assert asked(*words) == 2
    assert sorted(Path.cwd().rglob("*")) == before
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    "foreign",
    [
        {"weight": torch.zeros(2)},
        {"state_dict": {"weight": torch.zeros(2)}, "pytorch-lightning_version": "2.6.6"},
        [torch.zeros(2)],
    ],
    ids=["plain weights", "Lightning's own", "a list"],
)
def test_a_foreign_file_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], foreign: object
) -> None:
    torch.save(foreign, file)
    assert refusal(capsys).startswith("model.ckpt is not a checkpoint of this project; expected ")


def test_another_kind_of_archive_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights.txt", "none")
    assert "is not a checkpoint of this project" in refusal(capsys)


def test_another_format_is_refused_with_the_version_that_wrote_it(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered(file, lambda content: content["pipeline"].update(format=2, version="9.9.9"))
    assert refusal(capsys) == (
        "model.ckpt has format 2, written by pipeline 9.9.9; this version reads format 1"
    )


def test_another_version_of_the_same_format_answers_and_is_named(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered(file, lambda content: content["pipeline"].update(version="9.9.9"))
    assert asked() == 0
    note = f"note: the model was written by pipeline 9.9.9; this is {__version__}"
    assert capsys.readouterr().out.splitlines()[1:] == [note]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no whole checkpoint (0 bytes; empty, cut short or another kind of file)"),
        (b"weights\n" * 9, "is no whole checkpoint (72 bytes; empty, cut short or another kind"),
    ],
)
def test_an_empty_file_or_a_text_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    file.write_bytes(content)
    assert refusal(capsys).startswith(f"model.ckpt {said}")


def test_a_file_that_was_cut_short_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(file.read_bytes()[:-1000])
    assert refusal(capsys).startswith("model.ckpt is no whole checkpoint")


def test_a_flipped_bit_in_the_weights_is_found(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda one: one.file_size)
    content[largest.header_offset + 200] ^= 1
    file.write_bytes(content)
    line = refusal(capsys)
    assert line.startswith("model.ckpt is ")
    assert "checksum" in line or "no whole checkpoint" in line


def test_a_folder_without_a_model_and_a_name_of_nothing_are_refused(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.unlink()
    assert refusal(capsys).startswith("run 'model.ckpt' is unknown below runs='runs'; expected a ")
    file.mkdir()
    assert refusal(capsys).startswith("'model.ckpt' holds no model; expected the folder of a run ")


@pytest.mark.parametrize("way", ["inside torch's archive", "bare"])
def test_a_file_that_would_run_code_is_refused_and_its_code_not_run(
    file: Path, own_folder: Path, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    if way == "bare":
        file.write_bytes(pickle.dumps(Booby()))
    else:
        torch.save({"state_dict": {}, "pipeline": Booby()}, file)
    line = refusal(capsys)
    assert "is no whole checkpoint" in line or "holds something else than tensors" in line
    assert not (own_folder / "trapped").exists()


def test_a_model_of_a_class_outside_of_what_is_trusted_is_refused(
    file: Path, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_folder / "my_net.py").write_text("open('trapped', 'w')\n", encoding="utf-8")
    altered(file, lambda c: c["pipeline"]["config"]["model"].update(_target_="my_net.Net"))
    line = refusal(capsys)
    assert line.startswith("model.ckpt: model._target_='my_net.Net' lies outside of pipeline, ")
    assert "trust=[my_net]" in line
    assert not (own_folder / "trapped").exists()


def test_weights_of_another_shape_are_refused_with_both_shapes_and_the_config(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def widen(content: dict[str, Any]) -> None:
        weights = content["state_dict"]
        name = next(key for key in weights if tuple(weights[key].shape) == (8, 4))
        weights[name] = torch.zeros(99, 4)

    altered(file, widen)
    line = refusal(capsys)
    assert "model.ckpt has a weight of shape 99×4 at " in line
    assert "where the network has a weight of shape 8×4; its config says model.hidden=[8]" in line


def test_weights_that_are_missing_are_refused_by_name(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered(file, lambda content: content["state_dict"].popitem())
    assert refusal(capsys).startswith("model.ckpt has nothing at ")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "task",
            "regression",
            "its task is regression of table rows with 3 outputs, and it names 3",
        ),
        (
            "classes",
            ["a", "b"],
            "its task is multiclass of table rows with 3 outputs, and it names 2",
        ),
        ("outputs", 10, "its task is multiclass of table rows with 10 outputs, and it names 3 "),
    ],
)
def test_a_model_of_another_task_or_class_count_is_refused_with_both(
    file: Path, capsys: pytest.CaptureFixture[str], key: str, value: object, said: str
) -> None:
    altered(file, lambda content: content["pipeline"]["schema"].update({key: value}))
    assert refusal(capsys).startswith(f"model.ckpt is at odds with itself: {said}")


@pytest.mark.parametrize("key", ["task", "features", "input_scaler"])
def test_a_schema_that_lacks_a_part_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    altered(file, lambda content: content["pipeline"]["schema"].pop(key))
    assert refusal(capsys).startswith("model.ckpt does not say how to read new rows: its schema ")


@pytest.mark.parametrize("decision", [{}, {"threshold": 0.5}, []])
def test_a_decision_that_lacks_a_part_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], decision: object
) -> None:
    altered(file, lambda content: content["pipeline"].update(decision=decision))
    assert refusal(capsys) == "model.ckpt does not say how its outputs are decided"


@pytest.mark.parametrize("key", ["config", "schema", "epoch", "state_dict"])
def test_a_file_that_lacks_a_part_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    def remove(content: dict[str, Any]) -> None:
        del (content if key == "state_dict" else content["pipeline"])[key]

    altered(file, remove)
    what = "weights" if key == "state_dict" else key
    assert refusal(capsys) == f"model.ckpt is no whole checkpoint: it holds no {what}"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(
    file: Path, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    name = next(iter(torch.load(file, weights_only=True)["state_dict"]))
    altered(file, lambda content: content["state_dict"][name].view(-1)[:1].fill_(value))
    assert refusal(capsys).endswith(f"holds weights that are no numbers in {name}")


def test_a_run_that_is_still_without_a_model_answers_from_its_best_checkpoint(
    trained: Path, file: Path
) -> None:
    assert asked() == 0
    shutil.copytree(trained, "running")
    shutil.rmtree("running/model")
    words = ["model_from=running", "input=new.csv", "output=other.csv"]
    assert main(words) == 0
    assert Path("other.csv").read_bytes() == Path("out.csv").read_bytes()
