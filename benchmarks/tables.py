"""The default network of tables beside scikit-learn's MLP, a linear model and boosted trees.

    pip install -e '.[development]'
    python -m benchmarks.tables [--splits 3] [--seeds 2] [--words WORD …] [SET ...]

trains `model=mlp` at its defaults on each development table, with each split and each seed, and
scikit-learn's MLP at its defaults on all rows outside the test part: numbers standardized, each
category a column. The linear model and the trees are the run's own baselines. Prints accuracy or
R² on the test rows, the standard deviation over the seeds, the seconds of a run, and the wins,
ties and losses of the network; a tie is a difference of at most `TIE`. `--words` adds overrides,
to compare other settings. Sets on which no choice is made are marked with `*`.
"""

import argparse
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, r2_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.baseline_sentences import trained
from benchmarks.development_sets import SETS, DevelopmentSet

#: Difference of two scores up to which neither is better.
TIE = 0.005
OTHERS = ("scikit-learn", "linear", "trees")


class Scores(NamedTuple):
    """Scores on the test rows of a split.

    Args:
        ours: Of the network, with each seed.
        others: Of all others, by name.
        seconds: Seconds of a run, with each seed.
    """

    ours: Sequence[float]
    others: dict[str, float]
    seconds: Sequence[float]


def scikit_learn_score(
    data: DevelopmentSet, frame: pd.DataFrame, tested: np.ndarray[Any, Any]
) -> float:
    """Fit scikit-learn's MLP on the other rows and return its score on the tested ones."""
    features = frame.drop(columns=data.target)
    numbers = features.select_dtypes("number").columns
    categories = features.columns.difference(numbers)
    prepared = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore"), categories),
    )
    is_tested = np.isin(np.arange(len(frame)), tested)
    targets = frame[data.target]
    train, test = targets[~is_tested], targets[is_tested]
    if data.task != "regression":
        network = make_pipeline(prepared, MLPClassifier(random_state=0))
        network.fit(features[~is_tested], train)
        return float(accuracy_score(test, network.predict(features[is_tested])))
    scaler = StandardScaler()
    network = make_pipeline(prepared, MLPRegressor(random_state=0))
    network.fit(features[~is_tested], scaler.fit_transform(train.to_frame())[:, 0])
    predicted = scaler.inverse_transform(network.predict(features[is_tested])[:, None])
    return float(r2_score(test, predicted[:, 0]))


def scores_of_split(
    data: DevelopmentSet, folder: Path, *, split: int, seeds: int, words: Sequence[str]
) -> Scores:
    """Train the network with each seed, and take the scores of the others on the same rows."""
    metric = "r2" if data.task == "regression" else "accuracy"
    ours = []
    seconds = []
    for seed in range(seeds):
        start = perf_counter()
        result = trained(data, folder, f"data.split_seed={split}", f"seed={seed}", *words)
        seconds.append(perf_counter() - start)
        ours.append(result.metrics[f"test/{metric}"])
    assert result.test is not None
    tested = np.asarray(result.test.rows.rows)
    others = {"scikit-learn": scikit_learn_score(data, data.frame(), tested)}
    for name in OTHERS[1:]:
        others[name] = result.metrics.get(f"{name}/{metric}", float("nan"))
    return Scores(ours, others, seconds)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each table, and the means and comparisons over all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--words", nargs="*", default=[])
    parser.add_argument("sets", nargs="*")
    arguments = parser.parse_args(argv)
    comparisons: dict[str, list[float]] = {name: [] for name in OTHERS}
    means: dict[str, list[float]] = {"classification": [], "regression": []}
    # At its defaults, scikit-learn's network often ends before it has converged.
    warnings.simplefilter("ignore", ConvergenceWarning)
    with tempfile.TemporaryDirectory() as folder:
        for data in SETS:
            if data.is_series or (arguments.sets and data.name not in arguments.sets):
                continue
            splits = [
                scores_of_split(
                    data, Path(folder), split=split, seeds=arguments.seeds, words=arguments.words
                )
                for split in range(arguments.splits)
            ]
            ours = mean(mean(scores.ours) for scores in splits)
            kind = "regression" if data.task == "regression" else "classification"
            means[kind].append(ours)
            others = {name: mean(scores.others[name] for scores in splits) for name in OTHERS}
            for name, score in others.items():
                comparisons[name].append(ours - score)
            spread = mean(stdev(scores.ours) for scores in splits) if arguments.seeds > 1 else 0.0
            duration = mean(mean(scores.seconds) for scores in splits)
            beside = ", ".join(f"{name} {score:.3f}" for name, score in others.items())
            print(
                f"{data.name + ('' if data.chooses else '*'):16} network {ours:.3f} "
                f"(sd {spread:.3f}, {duration:.1f} s); {beside}",
                flush=True,
            )
    for kind, values in means.items():
        if values:
            print(f"mean of {len(values)} tables, {kind}: {mean(values):.3f}")
    for name, differences in comparisons.items():
        wins = sum(difference > TIE for difference in differences)
        losses = sum(difference < -TIE for difference in differences)
        print(f"network against {name}: {wins}-{len(differences) - wins - losses}-{losses}")


if __name__ == "__main__":
    main()
