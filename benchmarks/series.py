"""The default forecast beside that of an earlier version and the baselines of a run.

    pip install -e '.[development]'
    python -m benchmarks.series [--seeds 2] [--model lstm] [--words WORD …] [SET ...]

trains the network at its defaults, and with the settings that were the default before
(`EARLIER`), on each development series. Prints the test RMSE of both, as multiples of the best
baseline of that series, and over all series the geometric mean of their ratio and how many are at
most `NEAR` times the best baseline. `--words` adds overrides to the default, to compare other
settings. Sets on which no choice is made are marked with `*`.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean, mean

from benchmarks.baseline_sentences import trained
from benchmarks.development_sets import SETS, DevelopmentSet
from pipeline.running.results import Result
from pipeline.scoring.baselines import all_baselines

#: Settings that were the default of every recurrent network before forecasts read the last state.
EARLIER = ("model.readout=mean",)
#: Multiple of the best baseline up to which a forecast is about as good.
NEAR = 1.05


def results_of(
    data: DevelopmentSet, folder: Path, *words: str, model: str, seeds: int
) -> list[Result]:
    """Train the network with each seed."""
    return [trained(data, folder, f"seed={seed}", *words, model=model) for seed in range(seeds)]


def mean_rmse(results: Sequence[Result]) -> float:
    """Return the mean of the test RMSE."""
    return mean(result.metrics["test/rmse"] for result in results)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each series, and the comparison over all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--model", default="lstm")
    parser.add_argument("--words", nargs="*", default=[])
    parser.add_argument("sets", nargs="*")
    arguments = parser.parse_args(argv)
    model, seeds = arguments.model, arguments.seeds
    ratios = []
    multiples = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for data in SETS:
            if not data.is_series or (arguments.sets and data.name not in arguments.sets):
                continue
            results = results_of(data, folder, *arguments.words, model=model, seeds=seeds)
            earlier = mean_rmse(results_of(data, folder, *EARLIER, model=model, seeds=seeds))
            rmse = mean_rmse(results)
            metrics = results[0].metrics
            beside = {}
            for baseline in all_baselines():
                if f"{baseline}/rmse" in metrics:
                    beside[baseline] = metrics[f"{baseline}/rmse"]
            best = min(beside, key=lambda baseline: beside[baseline])
            ratios.append(rmse / earlier)
            multiples.append(rmse / beside[best])
            print(
                f"{data.name + ('' if data.chooses else '*'):16} network {rmse:.4g}, "
                f"{rmse / beside[best]:.2f} × the best baseline ({best} {beside[best]:.4g}); "
                f"earlier {earlier:.4g}, {earlier / beside[best]:.2f} ×",
                flush=True,
            )
    near = sum(multiple <= NEAR for multiple in multiples)
    print(f"{geometric_mean(ratios):.3f} × the earlier RMSE (geometric mean)")
    print(f"at most {NEAR} × the best baseline: {near} of {len(multiples)} series")


if __name__ == "__main__":
    main()
