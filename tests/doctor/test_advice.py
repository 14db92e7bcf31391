"""What the doctor offers is typed as it is printed, on the data that it was printed for."""

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.fixture_types import Capture, Train

from benchmarks.doctor_cases import findings_of, merged
from benchmarks.doctor_cures import ORIGINAL, advice_of, draw_case, outcome
from benchmarks.doctor_tables import write_tables


@pytest.mark.slow
@pytest.mark.parametrize("kind", ORIGINAL)
def test_printed_advice_runs_and_cures(kind: str, own_folder: Path) -> None:
    """The first advice cures at least one of three runs."""
    outcomes = (outcome(kind, seed=0, number=number, folder=Path()) for number in range(3))
    first = next(outcomes)
    assert first.end == "cured" or any(one.end == "cured" for one in outcomes)
    case, words = draw_case(kind, seed=0, number=0, folder=Path())
    for advice in advice_of(first.line):
        typed = merged(words, [*case.sick.split(), advice])
        assert findings_of(typed, seed=0, folder=Path()).epochs > 0


@pytest.mark.slow
def test_printed_cross_validation_runs_on_same_data(own_folder: Path, python: str) -> None:
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


def test_printed_season_improves_a_series(train: Train, capsys: Capture) -> None:
    chance = np.random.default_rng(3)
    days = np.datetime64("2024-01-01") + np.arange(420)
    trend = 200 + (0.6 + 0.5 * chance.normal(size=420)).cumsum()
    sales = trend + np.tile(30 * chance.normal(size=7), 60) + 2 * chance.normal(size=420)
    lines = [f"{day},{value:.2f}\n" for day, value in zip(days, sales, strict=True)]
    Path("daily.csv").write_text("day,sales\n" + "".join(lines), encoding="utf-8")
    words = ("model=mlp", "data=series", "data.path=daily.csv", "data.window=3", "tracking=none")
    assert train(*words) == 0
    (advice,) = re.findall(
        "^doctor  no better than naive: .* for value 7 steps before; .*; try (.*)$",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    assert train(*words, *shlex.split(advice)) == 0
    assert "\ndoctor  healthy\n" in capsys.readouterr().out
