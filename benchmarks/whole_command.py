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
from pathlib import Path
from statistics import median
from time import perf_counter

OURS = ["-m", "pipeline.train", "model=mlp", "verbose=0"]
PURE = [
    "-c",
    "import torch; from torch.nn import functional as F; from benchmarks import bare; "
    "torch.set_num_threads(1); x, y = torch.randn(4000, 40), torch.randint(0, 10, (4000,)); "
    "bare.fit(bare.mlp(), F.cross_entropy, (x, y), (x, y), batch_size=100, epochs=5)",
]


def measure(words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Return wall seconds and the peak resident MiB of one process, its children apart."""
    started_at = perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, *words],
        {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PWD": str(folder)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(folder / "stderr"), os.O_WRONLY | os.O_CREAT, 0o600),
        ],
    )
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit((folder / "stderr").read_text())
    return perf_counter() - started_at, usage.ru_maxrss / 1024


def compare(
    name: str, first: Sequence[str], second: Sequence[str], rounds: int, folder: Path
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Run two commands in turn, after one run of each that is not counted, and print the medians."""
    measure(first, folder)
    measure(second, folder)
    pairs = [(measure(first, folder), measure(second, folder)) for _ in range(rounds)]
    firsts, seconds = (list(side) for side in zip(*pairs, strict=True))
    ratios = sorted(a[0] / b[0] for a, b in pairs)
    print(
        f"{name}: {median(t for t, _ in firsts):.2f} s beside {median(t for t, _ in seconds):.2f} s, "
        f"ratio {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
        f"peak {median(m for _, m in firsts):.0f} MiB beside {median(m for _, m in seconds):.0f} MiB",
        flush=True,
    )
    return firsts, seconds


def main() -> None:
    """Print a line a comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        compare(
            "model=mlp, 20 epochs, beside the plain script (bound 0.75)",
            OURS,
            ["-m", "benchmarks.plain_script", "20"],
            rounds,
            folder,
        )
        fifty = [*OURS, "trainer.max_epochs=50"]
        on, off = compare(
            "50 epochs, tracking=local beside tracking=none",
            fifty,
            [*fifty, "tracking=none"],
            rounds,
            folder,
        )
        extra = median(a[0] - b[0] for a, b in zip(on, off, strict=True))
        allowed = max(1.5, 0.03 * median(seconds for seconds, _ in off))
        print(f"tracking costs {extra:.2f} s; bound {allowed:.2f} s")
        compare("memory: model=mlp beside a bare loop of torch (bound +300 MiB)", OURS, PURE, 1, folder)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
