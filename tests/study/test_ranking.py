"""Which trials are best, and the parameters that made them so."""

import math
import random
from collections.abc import Sequence
from itertools import product

import numpy as np
import optuna
import pytest
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from scipy import stats  # type: ignore[import-untyped] # scipy brings no types

from pipeline.base.ends import End
from pipeline.metrics import Direction
from pipeline.study.ledger.rows import Row, RowState, best, importances, pareto, winner

DISTRIBUTIONS: dict[str, optuna.distributions.BaseDistribution] = {
    "lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
    "epochs": optuna.distributions.IntDistribution(5, 40),
    "clips": optuna.distributions.CategoricalDistribution((True, False)),
}


def row(number: int, *values: float, state: RowState = End.COMPLETE) -> Row:
    return Row(number=number, state=state, values=values)


def beats(first: Row, second: Row, directions: Sequence[Direction]) -> bool:
    signs = [1 if direction == "max" else -1 for direction in directions]
    pairs = [(s * a, s * b) for s, a, b in zip(signs, first.values, second.values, strict=True)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


@pytest.mark.parametrize(
    ("rows", "directions", "numbers"),
    [
        ([row(0, 0.5), row(1, 0.9), row(2, 0.7), row(3, 0.9)], ["max"], [1, 3, 2, 0]),
        ([row(0, 0.5), row(1, 0.9), row(2, 0.7), row(3, 0.9)], ["min"], [0, 2, 1, 3]),
        *(
            ([row(0, bad), row(1, 0.9, state=End.PRUNED), row(2, 0.1)], [direction], [2])
            for bad in (math.nan, math.inf, -math.inf)
            for direction in ("max", "min")
        ),
        ([row(0, state=End.ERROR), row(1, 0.8, state="running")], ["max"], []),
        # After the front come the trials that only it beats.
        (
            [row(0, 0.9, 30), row(1, 0.8, 40), row(2, 0.7, 10), row(3, 0.6, 50)],
            ["max", "min"],
            [0, 2, 1, 3],
        ),
    ],
)
def test_best_complete_trials_come_first(
    rows: list[Row], directions: list[Direction], numbers: list[int]
) -> None:
    """Ties go to the earlier trial."""
    assert [trial.number for trial in best(rows, directions, 9)] == numbers
    assert best(rows, directions) == [rows[number] for number in numbers[:1]]
    first = winner(rows, directions)
    assert (None if first is None else first.number) == (numbers[0] if numbers else None)


@pytest.mark.parametrize(("directions", "seed"), product(product(("max", "min"), repeat=2), (1, 2)))
def test_pareto_front_holds_exactly_the_unbeaten_trials(
    directions: tuple[Direction, Direction], seed: int
) -> None:
    draw = random.Random(seed)
    rows = [row(number, draw.randrange(12), draw.randrange(12)) for number in range(60)]
    unbeaten = {
        trial.values for trial in rows if not any(beats(other, trial, directions) for other in rows)
    }
    front = pareto(rows, directions)
    assert {trial.values for trial in front} == unbeaten
    assert len(front) == len(unbeaten)
    assert front == best(rows, directions, len(front))
    for trial in front:
        assert trial.number == min(other.number for other in rows if other.values == trial.values)


def study(trials: int, *, seed: int, effect: float, minimizes: bool = False) -> optuna.Study:
    """A study of random points whose value is noise of deviation 1 and an effect of the rate."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    generator = np.random.default_rng(seed)
    made = optuna.create_study(direction="minimize" if minimizes else "maximize")
    sign = -1 if minimizes else 1
    for _ in range(trials):
        rate = float(10 ** generator.uniform(-4, -1))
        value = generator.normal() - effect * abs(math.log10(rate) + 2.5)
        epochs, clips = int(generator.integers(5, 41)), bool(generator.integers(2))
        params = {"lr": rate, "epochs": epochs, "clips": clips}
        trial = optuna.create_trial(
            params=params, distributions=DISTRIBUTIONS, value=sign * float(value)
        )
        made.add_trial(trial)
    return made


def test_noise_parameters_are_seldom_shown() -> None:
    results = [
        importances(study(30, seed=seed, effect=0.0).trials, minimizes=False) for seed in range(20)
    ]
    shown_count = sum(bool(result.above_chance) for result in results)
    assert shown_count <= stats.binom.ppf(0.999, len(results), 0.05)
    line = "parameter importance: none is above chance (30 complete trials)"
    assert {result.too_few for result in results if not result.above_chance} == {line}


def test_only_the_decisive_parameter_is_shown() -> None:
    """Its importance is the one that Optuna gives it."""
    made = study(60, seed=0, effect=5.0)
    shares = get_param_importances(made, evaluator=PedAnovaImportanceEvaluator())
    result = importances(made.trials, minimizes=False)
    assert list(result.above_chance) == ["lr"]
    assert math.isclose(result.shares["lr"], shares["lr"])
    assert 0 < result.chance["lr"] < result.shares["lr"]
    assert set(result.shares) == {"lr", "epochs", "clips"}
    turned = study(60, seed=0, effect=5.0, minimizes=True)
    assert importances(turned.trials, minimizes=True) == result


def test_conditional_parameter_has_an_importance() -> None:
    trials = study(30, seed=0, effect=5.0).trials
    for trial in trials[::2]:
        del trial.params["epochs"], trial.distributions["epochs"]
    result = importances(trials, minimizes=False)
    assert list(result.above_chance) == ["lr"]
    assert set(result.shares) == {"lr", "epochs", "clips"}


def test_fewer_than_ten_trials_show_no_importance() -> None:
    result = importances(study(9, seed=0, effect=100.0).trials, minimizes=False)
    assert result.shares == {}
    assert result.too_few == "parameter importance needs at least 10 complete trials (9 so far)"
