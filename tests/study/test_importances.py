"""Importances of parameters: shown where shuffled objectives do not reach them."""

import math

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from scipy import stats

from pipeline.study.ledger.importances import importances

LR = optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)
EPOCHS = optuna.distributions.IntDistribution(5, 40)
CLIPS = optuna.distributions.CategoricalDistribution((True, False))


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
