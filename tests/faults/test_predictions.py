"""Faults of `pipeline predict`: signals, disks, names and streams."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from helpers.fixture_types import Capture

from faults.conftest import Mount, Start
from faults.refusals import IRIS_ROW
from pipeline.predict import main

pytestmark = pytest.mark.slow

HEADER, LINE = IRIS_ROW.splitlines(keepends=True)


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
    trained: Path, mount: Mount, capsys: Capture, suffix: str
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
    trained: Path, mount: Mount, capsys: Capture
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
    trained: Path, own_folder: Path, capsys: Capture, name: str
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
