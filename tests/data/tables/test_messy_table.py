"""A table with ids, amounts, dates, holes and a rare class, from the file to answers."""

import random

import pandas as pd
from fixture_types import Capture, Made
from given_tables import FILE, write
from records import predictions

from pipeline.evaluate import main as evaluate
from pipeline.findings import load_findings
from pipeline.predict import main as predict
from pipeline.serving.model import Model

QUICK = ("tracking=none", "model=mlp", "model.hidden=[4]", "trainer.max_epochs=1", "verbose=1")
TABLE = ("data=table", f"data.path={FILE}", "data.dates=parts")


def customers(rows: int) -> str:
    draw = random.Random(0)
    lines = ["customer_id,joined,note,town,spend (EUR),churned"]
    for row in range(rows):
        churned = "" if row % 25 == 7 else "yes" if row % 25 == 3 else "no"
        cells = [str(draw.randint(1, 9)), f"2024-{draw.randint(1, 12):02d}-0{draw.randint(1, 9)}"]
        cells += [f"note {row}", draw.choice(["Bonn", ""]), f"€{draw.gauss(50, 9):.2f}", churned]
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


def test_a_table_trains_as_it_comes_and_new_rows_are_read_alike(
    made: Made, capsys: Capture
) -> None:
    write(customers(200))
    run = made(*TABLE, *QUICK)
    told = " ".join(capsys.readouterr().out.split())
    for line in (
        "192 rows: 115 train, 29 val, 48 test · 6 columns (1 with categories) · yes: 4.2 %",
        "warning: few rows of class yes (4.2 %); loss.class_weights=balanced gives all classes the "
        "same weight",
        "note: read as numbers: joined (parts of dates), spend (EUR) ('€",
        "note: columns that can't be features are left out: customer_id (whole numbers named id); "
        "note (text: 200 different words in 200 cells, such as 'note 0'); 'data.numeric=[COLUMN]'",
        "note: 8 of 200 rows are left out, since their target 'churned' is empty",
    ):
        assert line in told
    rows = {int(row["row"]) for row in predictions(run)}
    assert rows
    assert not any(row % 25 == 7 for row in rows)  # numbers of rows in the file
    assert predict([f"model_from={run}", f"input={FILE}", "output=answers.csv"]) == 0
    assert len(pd.read_csv("answers.csv")) == 200
    write(customers(200), "other.csv")
    assert evaluate([f"model_from={run}", "data.path=other.csv", "tracking=none", "output=e"]) == 0
    assert "8 of 200 rows are left out" in " ".join(capsys.readouterr().out.split())
    parts = {f"joined.{part}" for part in ("year", "month", "day", "weekday")}
    features = {*parts, "town=Bonn", "town=(missing)", "spend (EUR)"}
    assert {*Model.load(run).schema.features} == features
    importances = load_findings(run / "artifacts").importances
    assert importances is not None
    assert importances.columns == ("joined", "town", "spend (EUR)")
    made(*TABLE, *QUICK, "loss.class_weights=balanced", "output=weighted")
    assert "few rows" not in capsys.readouterr().out
