"""The preflight: what would fail is named, what would run is ok, and nothing stays."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from getpass import getuser
from io import StringIO
from pathlib import Path

import psutil
import pytest
from helpers.config_command import choices
from helpers.fixture_types import Capture, Patch
from study.spaces import study

from pipeline.sweep import main

OWN_NETS = Path(__file__).parent / "own_parts" / "preflight_nets.py"
STUDY = "# @package _global_\nsweep:\n  space:\n"
PLANTED = {
    "model/wide.yaml": "defaults: [cnn1d, _self_]\nkernel_size: [9, 3, 3]\n",
    "model/fixed.yaml": "_target_: preflight_nets.Fixed\n",
    "data/missing.yaml": "_target_: pipeline.data.iriss.Iris\n",
    "sweeps/kernels.yaml": f"{STUDY}    model.kernel_size: choice(3, 41)\n",
    "sweeps/turned.yaml": f"{STUDY}    optimizer.lr: interval(1, 0.1)\n",
    "sweeps/zero.yaml": f"{STUDY}    optimizer.lr: interval(0, 1)\n",
    "sweeps/several.yaml": f"{STUDY}    trainer.devices: choice(1, 2)\n",
}
COMMAND = (
    "--config-dir=conf",
    "sweeps=[preflight,quick,kernels,turned,zero,several,models]",
    "model=choice(mlp, wide, fixed)",
    "data=choice(iris, wine, missing)",
    "sweep.preflight_skip=['model=mlp data=wine']",
    "trust=[preflight_nets]",
    "sweep.workers=1",
)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What a preflight printed and left.

    Args:
        code: Its exit code.
        counts: How many pairs it has tried, and how many would fail.
        problems: What it refused.
    """

    code: int
    counts: tuple[int, int]
    problems: list[str]


def run_preflight(
    python: str, folder: Path, *words: str, planted: Mapping[str, str] | None = None
) -> Tried:
    """Run a preflight beside such files; it leaves none, its temporary ones included."""
    for name, content in (planted or {}).items():
        (folder / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "conf" / name).write_text(content)
    shutil.copy(OWN_NETS, folder)
    temporary = folder / "temporary"
    temporary.mkdir()
    before = set(folder.rglob("*"))
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(sys, "executable", python)
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder.parent / "inductor"))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        patch.setattr(sys, "dont_write_bytecode", True)
        code = main(words)
    assert set(folder.rglob("*")) == before
    lines = err.getvalue().splitlines()
    assert all(line.startswith("error: ") for line in lines), lines
    problems = [line.removeprefix("error: ") for line in lines]
    count_line = re.fullmatch(r"(\d+) tried in .*, (\d+) would fail\n", out.getvalue())
    assert count_line is not None
    return Tried(code=code, counts=(int(count_line[1]), int(count_line[2])), problems=problems)


@pytest.fixture(scope="module")
def broken(python: str, tmp_path_factory: pytest.TempPathFactory) -> Tried:
    return run_preflight(python, tmp_path_factory.mktemp("preflight"), *COMMAND, planted=PLANTED)


def test_pairs_that_would_fail_are_counted(broken: Tried) -> None:
    """A pair that the user skips, and a model that does not suit a study, are not tried."""
    assert broken.code == 2
    # On three data sets, with one pair skipped; in sweeps quick, kernels, turned, zero, several.
    assert broken.counts == (9 - 1 + 3 + 1 + 3 + 3 + 3, 5 + 1 + 1 + 3 + 3 + 3)


def test_each_reason_is_one_line_with_its_fix(broken: Tried) -> None:
    conf = "pipeline train --config-dir"
    by_itself = [line.partition("; for the traceback: ")[0] for line in broken.problems]
    assert by_itself == [
        "model=wide data=iris: model.kernel_size=9 does not fit layer 1: it covers 9 "
        "values, but the input length is 4; expected a smaller kernel, stride or pooling, or "
        "fewer layers",
        "model=fixed data=iris: preflight_nets.Fixed.forward raised RuntimeError: mat1 and mat2 "
        "shapes cannot be multiplied (1x4 and 13x3) (preflight_nets.py:18)",
        "data=missing: data._target_='pipeline.data.iriss.Iris' does not exist: no module "
        "'pipeline.data.iriss'.",
        "sweeps=quick model=fixed: preflight_nets.Fixed.forward raised RuntimeError: mat1 and mat2 "
        "shapes cannot be multiplied (40x1 and 13x10) (preflight_nets.py:18)",
        "sweeps=kernels model=wide where kernel_size 41: model.kernel_size=41 does not fit layer "
        "1: it covers 41 values, but the input length is 40; expected a smaller kernel, "
        "stride or pooling, or fewer layers",
        "sweeps=turned: sweep.space.optimizer.lr=interval(1, 0.1): low 1 > high 0.1; expected "
        "low < high.",
        "sweeps=zero: sweep.space.optimizer.lr=interval(0, 1): optimizer.lr=0.0 is not allowed; "
        "expected a number > 0.",
        "sweeps=several: trainer.devices=2 is for a single run; in a study, "
        "sweep.devices_per_trial=2 sets the devices of each trial, and CUDA_VISIBLE_DEVICES the "
        "GPUs of all trials",
    ]
    assert conf in broken.problems[1]
    assert broken.problems[1].endswith(
        "'trust=[preflight_nets]' model=fixed data=iris debug=default traceback=true"
    )


def test_preflight_refuses_a_typed_range(own_folder: Path, capsys: Capture) -> None:
    assert main(["sweeps=preflight", "optimizer.lr=interval(0.1, 1)"]) == 2
    assert capsys.readouterr().err == (
        "error: optimizer.lr=interval(0.1, 1): a preflight tries the ranges in sweeps/; put this "
        "one into a file there, or remove it.\n"
    )
    assert list(own_folder.iterdir()) == []


def test_network_of_a_study_must_suit_its_data(own_folder: Path, python: str) -> None:
    """A model that the preflight itself combines with data need not."""
    others = [f"'model={model} data=iris'" for model in choices("model").split(", ")]
    others.remove("'model=cnn2d data=iris'")
    file = {"sweeps/images.yaml": f"{STUDY}    model: choice(cnn2d, mlp)\n"}
    words = ("sweeps=[preflight,images]", f"sweep.preflight_skip=[{','.join(others)}]")
    result = run_preflight(
        python,
        own_folder,
        "--config-dir=conf",
        *words,
        "data=iris",
        "sweep.workers=1",
        planted=file,
    )
    assert result.counts == (2, 1)  # one run, and the study
    assert [problem.partition(" reads")[0] for problem in result.problems] == [
        "sweeps=images where model cnn2d: model=cnn2d"
    ]


def test_extreme_points_cover_every_end_and_choice() -> None:
    """This includes conditional ranges and values that are switched off."""
    off = "trainer.gradient_clip_val=tag(off, interval(0.5, 2))"
    space, _ = study("sweeps=architecture", "model=choice(mlp, gru)", off)
    points = space.extreme_points()
    texts_by_key: dict[str, set[str]] = {}
    for point in points:
        for key, text in point.items():
            where = f" {point['model']}" if key.startswith("model.") else ""
            texts_by_key.setdefault(f"{key}{where}", set()).add(text)
    assert {key: " ".join(sorted(texts)) for key, texts in texts_by_key.items()} == {
        "model": "gru mlp",
        "optimizer.lr": "0.001 0.1",
        "trainer.gradient_clip_val": "0.5 2.0 null",
        "model.hidden mlp": "[128,128,128] [128,64] [64,128,64] [64,64] [64]",
        "model.activation mlp": "gelu relu tanh",
        "model.norm mlp": "batch layer none",
        "model.dropout mlp": "0.0 0.5",
        "model.hidden gru": "128 16",
        "model.layers gru": "1 3",
        "model.readout gru": "flatten last mean",
        "model.bidirectional gru": "false true",
    }
    assert len(points) == 9  # the networks take turns, and one has five widths


@pytest.mark.slow
def test_everything_shipped_passes_the_preflight(own_folder: Path, python: str) -> None:
    result = run_preflight(python, own_folder, "sweeps=preflight")
    assert (result.code, result.problems) == (0, [])
    assert result.counts[0] >= 60


@pytest.mark.slow
def test_network_that_kills_its_process_is_named(
    own_folder: Path, python: str, monkeypatch: Patch
) -> None:
    """The rest is tried."""
    monkeypatch.setenv("TRUSTED", "preflight_nets")  # as a training takes it
    dies = {"model/dies.yaml": "_target_: preflight_nets.Dies\n"}
    words = ("--config-dir=conf", "trust=[${oc.env:TRUSTED}]", "sweep.workers=1", "data=iris")
    models = "model=choice(dies, mlp)"
    result = run_preflight(
        python, own_folder, *words, "sweeps=[preflight,seeds]", models, planted=dies
    )
    assert result.code == 2
    assert result.counts == (4, 2)
    (problem,) = result.problems
    assert problem.startswith(
        "model=dies: its process died (ended by SIGKILL); for the traceback: pipeline train "
    )


@pytest.mark.slow
def test_interrupted_preflight_leaves_no_workers_or_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.sweep", "sweeps=preflight", "sweep.workers=2"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    before = set(tmp_path.iterdir())
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    while not list(tmp_path.glob("preflight-*/*")):
        assert process.poll() is None
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert not any(worker.is_running() for worker in workers)
    leftover_names = {path.name for path in {*tmp_path.iterdir()} - before}
    assert leftover_names <= {f"torchinductor_{getuser()}"}  # which importing torch may make
