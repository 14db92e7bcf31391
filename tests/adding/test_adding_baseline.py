"""A baseline is added to a copy of the program as docs/architecture.md says."""

from pathlib import Path

import numpy as np
import pytest
from adding.program_copy import ProgramCopy, shown_code
from helpers.run_files import final_values, only_run
from helpers.sample_data import shipped

CODE = shown_code("median.py")
TRAIN = (
    *("-m", "pipeline.train", "model=mlp", "data=diabetes", "tracking=none", "pictures=false"),
    "trainer.max_epochs=2",
)


@pytest.mark.slow
def test_baseline_is_added_by_one_file(tmp_path: Path) -> None:
    program = ProgramCopy(tmp_path / "copy")
    program.add("scoring/baselines/median.py", CODE)
    training = program.python(*TRAIN)
    assert training.returncode == 0, training.stderr
    values = final_values(only_run(program.folder / "runs"))
    prepared = shipped("diabetes")
    train, test = prepared.train.actual, prepared.test.actual
    assert train is not None
    assert test is not None
    error = test.numpy() - np.sort(train.numpy(), axis=0)[(len(train) - 1) // 2]
    assert values["median/rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
    only = program.python(*TRAIN, "baselines=[median]")
    assert " median\n" in only.stdout
    assert "\n| median | a baseline for values: " in program.page("glossary.md", "write_records.py")


def test_incomplete_baseline_ends_a_training(tmp_path: Path) -> None:
    program = ProgramCopy(tmp_path / "copy")
    file = program.add("scoring/baselines/median.py", CODE.replace("    predict=predict,\n", ""))
    training = program.python(*TRAIN)
    assert training.returncode == 2
    (message,) = [line for line in training.stderr.splitlines() if str(file) in line]
    assert message.endswith("Baseline 'median': expected `predict`, or `plan` and `fit`")
