"""One study on two workers, as processes of this machine and as actors of a Ray cluster.

    python -m benchmarks.launchers [--trials 20] [--epochs 5]

The sampler is random, so that a trial's point follows from the seed and its number alone: both must
find the same best value. A trial's start costs nothing on either, since workers stay; what a
cluster adds is its own start.
"""

import argparse
import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

STUDY = (
    "model=lstm",
    "sweep.sampler=random",
    "sweep.pruner=none",
    "sweep.workers=2",
    "optimizer.lr=tag(log, interval(1e-3, 1e-1))",
    "trainer.threads=1",
    "verbose=0",
)


def measured(launcher: str, *, trials: int, epochs: int) -> tuple[float, float, float]:
    """Run the study; return its best value, its seconds, and the trials' seconds of them."""
    words = [f"sweep.launcher={launcher}", f"sweep.name={launcher}", f"sweep.n_trials={trials}"]
    words += [f"trainer.max_epochs={epochs}", f"sweep.storage=sqlite:///{launcher}.db"]
    started_at = perf_counter()
    command = [sys.executable, "-m", "pipeline.sweep", *STUDY, *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = perf_counter() - started_at
    with contextlib.closing(sqlite3.connect(f"{launcher}.db")) as connection:
        ((best, training),) = connection.execute(
            "SELECT max(value), (julianday(max(datetime_complete)) "
            "- julianday(min(datetime_start))) * 86400 FROM trials JOIN trial_values USING "
            "(trial_id) WHERE state = 'COMPLETE'"
        )
    return best, seconds, training


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    root = str(Path(__file__).parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    print(
        f"{'launcher':12}{'best val/f1':>12}{'s in all':>10}{'s of trials':>13}{'trials/min':>12}"
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ.setdefault("XDG_CACHE_HOME", folder)
        for launcher in ("processes", "ray"):
            best, seconds, training = measured(launcher, trials=given.trials, epochs=given.epochs)
            rate = 60 * given.trials / training
            print(
                f"{launcher:12}{best:12.6f}{seconds:10.1f}{training:13.1f}{rate:12.1f}", flush=True
            )


if __name__ == "__main__":
    main()
