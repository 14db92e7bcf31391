"""Values far from 1 give the figures that usual ones give, or are refused by column."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.fixture_types import Capture, Made, Train
from helpers.run_files import events, only_run, predictions, runs, values_with

from pipeline.evaluate import main as evaluate
from pipeline.predict import main as predict

LARGE, TINY = 2.0**66, 2.0**-997
"""7e19 and 7e-301: powers of two, which change no digit of what they are multiplied by."""
SHARED = ("tracking=none", "model=mlp", "model.hidden=[4]")
QUICK = ("trainer.max_epochs=2", "verbose=0")
TABLE = (*SHARED, "data=table", "data.path=rows.csv", "data.task=regression")
SERIES = (*SHARED, "data=series", "data.path=times.csv", "data.window=3")
ARRAYS = (*SHARED, "data=arrays", "data.path=rows.npz", "data.task=regression")


def rows(count: int = 60) -> np.ndarray:
    """Two features and a target that follows from them, (rows, 3)."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(count, 2))
    targets = features @ [1.0, -2.0] + 0.3 * generator.normal(size=count) + 5
    return np.column_stack([features, targets])


def with_large(values: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return values of which one is 1e37."""
    changed = values.copy()
    changed[row, column] = 1e37
    return changed


def write(values: np.ndarray, header: str = "aby") -> None:
    """Write values as a table, as arrays, and the targets as a series."""
    np.savez("rows.npz", x=values[:, :2], y=values[:, 2])
    for path, names, table in (("rows.csv", header, values), ("times.csv", "y", values[:, 2:3])):
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([names, *table.tolist()])


def figures(made: Made, output: str, *words: str) -> dict[str, float]:
    return values_with(made(*words, f"output={output}"), "test/", "naive/", "linear/")


@pytest.mark.parametrize(
    ("words", "factors"),
    [
        (TABLE, [1.0, 1.0, LARGE]),
        (TABLE, [1.0, TINY, 1.0]),
        ((*ARRAYS, "data.scale=standard"), [1.0, 1.0, LARGE]),
        (SERIES, [1.0, 1.0, LARGE]),
        ((*SERIES, "data.difference=2"), [1.0, 1.0, LARGE]),
    ],
    ids=["table", "tiny feature", "arrays", "series", "differences"],
)
def test_target_scale_does_not_change_scores(
    made: Made, words: tuple[str, ...], factors: list[float]
) -> None:
    write(rows())
    usual = figures(made, "usual", *words, *QUICK)
    write(rows() * factors)
    scaled = figures(made, "scaled", *words, *QUICK)
    units = {key: factors[2] if key.endswith(("rmse", "mae")) else 1.0 for key in usual}
    assert scaled == {key: value * units[key] for key, value in usual.items()}
    assert {"test/rmse", "test/mae", "test/r2"} <= usual.keys()


def test_metrics_with_large_mean_equal_double_precision(made: Made) -> None:
    values = rows(400)
    values[:, 2] = 1e6 + 100 * (values[:, 2] - 5) / 2.3
    write(values)
    found = figures(made, "runs", *TABLE, "trainer.max_epochs=30", "verbose=0")
    told = [[float(cell) for cell in row.values()] for row in predictions(only_run(Path("runs")))]
    number, _, said = np.array(told).T
    true = values[number.astype(int), 2]
    errors, mean = said - true, math.fsum(true) / len(true)
    squares = math.fsum(errors**2)
    assert found["test/r2"] == pytest.approx(1 - squares / math.fsum((true - mean) ** 2), abs=1e-6)
    assert found["test/rmse"] == pytest.approx(math.sqrt(squares / len(true)), rel=1e-6)
    assert found["test/mae"] == pytest.approx(math.fsum(np.abs(errors)) / len(true), rel=1e-6)
    assert found["test/r2"] > 0.5


def test_undefined_scores_of_constant_target_are_shown(made: Made, capsys: Capture) -> None:
    values = rows()
    values[:, 2] = 0.1
    write(values)
    run = made(*TABLE, "trainer.max_epochs=2", "verbose=1")
    undefined = r"\nr2 +undefined +–( +undefined){3}\n"
    assert re.search(undefined, capsys.readouterr().out)
    names = {name for event in events(run) for name in event.get("values", {})}
    assert "test/rmse" in names
    assert not [name for name in names if name.endswith("/r2")]
    assert evaluate([f"model_from={run}", "tracking=none", "output=again"]) == 0
    assert re.search(undefined, capsys.readouterr().out)


BEYOND = "infinite in float32 after scaling"
FAR_TOO_LARGE = (
    f"column 'a' reaches 1e+37, which is {BEYOND}; look for a value that is far too large"
)
REFUSED = {
    "tiny values as they are": (
        rows() * [1.0, TINY, 1.0],
        (*TABLE, "data.scale=none"),
        "rows.csv: column 'b' has values from -9.85848148e-301 to ",
        ", which are equal in float32; expected data.scale=standard or data.scale=minmax",
    ),
    "errors that have no square": (
        rows() * [1.0, 1.0, LARGE],
        (*TABLE, "data.scale=none"),
        "rows.csv: the target 'y' reaches ",
        ", whose squared error is infinite in float32; expected data.scale=standard or "
        "minmax, and no values far above those of the training rows",
    ),
    "errors whose squares vanish": (
        rows() * [1.0, 1.0, TINY],
        (*TABLE, "data.scale=standard"),
        "rows.csv: the target 'y' varies by ",
        ", whose square is 0 in float64; expected larger values, such as in another unit",
    ),
    "arrays": (
        rows() * [TINY, 1.0, 1.0],
        (*ARRAYS, "data.scale=none"),
        "rows.npz: column 'number 0' has values from ",
        "data.scale=minmax",
    ),
    "a series": (
        rows() + 1e9,
        (*SERIES, "data.scale=none"),
        "times.csv: column 'y' has values from 1",
        "data.scale=minmax",
    ),
    "a test row far beyond the training rows": (
        np.column_stack([with_large(rows() * [1e-3, 1.0, 1.0], 59, 0), np.arange(60)]),
        (*TABLE, "data.target=y", "data.time=t"),
        f"rows.csv: {FAR_TOO_LARGE}",
        "",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unrepresentable_values_are_refused_by_column(
    train: Train, capsys: Capture, case: str
) -> None:
    values, words, begins, ends = REFUSED[case]
    write(values, "abyt"[: values.shape[1]])
    assert train(*words, *QUICK) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {begins}")
    assert line.endswith(ends)
    assert not runs(Path("runs"))


def test_new_rows_beyond_float32_are_refused(made: Made, capsys: Capture) -> None:
    values = rows() * [1e-3, 1.0, 1e-3]
    write(values)
    table = f"model_from={made(*TABLE, *QUICK)}"
    series = f"model_from={made(*SERIES, *QUICK, 'output=other')}"
    capsys.readouterr()
    last = (
        f"times.csv: column 'y' has a value in its last 3 rows that is {BEYOND}; expected values "
        "of the size of the training rows"
    )
    cell = (
        f"rows.csv line 9, column 'a': the value is {BEYOND}; expected one of the size of the "
        "training rows"
    )
    cases = ((series, (59, 2), "times.csv", last), (table, (7, 0), "rows.csv", cell))
    for model, place, file, told in cases:
        write(with_large(values, *place))
        assert predict([model, f"input={file}", "output=told.csv"]) == 2
        assert capsys.readouterr().err == f"error: {told}\n"
        assert not Path("told.csv").exists()
    words = (table, "data=table", "data.path=rows.csv", "tracking=none", "output=again")
    assert evaluate(words) == 2
    assert capsys.readouterr().err == f"error: rows.csv: {FAR_TOO_LARGE}\n"
    assert not runs(Path("again"))
