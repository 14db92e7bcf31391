"""Two networks on the same rows: the counts, the tests and the intervals are the right ones."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from helpers.sample_findings import made_findings, of_rows, scored_rows, with_test
from reporting.pages import against, flips_of
from scipy.stats import t as student  # type: ignore[import-untyped] # scipy brings no types
from sklearn.metrics import f1_score

from pipeline.base.findings import Findings
from pipeline.reporting.pair_page import verdict
from pipeline.scoring.bootstrap import paired_differences, units_of
from pipeline.scoring.mcnemar import flips


def nearer(findings: Findings) -> Findings:
    """Findings of forecasts whose errors are a tenth of these."""
    test = scored_rows(findings)
    return with_test(findings, outputs=test.targets + 0.1 * (test.outputs - test.targets))


def two_sided(first: int, second: int) -> float:
    """The exact p by hand: all splits of the rows that are no likelier than the one found."""
    total = first + second
    chances = [math.comb(total, k) / 2**total for k in range(total + 1)]
    return float(min(1.0, sum(one for one in chances if one <= chances[first] * (1 + 1e-9))))


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (5, 5), (2, 11), (40, 22), (0, 9)])
def test_mcnemar_p_sums_equally_uneven_splits(first: int, second: int) -> None:
    one = np.array([True] * first + [False] * second + [True, True, False])
    other = np.array([False] * first + [True] * second + [True, True, False])
    found = flips(one, other)
    assert (found.first, found.second, found.both, found.neither) == (first, second, 2, 1)
    assert found.p == pytest.approx(two_sided(first, second))
    alone = flips(one, other, groups=np.arange(len(one)))  # groups of one row
    assert alone.p == pytest.approx(found.p, abs=0.01)


def test_block_difference_interval_is_students() -> None:
    one = scored_rows(made_findings(task="regression", kind="series", rows=240, seed=1))
    other = scored_rows(made_findings(task="regression", kind="series", rows=240, seed=2))
    units = units_of(240, horizon=4)  # 30 blocks of 8
    found = paired_differences(one, other, thresholds=(0.5, 0.5), units=units, seed=7)["mae"]
    off = [np.abs(test.outputs.astype(np.float64) - one.targets).mean(1) for test in (one, other)]
    gains = (off[1] - off[0]).reshape(30, 8).mean(1)
    reach = student.ppf(0.975, 29) * gains.std(ddof=1) / np.sqrt(30) / np.sqrt(1 - 4 / (3 * 8))
    ends = (gains.mean() - reach, gains.mean() + reach)
    assert found.interval == pytest.approx(ends, abs=0.1 * reach)
    assert found.first == pytest.approx(off[0].mean(), rel=1e-6)
    assert found.value == found.second - found.first


def test_few_blocks_cannot_separate_two_forecasters() -> None:
    """100 forecasts of 12 steps: their errors overlap, whatever their means differ by."""
    first = replace(made_findings(task="regression", kind="series", rows=100, seed=1), horizon=12)
    both = against(first, nearer(first))
    assert both.figures["rmse"].interval is None
    assert both.better("rmse") == both.better("r2") == ""


def test_lower_regression_error_is_better() -> None:
    """Equal networks have no better one."""
    first = made_findings(task="regression", kind="series", seed=1)
    both = against(first, nearer(first))
    assert (both.better("rmse"), both.better("r2"), both.flips) == ("B", "B", None)
    assert against(both.findings[1], first).better("mae") == "A"
    same = against(made_findings(), made_findings())
    assert same.figures["f1"].interval == (0.0, 0.0)
    assert same.better("f1") == ""
    assert flips_of(same).p == 1.0
    f1 = f"{same.figures['f1'].first:.3f}"
    told = f"B {f1} against A {f1} (difference 0.000)"
    minus = verdict(against(made_findings(), made_findings(seed=1)))
    assert "difference -" in minus or "CI -" in minus
    assert "−" not in minus
    assert verdict(same) == f"no significant difference in F1: {told}"


def test_headline_names_better_run_and_difference() -> None:
    worse = replace(made_findings(rows=2000, seed=1), name="mlp")
    better = replace(with_test(worse, outputs=np.eye(3)[scored_rows(worse).targets]), name="cnn")
    better = replace(better, metrics={**better.metrics, "test/f1": 1.0})
    both = against(worse, better)
    found = both.figures["f1"]
    assert found.interval is not None
    low, high = found.interval
    decimals = 1 - math.floor(math.log10(high - low))  # two digits of the width of the interval
    numbers = (1.0, found.first, 1.0 - found.first, low, high)
    shown = [f"{number:.{decimals}f}" for number in numbers]
    for pair in (both, against(better, worse)):
        assert verdict(pair) == (
            "cnn is better: F1 {} against {} (difference {}, 95 % CI {}–{})".format(*shown)
        )


def test_rows_of_a_group_count_as_one() -> None:
    """Each row 20 times over says no more than once, but of its own group of 20."""
    pair = [made_findings(seed=seed, rows=60) for seed in (1, 2)]
    once = against(*pair)
    rows = np.repeat(np.arange(60), 20)
    first, second = (with_test(of_rows(one, rows), rows=np.arange(1200)) for one in pair)
    alone = against(first, second)
    # The later of two runs has its groups on record, the older one has not.
    grouped = against(first, with_test(second, groups=rows))
    assert flips_of(grouped).p == pytest.approx(flips_of(once).p, abs=0.02)
    assert flips_of(alone).p < flips_of(grouped).p / 2
    for key in ("accuracy", "f1"):
        width, as_once, too_narrow = (
            np.diff(both.figures[key].interval or ()) for both in (grouped, once, alone)
        )
        assert width == pytest.approx(as_once, rel=0.05)
        assert width > 3 * too_narrow
    few = against(first, with_test(second, groups=np.repeat(np.arange(12), 100)))
    row = against(made_findings(rows=1, seed=1), made_findings(rows=1, seed=2))
    for little in (few, row):
        assert little.figures["f1"].interval is None
        assert little.better("f1") == ""


def test_group_p_value_counts_all_swaps() -> None:
    gains = np.array([5, -1, 3, 2, 0, 4])  # right rows that the second has more, by group
    groups = np.repeat(np.arange(6), 10)
    second = np.concatenate([np.arange(10) < max(gain, 0) for gain in gains])
    first = np.concatenate([np.arange(10) < max(-gain, 0) for gain in gains])
    sums = [np.dot(signs, gains) for signs in product((1, -1), repeat=6)]
    expected = np.mean([abs(one) >= 13 for one in sums])
    assert flips(first, second, groups=groups).p == pytest.approx(expected)


def test_macro_f1_difference_equals_scikit_learn() -> None:
    both = against(made_findings(seed=1, rows=120), made_findings(seed=2, rows=120))
    assert both.obstacle == ""
    tests = [scored_rows(findings) for findings in both.findings]
    by_hand = [f1_score(test.targets, test.called(0.5), average="macro") for test in tests]
    found = both.figures["f1"]
    assert [found.first, found.second] == pytest.approx(by_hand)
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]


def test_paired_interval_is_narrower_than_unpaired() -> None:
    """Two networks that differ in one row of a hundred: their own intervals overlap by far."""
    first = made_findings(rows=400, seed=3)
    targets, outputs = scored_rows(first).targets, scored_rows(first).outputs.copy()
    wrong = np.flatnonzero(outputs.argmax(1) != targets)[:12]
    outputs[wrong] = np.eye(3)[targets[wrong]]
    both = against(first, with_test(first, outputs=outputs))
    interval = both.figures["accuracy"].interval
    assert both.figures["accuracy"].value == pytest.approx(12 / 400)
    # The standard error of the mean of 400 differences, 12 of which are 1.
    error = np.sqrt(0.03 * 0.97 / 400)
    assert interval == pytest.approx((0.03 - 1.96 * error, 0.03 + 1.96 * error), abs=0.004)
    assert both.better("accuracy") == "B"
    assert (flips_of(both).first, flips_of(both).second) == (0, 12)


def test_targets_rounded_to_float32_are_the_same() -> None:
    """As older runs kept them; relative to a target of 0, any rounding is large."""
    first = made_findings(task="regression")
    targets = scored_rows(first).targets.copy()
    targets[0] = 0.0
    rounded = targets + 1e-8 * targets.max()
    both = against(with_test(first, targets=rounded), with_test(first, targets=targets))
    assert both.obstacle == ""
    other = with_test(first, targets=targets + 0.01 * targets.max())
    assert against(with_test(first, targets=targets), other).obstacle.endswith("different targets")


def test_different_rows_are_not_compared() -> None:
    first = made_findings()
    test = scored_rows(first)
    others = {
        "A was tested on 240 rows, B on 100": of_rows(first, slice(100)),
        "140 of the 240 test rows of A are test rows of B": with_test(first, rows=test.rows + 100),
        "their test rows have the same numbers but different targets": with_test(
            first, targets=(test.targets + 1) % 3
        ),
        "A is a multiclass task of 3 classes, B is a regression": made_findings(task="regression"),
        "no test predictions recorded for B": replace(first, test=None),
    }
    for words, second in others.items():
        both = against(first, second)
        assert both.obstacle == words
        assert both.flips is None
        assert both.answers is None
        assert all(figure.interval is None for figure in both.figures.values())
