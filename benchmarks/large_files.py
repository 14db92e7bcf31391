"""A CSV and an `.npy` larger than one likes to keep in memory, trained on by the real command.

    python -m benchmarks.large_files [--gib 2] [--folder FOLDER]

For each file: the peak of what the training process keeps for itself (anonymous memory) and of all
it touches, beside the file's size. The file's own pages are in the second only, and the system
takes them back when it needs them. Then, for the CSV, the seconds of its one conversion, and the
rows a second of our loader beside those of `pandas.read_csv` and `pyarrow.csv` on the same file.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
import pyarrow as pa
from pyarrow import csv

NUMBERS = 20
CATEGORIES = 2
BLOCK_ROWS = 100_000
BATCH_ROWS = 4_096
SAMPLED_SECONDS = 0.02
LIMITS = (
    "model=mlp",
    "model.hidden=[32]",
    f"data.batch_size={BATCH_ROWS}",
    "data.memory_budget=64",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=200",
    "trainer.limit_val_batches=50",
    "trainer.limit_test_batches=50",
    "tracking=none",
    "verbose=0",
)

OUR_LOADER = f"""
import sys
from time import perf_counter
import torch
from omegaconf import OmegaConf
from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.config.sections import data_options
from pipeline.data.loader import loader
from pipeline.data.prepare import prepare
from pipeline.running.assembly import build_source
options = check(compose(sys.argv[1:]))
part = prepare(build_source(options), data_options(options)).train
for shuffle in (False, True):
    batches = loader(part, batch_size={BATCH_ROWS}, shuffle=shuffle, seed=0, num_workers=0,
                     device=torch.device("cpu"))
    started_at, rows = perf_counter(), 0
    for inputs, _ in batches:
        rows += len(inputs)
        if perf_counter() - started_at > 20:
            break
    print(rows / (perf_counter() - started_at))
"""
CONVERSION = """
import sys
from time import perf_counter
from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.running.assembly import build_source
source = build_source(check(compose(sys.argv[1:])))
started_at = perf_counter()
source.read()
print(perf_counter() - started_at)
"""
PANDAS = """
import sys
from time import perf_counter
import pandas
started_at, rows = perf_counter(), 0
for chunk in pandas.read_csv(sys.argv[1], chunksize=100_000):
    rows += len(chunk)
print(rows / (perf_counter() - started_at))
"""
PYARROW = """
import sys
from time import perf_counter
from pyarrow import csv
started_at = perf_counter()
rows = sum(batch.num_rows for batch in csv.open_csv(sys.argv[1]))
print(rows / (perf_counter() - started_at))
"""


@dataclass(frozen=True)
class Peaks:
    """What a process took: wall seconds, and MiB of its own and of everything at the most."""

    seconds: float
    anonymous: float
    resident: float


def write_csv(path: Path, size: int) -> int:
    """Write a table of random numbers, categories and a class; return its rows."""
    draw = np.random.default_rng(0)
    rows = 0
    with path.open("wb") as file:
        while file.tell() < size:
            table = block(draw)
            csv.write_csv(table, file, csv.WriteOptions(include_header=rows == 0))
            rows += table.num_rows
    return rows


def block(draw: np.random.Generator) -> pa.Table:
    """Return the next rows; the class follows the first number."""
    numbers = draw.normal(size=(BLOCK_ROWS, NUMBERS)).round(5)
    columns = {f"number_{index}": numbers[:, index] for index in range(NUMBERS)}
    for index in range(CATEGORIES):
        columns[f"category_{index}"] = np.char.add(
            "level ", draw.integers(0, 30, BLOCK_ROWS).astype(str)
        )
    columns["label"] = np.where(numbers[:, 0] + draw.normal(size=BLOCK_ROWS) > 0, "yes", "no")
    return pa.table(columns)


def write_npy(folder: Path, size: int) -> int:
    """Write x.npy of random numbers and y.npy of classes; return the rows."""
    draw = np.random.default_rng(0)
    rows = size // (4 * NUMBERS)
    inputs = np.lib.format.open_memmap(
        folder / "x.npy", mode="w+", dtype=np.float32, shape=(rows, NUMBERS)
    )
    for start in range(0, rows, BLOCK_ROWS):
        part = inputs[start : start + BLOCK_ROWS]
        part[:] = draw.standard_normal(part.shape, dtype=np.float32)
    np.save(folder / "y.npy", (inputs[:, 0] > 0).astype(np.int64))
    return rows


def child(words: Sequence[str], folder: Path) -> "subprocess.Popen[str]":
    """Start Python with these words, in a folder, with a cache of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    return subprocess.Popen(
        [sys.executable, *words], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )


def printed(words: Sequence[str], folder: Path) -> list[float]:
    """Run Python and return the numbers it prints."""
    process = child(words, folder)
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{words[:2]} ended with {process.returncode}")
    return [float(line) for line in out.split()]


def measured(words: Sequence[str], folder: Path) -> Peaks:
    """Run Python and look at its memory all the while."""
    started_at, own, touched = perf_counter(), 0.0, 0.0
    process = child(words, folder)
    while process.poll() is None:
        anonymous, resident = memory(process.pid)
        own, touched = max(own, anonymous), max(touched, resident)
        sleep(SAMPLED_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return Peaks(perf_counter() - started_at, own, touched)


def memory(pid: int) -> tuple[float, float]:
    """Return MiB of anonymous memory now, and the most that was resident so far."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0.0
    fields = dict(line.split(":", 1) for line in lines)
    return tuple(int(fields.get(key, "0 kB").split()[0]) / 1024 for key in ("RssAnon", "VmHWM"))  # type: ignore[return-value]


def report(name: str, peaks: Peaks, size: int, rows: int) -> None:
    """Print a line of memory beside the size of the file."""
    print(
        f"{name}: {size / 2**20:.0f} MiB, {rows:,} rows; peak {peaks.anonymous:.0f} MiB of its "
        f"own, {peaks.resident:.0f} MiB with the pages of files; {peaks.seconds:.1f} s",
        flush=True,
    )


def compare_csv(folder: Path, size: int) -> None:
    """Train on a CSV twice, then compare readers."""
    path = folder / "large.csv"
    rows = write_csv(path, size)
    data = ("data=table", "data.path=large.csv", "data.target=label", "data.positive=yes")
    train = ("-m", "pipeline.train", *data, *LIMITS)
    report("CSV, converted and trained on", measured(train, folder), path.stat().st_size, rows)
    report("CSV, trained on from the cache", measured(train, folder), path.stat().st_size, rows)
    in_order, shuffled = printed(("-c", OUR_LOADER, *data, *LIMITS), folder)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    (seconds,) = printed(("-c", CONVERSION, *data), folder)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    print(f"one conversion: {seconds:.1f} s, {rows / seconds:,.0f} rows a second", flush=True)
    (pandas,), (arrow,) = (printed(("-c", code, path.name), folder) for code in (PANDAS, PYARROW))
    print(
        f"rows a second, ready for the network: {in_order:,.0f} in order, {shuffled:,.0f} "
        f"shuffled; pandas.read_csv {pandas:,.0f} and pyarrow.csv {arrow:,.0f}, parsed alone",
        flush=True,
    )
    path.unlink()


def compare_npy(folder: Path, size: int) -> None:
    """Train on an `.npy`."""
    rows = write_npy(folder, size)
    data = ("data=arrays", "data.path=x.npy", "data.targets=y.npy", "data.scale=standard")
    train = ("-m", "pipeline.train", *data, *LIMITS)
    report(".npy, trained on", measured(train, folder), (folder / "x.npy").stat().st_size, rows)


def main() -> None:
    """Print a line a comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=2.0, help="size of each file")
    parser.add_argument("--folder", type=Path, default=None, help="where they are made for a while")
    given = parser.parse_args()
    size = int(given.gib * 2**30)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        compare_csv(Path(folder), size)
        compare_npy(Path(folder), size)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
