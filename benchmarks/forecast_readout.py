"""How a recurrent network should read its hidden states for a forecast, on the development series.

    pip install -e '.[development]'
    python -m benchmarks.forecast_readout [--models lstm gru] [--seeds 3]

trains each network at its defaults with the mean and with the last of its hidden states, and
prints the validation RMSE of both, as a share of that of the last value. The default was chosen by
it. The test RMSE of the default beside those of the baselines follows, which chose nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from benchmarks.development_sets import SETS, DevelopmentSet

READOUTS = ("mean", "last")
BASELINES = ("naive", "seasonal", "mean", "linear")


def metrics_of(
    series: DevelopmentSet, folder: Path, *, model: str, readout: str, seed: int
) -> dict[str, float]:
    """Train a network on a series and return its metrics by name."""
    path = folder / f"{series.name}.csv"
    if not path.exists():
        series.frame().to_csv(path, index=False)
    output = folder / f"{series.name}-{model}-{readout}-{seed}"
    words = [f"model={model}", *series.words(path), f"model.readout={readout}", f"seed={seed}"]
    options = [f"output={output}", "verbose=0", "pictures=false", "tracking=none"]
    subprocess.run(
        [sys.executable, "-m", "pipeline.train", *words, *options],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    file = next(output.glob("*/artifacts/findings/findings.json"))
    metrics: dict[str, float] = json.loads(file.read_text())["metrics"]
    return metrics


def print_series(series: DevelopmentSet, folder: Path, *, model: str, seeds: int) -> int:
    """Print a line on a series; return whether the last state is better (1), worse (-1) or 0."""
    results: dict[str, list[dict[str, float]]] = {readout: [] for readout in READOUTS}
    for readout in READOUTS:
        for seed in range(seeds):
            metrics = metrics_of(series, folder, model=model, readout=readout, seed=seed)
            results[readout].append(metrics)
    validation = {}
    tested = {}
    for readout, runs in results.items():
        validation[readout] = mean(run["best/val/rmse"] for run in runs)
        tested[readout] = mean(run["test/rmse"] for run in runs)
    first = results["last"][0]
    beside = [
        f"{kind} {first[f'{kind}/rmse']:.4g}" for kind in BASELINES if f"{kind}/rmse" in first
    ]
    print(
        f"{series.name:<16} {model:<5} validation: mean {validation['mean']:.4g}, "
        f"last {validation['last']:.4g} ({validation['last'] / validation['mean']:.2f} x); "
        f"test: mean {tested['mean']:.4g}, last {tested['last']:.4g}, {', '.join(beside)}",
        flush=True,
    )
    return (validation["last"] < validation["mean"]) - (validation["last"] > validation["mean"])


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each series and network, and how often the last state is better."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["lstm", "gru"])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args(argv)
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for model in arguments.models:
            for series in SETS:
                if series.is_series:
                    outcomes.append(
                        print_series(series, Path(folder), model=model, seeds=arguments.seeds)
                    )
    print(
        f"the last state is better in {outcomes.count(1)} of {len(outcomes)}, worse in "
        f"{outcomes.count(-1)}"
    )


if __name__ == "__main__":
    main()
