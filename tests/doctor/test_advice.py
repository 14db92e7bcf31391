"""What the doctor offers is typed as it is printed, on the data that it was printed for."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from benchmarks.doctor_cases import findings_of, merged
from benchmarks.doctor_cures import KINDS, advice_of, drawn, outcome
from benchmarks.doctor_tables import write_tables


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_advice_as_it_is_printed_cures_one_of_three_runs_and_all_advice_runs(
    kind: str, own_folder: Path
) -> None:
    found = (outcome(kind, seed=0, number=number, folder=Path()) for number in range(3))
    assert any(one.end == "cured" for one in found)
    line = outcome(kind, seed=0, number=0, folder=Path()).line  # its runs are kept
    case, words = drawn(kind, seed=0, number=0, folder=Path())
    for advice in advice_of(line):
        typed = merged(words, [*case.sick.split(), advice])
        assert findings_of(typed, seed=0, folder=Path()).epochs > 0


@pytest.mark.slow
def test_the_cross_validation_that_is_printed_runs_on_the_data_of_the_run(
    own_folder: Path, python: str
) -> None:
    write_tables(own_folder)
    rows = Path("few_rows.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    Path("50 rows.csv").write_text("".join(rows[:51]), encoding="utf-8")
    words = "model=mlp data=table 'data.path=50 rows.csv' 'data.drop=[x0]' 'model.hidden=[8]'"
    run = f"{python} -m pipeline.train {words} data.test=0.4 trainer.max_epochs=3 tracking=none"
    train = subprocess.run(shlex.split(run), capture_output=True, text=True, check=True)
    (command,) = re.findall("^doctor  noisy .* or cross-validation: (.*)$", train.stdout, re.M)
    start = "pipeline sweep "
    assert command.startswith(f"{start}sweeps=folds model=mlp data=table ")
    folds = [python, "-m", "pipeline.sweep", *shlex.split(command.removeprefix(start))]
    study = subprocess.run(folds, capture_output=True, text=True, check=True)
    assert "5 trials: 5 complete" in study.stdout
