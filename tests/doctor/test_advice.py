"""What the doctor offers is typed as it is printed, on the data that it was printed for."""

import shlex
import subprocess
from pathlib import Path

import pytest

from benchmarks.doctor_cures import KINDS, outcome
from benchmarks.doctor_tables import write_tables


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_advice_as_it_is_printed_cures_a_run(kind: str, own_folder: Path) -> None:
    found = outcome(kind, seed=0, number=1, folder=Path())
    assert found.end == "cured", found


@pytest.mark.slow
def test_the_cross_validation_that_is_printed_runs_on_the_data_of_the_run(
    own_folder: Path, python: str
) -> None:
    write_tables(own_folder)
    words = "model=mlp data=table data.path=few_rows.csv 'data.drop=[x0]' model.hidden=[8]"
    run = f"{python} -m pipeline.train {words} data.test=0.4 trainer.max_epochs=3 tracking=none"
    train = subprocess.run(shlex.split(run), capture_output=True, text=True, check=True)
    (line,) = [one for one in train.stdout.splitlines() if one.startswith("doctor  ")]
    command = line.partition("or cross-validation: ")[2]
    start = "pipeline sweep "
    assert command.startswith(f"{start}sweeps=folds model=mlp data=table ")
    folds = [python, "-m", "pipeline.sweep", *shlex.split(command.removeprefix(start))]
    study = subprocess.run(folds, capture_output=True, text=True, check=True)
    assert "5 trials: 5 complete" in study.stdout
