"""Thirty trials with and without pruning: time, epochs and the best value beside each other.

    python -m benchmarks.pruning [--trials 30]

The MLP on MNIST-1D over learning rate and dropout, 20 epochs, two workers, the same seed.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).parents[1]
WORDS = (
    "model=mlp",
    "optimizer.lr=tag(log, interval(1e-4, 1e-1))",
    "model.dropout=interval(0, 0.6)",
    "sweep.workers=2",
    "trainer.threads=1",
    "verbose=0",
)


def measure(pruner: str, trials: int) -> str:
    """Run a study in a folder of its own; return a line about it."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*WORDS, f"sweep.pruner={pruner}", f"sweep.n_trials={trials}"]
        started_at = perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pipeline.sweep", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )
        seconds = perf_counter() - started_at
        with closing(sqlite3.connect(Path(folder) / "optuna.db")) as connection:
            (best,) = connection.execute("SELECT max(value) FROM trial_values").fetchone()
            states = dict(
                connection.execute("SELECT state, count(*) FROM trials GROUP BY state").fetchall()
            )
            attributes = connection.execute(
                "SELECT value_json FROM trial_user_attributes WHERE key = 'attributes'"
            ).fetchall()
    epochs = sum(json.loads(text).get("epochs", 0) for (text,) in attributes)
    return (
        f"pruner={pruner:<7} {seconds:6.1f} s  {epochs:4} epochs  best val/f1 {best:.4f}  "
        f"{states.get('COMPLETE', 0)} complete, {states.get('PRUNED', 0)} pruned"
    )


def main() -> None:
    """Print a line a pruner."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=30)
    trials = parser.parse_args().trials
    for pruner in ("none", "median", "asha"):
        print(measure(pruner, trials), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
