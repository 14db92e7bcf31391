"""Intervals of a run's figures through the commands: of groups, and of forecasts."""

import csv
from pathlib import Path

import numpy as np
import pytest
from helpers.fixture_types import Capture, Made
from helpers.run_files import artifact, findings_of
from helpers.sample_findings import scored_rows

from pipeline.evaluate import main as evaluate
from pipeline.report import main as report

QUICK = ("model=mlp", "model.hidden=[4]", "trainer.max_epochs=2", "tracking=none")
GROUPED = ("data=table", "data.path=patients.csv", "data.target=ill", "data.group=patient")


def write_patients(path: str, patients: int, *, named: bool = True) -> list[str]:
    """Write eight rows a patient, whose rows resemble each other; return whose each row is."""
    generator = np.random.default_rng(patients)
    of_row = [f"p{number:03d}" for number in np.repeat(np.arange(patients), 8)]
    state = np.repeat(generator.normal(size=(patients, 2)), 8, axis=0)
    rows = state + 0.3 * generator.normal(size=state.shape)
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x", "y", "ill", *(["patient"] if named else [])])
        for name, (x, y) in zip(of_row, rows, strict=True):
            ill = "yes" if x + generator.normal() > 0 else "no"
            writer.writerow([f"{x:.4f}", f"{y:.4f}", ill, *([name] if named else [])])
    return of_row


def train_and_compare(made: Made, *words: str) -> Path:
    """Train under two seeds, compare the runs in a report, and return the second one."""
    first, second = (
        made(*words, f"seed={seed}", f"name=run-{seed}", f"output=of-{seed}").resolve()
        for seed in (1, 2)
    )
    assert report([f"runs=[{first},{second}]", "tracking=none"]) == 0
    return second


@pytest.mark.slow
def test_intervals_of_every_command_resample_groups(made: Made, capsys: Capture) -> None:
    of_row = write_patients("patients.csv", 60)
    run = train_and_compare(made, *QUICK, *GROUPED, "data.test=0.5", "verbose=0")
    assert "result" in capsys.readouterr().out
    assert artifact(run, "intervals.json")["units"] == "30 groups of rows"
    test = scored_rows(findings_of(run))
    assert test.groups is not None
    names = [of_row[row] for row in test.rows]
    assert len(set(zip(names, test.groups.tolist(), strict=True))) == len(set(names)) == 30
    assert "bootstrap of 30 groups of rows" in (run / "model" / "card.md").read_text("utf-8")

    write_patients("other.csv", 24)
    write_patients("few.csv", 12)
    write_patients("nameless.csv", 12, named=False)
    expected = {
        "other.csv": "results on 24 groups of rows, positive class ",
        "few.csv": "no confidence intervals: 12 groups of rows; expected 20 or more groups",
        "nameless.csv": "results on 96 rows, positive class ",
    }
    for file, words in expected.items():
        arguments = [f"model_from={run}", f"data.path={file}", "tracking=none", "verbose=2"]
        assert evaluate(arguments) == 0
        printed = capsys.readouterr().out
        assert words in printed
        assert ("note: no column 'patient'" in printed) == (file == "nameless.csv")


def test_few_forecasts_have_no_intervals(made: Made, capsys: Capture) -> None:
    """29 test rows of the airline passengers, 12 steps each, tell next to nothing."""
    words = ("data=airline", "data.window=12", "data.horizon=12", "verbose=2")
    run = train_and_compare(made, *QUICK, *words)
    assert artifact(run, "intervals.json")["ends"] == {}
    assert artifact(run, "findings/findings.json")["intervals"] == {}
    assert "A value without an interval" in (run / "model" / "card.md").read_text("utf-8")
    printed = capsys.readouterr().out
    assert "too few for any conclusion" in printed
    assert "the difference has no confidence interval" in printed
    assert "is better" not in printed
