"""Which trials are best, and the parameters that made them so."""

import math
import random
from collections.abc import Sequence
from itertools import product
from typing import Literal

import numpy as np
import optuna
import pytest
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from scipy import stats

from pipeline.study.ledger.rows import Row, RowState, best, importances, pareto, winner

Direction = Literal["max", "min"]
LR = optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)
EPOCHS = optuna.distributions.IntDistribution(5, 40)
CLIPS = optuna.distributions.CategoricalDistribution((True, False))


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


def study(trials: int, *, seed: int, effect: float) -> optuna.Study:
    """A study of random points whose value is noise of deviation 1 and an effect of the rate."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    generator = np.random.default_rng(seed)
    made = optuna.create_study(direction="maximize")
    for _ in range(trials):
        rate = float(10 ** generator.uniform(-4, -1))
        value = generator.normal() - effect * abs(math.log10(rate) + 2.5)
        made.add_trial(
            optuna.create_trial(
                params={
                    "lr": rate,
                    "epochs": int(generator.integers(5, 41)),
                    "clips": bool(generator.integers(2)),
                },
                distributions={"lr": LR, "epochs": EPOCHS, "clips": CLIPS},
                value=float(value),
            )
        )
    return made


def test_parameters_of_pure_noise_are_seldom_shown() -> None:
    found = [
        importances(study(30, seed=seed, effect=0.0).trials, minimizes=False) for seed in range(20)
    ]
    shown = sum(bool(one.shares) for one in found)
    assert shown <= stats.binom.ppf(0.999, len(found), 0.05)
    assert all(one.too_few for one in found if not one.shares)


def test_a_parameter_that_decides_is_shown_with_optunas_share_and_the_others_are_hidden() -> None:
    made = study(60, seed=0, effect=5.0)
    shares = get_param_importances(made, evaluator=PedAnovaImportanceEvaluator())
    found = importances(made.trials, minimizes=False)
    assert list(found.shares) == ["lr"]
    assert math.isclose(found.shares["lr"], shares["lr"])
    assert 0 < found.chance["lr"] < found.shares["lr"]
    assert set(found.hidden) == {"epochs", "clips"}


def test_less_is_better_where_the_objective_says_so() -> None:
    made = study(60, seed=0, effect=5.0)
    turned = optuna.create_study(direction="minimize")
    turned.add_trials(
        optuna.create_trial(
            params=trial.params, distributions=trial.distributions, value=-(trial.value or 0.0)
        )
        for trial in made.trials
    )
    found = importances(turned.trials, minimizes=True)
    assert found == importances(made.trials, minimizes=False)


def test_fewer_trials_than_ten_show_nothing() -> None:
    found = importances(study(9, seed=0, effect=100.0).trials, minimizes=False)
    assert found.shares == {}
    assert found.too_few == (
        "importance of parameters: too few trials (9 complete) to tell any from what shuffled "
        "objectives reach"
    )
