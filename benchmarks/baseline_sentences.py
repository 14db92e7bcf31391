"""Whether the sentence on the best baseline holds on other splits, on the development sets.

    pip install -e '.[development]'
    python -m benchmarks.baseline_sentences [--splits 10] [SET ...]

trains the default network on each table, and on further splits of it. It prints what the sentence
of the first split says, and the mean difference to the same baseline over the further ones: where
the side that is called better loses there, the sentence was wrong. Series, whose split is fixed,
are trained with three seeds and shown beside their baselines.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from benchmarks.development_sets import SETS, DevelopmentSet
from pipeline.config.compose import compose
from pipeline.metrics import default_name, direction
from pipeline.run import run
from pipeline.running.results import Result
from pipeline.scoring.baselines import all_baselines

MODELS = {"forecast": "lstm", "binary": "mlp", "multiclass": "mlp", "regression": "mlp"}


def trained(data: DevelopmentSet, folder: Path, *words: str, model: str | None = None) -> Result:
    """Train a network and return its result; `model` is its name, `None` = that of `MODELS`."""
    path = folder / f"{data.name}.csv"
    if not path.exists():
        data.frame().to_csv(path, index=False)
    options = [f"output={folder / 'runs'}", "verbose=0", "pictures=false", "tracking=none"]
    result: Result = run(
        compose([f"model={model or MODELS[data.task]}", *data.words(path), *options, *words])
    )
    return result


def named_baseline(sentence: str) -> str | None:
    """Return the baseline that a sentence speaks of."""
    for name, kind in all_baselines().items():
        if kind.label in sentence:
            return name
    return None


def gain(result: Result, baseline: str, metric: str) -> float:
    """Return how much better the network is than a baseline on the test rows."""
    difference = result.metrics[f"test/{metric}"] - result.metrics[f"{baseline}/{metric}"]
    return difference if direction(metric) == "max" else -difference


def check_table(data: DevelopmentSet, folder: Path, *, splits: int) -> bool | None:
    """Print a line on a table; return whether its sentence holds, `None` if it names no side."""
    first = trained(data, folder)
    assert first.test is not None
    sentence = first.test.comparison
    metric = default_name(data.task)
    baseline = named_baseline(sentence)
    gains = []
    holds = None
    if baseline is not None:
        for seed in range(1, splits + 1):
            result = trained(data, folder, f"data.split_seed={seed}", f"seed={seed}")
            gains.append(gain(result, baseline, metric))
        if "clear" not in sentence:
            network_is_better = sentence.startswith("the network is better")
            holds = (mean(gains) > 0) is network_is_better
    further = f"{mean(gains):+.3g}" if gains else "unknown"
    print(f"{data.name}: {sentence}; further splits: network {further}; holds: {holds}", flush=True)
    return holds


def show_series(data: DevelopmentSet, folder: Path) -> None:
    """Print the test RMSE of a series with three seeds beside that of its baselines."""
    results = [trained(data, folder, f"seed={seed}") for seed in range(3)]
    rmse = mean(result.metrics["test/rmse"] for result in results)
    first = results[0]
    assert first.test is not None
    beside = {}
    for name in all_baselines():
        if f"{name}/rmse" in first.metrics:
            beside[name] = first.metrics[f"{name}/rmse"]
    best = min(beside, key=lambda name: beside[name])
    figures = ", ".join(f"{name} {value:.4g}" for name, value in beside.items())
    print(
        f"{data.name}: network {rmse:.4g} ({rmse / beside[best]:.2f} x the best, {best}); "
        f"{figures}; {first.test.comparison}",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each set, and how many sentences were wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("sets", nargs="*")
    arguments = parser.parse_args(argv)
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for data in SETS:
            if arguments.sets and data.name not in arguments.sets:
                continue
            if data.is_series:
                show_series(data, Path(folder))
            else:
                outcomes.append(check_table(data, Path(folder), splits=arguments.splits))
    named = [holds for holds in outcomes if holds is not None]
    print(f"{len(named)} of {len(outcomes)} sentences name a side; wrong: {named.count(False)}")


if __name__ == "__main__":
    main()
