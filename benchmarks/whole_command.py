"""Whole commands beside each other, in turn: ours, a person's own script, and a bare loop.

    python -m benchmarks.whole_command [--rounds 3]

1. `model=mlp`, 20 epochs, beside the plain script that does the same: bound 0.75 of its time.
2. 50 epochs with `tracking=local` beside `tracking=none`: bound 3 % or 1.5 s, whichever is more.
3. Peak memory of the training process beside that of the bare loop: bound 300 MiB more.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

OURS = ("-m", "pipeline.train", "model=mlp", "verbose=0")
SCRIPT = ("-m", "benchmarks.plain_script", "20")
BARE = (
    "-c",
    "import torch; from torch.nn import functional as F; from benchmarks import bare; "
    "torch.set_num_threads(1); x, y = torch.randn(4000, 40), torch.randint(0, 10, (4000,)); "
    "bare.fit(bare.mlp(), F.cross_entropy, (x, y), (x, y), batch_size=100, epochs=5)",
)


@dataclass(frozen=True)
class Usage:
    """What one process took: wall seconds and peak resident MiB, its children apart."""

    seconds: float
    peak: float


def measure(words: Sequence[str]) -> Usage:
    """Run Python with these words in the current folder."""
    started_at = perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, *words],
        {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        ],
    )
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(Path("stderr").read_text(encoding="utf-8"))
    return Usage(perf_counter() - started_at, usage.ru_maxrss / 1024)


def compare(
    name: str, first: Sequence[str], second: Sequence[str], rounds: int
) -> list[tuple[Usage, Usage]]:
    """Run two commands in turn, after one run of each that is not counted; print the medians."""
    measure(first), measure(second)
    pairs = [(measure(first), measure(second)) for _ in range(rounds)]
    ratios = sorted(a.seconds / b.seconds for a, b in pairs)
    seconds = [median(one.seconds for one in side) for side in zip(*pairs, strict=True)]
    peaks = [median(one.peak for one in side) for side in zip(*pairs, strict=True)]
    print(
        f"{name}: {seconds[0]:.2f} s beside {seconds[1]:.2f} s, ratio {median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}); peak {peaks[0]:.0f} MiB beside "
        f"{peaks[1]:.0f} MiB",
        flush=True,
    )
    return pairs


def main() -> None:
    """Print a line a comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    compare("model=mlp, 20 epochs, beside the plain script (bound 0.75)", OURS, SCRIPT, rounds)
    fifty = (*OURS, "trainer.max_epochs=50")
    pairs = compare(
        "50 epochs, tracking=local beside tracking=none", fifty, (*fifty, "tracking=none"), rounds
    )
    extra = median(on.seconds - off.seconds for on, off in pairs)
    bound = max(1.5, 0.03 * median(off.seconds for _, off in pairs))
    print(f"tracking costs {extra:.2f} s; bound {bound:.2f} s", flush=True)
    compare("memory: model=mlp beside a bare loop (bound 300 MiB more)", OURS, BARE, 1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main()
