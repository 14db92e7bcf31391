"""All trials of a study as a file for spreadsheets."""

import csv
from pathlib import Path

from pipeline.study.ledger.rows import Row
from pipeline.study.outcome.trials_csv import write_trials

ROWS = [
    Row(
        number=0,
        state="complete",
        values=(0.8125,),
        overrides={"optimizer.lr": "-0.01", "model": "mlp"},
        attributes={"test/f1": 0.75, "seconds": 2.5},
        started=0.0,
        ended=3.0,
    ),
    Row(
        number=1,
        state="failed",
        reason="error",
        overrides={"optimizer.lr": "0.1", "data.path": "=cmd|' /C calc'!A0"},
        attributes={"message": "+SUM(A1)\nsecond line"},
        started=4.0,
    ),
    Row(number=2, state="waiting"),
]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_trial_has_a_line_with_its_end_values_and_parameters(tmp_path: Path) -> None:
    write_trials(tmp_path / "trials.csv", ROWS, ["val/f1"])
    first, second, third = read(tmp_path / "trials.csv")
    assert (first["trial"], first["state"], first["reason"]) == ("0", "complete", "")
    assert (float(first["val/f1"]), float(first["test/f1"])) == (0.8125, 0.75)
    assert (first["started"], first["ended"]) == (
        "1970-01-01T00:00:00+00:00",
        "1970-01-01T00:00:03+00:00",
    )
    assert (second["state"], second["reason"], second["val/f1"]) == ("failed", "error", "")
    assert (third["state"], third["optimizer.lr"], third["started"]) == ("waiting", "", "")


def test_no_text_of_a_trial_is_a_formula_and_a_negative_number_stays_one(tmp_path: Path) -> None:
    write_trials(tmp_path / "trials.csv", ROWS, ["val/f1"])
    first, second, _ = read(tmp_path / "trials.csv")
    assert first["optimizer.lr"] == "-0.01"
    assert second["data.path"] == "'=cmd|' /C calc'!A0"
    assert second["message"] == "'+SUM(A1)\nsecond line"
