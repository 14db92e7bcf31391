"""Which trials are best."""

import math
import random
from collections.abc import Sequence
from itertools import product
from typing import Literal

import pytest

from pipeline.study.ledger.rows import Row, RowState, best, pareto, winner

Direction = Literal["max", "min"]


def row(number: int, *values: float, state: RowState = "complete") -> Row:
    return Row(number=number, state=state, values=values)


def beats(one: Row, other: Row, directions: Sequence[Direction]) -> bool:
    signs = [1 if direction == "max" else -1 for direction in directions]
    pairs = [(s * a, s * b) for s, a, b in zip(signs, one.values, other.values, strict=True)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def test_the_best_trials_come_first_and_ties_go_to_the_earlier() -> None:
    rows = [row(0, 0.5), row(1, 0.9), row(2, 0.7), row(3, 0.9)]
    assert [one.number for one in best(rows, ["max"], 3)] == [1, 3, 2]
    assert [one.number for one in best(rows, ["min"], 2)] == [0, 2]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_only_complete_trials_with_finite_values_can_win(bad: float) -> None:
    rows = [row(0, bad), row(1, 0.9, state="pruned"), row(2, 0.1), row(3, 0.8, state="running")]
    assert [one.number for one in best(rows, ["max"], 9)] == [2]
    assert [one.number for one in best(rows, ["min"], 9)] == [2]


def test_a_study_without_a_complete_trial_has_no_winner() -> None:
    assert winner([row(0, state="failed")], ["max"]) is None


@pytest.mark.parametrize(("directions", "seed"), product(product(("max", "min"), repeat=2), (1, 2)))
def test_the_pareto_front_holds_just_the_trials_that_no_other_beats(
    directions: tuple[Direction, Direction], seed: int
) -> None:
    draw = random.Random(seed)
    rows = [row(number, draw.randrange(12), draw.randrange(12)) for number in range(60)]
    unbeaten = {
        one.values for one in rows if not any(beats(other, one, directions) for other in rows)
    }
    front = pareto(rows, directions)
    assert {one.values for one in front} == unbeaten
    assert len(front) == len(unbeaten)
    for one in front:
        assert one.number == min(other.number for other in rows if other.values == one.values)


def test_a_front_is_told_from_the_best_of_its_first_objective() -> None:
    rows = [row(0, 0.7, 10), row(1, 0.9, 30), row(2, 0.8, 20), row(3, 0.6, 25)]
    assert [one.number for one in pareto(rows, ["max", "min"])] == [1, 2, 0]
    assert winner(rows, ["max", "min"]) == rows[1]


def test_after_the_front_come_the_trials_that_only_it_beats() -> None:
    rows = [row(0, 0.9, 30), row(1, 0.8, 40), row(2, 0.7, 10), row(3, 0.6, 50)]
    assert [one.number for one in best(rows, ["max", "min"], 4)] == [0, 2, 1, 3]
