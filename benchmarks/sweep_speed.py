"""Trials per minute: a sweep of this pipeline beside a person's own script and bare loops.

    python -m benchmarks.sweep_speed [--rounds 3]

Ten trials of the MLP 64-128-64 on MNIST-1D, 20 epochs each, no pruning.
1. The whole command, from an empty folder, beside `plain_sweep`: at least 2 × its trials a minute.
2. From the first trial's start to the last one's end, beside bare loops on as many processes, one
   thread each: at least 0.85 × their trials a minute, with one worker and with two.
3. What a trial costs outside of `fit`, after the first: at most 150 ms.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from time import perf_counter

TRIALS, EPOCHS = 10, 20
ROOT = Path(__file__).parents[1]


def called(*words: str) -> str:
    """Run Python with these words in the current folder; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if "benchmarks.plain_sweep" in words:
        environment.pop("OMP_NUM_THREADS", None)  # threads as they come
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


@dataclass(frozen=True)
class Timing:
    """What a command took.

    Args:
        seconds: Wall time of the whole process.
        starts: When each trial started, in seconds since 1970.
        ends: When each trial ended.
        fits: Seconds of each trial's `fit`, where it is on record.
    """

    seconds: float
    starts: list[float]
    ends: list[float]
    fits: list[float]

    @property
    def span(self) -> float:
        """Seconds from the first trial's start to the last one's end."""
        return max(self.ends) - min(self.starts)

    @property
    def overhead(self) -> float:
        """Seconds a trial beside its `fit`, the first left out; of one worker."""
        trials = len(self.starts) - 1
        return (self.ends[-1] - self.ends[0] - sum(self.fits[1:])) / trials


def in_empty_folder(*words: str) -> Timing:
    """Run a sweep in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        before = Path.cwd()
        os.chdir(folder)
        try:
            started_at = perf_counter()
            called(*words)
            seconds = perf_counter() - started_at
            return Timing(seconds, *_moments(Path("optuna.db")))
        finally:
            os.chdir(before)


def _moments(database: Path) -> tuple[list[float], list[float], list[float]]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT datetime_start, datetime_complete FROM trials ORDER BY number"
        ).fetchall()
        attributes = connection.execute(
            "SELECT value_json FROM trial_user_attributes WHERE key = 'attributes' "
            "ORDER BY trial_id"
        ).fetchall()
    starts, ends = zip(*rows, strict=True)
    fits = [json.loads(text)["time/fit"] for (text,) in attributes]
    return [_seconds(text) for text in starts], [_seconds(text) for text in ends], fits


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def ours(workers: int) -> tuple[str, ...]:
    """The sweep's command line."""
    return (
        "-m",
        "pipeline.sweep",
        "model=mlp",
        "optimizer.lr=tag(log, interval(1e-3, 1e-1))",
        f"trainer.max_epochs={EPOCHS}",
        "trainer.threads=1",
        f"sweep.n_trials={TRIALS}",
        f"sweep.workers={workers}",
        "sweep.pruner=none",
        "verbose=0",
    )


def bare(workers: int) -> float:
    """Trials a minute of bare loops on so many processes."""
    share = [TRIALS // workers + (number < TRIALS % workers) for number in range(workers)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare_sweep", str(count), str(EPOCHS), str(seed)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed, count in enumerate(share)
    ]
    moments = [process.communicate()[0].split()[:2] for process in processes]
    begin = min(float(start) for start, _ in moments)
    end = max(float(end) for _, end in moments)
    return TRIALS * 60 / (end - begin)


def main() -> None:
    """Print a line a comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for workers in (1, 2):
        ratios, rates, overheads = [], [], []
        for _ in range(rounds):
            timing = in_empty_folder(*ours(workers))
            rate = TRIALS * 60 / timing.span
            rates.append(rate)
            ratios.append(rate / bare(workers))
            overheads.append(timing.overhead)
        print(
            f"{workers} worker(s): {median(rates):.1f} trials a minute, {median(ratios):.2f} × "
            f"bare loops ({min(ratios):.2f} to {max(ratios):.2f}; bound 0.85)",
            flush=True,
        )
        if workers == 1:
            print(f"a trial beside its fit: {1000 * median(overheads):.0f} ms; bound 150 ms")
    plain = ("-m", "benchmarks.plain_sweep")
    pairs = [
        (in_empty_folder(*ours(2)).seconds, in_empty_folder(*plain).seconds) for _ in range(rounds)
    ]
    faster = sorted(theirs / mine for mine, theirs in pairs)
    mine, theirs = (median(side) for side in zip(*pairs, strict=True))
    print(
        f"whole command: {mine:.1f} s beside {theirs:.1f} s of the plain script: "
        f"{median(faster):.1f} × its trials a minute ({faster[0]:.1f} to {faster[-1]:.1f}; bound 2)"
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
