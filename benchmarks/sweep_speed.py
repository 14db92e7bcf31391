"""Trials per minute: a sweep of this pipeline beside a person's own script and bare loops.

    python -m benchmarks.sweep_speed [--rounds 3]

Ten trials of the MLP 64-128-64 on MNIST-1D, 20 epochs each, no pruning.
1. The whole command, from an empty folder, beside `plain_sweep`: at least 2 × its trials a minute.
2. From the first trial's start to the last one's end, beside bare loops on as many processes, one
   thread each: at least 0.85 × their trials a minute, with one worker and with two.
3. What a trial costs outside of `fit`, after the first: at most 150 ms.
"""

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import datetime
from pathlib import Path
from statistics import median
from time import perf_counter

TRIALS, EPOCHS = 10, 20
ROOT = Path(__file__).parents[1]


def called(*words: str) -> str:
    """Run Python with these words in the current folder; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def in_empty_folder(*words: str) -> tuple[float, list[float], list[float]]:
    """Run a command in a folder of its own.

    Returns:
        Its wall seconds, and of each trial of a sweep the seconds since 1970 at which it started
        and ended; both lists are empty for other commands.
    """
    with tempfile.TemporaryDirectory() as folder:
        before = Path.cwd()
        os.chdir(folder)
        try:
            started_at = perf_counter()
            called(*words)
            seconds = perf_counter() - started_at
            return seconds, *_moments(Path("optuna.db"))
        finally:
            os.chdir(before)


def _moments(database: Path) -> tuple[list[float], list[float]]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT datetime_start, datetime_complete FROM trials ORDER BY number"
        ).fetchall()
    starts, ends = zip(*rows, strict=True)
    return [_seconds(text) for text in starts], [_seconds(text) for text in ends]


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
    starts, ends = zip(*((float(start), float(end)) for start, end in moments), strict=True)
    return TRIALS * 60 / (max(ends) - min(starts))


def main() -> None:
    """Print a line a comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for workers in (1, 2):
        ratios, rates, overheads = [], [], []
        for _ in range(rounds):
            _, starts, ends = in_empty_folder(*ours(workers))
            rate = TRIALS * 60 / (max(ends) - min(starts))
            rates.append(rate)
            ratios.append(rate / bare(workers))
            if workers == 1:
                overheads.append(_between(starts, ends))
        print(
            f"{workers} worker(s): {median(rates):.1f} trials a minute, {median(ratios):.2f} × bare "
            f"loops ({min(ratios):.2f} to {max(ratios):.2f}; bound 0.85)",
            flush=True,
        )
        if overheads:
            print(f"between two trials: {1000 * median(overheads):.0f} ms", flush=True)
    pairs = [
        (in_empty_folder(*ours(2))[0], in_empty_folder("-m", "benchmarks.plain_sweep")[0])
        for _ in range(rounds)
    ]
    faster = sorted(theirs / mine for mine, theirs in pairs)
    mine, theirs = (median(side) for side in zip(*pairs, strict=True))
    print(
        f"whole command: {mine:.1f} s beside {theirs:.1f} s of the plain script: "
        f"{median(faster):.1f} × its trials a minute ({faster[0]:.1f} to {faster[-1]:.1f}; bound 2)"
    )


def _between(starts: list[float], ends: list[float]) -> float:
    """Median seconds from a trial's end to the next one's start."""
    return median(after - before for before, after in zip(ends[1:-1], starts[2:], strict=True))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
