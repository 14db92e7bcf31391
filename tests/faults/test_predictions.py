"""Faults of `pipeline predict`, and K1 to K7: files that are no model to ask.

`tests/running/test_bad_checkpoints.py` has the damages that any reader of a checkpoint refuses.
"""

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import torch

import pipeline
from faults.conftest import Mount, Start
from pipeline.predict import main

pytestmark = pytest.mark.slow

HEADER = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n"
LINE = "5.1,3.5,1.4,0.2\n"


@pytest.fixture
def start(start: Start, trained: Path) -> Start:
    """Starts the command with that model."""
    return partial(start, f"model_from={trained}", command="predict")


def write_new(rows: int, path: Path | str = "new.csv") -> None:
    block = LINE * 1000
    with Path(path).open("w", encoding="utf-8") as file:
        file.write(HEADER)
        for _ in range(rows // 1000):
            file.write(block)
        file.write(LINE * (rows % 1000))


def files() -> list[str]:
    return sorted(path.name for path in Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("number", "code", "suffix"), [(signal.SIGINT, 130, "csv"), (signal.SIGTERM, 143, "parquet")]
)
def test_signal_keeps_the_old_predictions_file(
    start: Start, number: int, code: int, suffix: str
) -> None:
    """No partial file is left beside it."""
    write_new(2_000_000)
    Path(f"out.{suffix}").write_bytes(b"old")
    process = start("input=new.csv", f"output=out.{suffix}", "overwrite=true")

    def is_writing() -> bool:
        return any(path.stat().st_size for path in Path.cwd().glob(".out.*.tmp"))

    process.wait_until(is_writing, what="the first rows")
    process.send(number)
    assert process.end() == code
    assert "Traceback" not in process.err
    assert files() == ["new.csv", f"out.{suffix}"]
    assert Path(f"out.{suffix}").read_bytes() == b"old"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_full_disk_leaves_no_partial_predictions(
    trained: Path, mount: Mount, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    disk = mount("disk", size="100k")
    lines = [f"{5 + number / 1e5},3.5,1.4,0.2\n" for number in range(20_000)]
    Path("new.csv").write_text(HEADER + "".join(lines), encoding="utf-8")
    words = [f"model_from={trained}", "input=new.csv", f"output={disk}/out.{suffix}"]
    assert main(words) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: the disk is full at '{disk}/out.{suffix}'; choose another ")
    assert list(disk.iterdir()) == []


def test_read_only_disk_is_refused_before_reading(
    trained: Path, mount: Mount, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = mount("disk", size="1m")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    Path("new.csv").write_text("no table of this model", encoding="utf-8")
    assert main([f"model_from={trained}", "input=new.csv", f"output={disk}/out.csv"]) == 3
    assert capsys.readouterr().err == (
        f"error: output='{disk}/out.csv' can't be written (Read-only file system); choose another "
        "place\n"
    )


def test_missing_permission_is_reported(start: Start, unprivileged: Sequence[str]) -> None:
    write_new(3)
    Path("out").mkdir(mode=0o555)
    process = start("input=new.csv", "output=out/out.csv", prefix=unprivileged)
    assert process.end() == 3
    assert process.err == (
        "error: output='out/out.csv' can't be written (Permission denied); choose another place\n"
    )
    Path("new.csv").chmod(0o000)
    process = start("input=new.csv", prefix=unprivileged)
    assert process.end() == 3
    assert process.err == "error: input='new.csv' can't be read: permission is denied\n"


NAMES = [
    *("with 数据 🌱 a=b,c #h 100% %41", '[x]{y}(z) it\'s "q" & ; \\ $HOME ~ *?!'),
    *("-dash", "d" * 200),
]
#: They need no quotes of Hydra's.
RELATIVE = ["数据.csv", "a b=it's.csv"]


@pytest.mark.parametrize("name", [*NAMES, *RELATIVE])
def test_model_and_files_may_have_any_name(
    trained: Path, own_folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    if name in RELATIVE:
        model, input_path, output = trained, name, f"out-{name}"
    else:
        folder = own_folder / name
        model, input_path, output = (
            folder / "run",
            f"{folder / name}.csv",
            f"{folder / name}.parquet",
        )
        shutil.copytree(trained, model)
    write_new(3, input_path)
    before = list(own_folder.rglob("*"))
    words = [f"model_from={model}", f"input={input_path}", f"output={output}"]
    assert main(words) == 0, capsys.readouterr().err
    assert sorted(own_folder.rglob("*")) == sorted([*before, own_folder / output])


def test_closed_standard_output_is_no_error(trained: Path) -> None:
    write_new(200_000)
    command = [sys.executable, "-m", "pipeline.predict", f"model_from={trained}", "input=new.csv"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "verbose=0"], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline().startswith(b"prediction,probability of setosa,")
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)


def test_standard_output_is_utf8_in_any_locale(trained: Path) -> None:
    Path("new.csv").write_text(f"id,{HEADER}名字,{LINE}", encoding="utf-8")
    command = [sys.executable, "-X", "utf8=0", "-m", "pipeline.predict", f"model_from={trained}"]
    ended = subprocess.run(
        [*command, "input=new.csv", "id=id", "verbose=0"],
        capture_output=True,
        check=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
    )
    assert ended.stdout.decode("utf-8").splitlines()[1].startswith("名字,")


# ── files that are no model to ask, each told in one line that names it ─────────────────────────

Change = Callable[[dict[str, Any]], object]


class Booby:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("trapped",)


@pytest.fixture
def file(trained: Path, own_folder: Path) -> Path:
    """A model by itself, beside rows to ask it about."""
    write_new(1)
    return Path(shutil.copy(trained / "model" / "model.ckpt", own_folder / "model.ckpt"))


def change_checkpoint(file: Path, change: Change) -> None:
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, file)


def run_predict(*words: str) -> int:
    return main(["model_from=model.ckpt", "input=new.csv", "output=out.csv", *words])


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """Ask; return the only line that is said, after looking at what is left behind."""
    before = sorted(Path.cwd().rglob("*"))
    assert run_predict() == 2
    assert sorted(Path.cwd().rglob("*")) == before
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert (captured.out, line[:7]) == ("", "error: ")
    return line.removeprefix("error: ")


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    content[largest.header_offset + 200] ^= 1
    file.write_bytes(content)


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


UNWHOLE = r"model.ckpt is not a complete checkpoint"
UNPICKLED = f"{UNWHOLE}|holds objects other than tensors"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda file: file.write_bytes(file.read_bytes()[:-1000]), UNWHOLE),
    "a flipped bit": (flip_a_bit, f"model.ckpt is .*checksum|{UNWHOLE}"),
    "code in an archive": (
        lambda file: torch.save({"state_dict": {}, "pipeline": Booby()}, file),
        UNPICKLED,
    ),
    "bare code": (lambda file: file.write_bytes(pickle.dumps(Booby())), UNPICKLED),
    "nothing": (Path.unlink, r"run 'model.ckpt' is unknown below runs='runs'; expected a "),
    "a folder": (make_folder, r"'model.ckpt' has no model; expected the folder of a run "),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_model_file_with_code_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """The code does not run."""
    damage, pattern = DAMAGES[kind]
    damage(file)
    assert re.search(pattern, refusal(capsys))
    assert not Path("trapped").exists()


def widen(content: dict[str, Any]) -> None:
    weights = content["state_dict"]
    name = next(key for key in weights if tuple(weights[key].shape) == (64, 4))
    weights[name] = torch.zeros(99, 4)


def spoil(value: float) -> Change:
    return lambda content: next(iter(content["state_dict"].values())).view(-1)[:1].fill_(value)


def in_schema(key: str, value: object) -> Change:
    return lambda content: content["pipeline"]["schema"].update({key: value})


def without(key: str, *above: str) -> Change:
    return lambda content: reduce(getitem, above, content).pop(key)


def with_decision(decision: object) -> Change:
    return lambda content: content["pipeline"].update(decision=decision)


ODDS = r"model.ckpt is inconsistent: its task is "
UNREADABLE = "model.ckpt has no usable schema of the data: it is "
UNDECIDED = "model.ckpt has no decision rule for its outputs$"
NO_NUMBERS = r"holds weights that are not numbers in \S+\.\S+$"
CHANGES: list[tuple[Change, str]] = [
    (
        widen,
        r"model.ckpt has a weight of shape 99×4 at .*"
        r"where the network has a weight of shape 64×4; its config has model.hidden=\[64, 128, 64",
    ),
    (lambda content: content["state_dict"].popitem(), "model.ckpt has nothing at "),
    (spoil(torch.inf), NO_NUMBERS),
    (
        in_schema("task", "regression"),
        f"{ODDS}regression of table rows with 3 outputs, but it has 3",
    ),
    (
        in_schema("classes", ["a", "b"]),
        f"{ODDS}multiclass of table rows with 3 outputs, but it has 2",
    ),
    (in_schema("outputs", 10), f"{ODDS}multiclass of table rows with 10 outputs, but it has 3 "),
    *(
        (without(key, "pipeline", "schema"), UNREADABLE)
        for key in ("task", "features", "window", "input_scaler")
    ),
    (in_schema("reading", {"kind": "a.b"}), UNREADABLE),
    *((with_decision(decision), UNDECIDED) for decision in ({}, {"threshold": 0.5}, [])),
]


@pytest.mark.parametrize(("change", "pattern"), CHANGES)
def test_incomplete_or_contradictory_model_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], change: Change, pattern: str
) -> None:
    change_checkpoint(file, change)
    assert re.search(pattern, refusal(capsys))


def test_model_of_another_version_predicts_with_note(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_checkpoint(file, lambda content: content["pipeline"].update(version="9.9.9"))
    assert run_predict() == 0
    note = f"note: the model was written by pipeline 9.9.9; this is {pipeline.__version__}"
    assert capsys.readouterr().out.splitlines()[1:] == [note]


def test_model_of_untrusted_class_is_refused(
    file: Path, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_folder / "my_net.py").write_text("open('trapped', 'w')\n", encoding="utf-8")
    change_checkpoint(
        file, lambda c: c["pipeline"]["config"]["model"].update(_target_="my_net.Net")
    )
    line = refusal(capsys)
    assert line.startswith("model.ckpt: model._target_='my_net.Net' is outside of pipeline, ")
    assert "trust=[my_net]" in line
    assert not (own_folder / "trapped").exists()


def test_run_without_model_predicts_from_best_checkpoint(trained: Path, file: Path) -> None:
    assert run_predict() == 0
    shutil.copytree(trained, "running")
    shutil.rmtree("running/model")
    words = ["model_from=running", "input=new.csv", "output=other.csv"]
    assert main(words) == 0
    assert Path("other.csv").read_bytes() == Path("out.csv").read_bytes()
