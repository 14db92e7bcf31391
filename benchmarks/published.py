"""Published figures beside ours: the tables of docs/published.md.

    python -m benchmarks.published [--repeats 5] [EXPERIMENT …]

Each row is a named experiment, trained with so many seeds, or on five folds. The ten seeds of the
MNIST-1D paper's own table come from `pipeline sweep sweeps=mnist1d_table`.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from statistics import mean, stdev
from typing import Literal

DRAWS = "'data.split_seed=range(0,5)'"
QUIET = ("tracking=none", "pictures=false", "verbose=0")


@dataclass(frozen=True)
class Row:
    """A published figure and how we come to ours.

    Args:
        experiment: A file of conf/experiment.
        metric: The final value that is compared.
        published: As it was published.
        low: What a correct program's mean is at least; -inf where nobody has said.
        high: What it is at most; inf where nobody has said.
        words: Further words of the command line.
        over: What repeats it: the seed; the seed on each of five draws of the test rows; the fold
            that validates; nothing where it is exact.
        told: Why ours lies outside, where it does.
        standing: In a paper, or measured with a plain loop apart from this program.
    """

    experiment: str
    metric: str
    published: str
    low: float
    high: float
    words: tuple[str, ...] = ()
    over: Literal["seed", "draw", "fold", "nothing"] = "seed"
    told: str = ""
    standing: Literal["paper", "measured"] = "measured"

    @property
    def command(self) -> str:
        """What a person types."""
        words = " ".join((f"experiment={self.experiment}", *self.words))
        return {
            "seed": f"pipeline sweep {words} sweeps=seeds",
            "draw": f"pipeline sweep {words} sweeps=seeds {DRAWS}",
            "fold": f"pipeline sweep {words} sweeps=folds",
            "nothing": f"pipeline train {words}",
        }[self.over]

    @property
    def accepted(self) -> str:
        """The bounds in words."""
        if self.over == "nothing":
            return "exact"
        low = f"≥ {self.low:g}" if self.low > -inf else ""
        high = f"≤ {self.high:g}" if self.high < inf else ""
        return ", ".join(filter(None, (low, high))) or "–"

    def values(self, repeats: int) -> list[float]:
        """Train once for each repeat, as the command would; return what the metric came to."""
        return [self._value(repeat) for repeat in self._repeats(repeats)]

    def _repeats(self, repeats: int) -> list[tuple[str, ...]]:
        seeds = [f"seed={seed}" for seed in range(repeats)]
        if self.over == "seed":
            return [(seed,) for seed in seeds]
        if self.over == "draw":
            return [(f"data.split_seed={draw}", seed) for draw in range(5) for seed in seeds]
        if self.over == "fold":
            return [("data.folds=5", "test=false", f"data.fold={fold}") for fold in range(5)]
        return [()]

    def _value(self, repeat: Sequence[str]) -> float:
        from pipeline.config.compose import compose
        from pipeline.run import run

        words = [f"experiment={self.experiment}", *self.words, *QUIET, *repeat]
        result = run(compose(words))
        return float({**result.kept, **result.metrics}[self.metric])


def exact(experiment: str, metric: str, value: float) -> Row:
    """Return the row of a figure that has no chance in it, given to two places."""
    return Row(experiment, metric, f"{value:.2f}", value - 0.0051, value + 0.0051, over="nothing")


def share(experiment: str, published: str, low: float, high: float = inf, *words: str) -> Row:
    """Return the row of a test accuracy over seeds."""
    return Row(experiment, "test/accuracy", published, low, high, words)


def paper(experiment: str, published: str, low: float, high: float, *words: str) -> Row:
    """Return the row of a test accuracy that stands in a paper."""
    return replace(share(experiment, published, low, high, *words), standing="paper")


def error(experiment: str, published: str, low: float, high: float, *words: str) -> Row:
    """Return the row of a test RMSE over seeds."""
    return Row(experiment, "test/rmse", published, low, high, words)


def folds(experiment: str, metric: str, published: str, low: float, high: float) -> Row:
    """Return the row of a cross-validation."""
    return Row(experiment, metric, published, low, high, over="fold")


SHUFFLED = "data.shuffled_positions=true"
EACH = "data.normalise_each=true"
ROWS = (
    share("digits_cnn2d", "0.979 ± 0.006", 0.97),
    Row("digits_mlp", "test/accuracy", "0.975 ± 0.004", 0.965, inf, told="the draw of the test"),
    Row("digits_mlp", "test/accuracy", "0.975 ± 0.004", 0.965, inf, over="draw"),
    folds("breast_cancer_logistic", "val/accuracy", "0.979", 0.969, 0.989),
    share("breast_cancer_mlp", "0.959 ± 0.006", 0.944, 0.974),
    share("breast_cancer_cnn1d", "0.959 ± 0.003", 0.944, 0.974),
    folds("wine_logistic", "val/accuracy", "0.983", 0.963, inf),
    folds("iris_logistic", "val/accuracy", "0.960", 0.94, 0.98),
    folds("diabetes_linear", "val/rmse", "54.5 (folds ± 2.1)", 52.4, 56.6),
    folds("diabetes_mlp", "val/rmse", "≤ 58", -inf, 58.0),
    exact("sunspots_linear", "naive/rmse", 30.34),
    exact("sunspots_linear", "linear/rmse", 17.47),
    error("sunspots_lstm", "17.4", 15.9, 18.9),
    error("sunspots_gru", "17.7", 16.2, 19.2),
    error("sunspots_rnn", "18.7", 17.2, 20.2),
    error("sunspots_mlp", "17.8", 16.0, 21.0),
    error("sunspots_cnn1d", "16.8", 16.0, 21.0),
    exact("airline_linear", "naive/rmse", 48.04),
    exact("airline_lstm", "naive/rmse", 41.85),
    exact("airline_linear", "linear/rmse", 14.26),
    error("airline_lstm", "16.8", 14.5, 20.0),
    error("airline_gru", "17.0", 14.5, 20.0),
    error("airline_rnn", "15.3", 14.5, 20.0),
    error("airline_mlp", "16.6", 14.5, 20.0),
    error("airline_cnn1d", "17.6", 14.5, 20.0),
    share("synthetic_control_fcn", "0.983 – 0.997", 0.97),
    share("synthetic_control_mlp", "0.987 – 0.990", 0.97),
    share("synthetic_control_lstm", "0.977 – 1.000", 0.97),
    share("synthetic_control_fcn", "0.953 – 0.987", -inf, inf, EACH),
    share("synthetic_control_mlp", "0.947 – 0.953", -inf, inf, EACH),
    share("synthetic_control_lstm", "0.850 – 0.983", -inf, inf, EACH),
    paper("mnist1d_logistic", "0.32 ± 0.01", 0.31, 0.33),
    paper("mnist1d_mlp", "0.68 ± 0.02", 0.63, 0.70),
    paper("mnist1d_cnn", "0.94 ± 0.02", 0.91, 0.95),
    paper("mnist1d_gru", "0.91 ± 0.02", 0.87, 0.93),
    paper("mnist1d_logistic", "0.32", 0.31, 0.33, SHUFFLED),
    paper("mnist1d_mlp", "0.68", 0.63, 0.70, SHUFFLED),
    paper("mnist1d_cnn", "0.56", -inf, inf, SHUFFLED),
    paper("mnist1d_gru", "0.57", -inf, inf, SHUFFLED),
    share("mnist1d_lstm_last", "0.939, 0.936", 0.9),
    share("mnist1d_lstm_mean", "0.961, 0.955", 0.94),
    share("mnist1d_lstm_flatten", "0.965, 0.966", 0.94),
    share("mnist1d_gru_flatten", "0.947, 0.961", 0.93),
    share("mnist1d_rnn_flatten", "0.458, 0.508", -inf, 0.8),
)


def line(row: Row, values: Sequence[float]) -> str:
    """Write a row of the page's table."""
    places = 2 if row.metric.endswith("rmse") else 3
    ours = f"{mean(values):.{places}f}"
    if len(values) > 1:
        ours += f" ± {stdev(values):.{places}f}"
    if not row.low <= mean(values) <= row.high:
        ours += f" (outside: {row.told or 'not explained'})"
    figures = (row.published, row.standing, row.accepted, str(len(values)), ours)
    cells = (f"`{row.command}`", row.metric, *figures)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print a line a row, as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("experiment", nargs="*")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for row in ROWS:
            if not asked.experiment or row.experiment in asked.experiment:
                print(line(row, row.values(asked.repeats)), flush=True)
        os.chdir("/")


if __name__ == "__main__":
    main()
