"""A table with ids, amounts, dates, holes and a rare class; what training does without."""

import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from data.tables.given_tables import FILE, column, prepared, problems, read, source, target, write
from helpers.case_tables import cases
from helpers.file_sources import new_rows
from helpers.fixture_types import Capture, Made
from helpers.run_files import predictions
from helpers.sample_data import array_of, inputs_of

from pipeline.base.findings import load_findings
from pipeline.data.preparation.reader import reader_of
from pipeline.data.preparation.schema import fit_encoder
from pipeline.data.source import Samples
from pipeline.evaluate import main as evaluate
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


def test_messy_table_trains_and_reads_new_rows(made: Made, capsys: Capture) -> None:
    """Training and prediction read a table with ids, amounts, dates and empty cells alike."""
    write(customers(200))
    run = made(*TABLE, *QUICK)
    told = " ".join(capsys.readouterr().out.split())
    for line in (
        "200 → 192 rows: 115 train, 29 val, 48 test · 6 columns (1 with categories) · yes: 4.2 %",
        "warning: few rows of class yes (4.2 %); loss.class_weights=balanced gives all classes the "
        "same weight",
        "note: read as numbers: joined (parts of dates), spend (EUR) ('€",
        "note: columns that can't be features are left out: customer_id (whole numbers named id); "
        "note (text: 200 unique values in 200 cells, such as 'note 0'); 'data.numeric=[COLUMN]' "
        "(whole numbers) or 'data.categorical=[COLUMN]' keeps one",
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


KEEPS = "'data.categorical=[COLUMN]' keeps one"
KEEPS_NUMBERS = f"'data.numeric=[COLUMN]' (whole numbers) or {KEEPS}"
DATES = "dates such as '{}': data.dates=parts reads them"
TEXTS = "text: 70 unique values in 70 cells, such as '{}'"
# The name of a column, the cell of each row and why it is left out; `row` is counted from 0, and
# `day` is 1 to 12.
UNFIT = f"""
admitted → 2024-05-{{day:02d}} → {DATES.format("2024-05-01")}
admitted → {{day}}.5.2024 → {DATES.format("1.5.2024")}
admitted → 5/{{day}}/24 → {DATES.format("5/1/24")}
admitted → 2024-05-{{day:02d}} 10:00 → {DATES.format("2024-05-01 10:00")}
n → {{row}} → row numbers
n → {{number}} → row numbers
order → 100{{row:03d}} → row numbers
id → {{week}} → whole numbers named id
ID → {{week}} → whole numbers named id
Id → {{week}} → whole numbers named id
customer_id → {{week}} → whole numbers named id
shop-id → {{week}} → whole numbers named id
PassengerId → {{week}} → whole numbers named id
userID → {{week}} → whole numbers named id
id_no → {{week}} → whole numbers named id
review → it was {{row}}|100% → {TEXTS.format("100%")}
review → it was {{row}}|$5 → {TEXTS.format("$5")}
review → it was {{row}}|1,200 → {TEXTS.format("1,200")}
ticket → {{ticket}} → numbers and text, such as 'A/5 0'
version → 1.{{week}}.{{row}} → {TEXTS.format("1.0.0")}
version → 1.0.{{row:02d}} → {TEXTS.format("1.0.00")}
"""


def cells_of(written: str, rows: int = 70) -> list[str]:
    """Return a cell for each row, and behind a bar those of the last rows."""
    form, *last = written.split("|")
    cells = []
    for row in range(rows):
        ticket = str(row) if row % 3 else f"A/5 {row}"
        numbers = {"row": row, "number": row + 1, "day": row % 12 + 1, "week": row % 7}
        cells.append(form.format(**numbers, ticket=ticket, back=70 - row, even=1000 + 2 * row))
    return [*cells[: rows - len(last)], *last]


@pytest.mark.parametrize(("name", "written", "why"), cases(UNFIT))
def test_columns_unfit_as_features_are_left_out(name: str, written: str, why: str) -> None:
    """The note names each column and its reason; `data.strict` makes it an error."""
    cells = cells_of(written)
    content = f"x,{name},y\n" + "".join(
        f'{row % 9},"{cell}",{row % 2}\n' for row, cell in enumerate(cells)
    )
    samples = read(content)
    is_number = "row numbers" in why or "whole numbers" in why
    keeps = KEEPS_NUMBERS if is_number else KEEPS
    told = f"columns that can't be features are left out: {name} ({why}); {keeps}"
    assert (samples.features, samples.notes[-1]) == (("x",), told)
    assert problems(content, strict=True)[0] == (
        f"{FILE}: columns that can't be features: {name} ({why}): 'data.drop=[{name}]'"
    )
    assert read(content, categorical=[name]).features == ("x", name)
    if is_number:
        assert read(content, numeric=[name]).features == ("x", name)
    else:
        assert "is not a number" in problems(content, numeric=[name])[0]
    assert len(new_rows(FILE, prepared(content).schema).raw) == 70


PLAUSIBLE = """
n → {back}
n → {even}
n → {number}|99
n → {row}.5
paid → {week}
customer_id → {week}.5
shop_id → floor {week}
"""


@pytest.mark.parametrize(("name", "written"), cases(PLAUSIBLE))
def test_plausible_feature_columns_are_kept(name: str, written: str) -> None:
    cells = cells_of(written)
    rows = "".join(f"{row % 9},{cell},{row % 2}\n" for row, cell in enumerate(cells))
    assert read(f"x,{name},y\n{rows}").features == ("x", name)


def test_left_out_columns_share_one_note() -> None:
    """One note and one `data.drop` list name all of them."""
    content = "n,my note,user_id,Id,x,old,y\n" + "".join(
        f"{n},note {n},7,8,{n % 9},1,{n % 2}\n" for n in range(60)
    )
    told = (
        "n (row numbers); my note (text: 60 unique values in 60 cells, such as 'note 0'); "
        "user_id, Id (whole numbers named id)"
    )
    left_out = f"columns that can't be features are left out: {told}; {KEEPS_NUMBERS}"
    assert left_out in read(content, drop="old").notes  # as a list of one
    assert problems(content, strict=True, drop=["old"]) == (
        f"{FILE}: columns that can't be features: {told}: "
        "'data.drop=[old,n,\"my note\",user_id,Id]'",
    )


@pytest.mark.parametrize("empty", ["", "NA"])
@pytest.mark.parametrize("missing", ["mean", "drop", "refuse"])
def test_empty_column_is_left_out(empty: str, missing: str) -> None:
    """Every value of `data.missing` leaves an empty column out."""
    lines = "".join(f"{n % 9},{n % 2},{empty}\n" for n in range(60))
    samples = read(f"x,y,\n{lines}", target="y", missing=missing)
    assert (samples.features, len(samples.inputs)) == (("x",), 60)
    assert "columns that can't be features are left out: unnamed_3 (empty)" in samples.notes
    assert problems("a,y\n,1\n,2\n") == (
        f"{FILE}: no column is left to predict 'y' from; left out: a (empty)",
    )
    note = "possibly useless columns: a (empty): 'data.drop=[a]'"
    assert note in read(column(*[""] * 50), numeric=["a"]).notes


def test_rows_without_target_are_left_out() -> None:
    """They are counted in a note, and the other rows keep their row numbers."""
    content = target("1", "NA", "2", "")
    samples = read(content)
    assert (array_of(samples)[:, 0] == [row * 37 % 101 + 0.5 for row in range(0, 40, 2)]).all()
    told = "20 of 40 rows are left out, since their target 'y' is empty"
    assert samples.notes[-1] == told
    made = prepared()
    assert (made.test.rows % 2 == 0).all()
    _, evaluated, part = reader_of(made.schema).evaluated(source()[0], budget=1)
    assert told in evaluated.notes
    assert part.rows.tolist() == [*range(0, 40, 2)]


def test_empty_cell_is_its_own_category() -> None:
    towns = ["Bonn", "", "Köln", "NA", "Bonn", ""]
    content = "x,town,y\n" + "".join(f"{n}.5,{towns[n % 6]},{n % 2}\n" for n in range(60))
    made = prepared(content)
    assert made.schema.encoder is not None
    (_, code) = made.schema.encoder.codes
    assert set(code.features) == {"town=(missing)", "town=Bonn", "town=Köln"}
    rows = made.train.rows
    ones = inputs_of(made.train)[:, made.schema.features.index("town=(missing)")]
    assert ones.tolist() == [float(towns[row % 6] in ("", "NA")) for row in rows]
    many = "town,y\n" + "".join(f"{'' if n == 99 else n % 33},{n % 2}\n" for n in range(100))
    encoder = fit_encoder(*rows_and_columns(read(many, categorical=["town"])))
    assert len(encoder.features) == 22
    assert {"town=(missing)", "town=other"} < {*encoder.features}


def test_category_called_other_keeps_its_name() -> None:
    """The feature that rare categories share has another one, so that no two are alike."""
    towns = ["other"] * 50 + ["(other)"] * 40 + [f"town {n}" for n in range(30)]
    content = "town,y\n" + "".join(f"{town},{n % 2}\n" for n, town in enumerate(towns))
    raw, columns, rows = rows_and_columns(read(content, categorical=["town"]))
    encoder = fit_encoder(raw, columns, rows)
    assert len({*encoder.features}) == len(encoder.features) == 21
    encoded = dict(zip(encoder.features, encoder.encoded(raw).T, strict=True))
    assert encoded["town=other"].tolist() == [1.0] * 50 + [0.0] * 70
    assert encoded["town=(other)"].tolist() == [0.0] * 50 + [1.0] * 40 + [0.0] * 30
    assert encoded["town=((other))"][:90].sum() == 0
    assert encoded["town=((other))"][90:].sum() == 12  # 18 of the 30 have a feature each


def rows_and_columns(samples: Samples) -> tuple[Any, Any, Any]:
    return samples.inputs, samples.columns, np.arange(len(samples.inputs))


PADDED = "possibly useless columns: a (whole numbers with leading zeros): 'data.drop=[a]'"
DIFFERENT = "possibly useless columns: a (whole numbers, all unique): 'data.drop=[a]'"


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        ([str(row) for row in range(50)], DIFFERENT),  # the only column
        ([str(1000 - row) for row in range(50)], DIFFERENT),
        ([str(row * 2) for row in range(50)], DIFFERENT),
        (["", *map(str, range(40))], DIFFERENT),
        ([f"{row % 97 * 7:06d}" for row in range(100)], PADDED),
        ([f"0{row % 9 + 1067}" for row in range(50)], PADDED),
        ([str(row % 97 * 7) for row in range(100)], DIFFERENT.replace("all", "nearly all")),
        ([str(row % 47 * 7) for row in range(49)], None),
        ([str(row % 94 * 7) for row in range(100)], None),
        ([str(row % 97 * 11) for row in range(100)], None),
        ([f"{row % 12 + 1:02d}" for row in range(50)], None),
        (
            [str(2**53 + 2 + row * row) for row in range(50)],
            "possibly useless columns: a (whole numbers above 2^53, which are rounded): "
            "'data.drop=[a]'",
        ),
        (["1", "1", "4", "4"] * 12, None),
        ([f"1e{row}" for row in range(30)], None),
    ],
)
def test_only_suspicious_columns_are_reported(cells: list[str], note: str | None) -> None:
    told = [line for line in read(column(*cells)).notes if "columns: a (" in line]
    assert told == ([note] if note else [])
