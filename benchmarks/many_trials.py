"""Memory and disk of a long study: neither grows with its trials beyond the two databases.

    python -m benchmarks.many_trials [--trials 200]

Short trials of a small MLP on the iris data by two workers. Prints, after 20 trials and at the
end, the resident memory of the driver, its workers and the recorder, and what lies on the disk
beside the databases.
"""

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
WORDS = (
    "model=mlp",
    "data=iris",
    "optimizer.lr=tag(log, interval(1e-4, 1e-1))",
    "trainer.max_epochs=2",
    "sweep.pruner=none",
    "sweep.workers=2",
    "verbose=0",
)


def ended(database: Path) -> int:
    """Count the trials that have ended."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(database, timeout=10)) as connection:
        query = "SELECT count(*) FROM trials WHERE state NOT IN ('RUNNING', 'WAITING')"
        return int(connection.execute(query).fetchone()[0])
    return 0


def memory(driver: psutil.Process) -> str:
    """Resident MiB of each process of the sweep."""
    processes = {"driver": driver}
    for child in driver.children():
        with suppress(psutil.Error):
            role = child.cmdline()[-1].rpartition(".")[2]
            processes[f"{role} {len(processes)}"] = child
    return ", ".join(
        f"{role.split()[0]} {process.memory_info().rss / 2**20:.0f}"
        for role, process in processes.items()
    )


def disk(folder: Path) -> str:
    """Files and KiB beside the databases."""
    sizes = []
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file() and ".db" not in path.name:
                sizes.append(path.stat().st_size)
    return f"{len(sizes)} files, {sum(sizes) / 1024:.0f} KiB"


def main() -> None:
    """Run the study and look at it twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.sweep", *WORDS, f"sweep.n_trials={trials}"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        driver = psutil.Process(process.pid)
        for mark in (20, trials - 5):
            while ended(folder / "optuna.db") < mark and process.poll() is None:
                time.sleep(0.1)
            print(f"after {mark:>4} trials: MiB of {memory(driver)}; {disk(folder)}", flush=True)
        process.wait()
        print(f"at the end: exit code {process.returncode}; {disk(folder)}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
