"""How a recurrent network should read its hidden states for a forecast, on the development series.

    pip install -e '.[development]'
    python -m benchmarks.forecast_readout [--models lstm gru] [--seeds 3]

trains each network at its defaults with the mean and with the last of its hidden states, and
prints the validation RMSE of both. The default was chosen by it.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from benchmarks.baseline_sentences import trained
from benchmarks.development_sets import SETS, DevelopmentSet


def print_series(series: DevelopmentSet, folder: Path, *, model: str, seeds: int) -> int:
    """Print a line on a series; return whether the last state is better (1), worse (-1) or 0."""
    rmse = {}
    for readout in ("mean", "last"):
        errors = []
        for seed in range(seeds):
            words = (f"model.readout={readout}", f"seed={seed}")
            errors.append(trained(series, folder, *words, model=model).metrics["best/val/rmse"])
        rmse[readout] = mean(errors)
    print(
        f"{series.name:<16} {model:<5} mean {rmse['mean']:.4g}, last {rmse['last']:.4g} "
        f"({rmse['last'] / rmse['mean']:.2f} x)",
        flush=True,
    )
    return (rmse["last"] < rmse["mean"]) - (rmse["last"] > rmse["mean"])


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
