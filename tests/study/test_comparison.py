"""Cells of a grid over seeds and folds: grouped, compared, written; intervals against scipy's."""

import csv
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_studies import models_by_data
from scipy import stats

from pipeline.study.ledger.rows import Row
from pipeline.study.outcome.comparison import Comparison, ComparisonCell, compare, paired, spread
from pipeline.study.outcome.comparison_table import (
    comparison_table,
    confirmation_table,
    write_comparison,
)
from pipeline.study.outcome.pictures import write_comparison_picture

MODELS = ["mlp", "cnn1d", "gru", "rnn"]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return models_by_data(MODELS, ["mnist1d", "digits"], 5)


@pytest.fixture(scope="module")
def compared(rows: list[Row]) -> Comparison:
    return compare(rows, objective="val/f1", direction="max")


def column(rows: list[Row], data: str, model: str, metric: str) -> list[float]:
    """What the trials of one cell came to, read without the code under test."""
    return [
        float(row.attributes[metric])
        for row in rows
        if (row.overrides["data"], row.overrides["model"]) == (data, model)
        and row.state == "complete"
    ]


def cell_of(compared: Comparison, data: str, model: str) -> ComparisonCell:
    cells = [cell for block in compared.blocks for cell in block.cells]
    return next(cell for cell in cells if dict(cell.settings) == {"data": data, "model": model})


def grid(values: Mapping[tuple[str, str], float], key: str = "optimizer.lr") -> list[Row]:
    """Trials of a grid over one key and the seed, without test figures."""
    return [
        Row(number=n, state="complete", values=(value,), overrides={key: text, "seed": seed})
        for n, ((text, seed), value) in enumerate(values.items())
    ]


@pytest.mark.parametrize("data", ["mnist1d", "digits"])
@pytest.mark.parametrize("model", ["mlp", "gru"])
def test_a_cell_sums_up_its_seeds_and_is_paired_with_the_best_by_them(
    rows: list[Row], compared: Comparison, data: str, model: str
) -> None:
    cell = cell_of(compared, data, model)
    own, best = (column(rows, data, name, "test/f1") for name in (model, "cnn1d"))
    summed = cell.spread("test/f1")
    assert (summed.mean, summed.sd) == pytest.approx((np.mean(own), np.std(own, ddof=1)))
    interval = stats.ttest_rel(own, best).confidence_interval(0.95)
    assert cell.difference.interval == pytest.approx((interval.low, interval.high))


def test_the_best_cell_of_each_data_set_is_marked_and_has_no_difference(
    compared: Comparison,
) -> None:
    best = [cell for block in compared.blocks for cell in block.cells if cell.is_best]
    assert [dict(cell.settings) for cell in best] == [
        {"data": "mnist1d", "model": "cnn1d"},
        {"data": "digits", "model": "cnn1d"},
    ]
    assert [cell.difference for cell in best] == [None, None]


def test_cells_are_compared_by_the_test_metric_where_all_trials_were_tested(
    rows: list[Row], compared: Comparison
) -> None:
    assert compared.by == "test/f1"
    untested = [replace(rows[0], attributes={}), *rows[1:]]
    assert compare(untested, objective="val/f1", direction="max").by == "val/f1"


def test_a_cell_with_a_failed_seed_says_so_and_pairs_the_seeds_that_both_have(
    rows: list[Row], compared: Comparison
) -> None:
    cell = cell_of(compared, "mnist1d", "rnn")
    assert dict(cell.missing) == {"diverged": 1}
    assert cell.difference.n == 4
    line = next(line for line in comparison_table(compared).lines if line[:2] == ["mnist1d", "rnn"])
    assert (line[2], line[-1]) == ("4", "1 diverged")


def test_one_lucky_seed_does_not_make_a_cell_the_best() -> None:
    rows = grid({("0.1", "0"): 0.99, ("0.2", "0"): 0.8, ("0.2", "1"): 0.7})
    (block,) = compare(rows, objective="val/f1", direction="max").blocks
    assert [cell.is_best for cell in block.cells] == [False, True]


def test_less_is_better_where_the_objective_says_so() -> None:
    rows = grid({("0.1", "0"): 3.0, ("0.1", "1"): 3.5, ("0.2", "0"): 2.0, ("0.2", "1"): 2.5})
    (block,) = compare(rows, objective="val/rmse", direction="min").blocks
    assert [cell.is_best for cell in block.cells] == [False, True]
    assert block.cells[0].difference.mean == 1.0


def test_of_several_trials_of_a_cell_the_best_on_validation_counts() -> None:
    rows = [
        Row(number=n, state="complete", values=(value,), attributes={"test/f1": test})
        for n, (value, test) in enumerate([(0.7, 0.9), (0.8, 0.5), (0.75, 0.99)])
    ]
    (block,) = compare(rows, objective="val/f1", direction="max").blocks
    assert [list(values.values()) for values in block.cells[0].values.values()] == [[0.8], [0.5]]


def test_a_trial_that_was_lost_and_tried_again_is_not_missing() -> None:
    lost = Row(number=9, state="failed", reason="lost", overrides={"seed": "0"})
    done = Row(number=10, state="complete", values=(0.5,), overrides={"seed": "0"})
    (block,) = compare([lost, done], objective="val/f1", direction="max").blocks
    assert (dict(block.cells[0].missing), block.cells[0].is_best) == ({}, False)


def test_a_study_of_seeds_alone_shows_the_interval_of_its_mean(rows: list[Row]) -> None:
    seeds = [
        replace(row, overrides={"seed": row.overrides["seed"]})
        for row in rows
        if row.overrides["model"] == "mlp" and row.overrides["data"] == "digits"
    ]
    table = comparison_table(compare(seeds, objective="val/f1", direction="max"))
    tested = column(rows, "digits", "mlp", "test/f1")
    interval = stats.ttest_1samp(tested, 0.0).confidence_interval(0.95)
    assert table.title == "mean ± sd over 5 seeds"
    assert table.headings == ["predictor", "n", "test/f1", "test/accuracy", "95 % interval"]
    assert table.lines[0][-1] == f"[{interval.low:.4f}, {interval.high:.4f}]"
    assert [line[0] for line in table.lines] == ["network", "naive", "linear"]


def test_a_baseline_is_counted_once_a_seed_however_many_networks_met_it(
    rows: list[Row], compared: Comparison
) -> None:
    _, linear = compared.blocks[0].baselines
    assert list(linear.values["test/f1"].values()) == column(rows, "mnist1d", "mlp", "linear/f1")


def over_windows() -> list[Row]:
    """Trials over window and batch size, of which the window changes the naive prediction."""
    naive = {"6": 40.0, "12": 30.0}
    points = [
        {"data.window": window, "data.batch_size": size, "seed": seed}
        for window in naive
        for size in ("8", "16")
        for seed in ("0", "1")
    ]
    return [
        Row(
            number=number,
            state="complete",
            values=(20.0 + number / 10,),
            overrides=point,
            attributes={
                "test/rmse": 20.0 + number / 10,
                "naive/rmse": naive[point["data.window"]],
                "linear/rmse": 25.0,
            },
        )
        for number, point in enumerate(points)
    ]


def test_a_baseline_that_swept_data_change_stands_there_once_a_group(tmp_path: Path) -> None:
    compared = compare(over_windows(), objective="val/rmse", direction="min")
    lines = [line[:4] for line in comparison_table(compared).lines[4:]]
    assert lines == [
        ["6", "naive", "2", "40.00 ± 0.00"],
        ["12", "naive", "2", "30.00 ± 0.00"],
        ["", "linear", "2", "25.00 ± 0.00"],
    ]
    write_comparison(compared, tmp_path)
    with (tmp_path / "comparison.csv").open(encoding="utf-8") as file:
        means = {
            (row["window"], row["batch_size"]): row["test/rmse mean"]
            for row in csv.DictReader(file)
        }
    assert (means["6", "naive"], means["12", "naive"]) == ("40.0", "30.0")
    assert write_comparison_picture(compared, tmp_path) == []


def test_a_baseline_has_a_column_of_its_own_where_every_key_changes_it() -> None:
    rows = [
        replace(row, overrides={k: v for k, v in row.overrides.items() if k != "data.batch_size"})
        for row in over_windows()
        if row.overrides["data.batch_size"] == "8"
    ]
    table = comparison_table(compare(rows, objective="val/rmse", direction="min"))
    assert table.headings[:2] == ["window", "predictor"]
    assert [line[:2] for line in table.lines] == [
        ["6", "network"],
        ["12", "network"],
        ["6", "naive"],
        ["12", "naive"],
        ["", "linear"],
    ]


def test_a_study_without_a_complete_trial_still_has_a_table(tmp_path: Path) -> None:
    rows = [
        Row(number=n, state="failed", reason="error", overrides={"seed": str(n)}) for n in (0, 1)
    ]
    compared = compare(rows, objective="val/f1", direction="max")
    assert comparison_table(compared).lines == [["network", "0", "–", "–", "2 failed"]]
    notes = write_comparison_picture(compared, tmp_path)
    assert notes == ["no picture of the comparison: no trial has completed"]
    assert not (tmp_path / "comparison.png").exists()


def test_the_csv_holds_every_figure_unrounded(
    rows: list[Row], compared: Comparison, tmp_path: Path
) -> None:
    write_comparison(compared, tmp_path)
    with (tmp_path / "comparison.csv").open(encoding="utf-8", newline="") as file:
        lines = {(line["data"], line["model"]): line for line in csv.DictReader(file)}
    gru = lines["digits", "gru"]
    accuracy = column(rows, "digits", "gru", "test/accuracy")
    assert float(gru["test/accuracy sd"]) == pytest.approx(np.std(accuracy, ddof=1), rel=1e-12)
    assert lines["digits", "cnn1d"]["difference in test/f1 mean"] == ""
    assert int(gru["difference in test/f1 n"]) == 5
    assert ("digits", "naive") in lines


def test_the_latex_table_is_whole_and_needs_booktabs_alone(
    compared: Comparison, tmp_path: Path
) -> None:
    write_comparison(compared, tmp_path)
    text = (tmp_path / "comparison.tex").read_text(encoding="utf-8")
    assert text.count(r"\begin") == text.count(r"\end") == 2
    assert text.count("{") == text.count("}")
    columns = re.search(r"\\begin{tabular}{(\w+)}", text)
    rows = re.findall(r"^(.*) \\\\$", text, re.MULTILINE)
    assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(columns[1])}
    assert len(rows) == 1 + 2 * (len(MODELS) + 2)
    assert text.count(r"\midrule") == 2
    assert text.isascii()


def test_a_markdown_table_has_the_same_columns_in_every_line(
    compared: Comparison, tmp_path: Path
) -> None:
    write_comparison(compared, tmp_path)
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert {line.count("|") for line in text.splitlines() if "|" in line} == {8}
    assert "| **mnist1d** | **cnn1d** |" in text
    assert text.splitlines()[0] == "mean ± sd over 5 seeds"
    assert "paired by seed, with its 95 % interval" in text


def test_confirming_shows_the_winner_over_its_seeds_beside_the_naive_baseline() -> None:
    rows = [
        Row(number=n, state="complete", values=(value,), attributes=attributes)
        for n, (value, attributes) in enumerate(
            [(0.8, {"test/f1": 0.7, "naive/f1": 0.1}), (0.9, {"test/f1": 0.8, "naive/f1": 0.1})]
        )
    ]
    table = confirmation_table(rows, objective="val/f1", direction="max", default=None)
    assert table.title == "the winner again, over 2 seeds"
    reach = stats.t.ppf(0.975, 1) * np.std([0.7, 0.8], ddof=1) / np.sqrt(2)
    assert 0.75 + reach > 1  # no F1 is larger than 1
    interval = f"[{0.75 - reach:.4f}, 1.0000]"
    assert table.lines == [
        ["val/f1", "2", "0.8500 ± 0.0707", f"[{0.85 - reach:.4f}, 1.0000]", "–", "–"],
        ["test/f1", "2", "0.7500 ± 0.0707", interval, "0.1000 ± 0.0000", "–"],
    ]


PUBLISHED: dict[str, dict[str, str | float]] = {
    "test/accuracy": {"model=cnn1d data=digits": 0.98, "model=mlp": "0.68 ± 0.02"},
}


def test_figures_of_others_stand_beside_the_rows_they_name(rows: list[Row], tmp_path: Path) -> None:
    compared = compare(rows, objective="val/f1", direction="max", published=PUBLISHED)
    table = comparison_table(compared)
    at = table.headings.index("published test/accuracy")
    assert {(line[0], line[1]): line[at] for line in table.lines} == {
        ("mnist1d", "mlp"): "0.68 ± 0.02",
        ("mnist1d", "cnn1d"): "–",
        ("mnist1d", "gru"): "–",
        ("mnist1d", "rnn"): "–",
        ("mnist1d", "naive"): "",
        ("mnist1d", "linear"): "",
        ("digits", "mlp"): "0.68 ± 0.02",
        ("digits", "cnn1d"): "0.98",
        ("digits", "gru"): "–",
        ("digits", "rnn"): "–",
        ("digits", "naive"): "",
        ("digits", "linear"): "",
    }
    assert {len(line) for line in table.lines} == {len(table.headings)}
    write_comparison(compared, tmp_path)
    with (tmp_path / "comparison.csv").open(encoding="utf-8", newline="") as file:
        lines = {(line["data"], line["model"]): line for line in csv.DictReader(file)}
    assert lines["digits", "cnn1d"]["published test/accuracy"] == "0.98"
    assert lines["digits", "naive"]["test/f1 n"] == "5"


def test_a_study_without_validation_is_compared_by_what_others_have_published(
    rows: list[Row],
) -> None:
    losses = [
        replace(row, values=tuple(1 - value for value in row.values))
        for row in rows
        if row.overrides["data"] == "digits"
    ]
    compared = compare(losses, objective="train/loss", direction="min", published=PUBLISHED)
    (block,) = compared.blocks
    assert compared.by == "test/accuracy"
    assert [cell.settings["model"] for cell in block.cells if cell.is_best] == ["cnn1d"]


def test_a_published_figure_of_no_row_is_told(rows: list[Row]) -> None:
    published: dict[str, dict[str, str | float]] = {
        "test/f1": {"model=cnn": "0.9", "model=mlp": "0.6"}
    }
    table = comparison_table(
        compare(rows, objective="val/f1", direction="max", published=published)
    )
    assert table.notes[-1] == "published for model=cnn, which is no row here"


def test_seeds_that_nothing_validates_are_compared_by_their_test_figures() -> None:
    rows = [
        Row(
            number=n,
            state="complete",
            values=(loss,),
            overrides={"model": model, "seed": "0"},
            attributes={"test/rmse": rmse},
        )
        for n, (model, loss, rmse) in enumerate([("mlp", 0.1, 9.0), ("gru", 0.2, 7.0)])
    ]
    compared = compare(rows, objective="train/loss", direction="min")
    assert compared.by == "test/rmse"
    assert [cell.is_best for cell in compared.blocks[0].cells] == [False, True]
    untested = [replace(row, attributes={}) for row in rows]
    assert compare(untested, objective="train/loss", direction="min").by == "train/loss"


def test_another_draw_of_the_parts_repeats_a_measurement_as_another_seed_does() -> None:
    rows = [
        Row(number=n, state="complete", values=(0.5,), overrides={"data.split_seed": str(n)})
        for n in range(3)
    ]
    compared = compare(rows, objective="val/f1", direction="max")
    assert comparison_table(compared).title == "mean ± sd over 3 split_seeds"


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_interval_of_a_mean_is_that_of_the_one_sample_t_test(n: int) -> None:
    values = [random.Random(n).gauss(0.8, 0.05) for _ in range(n)] + [0.7]
    found = spread(values)
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.n, found.mean) == (n + 1, pytest.approx(np.mean(values)))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert found.interval == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("n", [2, 3, 10])
def test_paired_differences_have_the_interval_of_the_paired_t_test(n: int) -> None:
    draw = random.Random(n)
    one = {(str(seed),): draw.gauss(0.8, 0.05) for seed in range(n)}
    other = {key: value + draw.gauss(0.01, 0.02) for key, value in one.items()}
    found = paired(one, other)
    interval = stats.ttest_rel(list(one.values()), list(other.values())).confidence_interval(0.95)
    assert found.n == n
    assert found.interval == pytest.approx((interval.low, interval.high))


def test_only_repeats_that_both_have_are_paired() -> None:
    found = paired({("0",): 1.0, ("1",): 2.0, ("2",): 9.0}, {("1",): 1.5, ("0",): 0.5, ("7",): 0.0})
    assert (found.n, found.mean, found.sd) == (2, 0.5, 0.0)
    assert paired({("0",): 1.0}, {("1",): 1.0}) is None


def test_one_measurement_has_a_mean_and_nothing_else() -> None:
    found = spread([0.25])
    assert (found.n, found.mean, found.sd, found.interval) == (1, 0.25, None, None)
    assert (found.words(), found.interval_words()) == ("0.2500", "–")


def test_a_metric_that_is_undefined_in_a_repeat_is_no_measurement() -> None:
    assert spread([0.5, float("nan"), 0.7]) == spread([0.5, 0.7])
    assert spread([]) is None


def test_a_spread_is_written_with_the_decimals_of_its_mean() -> None:
    found = spread([15.0, 16.0, 17.0])
    assert found.words() == "16.00 ± 1.00"
    assert found.interval_words() == "[13.52, 18.48]"
