"""How often a study of pure noise shows a parameter as important, and how often a real one does.

    python -m benchmarks.importance_noise [--studies 200]

The space is that of sweeps/lr_epochs_clip. "before" is what the top parameter's share would be if
shares were printed without a comparison with shuffled objectives.
"""

import argparse
import math
import random
import warnings
from collections.abc import Callable, Iterator
from time import perf_counter

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from pipeline.study.ledger.rows import importances

TRIALS = (12, 20, 50, 100)
SAMPLERS: dict[str, Callable[..., BaseSampler]] = {"random": RandomSampler, "tpe": TPESampler}
LARGE = 2_000


def made_study(trials: int, sampler: BaseSampler, *, seed: int, noise: float) -> optuna.Study:
    """Make a study whose value is an F1 that learning rate, epochs and clipping change.

    Args:
        trials: All of them complete.
        sampler: Chooses the points.
        seed: Of the noise.
        noise: Its standard deviation; infinite = there is nothing else.
    """
    study = optuna.create_study(direction="maximize", sampler=sampler)
    generator = random.Random(seed)
    for _ in range(trials):
        trial = study.ask()
        rate = trial.suggest_float("optimizer.lr", 1e-4, 1e-1, log=True)
        epochs = trial.suggest_int("trainer.max_epochs", 5, 40)
        clips = trial.suggest_categorical("clip on", (True, False))
        if clips:
            trial.suggest_float("clip", 0.1, 10, log=True)
        if math.isinf(noise):
            study.tell(trial, generator.gauss(0, 1))
        else:
            f1 = 0.85 - 0.08 * (math.log10(rate) + 2.3) ** 2 + 0.002 * epochs - 0.05 * (not clips)
            study.tell(trial, f1 + generator.gauss(0, noise))
    return study


def lines(studies: int) -> Iterator[str]:
    """Yield a line for each kind of study."""
    yield "value  sampler  trials  before: top share  a parameter is shown  optimizer.lr is shown"
    for value, noise in (("noise", math.inf), ("real", 0.01)):
        for name, sampler in SAMPLERS.items():
            for trials in TRIALS:
                tops, shown = [], []
                for seed in range(studies):
                    study = made_study(trials, sampler(seed=seed), seed=seed, noise=noise)
                    shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
                    tops.append(max(shares.values()))
                    found = importances(study.get_trials(deepcopy=False), minimizes=False)
                    shown.append(set(found.above_chance))
                top = sum(tops) / studies
                some, rate = sum(map(bool, shown)), sum("optimizer.lr" in one for one in shown)
                yield (
                    f"{value:5}  {name:7}  {trials:6}  {top:17.0%}  {some / studies:20.1%}  "
                    f"{rate / studies:21.1%}"
                )


def main() -> None:
    """Print a line for each kind of study, and the time that many trials take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    for line in lines(parser.parse_args().studies):
        print(line, flush=True)
    study = made_study(LARGE, RandomSampler(seed=0), seed=0, noise=math.inf)
    started_at = perf_counter()
    importances(study.get_trials(deepcopy=False), minimizes=False)
    print(f"{LARGE:,} trials take {perf_counter() - started_at:.1f} s")


if __name__ == "__main__":
    main()
