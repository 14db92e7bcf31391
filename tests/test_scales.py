"""Values far from 1 give the figures that usual ones give, or are refused by column."""

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fixture_types import Capture, Train
from records import events, final_values, only_run, runs

from pipeline.evaluate import main as evaluate
from pipeline.predict import main as predict

LARGE, TINY = 2.0**66, 2.0**-997
"""7e19 and 7e-301: powers of two, which change no digit of what they are multiplied by."""
TABLE = ("data=table", "data.path=rows.csv", "data.task=regression", "tracking=none")
SERIES = ("data=series", "data.path=times.csv", "data.window=3", "tracking=none")
ARRAYS = ("data=arrays", "data.path=rows.npz", "data.task=regression", "tracking=none")
NETWORK = ("model=mlp", "model.hidden=[4]")
QUICK = ("trainer.max_epochs=2", "verbose=0")


def rows(count: int = 60) -> np.ndarray:
    """Two features and a target that follows from them, (rows, 3)."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(count, 2))
    targets = features @ [1.0, -2.0] + 0.3 * generator.normal(size=count) + 5
    return np.column_stack([features, targets])


def write_table(path: str, values: np.ndarray, header: tuple[str, ...] = ("a", "b", "y")) -> None:
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *values.tolist()])


def write_arrays(values: np.ndarray) -> None:
    np.savez("rows.npz", x=values[:, :2], y=values[:, 2])


def write_series(values: np.ndarray) -> None:
    write_table("times.csv", values[:, 2:], header=("y",))


def figures(train: Train, output: str, *words: str) -> dict[str, float]:
    assert train(*words, *NETWORK, "verbose=0", f"output={output}") == 0
    values = final_values(only_run(Path(output)))
    return {k: v for k, v in values.items() if k.partition("/")[0] in ("test", "naive", "linear")}


def predictions(run: Path) -> np.ndarray:
    with (run / "artifacts" / "test_predictions.csv").open(encoding="utf-8") as file:
        return np.array([[float(cell) for cell in row] for row in list(csv.reader(file))[1:]])


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda values: write_table("rows.csv", values), TABLE),
        (write_arrays, (*ARRAYS, "data.scale=standard")),
        (write_series, SERIES),
        (write_series, (*SERIES, "data.difference=2")),
    ],
    ids=["table", "arrays", "series", "differences"],
)
def test_figures_follow_a_target_of_any_size(
    train: Train, write: Callable[[np.ndarray], None], words: tuple[str, ...]
) -> None:
    write(rows())
    usual = figures(train, "usual", *words, "trainer.max_epochs=2")
    write(rows() * [1.0, 1.0, LARGE])
    large = figures(train, "large", *words, "trainer.max_epochs=2")
    assert large.keys() == usual.keys()
    for key, value in usual.items():
        unit = LARGE if key.endswith(("rmse", "mae")) else 1.0
        assert large[key] == value * unit, key
    assert {"test/rmse", "test/mae", "test/r2"} <= usual.keys()


def test_a_column_of_tiny_values_says_what_it_says_in_a_usual_unit(train: Train) -> None:
    write_table("rows.csv", rows())
    usual = figures(train, "usual", *TABLE, "trainer.max_epochs=2")
    write_table("rows.csv", rows() * [1.0, TINY, 1.0])
    assert figures(train, "tiny", *TABLE, "trainer.max_epochs=2") == usual


def test_figures_beside_a_large_mean_are_those_of_the_file_in_double_precision(
    train: Train,
) -> None:
    values = rows(400)
    values[:, 2] = 1e6 + 100 * (values[:, 2] - 5) / 2.3
    write_table("rows.csv", values)
    found = figures(train, "runs", *TABLE, "trainer.max_epochs=30")
    number, _, said = predictions(only_run(Path("runs"))).T
    true = values[number.astype(int), 2]
    errors, mean = said - true, math.fsum(true) / len(true)
    squares = math.fsum(errors**2)
    assert found["test/r2"] == pytest.approx(1 - squares / math.fsum((true - mean) ** 2), abs=1e-6)
    assert found["test/rmse"] == pytest.approx(math.sqrt(squares / len(true)), rel=1e-6)
    assert found["test/mae"] == pytest.approx(math.fsum(np.abs(errors)) / len(true), rel=1e-6)
    assert found["test/r2"] > 0.5


def test_what_a_constant_target_leaves_undefined_is_said(train: Train, capsys: Capture) -> None:
    values = rows()
    values[:, 2] = 0.1
    write_table("rows.csv", values)
    assert train(*TABLE, *NETWORK, "trainer.max_epochs=2", "verbose=1", "output=runs") == 0
    assert _r2_line(capsys.readouterr().out) == ["r2", "undefined", "undefined", "undefined"]
    run = only_run(Path("runs"))
    names = {name for event in events(run) for name in event.get("values", {})}
    assert "test/rmse" in names
    assert not [name for name in names if name.endswith("/r2")]
    assert evaluate([f"model_from={run}", "tracking=none", "output=again"]) == 0
    assert _r2_line(capsys.readouterr().out) == ["r2", "undefined", "undefined", "undefined"]


def _r2_line(out: str) -> list[str]:
    (line,) = (line for line in out.splitlines() if "r2" in line)
    return [cell.strip() for cell in line.strip("│ ").split("│")]


REFUSED = {
    "tiny values as they are": (
        [1.0, TINY, 1.0],
        "data.scale=none",
        "rows.csv: column 'b' has values from -9.85848148e-301 to ",
        ", which single precision can't tell apart as they are; expected data.scale=standard or "
        "data.scale=minmax",
    ),
    "errors that have no square": (
        [1.0, 1.0, LARGE],
        "data.scale=none",
        "rows.csv: the target 'y' reaches ",
        ", and the square of an error of that size is infinite in single precision; expected "
        "data.scale=standard or minmax, and no value far larger than those of the training rows",
    ),
    "errors whose squares vanish": (
        [1.0, 1.0, TINY],
        "data.scale=standard",
        "rows.csv: the target 'y' varies by ",
        ", the square of which is 0 in double precision; expected values of a usual size, such as "
        "in another unit",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_represented_is_refused_by_column(
    train: Train, capsys: Capture, case: str
) -> None:
    factors, word, begins, ends = REFUSED[case]
    write_table("rows.csv", rows() * factors)
    assert train(*TABLE, *NETWORK, word, "output=runs") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {begins}")
    assert line.endswith(ends)
    assert not runs(Path("runs"))


def test_arrays_and_series_are_refused_by_column_too(train: Train, capsys: Capture) -> None:
    write_arrays(rows() * [TINY, 1.0, 1.0])
    assert train(*ARRAYS, *NETWORK, "data.scale=none", "output=runs") == 2
    assert capsys.readouterr().err.startswith("error: rows.npz: column 'number 0' has values from ")
    write_series(1e9 + rows())
    assert train(*SERIES, *NETWORK, "data.scale=none", "output=runs") == 2
    assert capsys.readouterr().err.startswith("error: times.csv: column 'y' has values from 1")
    assert not runs(Path("runs"))


def test_a_test_row_far_beyond_the_training_rows_is_refused(train: Train, capsys: Capture) -> None:
    values = rows() * [1e-3, 1.0, 1.0]
    values[-1, 0] = 1e37
    write_table("rows.csv", np.column_stack([values, np.arange(len(values))]), ("a", "b", "y", "t"))
    words = (*TABLE, *NETWORK, "data.target=y", "data.time=t", "output=runs")
    assert train(*words) == 2
    assert capsys.readouterr().err == (
        "error: rows.csv: column 'a' reaches 1e+37, which is infinite in single precision once it "
        "is scaled as in training; look for a value that is far too large\n"
    )
    assert not runs(Path("runs"))


def test_new_rows_beyond_single_precision_are_refused_by_file_and_column(
    train: Train, capsys: Capture
) -> None:
    values = rows() * [1e-3, 1.0, 1.0]
    write_table("rows.csv", values)
    assert train(*TABLE, *NETWORK, *QUICK, "output=runs") == 0
    values[7, 0] = 1e37
    write_table("new.csv", values)
    model = f"model_from={only_run(Path('runs'))}"
    capsys.readouterr()
    assert predict([model, "input=new.csv", "output=told.csv"]) == 2
    assert capsys.readouterr().err == (
        "error: new.csv line 9, column 'a': the value is infinite in single precision once it is "
        "scaled as in training; expected one of about the size of the training rows\n"
    )
    assert not Path("told.csv").exists()
    words = (model, "data=table", "data.path=new.csv", "tracking=none", "output=again")
    assert evaluate(list(words)) == 2
    assert capsys.readouterr().err == (
        "error: new.csv: column 'a' reaches 1e+37, which is infinite in single precision once it "
        "is scaled as in training; look for a value that is far too large\n"
    )
    assert not runs(Path("again"))


def test_a_forecast_from_values_beyond_single_precision_is_refused(
    train: Train, capsys: Capture
) -> None:
    values = rows() * [1.0, 1.0, 1e-3]
    write_series(values)
    assert train(*SERIES, *NETWORK, *QUICK, "output=runs") == 0
    values[-1, 2] = 1e37
    write_series(values)
    model = f"model_from={only_run(Path('runs'))}"
    capsys.readouterr()
    assert predict([model, "input=times.csv", "output=told.csv"]) == 2
    assert capsys.readouterr().err == (
        "error: times.csv: column 'y' has a value in its last 3 rows that is infinite in single "
        "precision once it is scaled as in training; expected values of about the size of the "
        "training rows\n"
    )
    assert not Path("told.csv").exists()
