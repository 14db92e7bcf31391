"""What outputs say to a person, with what intervals, and what answers for a file come to."""

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from serving.made_models import model, schema
from torch import Tensor, nn

from benchmarks.interval_coverage import predicted
from pipeline import __version__
from pipeline.data.reader import Block, NewRows
from pipeline.errors import DataError
from pipeline.serving.files import Sheet
from pipeline.serving.model import Decision, Model, conformal
from pipeline.serving.predictions import (
    Predictions,
    RowsDone,
    answered,
    answers,
    interface,
    summary,
)


def lines(made: Model, columns: list[list[str] | list[float]], **met: Any) -> list[str]:
    made.facts["version"] = __version__  # type: ignore[index] # a dict
    sheet = Sheet(header=(), texts=frozenset(), pieces=iter(()))
    done = Predictions(sheet=sheet, new=NewRows(heading=None, **met))
    done.add(columns, classes=made.schema.task != "regression")
    return summary(made, done, place="new.csv")


BINARY = schema("binary", classes=["no", "yes"])
MANY = schema("multiclass", outputs=7, classes=list("abcdefg"))
FOUND = Decision(threshold=0.31, rule="best_f1")


@pytest.mark.parametrize(
    ("made", "column", "line"),
    [
        (
            model(BINARY),
            ["no", "yes", "no"],
            "3 rows in new.csv: no 2, yes 1 (yes above a probability of 0.5)",
        ),
        (
            model(BINARY, FOUND),
            ["yes"],
            "1 row in new.csv: yes 1 (yes above a probability of 0.31, by best_f1)",
        ),
        (model(MANY), list("aabbccddeefg"), "12 rows in new.csv: a 2, b 2, c 2, d 2, e 2, …"),
        (model(schema(units="mmHg")), [120.0, 80.5], "2 rows in new.csv: from 80.50 to 120 mmHg"),
        (model(schema()), [], "0 rows in new.csv"),
    ],
)
def test_answers_are_told_in_one_line(made: Model, column: list[Any], line: str) -> None:
    assert lines(made, [column]) == [line]


def test_all_that_was_met_in_the_input_is_one_note() -> None:
    met = {
        "unknown": Counter(city=12, hair=1),
        "missing": Counter(age=3),
        "ignored": ("u", "v", "w", "x", "y", "z"),
        "gaps": ("a step is missing after 1960-01",),
    }
    assert lines(model(schema()), [[1.0]], **met)[1:] == [
        "note: categories unknown to the training count as other: city 12, hair 1; missing cells "
        "filled in as in training: age 3; columns the model does not know: u, v, w, x, y, …; "
        "a step is missing after 1960-01"
    ]


@pytest.mark.parametrize(
    ("verbose", "total", "seconds", "said"),
    [
        (
            2,
            None,
            30,
            [
                f"{n},000 rows, 1,000 a second, {spent} s"
                for n, spent in ((2, "2.0"), (12, 12), (22, 22))
            ],
        ),
        (1, 30_000, 30, ["30,000 of 30,000 rows, 1,000 a second, 30 s\x1b[K", "\x1b[K"]),
        (0, None, 100, []),
        (1, None, 1, []),
        (2, None, 1, []),
    ],
    ids=["lines", "a line that is written over", "silent", "short", "short lines"],
)
def test_rows_done_are_told_each_ten_seconds_or_on_a_line_that_is_taken_away(
    capsys: pytest.CaptureFixture[str],
    verbose: int,
    total: int | None,
    seconds: int,
    said: list[str],
) -> None:
    times = itertools.count(100.0)
    progress = RowsDone(verbose=verbose, total=total, clock=lambda: next(times))
    for second in range(1, seconds + 1):
        progress(1000 * second)
    progress.end()
    out, err = capsys.readouterr()
    assert out == ""
    assert (err.split("\r")[-2:] if verbose == 1 and said else err.splitlines()) == said


@pytest.mark.parametrize(
    ("made", "outputs", "columns"),
    [
        (  # only above the threshold is a row positive
            model(BINARY, Decision(threshold=0.25, rule="best_f1")),
            [0.0, 0.25, 0.375, 1.0],
            {
                "prediction": ["no", "no", "yes", "yes"],
                "probability of yes": [0.0, 0.25, 0.375, 1.0],
            },
        ),
        (
            model(schema("multiclass", outputs=3, classes=["x", "y", "z"])),
            [[0.25, 0.5, 0.25], [0.125, 0.25, 0.625]],
            {
                "prediction": ["y", "z"],
                "probability of x": [0.25, 0.125],
                "probability of y": [0.5, 0.25],
                "probability of z": [0.25, 0.625],
            },
        ),
        (  # an interval lies around a value by the residuals of its own output
            model(schema(outputs=2), Decision(intervals=((-1.0, 2.0), (-0.5, 0.25)))),
            [[10.0, 1.0]],
            {
                "prediction 1": [10.0],
                "prediction 1 low": [9.0],
                "prediction 1 high": [12.0],
                "prediction 2": [1.0],
                "prediction 2 low": [0.5],
                "prediction 2 high": [1.25],
            },
        ),
    ],
    ids=["binary", "multiclass", "values"],
)
def test_outputs_become_classes_with_probabilities_or_values_with_intervals(
    made: Model, outputs: Any, columns: Any
) -> None:
    assert answers(made, torch.tensor(outputs)) == columns
    # No row is answered with the columns of the interface.
    described = interface(made.schema, made.decision)["outputs"]
    assert answers(made, torch.tensor(outputs)[:0]) == {one["name"]: [] for one in described}


@pytest.mark.parametrize("lost", [float("nan"), float("inf"), float("-inf")])
def test_an_answer_that_is_no_number_is_refused_by_its_row(lost: float) -> None:
    class Lost(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return rows * torch.tensor([[0.0, 1.0], [1.0, lost], [lost, 0.0]])

    made = model(schema(outputs=2), network=Lost())
    with pytest.raises(DataError, match=r"new\.csv row 12: the network's answer is no number; "):
        answered(made, Block(raw=np.ones((3, 2))), what="new.csv", first_row=11)


def test_the_ends_are_conformal_ranks_and_few_groups_or_no_numbers_have_none() -> None:
    for rows in (1, 8, 18, 19, 20, 38, 39, 50, 199, 1000):
        ordered = sorted(residuals := np.random.default_rng(rows).normal(size=rows))
        rank = math.ceil(round((rows + 1) * 0.95, 9))
        expected = (ordered[rows - rank], ordered[rank - 1]) if rank <= rows else None
        assert conformal(residuals, rows) == expected
    residuals = np.random.default_rng(0).normal(size=720)
    assert conformal(residuals, 18) is None
    few, many = conformal(residuals, 20), conformal(residuals, 720)
    assert few is not None
    assert many is not None
    assert few[0] < many[0] < many[1] < few[1]
    assert conformal(np.r_[np.nan, np.arange(99.0)], 100) is None


@pytest.mark.parametrize(
    ("rows", "horizon", "group"), [(20, 0, 1), (50, 0, 1), (60, 1, 1), (240, 12, 1), (800, 0, 20)]
)
def test_at_least_nine_of_ten_truths_lie_within(rows: int, horizon: int, group: int) -> None:
    """A small run of the benchmark whose table stands in docs/statistics.md."""
    held = predicted(rows, horizon=horizon, group=group, repetitions=1000)
    assert held is not None
    assert held > 0.9 - 3 * math.sqrt(0.09 / 1000)


@pytest.mark.parametrize(("rows", "horizon", "group"), [(8, 0, 1), (60, 12, 1), (480, 0, 40)])
def test_where_fewer_would_lie_within_is_no_interval(rows: int, horizon: int, group: int) -> None:
    assert predicted(rows, horizon=horizon, group=group, repetitions=1) is None
