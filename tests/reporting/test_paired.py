"""Two networks on the same rows: the counts, the tests and the intervals are the right ones."""

from dataclasses import replace
from math import comb

import numpy as np
import pytest
from findings_made import made_findings
from sklearn.metrics import f1_score

from pipeline.bootstrap import drawn
from pipeline.findings.records import Findings, TestRows
from pipeline.mistakes import called
from pipeline.reporting.against import Against
from pipeline.reporting.paired import flips, paired_differences
from pipeline.reporting.subject import Subject


def subject(findings: Findings) -> Subject:
    return Subject(
        folder=None,
        uri="",
        findings=findings,
        lacks="",
        status="FINISHED",
        reason="",
        tags={},
        data=(),
        size=None,
    )


def against(first: Findings, second: Findings) -> Against:
    return Against(first=subject(first), second=subject(second))


def two_sided(first: int, second: int) -> float:
    """The exact p by hand: all splits of the rows that are no likelier than the one found."""
    total = first + second
    chances = [comb(total, k) / 2**total for k in range(total + 1)]
    return min(1.0, sum(one for one in chances if one <= chances[first] * (1 + 1e-9)))


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (5, 5), (2, 11), (40, 22), (0, 9)])
def test_mcnemars_p_is_the_sum_of_all_splits_as_uneven(first: int, second: int) -> None:
    one = np.array([True] * first + [False] * second + [True, True, False])
    other = np.array([False] * first + [True] * second + [True, True, False])
    found = flips(one, other)
    assert (found.first, found.second, found.both, found.neither) == (first, second, 2, 1)
    assert found.p == pytest.approx(two_sided(first, second))


def test_the_interval_of_a_difference_is_that_of_the_same_draws_for_both() -> None:
    one = made_findings(task="regression", kind="series", rows=60, seed=1).test
    other = made_findings(task="regression", kind="series", rows=60, seed=2).test
    assert one is not None
    assert other is not None
    found = paired_differences(one, other, thresholds=(0.5, 0.5), block=4, seed=7)["rmse"]
    generator = np.random.default_rng(7)
    gains = []
    for counts in drawn(60, 1000, block=4, generator=generator):
        again = np.repeat(np.arange(60), counts.astype(int))
        off = [(part.outputs - one.targets)[again].astype(np.float64) for part in (one, other)]
        before, after = (np.sqrt((each**2).mean()) for each in off)
        gains.append(after - before)
    assert found.interval == pytest.approx(np.quantile(gains, (0.025, 0.975)), rel=1e-6)
    errors = [(part.outputs - one.targets).astype(np.float64) for part in (one, other)]
    assert found.first == pytest.approx(np.sqrt((errors[0] ** 2).mean()), rel=1e-6)
    assert found.value == found.second - found.first


def test_the_difference_in_macro_f1_is_scikit_learns() -> None:
    first, second = made_findings(seed=1, rows=120), made_findings(seed=2, rows=120)
    both = against(first, second)
    assert both.obstacle == ""
    assert first.test is not None
    by_hand = [
        f1_score(first.test.targets, called(one.test, threshold=one.threshold), average="macro")
        for one in (first, second)
        if one.test is not None
    ]
    found = both.figures["f1"]
    assert [found.first, found.second] == pytest.approx(by_hand)
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]


def test_a_paired_interval_is_narrower_than_two_apart() -> None:
    """Two networks that differ in one row of a hundred: their own intervals overlap by far."""
    first = made_findings(rows=400, seed=3)
    assert first.test is not None
    outputs = first.test.outputs.copy()
    wrong = np.flatnonzero(outputs.argmax(1) != first.test.targets)[:12]
    outputs[wrong] = np.eye(3, dtype=np.float32)[first.test.targets[wrong]]
    second = replace(first, test=replace(first.test, outputs=outputs))
    both = against(first, second)
    interval = both.figures["accuracy"].interval
    assert interval is not None
    assert both.figures["accuracy"].value == pytest.approx(12 / 400)
    # The standard error of the mean of 400 differences, 12 of which are 1.
    error = np.sqrt(0.03 * 0.97 / 400)
    assert interval == pytest.approx((0.03 - 1.96 * error, 0.03 + 1.96 * error), abs=0.004)
    assert both.better("accuracy") == "B"
    assert both.flips is not None
    assert (both.flips.first, both.flips.second) == (0, 12)


def test_equal_networks_are_not_told_apart() -> None:
    same = made_findings()
    both = against(same, same)
    assert both.figures["f1"].interval == (0.0, 0.0)
    assert both.better("f1") == ""
    assert both.flips is not None
    assert both.flips.p == 1.0


def test_less_error_is_better_in_a_regression() -> None:
    first = made_findings(task="regression", kind="series", seed=1)
    assert first.test is not None
    nearer = first.test.targets + 0.1 * (first.test.outputs - first.test.targets)
    second = replace(first, test=replace(first.test, outputs=nearer))
    both = against(first, second)
    assert both.better("rmse") == "B"
    assert both.better("r2") == "B"
    assert both.flips is None
    assert against(second, first).better("mae") == "A"


def no_rows(test: TestRows, count: int) -> TestRows:
    return TestRows(
        rows=test.rows[:count], targets=test.targets[:count], outputs=test.outputs[:count]
    )


def test_rows_that_are_not_the_same_are_not_compared() -> None:
    first = made_findings()
    test = first.test
    assert test is not None
    others = {
        "A was tested on 240 rows, B on 100": replace(first, test=no_rows(test, 100)),
        "only 140 of the 240 test rows of A are among those of B": replace(
            first, test=replace(test, rows=test.rows + 100)
        ),
        "their test rows have the same numbers but other targets: the data are others": replace(
            first, test=replace(test, targets=(test.targets + 1) % 3)
        ),
        "A is a multiclass task of 3 classes, B is a regression": made_findings(task="regression"),
        "what B said about its test rows is not on record": replace(first, test=None),
    }
    for words, second in others.items():
        both = against(first, second)
        assert both.obstacle == words
        assert both.right is None
        assert both.errors is None
        assert all(figure.interval is None for figure in both.figures.values())


def test_one_row_says_nothing_of_a_difference() -> None:
    first, second = made_findings(rows=1, seed=1), made_findings(rows=1, seed=2)
    both = against(first, second)
    assert both.figures["f1"].interval is None
    assert both.better("f1") == ""
