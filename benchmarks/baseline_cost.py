"""Time of a whole command with boosted trees among its baselines, beside one without them, in turn.

    python -m benchmarks.baseline_cost [--rounds 5] [--only SET …]

The tables are generated, and `breast_cancer` is real. Prints the median of each side until the
result table stands on the screen and until the end, their difference and their ratio. Trees are
fitted while the network trains: what is left of that when the training ends is waited for.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
from sklearn.datasets import make_classification

WITHOUT = "baselines=[naive,linear]"
RESULT = re.compile(r" .*\bnaive +linear")
#: Rows, columns and classes of the generated tables.
SHAPES = {"20,000 × 20, 2 classes": (20_000, 20, 2), "3,000 × 40, 10 classes": (3_000, 40, 10)}
SETS = {"breast_cancer": ["data=breast_cancer"]} | {
    name: ["data=table", f"data.path={rows}.csv"] for name, (rows, _, _) in SHAPES.items()
}


class Seconds(NamedTuple):
    """Seconds after the start of a command."""

    table: float
    end: float


def write_tables() -> None:
    """Write the generated tables into the present folder."""
    for rows, columns, classes in SHAPES.values():
        inputs, targets = make_classification(
            rows, columns, n_informative=columns // 2, n_classes=classes, random_state=0
        )
        header = ",".join([*(f"x{column}" for column in range(columns)), "target"])
        names = np.char.add("kind ", targets.astype(str))
        with Path(f"{rows}.csv").open("w", encoding="utf-8") as file:
            print(header, file=file)
            for row, name in zip(inputs, names, strict=True):
                print(*(f"{value:.4f}" for value in row), name, sep=",", file=file)


def timed(words: Sequence[str]) -> Seconds:
    """Train with these overrides and return when its result table and its end came."""
    command = [sys.executable, "-m", "pipeline.train", "model=mlp", *words]
    start = perf_counter()
    table = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not table and RESULT.match(line):
                table = perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return Seconds(table, perf_counter() - start)


def main() -> None:
    """Print the medians of both sides for each set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=SETS, default=list(SETS))
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_tables()
        for name in arguments.only:
            timed(SETS[name])  # fills the caches of both sides
            sides: dict[str, list[Seconds]] = {"with": [], "without": []}
            for _ in range(arguments.rounds):
                sides["without"].append(timed([*SETS[name], WITHOUT]))
                sides["with"].append(timed(SETS[name]))
            for moment in Seconds._fields:
                medians = {
                    side: median(getattr(seconds, moment) for seconds in measured)
                    for side, measured in sides.items()
                }
                ours, theirs = medians["with"], medians["without"]
                print(
                    f"{name:24} {moment:6} {ours:6.2f} s with trees, {theirs:6.2f} s without: "
                    f"{ours - theirs:+.2f} s, {ours / theirs:.2f} ×",
                    flush=True,
                )


if __name__ == "__main__":
    main()
