"""The wheel: what is in it, and that it works from an empty folder without the repository."""

import csv
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from helpers.fixture_types import Patch
from helpers.how_to_pages import work_through

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that nothing is left in the repository."""
    copy, dist = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for name in ("pipeline", "conf", "sweeps"):
        left_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=left_out, symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(dist)]
    called([sys.executable, "-m", "pip", "wheel", *options, str(copy)], cwd=copy)
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in an environment that sees the dependencies, but not the repository."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", scheme="venv", vars=paths))
    # A folder that a .pth file names is searched, but the .pth files in it are not read: those of
    # an editable install would lead to the repository.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    python = folder / "bin" / "python"
    install = ["install", "--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    called([sys.executable, "-m", "pip", "--python", str(python), *install], cwd=folder)
    return folder / "bin"


def called(words: list[str], *, cwd: Path) -> str:
    """Return what a command printed; fail with its errors if it fails."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_wheel_holds_exactly_the_package_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    places = {"pipeline": "pipeline", "conf": "pipeline/conf", "sweeps": "pipeline/conf/sweeps"}
    assert names == {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, place in places.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("python -m pipeline.train --help", "Train one model and record"),
        ("python -m pipeline.train model=lstm --cfg job", "_target_: pipeline.networks.recurrent"),
        ("python -m pipeline.runs", "no runs below output='runs'"),
        ("pipeline", "  train     Train one model and record the run.\n"),
        ("pipeline -sc install=bash", "-F hydra_bash_completion pipeline\n"),
        ("pipeline-runs --help", "List, repair and clean up"),
    ],
    ids=lambda words: words,
)
def test_installed_command_answers_without_creating_files(
    scripts: Path, own_folder: Path, words: str, expected: str
) -> None:
    program, *rest = words.split()
    assert expected in called([str(scripts / program), *rest], cwd=own_folder)
    assert list(own_folder.iterdir()) == []


def test_installed_command_trains_several_models(scripts: Path, own_folder: Path) -> None:
    """Its records lie in the current folder."""
    words = ["-m", "model=mlp,cnn1d", "data=wine", "trainer.max_epochs=1"]
    printed = called([str(scripts / "pipeline-train"), *words], cwd=own_folder)
    assert "see it  mlflow ui" in printed
    names = sorted(path.name.split("-", 2)[2] for path in (own_folder / "runs").iterdir())
    assert [name.rpartition("-")[0] for name in names] == [
        "cnn1d-wine-max_epochs1",
        "mlp-wine-max_epochs1",
    ]
    assert {"mlflow.db", "runs"} <= {path.name for path in own_folder.iterdir()}


def test_installed_program_trains_own_network_and_data(
    scripts: Path, own_folder: Path, monkeypatch: Patch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    work_through("own-model", own_folder, str(scripts / "python"))
    with (own_folder / "graded.csv").open(encoding="utf-8") as file:
        graded = list(csv.DictReader(file))
    assert len(graded) == 400
    assert {row["prediction"] for row in graded} == {"bad", "good"}
    imports = "import my_net; from pipeline.base import paths"
    code = f"{imports}; print(paths.__file__, paths.conf_folder()); print(my_net.__file__)"
    *ours, own = called([str(scripts / "python"), "-c", code], cwd=own_folder).split()
    assert [str(scripts.parent) in word for word in ours] == [True, True]
    assert own == str(own_folder / "my_net.py")
