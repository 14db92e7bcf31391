"""Models of each kind of data, trained in a moment, and the command that asks them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from serving import new_data
from serving.new_data import read_rows, write_rows
from sklearn.datasets import load_digits

from pipeline.predict import main

QUICK = ("trainer.max_epochs=2", "tracking=none", "verbose=0")
TRAINED = {
    "table": (
        "model=mlp",
        "data=table",
        "data.target=outcome",
        "data.id=patient",
        "metrics.threshold=best_f1",
    ),
    "values": ("model=mlp", "data=table", "data.target=y", "data.scale=standard"),
    "arrays": ("model=cnn1d", "data=arrays"),
    "images": ("model=cnn2d", "data=images"),
    "pixels": ("model=cnn2d", "data=table", "data.target=digit", "data.image_shape=[8,8]"),
    # So many validation rows that forecasts come with intervals.
    "series": ("model=mlp", "data=series", "data.horizon=3", "data.validation=0.4"),
}
SOURCES = {"arrays": "arrays.npz", "images": "images"}


def write_sources(folder: Path) -> None:
    write_rows(folder / "table.csv", new_data.TABLE, new_data.patients(240))
    write_rows(folder / "values.csv", new_data.VALUES, new_data.measured(200))
    write_rows(folder / "series.csv", ("month", "sales"), new_data.months(240))
    inputs, classes = new_data.waves(120)
    np.savez(folder / "arrays.npz", x=inputs, y=classes)
    new_data.write_pictures(folder / "images", 80)
    digits = load_digits()
    cells = np.column_stack([digits.target, digits.data])[:200].astype(int).tolist()
    write_rows(folder / "pixels.csv", ("digit", *digits.feature_names), cells)


def train_each_kind(folder: Path) -> None:
    """Write data of each kind into a new folder, and train a model on them."""
    from pipeline.train import main as train

    folder.mkdir()
    write_sources(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind, words in TRAINED.items():
            path = f"data.path={SOURCES.get(kind, f'{kind}.csv')}"
            assert train([*words, path, *QUICK, f"name={kind}"]) == 0, kind


class Predict:
    """Calls the command in the current folder.

    Args:
        given: Where the models are.
        capsys: Catches what is printed.
    """

    def __init__(self, given: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.given = given
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, kind: str, *words: str) -> int:
        """Return the exit code."""
        self._capsys.readouterr()
        code = main([f"model_from={self.run(kind)}", *words])
        self.out, self.err = self._capsys.readouterr()
        return code

    def run(self, kind: str) -> Path:
        """Return the folder of a run."""
        (folder,) = (self.given / "runs").glob(f"*-{kind}-*")
        return folder

    def rows(self, kind: str, source: Path | str, *words: str) -> list[dict[str, str]]:
        """Return the predictions for a file."""
        assert self(kind, f"input={source}", "output=out.csv", "overwrite=true", *words) == 0, (
            self.err
        )
        assert self.err == ""
        return read_rows(Path("out.csv"))

    def problem(self, kind: str, *words: str) -> str:
        """Return the only line of a refusal, which leaves nothing behind."""
        before = sorted(Path.cwd().rglob("*"))
        assert self(kind, *words) == 2, self.err
        assert sorted(Path.cwd().rglob("*")) == before
        (line,) = self.err.splitlines()
        return line.removeprefix("error: ")


def child(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run code with words as a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
