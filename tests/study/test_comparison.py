"""Cells of a grid over seeds and folds: grouped, compared, written; intervals against scipy's."""

import csv
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped] # scipy brings no types
from study.ledgers import F1

from pipeline.base.ends import End
from pipeline.study.ledger.definition import Objective
from pipeline.study.ledger.rows import Row
from pipeline.study.outcome.comparison import (
    Comparison,
    ComparisonCell,
    compare,
    outcome_lines,
    spread,
)
from pipeline.study.outcome.comparison_picture import comparison_picture, write_comparison_picture
from pipeline.study.outcome.comparison_tables import (
    NO_INTERVAL,
    comparison_table,
    confirmation_table,
    write_comparison,
)

NOTHING: Mapping[str, Any] = MappingProxyType({})
RMSE = Objective(name="val/rmse", direction="min")
LOSS = Objective(name="train/loss", direction="min")
MODELS = ["mlp", "cnn1d", "gru", "rnn"]


def repeat(number: int, model: str, data: str, seed: int) -> Row:
    swept = {"data": data, "model": model, "seed": str(seed)}
    if model == "rnn" and seed == 2:
        return Row(number=number, state=End.DIVERGED, overrides=swept)
    noise = random.Random(f"{model}{data}{seed}").gauss(0, 0.004)
    luck = random.Random(f"{data}{seed}").gauss(0, 0.02)
    level = {"mlp": 0.66, "cnn1d": 0.91, "gru": 0.9}.get(model, 0.6) + luck + noise
    attributes = {"test/f1": level - 0.01, "test/accuracy": level - 0.005, "test/auroc": 0.97}
    attributes |= {"naive/f1": 0.02, "naive/accuracy": 0.1, "linear/f1": 0.3 + luck / 10}
    return complete(level, swept, attributes, number=number)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The trials of models, data and seeds; rnn's third seed diverges each time."""
    points = [
        (model, data, s) for data in ("mnist1d", "digits") for model in MODELS for s in range(5)
    ]
    return [repeat(number, *point) for number, point in enumerate(points)]


@pytest.fixture(scope="module")
def compared(rows: list[Row]) -> Comparison:
    return compare(rows, F1[0])


@pytest.fixture(scope="module")
def written(compared: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables and the picture of the comparison."""
    folder = tmp_path_factory.mktemp("comparison")
    write_comparison(compared, folder)
    assert write_comparison_picture(compared, folder) == []
    return folder


def sheet(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The lines of a comparison's CSV by their first two cells."""
    with (folder / "comparison.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    return {(first, second): line for line in lines for first, second, *_ in [line.values()]}


def column(rows: list[Row], data: str, model: str, metric: str) -> list[float]:
    """What the trials of one cell came to, read without the code under test."""
    return [
        float(row.attributes[metric])
        for row in rows
        if (row.overrides["data"], row.overrides["model"]) == (data, model)
        and row.state == "complete"
    ]


def cell_of(compared: Comparison, data: str, model: str) -> ComparisonCell:
    settings = {"data": data, "model": model}
    return next(cell for cell in compared.cells if dict(cell.settings) == settings)


def complete(
    value: float,
    overrides: Mapping[str, str] = NOTHING,
    attributes: Mapping[str, float] = NOTHING,
    *,
    number: int = 0,
) -> Row:
    """A trial that completed."""
    return Row(
        number=number,
        state=End.COMPLETE,
        values=(value,),
        overrides=overrides,
        attributes=attributes,
    )


@pytest.mark.parametrize("data", ["mnist1d", "digits"])
@pytest.mark.parametrize("model", ["mlp", "gru"])
def test_cell_summarizes_and_pairs_its_seeds(
    rows: list[Row], compared: Comparison, data: str, model: str
) -> None:
    cell = cell_of(compared, data, model)
    scores, best = (column(rows, data, name, "test/f1") for name in (model, "cnn1d"))
    summed = cell.spread("test/f1")
    assert (summed.mean, summed.sd) == pytest.approx((np.mean(scores), np.std(scores, ddof=1)))
    interval = stats.ttest_rel(scores, best).confidence_interval(0.95)
    assert cell.difference.n == 5
    assert cell.difference.interval == pytest.approx((interval.low, interval.high))


def test_best_network_of_each_data_set_is_marked(rows: list[Row], compared: Comparison) -> None:
    """They are compared by the test metric that all trials have."""
    best = [cell for cell in compared.cells if cell.is_best]
    assert [list(cell.settings.values()) for cell in best] == [
        *(["mnist1d", "cnn1d"], ["digits", "cnn1d"])
    ]
    assert [cell.difference.n for cell in best] == [0, 0]
    assert compared.by == "test/f1"


@pytest.mark.parametrize(
    ("untested", "trials"),
    [([3], "trial 3 has"), (range(1, 9), "trials 1, 2, 3, 4, 5, … have"), (range(40), None)],
)
def test_comparison_by_validation_metric_is_explained(
    rows: list[Row], untested: Sequence[int], trials: str | None
) -> None:
    tested = [replace(row, attributes={}) if row.number in untested else row for row in rows]
    compared = compare(tested, F1[0])
    assert compared.by == "val/f1"
    notes = [note for note in comparison_table(compared).notes if note.startswith("compared by")]
    assert notes == ([f"compared by val/f1, since {trials} no test/f1"] if trials else [])


def test_failed_seed_is_shown_and_not_paired(compared: Comparison) -> None:
    cell = cell_of(compared, "mnist1d", "rnn")
    assert dict(cell.missing) == {"diverged": 1}
    assert cell.difference.n == 4
    line = next(line for line in comparison_table(compared).lines if line[:2] == ["mnist1d", "rnn"])
    assert (line[2], line[-1]) == ("4", "1 diverged")


def test_outcome_names_best_networks_and_differences(rows: list[Row], compared: Comparison) -> None:
    lines = outcome_lines(compared)
    assert [line.partition(": ")[0] for line in lines] == ["mnist1d", "digits"]
    for data, line in zip(("mnist1d", "digits"), lines, strict=True):
        best, mlp = (column(rows, data, name, "test/f1") for name in ("cnn1d", "mlp"))
        gap = np.mean(best) - np.mean(mlp)
        assert line.startswith(f"{data}: cnn1d is best (test/f1 {np.mean(best):.3f}); gru is ")
        assert f"; mlp is worse by {gap:.2g}; rnn is worse by 0.3" in line
        assert line.endswith(" over 4 of 5 seeds")


@pytest.mark.parametrize(
    ("objective", "values", "line"),
    [
        (F1[0], {"gru": [0.8, 0.9], "mlp": [0.5, 0.6001]}, "mlp is worse by 0.3"),
        (F1[0], {"gru": [0.8, 0.9], "mlp": [0.9, 0.7]}, "mlp is not significantly worse"),
        (RMSE, {"gru": [2.0, 3.0], "mlp": [4.0, 5.001]}, "mlp is worse by 2"),
        (F1[0], {"gru": [0.8], "mlp": [0.5]}, "mlp is worse by 0.3 without an interval"),
        (F1[0], {"gru": [0.8], "mlp": [0.8]}, "mlp is equal"),
        (F1[0], {"gru": [0.8], "mlp": []}, "mlp is not compared, for lack of a complete trial"),
        (
            F1[0],
            {"gru": [0.8, 0.9], "mlp": [0.9, 0.7], "rnn": [0.9, 0.6]},
            "mlp, rnn are not significantly worse",
        ),
    ],
)
def test_outcome_names_significantly_worse_networks(
    objective: Objective, values: Mapping[str, Sequence[float]], line: str
) -> None:
    failed = Row(number=0, state=End.DIVERGED)
    rows = [
        complete(value, {"model": model, "seed": str(seed)})
        for model, scores in values.items()
        for seed, value in enumerate(scores)
    ]
    without = [model for model, scores in values.items() if not scores]
    rows += [replace(failed, overrides={"model": model, "seed": "0"}) for model in without]
    (outcome,) = outcome_lines(compare(rows, objective))
    best = f"{np.mean(values['gru']):.3f}" if objective is F1[0] else "2.500"
    assert outcome == f"gru is best ({objective.name} {best}); {line}"


def test_outcome_of_many_networks_names_the_closest() -> None:
    rows = [
        complete(
            0.9 - number / 100 - seed * number / 1000, {"lr": f"0.{number}", "seed": str(seed)}
        )
        for number in range(1, 9)
        for seed in range(2)
    ]
    (line,) = outcome_lines(compare(rows, F1[0]))
    assert line.startswith("lr 0.1 is best (val/f1 ")
    assert line.endswith("; 2 more are in the table")


@pytest.mark.parametrize(
    ("objective", "values"),
    [
        (F1[0], [[0.99], [0.8, 0.7]]),  # one lucky seed does not make a cell the best
        (RMSE, [[3.0, 3.5], [2.0, 2.5]]),
    ],
)
def test_best_cell_has_best_mean_of_most_repeats(
    objective: Objective, values: Sequence[Sequence[float]]
) -> None:
    rows = [
        complete(value, {"optimizer.lr": lr, "seed": str(seed)})
        for lr, scores in zip(("0.1", "0.2"), values, strict=True)
        for seed, value in enumerate(scores)
    ]
    first, second = compare(rows, objective).cells
    assert (first.is_best, second.is_best) == (False, True)
    assert first.difference.mean == pytest.approx(values[0][0] - values[1][0])


def test_best_validation_trial_of_a_cell_counts() -> None:
    pairs = [(0.7, 0.9), (0.8, 0.5), (0.75, 0.99)]
    rows = [complete(value, attributes={"test/f1": test}) for value, test in pairs]
    (cell,) = compare(rows, F1[0]).cells
    assert [list(values.values()) for values in cell.values.values()] == [[0.8], [0.5]]


def test_lost_and_retried_trial_is_not_missing() -> None:
    lost = Row(number=9, state=End.LOST, overrides={"seed": "0"})
    rows = [lost, complete(0.5, {"seed": "0"})]
    (cell,) = compare(rows, F1[0]).cells
    assert (dict(cell.missing), cell.is_best) == ({}, False)


@pytest.mark.parametrize(("key", "word"), [("seed", "seeds"), ("data.split_seed", "split_seeds")])
def test_study_of_repeats_shows_interval_of_the_mean(rows: list[Row], key: str, word: str) -> None:
    seeds = [
        replace(row, overrides={key: row.overrides["seed"]})
        for row in rows
        if row.overrides["model"] == "mlp" and row.overrides["data"] == "digits"
    ]
    compared = compare(seeds, F1[0])
    table = comparison_table(compared)
    tested = column(rows, "digits", "mlp", "test/f1")
    interval = stats.ttest_1samp(tested, 0.0).confidence_interval(0.95)
    assert table.title == f"mean ± sd over 5 {word}"
    assert table.headings == ["predictor", "n", "test/f1", "test/accuracy", "95 % CI of test/f1"]
    assert table.lines[0][-1] == f"{interval.low:.3f}–{interval.high:.3f}"
    assert [line[0] for line in table.lines] == ["network", "naive", "linear"]
    ends = f"95 % CI {table.lines[0][-1]}"
    assert outcome_lines(compared) == [f"mean test/f1 {np.mean(tested):.3f} ({ends}) over 5 {word}"]


def test_baseline_is_counted_once_per_seed(rows: list[Row], compared: Comparison) -> None:
    linear = compared.blocks[0][-1]
    assert linear.kind == "linear"
    assert list(linear.values["test/f1"].values()) == column(rows, "mnist1d", "mlp", "linear/f1")


def over_windows(*sizes: str) -> list[Row]:
    """Trials over window and batch size, of which the window changes the naive prediction."""
    rows = []
    for window, size, seed in product(("6", "12"), sizes or [""], "01"):
        overrides = {"data.window": window, "seed": seed}
        if size:
            overrides["data.batch_size"] = size
        naive = {"6": 40.0, "12": 30.0}[window]
        tested = {"test/rmse": 20.0, "naive/rmse": naive, "linear/rmse": 25.0}
        rows.append(complete(20.0, overrides, tested))
    return rows


def test_baseline_is_listed_once_per_data_group(tmp_path: Path) -> None:
    compared = compare(over_windows("8", "16"), RMSE)
    lines = [line[:4] for line in comparison_table(compared).lines[4:]]
    assert lines == [
        ["6", "naive", "2", "40.00"],
        ["12", "naive", "2", "30.00"],
        ["", "linear", "2", "25.00"],
    ]
    write_comparison(compared, tmp_path)
    sheet_rows = sheet(tmp_path)
    assert sheet_rows["6", "naive"]["test/rmse mean"] == "40.0"
    assert sheet_rows["12", "naive"]["test/rmse mean"] == "30.0"
    assert write_comparison_picture(compared, tmp_path) == []


def test_predictor_has_own_column_if_keys_vary_data() -> None:
    table = comparison_table(compare(over_windows(), RMSE))
    assert table.headings[:2] == ["window", "predictor"]
    assert [" ".join(line[:2]) for line in table.lines] == [
        *("6 network", "12 network", "6 naive", "12 naive", " linear")
    ]


def test_study_without_complete_trial_has_a_table(tmp_path: Path) -> None:
    rows = [Row(number=n, state=End.ERROR, overrides={"seed": str(n)}) for n in (0, 1)]
    compared = compare(rows, F1[0])
    assert comparison_table(compared).lines == [["network", "0", "–", "–", "2 failed"]]
    notes = write_comparison_picture(compared, tmp_path)
    assert notes == ["no picture of the comparison: no trial has completed"]
    assert not (tmp_path / "comparison.png").exists()


def test_csv_holds_unrounded_values(rows: list[Row], written: Path) -> None:
    lines = sheet(written)
    gru = lines["digits", "gru"]
    accuracy = column(rows, "digits", "gru", "test/accuracy")
    assert float(gru["test/accuracy sd"]) == pytest.approx(np.std(accuracy, ddof=1), rel=1e-12)
    assert lines["digits", "cnn1d"]["difference in test/f1 mean"] == ""
    assert int(gru["difference in test/f1 n"]) == 5
    assert lines["digits", "naive"]["test/f1 n"] == "5"


def test_latex_table_is_valid_with_booktabs_only(written: Path) -> None:
    text = (written / "comparison.tex").read_text(encoding="utf-8")
    assert text.count(r"\begin") == text.count(r"\end") == 2
    assert text.count("{") == text.count("}")
    (columns,) = re.findall(r"\\begin{tabular}{(\w+)}", text)
    rows = re.findall(r"^(.*) \\\\$", text, re.MULTILINE)
    assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(columns)}
    assert len(rows) == 1 + 2 * (len(MODELS) + 2)
    assert text.count(r"\midrule") == 2
    assert text.isascii()


def test_confirmation_shows_winner_beside_naive_baseline() -> None:
    rows = [
        complete(value, attributes={"test/f1": test, "naive/f1": 0.1}, number=number)
        for number, (value, test) in enumerate([(0.8, 0.7), (0.9, 0.8)])
    ]
    table = confirmation_table(rows, F1[0], default=None)
    assert table.title == "the best trial over 2 seeds"
    reach = stats.t.ppf(0.975, 1) * np.std([0.7, 0.8], ddof=1) / np.sqrt(2)
    assert 0.75 + reach > 1  # no F1 is larger than 1
    assert table.headings[3:] == ["95 % CI", "naive"]
    assert table.lines == [
        ["val/f1", "2", "0.8500 ± 0.0707", f"{0.85 - reach:.2f}–1.00", "–"],
        ["test/f1", "2", "0.7500 ± 0.0707", f"{0.75 - reach:.2f}–1.00", "0.1000"],
    ]
    assert table.notes == []
    table = confirmation_table([replace(row, values=(1.0,)) for row in rows], F1[0], default=None)
    assert table.lines[0] == ["val/f1", "2", "1.0000 ± 0.0000", "–", "–"]
    assert table.notes == [NO_INTERVAL]


def test_equal_seeds_have_no_interval() -> None:
    """The caption of the picture says that these are seeds."""
    rows = [
        complete(1.0, {"model": model, "seed": seed}) for model in ("mlp", "gru") for seed in "01"
    ]
    alone = compare(rows[:2], F1[0])
    table = comparison_table(alone)
    assert table.lines == [["mlp", "2", "1.0000 ± 0.0000", "–"]]
    assert table.notes == [NO_INTERVAL]
    alt = comparison_picture(alone, "comparison", title="").alt
    assert alt == "val/f1: model=mlp 1.0000 ± 0.0000 over 2 seeds"
    comparison = comparison_table(compare(rows, F1[0]))
    assert [line[-1] for line in comparison.lines] == ["best", "+0.0000"]
    assert NO_INTERVAL not in comparison.notes


PUBLISHED: dict[str, dict[str, str | float]] = {
    "test/accuracy": {"model=cnn1d data=digits": 0.98, "model=mlp": "0.68 ± 0.02", "model=cnn": 1}
}


def test_published_scores_stand_beside_their_rows(rows: list[Row], tmp_path: Path) -> None:
    compared = compare(rows, F1[0], PUBLISHED)
    table = comparison_table(compared)
    at = table.headings.index("published test/accuracy")
    cells = [line[at] for line in table.lines]
    assert cells == ["0.68 ± 0.02", *"–––", "", "", "0.68 ± 0.02", "0.98", *"––", "", ""]
    assert {len(line) for line in table.lines} == {len(table.headings)}
    assert table.notes[-1] == "sweep.published: no row model=cnn"
    write_comparison(compared, tmp_path)
    assert sheet(tmp_path)["digits", "cnn1d"]["published test/accuracy"] == "0.98"


def test_unvalidated_study_is_compared_by_test_scores(rows: list[Row]) -> None:
    """A published metric goes first."""
    losses = [
        replace(row, values=tuple(1 - value for value in row.values))
        for row in rows
        if row.overrides["data"] == "digits"
    ]
    compared = compare(losses, LOSS, PUBLISHED)
    assert compared.by == "test/accuracy"
    assert [cell.settings["model"] for cell in compared.cells if cell.is_best] == ["cnn1d"]
    assert compare(losses, LOSS).by == "test/f1"
    windows = over_windows("8")
    assert compare(windows, LOSS).by == "test/rmse"
    untested = [replace(row, attributes={}) for row in losses]
    assert compare(untested, LOSS).by == "train/loss"


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_mean_interval_equals_one_sample_t_interval(n: int) -> None:
    values = [random.Random(n).gauss(0.8, 0.05) for _ in range(n)] + [0.7]
    result = spread([*values, float("nan")])  # undefined in a repeat: no measurement
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert result.n == n + 1
    assert result.mean == pytest.approx(np.mean(values))
    assert result.sd == pytest.approx(np.std(values, ddof=1))
    assert result.interval == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([15.0, 16.0, 17.0], "16.00 ± 1.00"),  # the decimals of the mean
        ([0.25], "0.2500"),
        ([], "–"),
    ],
)
def test_spread_is_written_as_far_as_known(values: list[float], words: str) -> None:
    assert spread(values).words() == words
