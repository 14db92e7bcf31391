"""Runs and a study that are really trained, for a person to look at in MLflow's pages."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.tracking.fields import TRAINING_PAGES
from pipeline.tracking.folders import read_state

SCRIPT = "<img src=x onerror=\"document.title='hacked'\">"
CLASSES = (f"{SCRIPT}|`a`", "*b* [c](d) $5 @e :smile: 文字")
"""Names that would do harm or break a table where they are not escaped."""


@dataclass(frozen=True, slots=True)
class Trained:
    """Runs on record in a folder.

    Args:
        folder: Holds `mlflow.db` and `runs/`.
    """

    folder: Path

    def run(self, name: str) -> Path:
        """Return the folder of a run or study."""
        (found,) = (one for one in (self.folder / "runs").iterdir() if name in one.name)
        return Path(found)

    def page(self, name: str, tab: str = "") -> str:
        """Return the place of a run's page."""
        state = read_state(self.run(name))
        return f"/experiments/{state.experiment_id}/runs/{state.run_id}{tab}?{TRAINING_PAGES}"

    def table(self, name: str) -> str:
        """Return the place of the table of all runs of a run's experiment."""
        return f"/experiments/{read_state(self.run(name)).experiment_id}?{TRAINING_PAGES}"


def call(folder: Path, command: str, *words: str) -> None:
    """Run a command of the program as a person would."""
    done = subprocess.run(
        [sys.executable, "-m", f"pipeline.{command}", *words, "verbose=0"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def train_all(folder: Path) -> None:
    """Train what the tests look at."""
    rows = [f'{number},{number % 7},"{quoted(CLASSES[number % 2])}"' for number in range(80)]
    (folder / "nasty.csv").write_text("\n".join(["a,b,kind", *rows]), encoding="utf-8")
    call(folder, "train", "model=cnn2d", "data=digits", "trainer.max_epochs=4", "pictures=true",
         "name=digits_cnn", "register=digits")  # fmt: skip
    call(folder, "train", "model=mlp", "data=table", "data.path=nasty.csv", "data.target=kind",
         "trainer.max_epochs=2", "pictures=true", "name=nasty")  # fmt: skip
    call(folder, "sweep", "model=mlp", "data=iris", "sweep.name=iris_search", "sweep.n_trials=5",
         "sweep.workers=1", "sweep.pruner=none", "trainer.max_epochs=3",
         "optimizer.lr=tag(log, interval(1e-3, 1e-1))",
         "model.hidden=choice([16],[32,16])")  # fmt: skip


def quoted(text: str) -> str:
    """Return a text as it stands between the quotes of a CSV file."""
    return text.replace('"', '""')
