"""A CSV and an `.npy` larger than one likes to keep in memory, trained on by the real command.

    python -m benchmarks.large_files [--gib 2] [--folder FOLDER]

Two tables. The first: for each file its size, the peak of what the training process keeps for
itself (anonymous memory) and of all it touches, beside a run on a file of a few rows. The file's
own pages are in the second peak only, and the system takes them back when it needs them. The
second: the seconds of the CSV's one conversion, and the rows a second of our loader beside those of
`pandas.read_csv` and `pyarrow.csv` on the same file.

`data.memory_budget=0` keeps every part on disk: up to the budget, whose default is 2048 MiB a part,
the rows would lie in memory as tensors, on purpose.
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
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

NUMBERS = 20
CATEGORIES = 2
BLOCK_ROWS = 100_000
BATCH_ROWS = 4_096
SAMPLED_SECONDS = 0.02
FEW_BYTES = 2**22
"""Size of the file whose run shows what the program takes by itself."""
LIMITS = (
    "model=mlp",
    "model.hidden=[32]",
    f"data.batch_size={BATCH_ROWS}",
    "data.memory_budget=0",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=200",
    "trainer.limit_val_batches=50",
    "trainer.limit_test_batches=50",
    "tracking=none",
    "pictures=false",
    "verbose=0",
)

CSV_FILE = "large.csv"
CSV = ("data=table", f"data.path={CSV_FILE}", "data.target=label", "data.positive=yes")
NPY = ("data=arrays", "data.path=x.npy", "data.targets=y.npy", "data.scale=standard")

OUR_LOADER = f"""
import sys
from time import perf_counter
import torch
from omegaconf import OmegaConf
from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.config.options import data_options
from pipeline.data.preparation.loader import loader
from pipeline.data.preparation.prepare import prepare
from pipeline.running.plan import build_source
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
from pipeline.running.plan import build_source
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
            table = block(draw, BLOCK_ROWS if size > FEW_BYTES else 5_000)
            csv.write_csv(table, file, csv.WriteOptions(include_header=rows == 0))
            rows += table.num_rows
    return rows


def block(draw: np.random.Generator, rows: int) -> pa.Table:
    """Return the next rows; the class follows the first number."""
    numbers = draw.normal(size=(rows, NUMBERS)).round(5)
    columns: dict[str, NDArray[Any]] = {
        f"number_{index}": numbers[:, index] for index in range(NUMBERS)
    }
    for index in range(CATEGORIES):
        columns[f"category_{index}"] = np.char.add("level ", draw.integers(0, 30, rows).astype(str))
    columns["label"] = np.where(numbers[:, 0] + draw.normal(size=rows) > 0, "yes", "no")
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


def heading() -> None:
    """Print the names of the columns of the first table."""
    print(f"{'trained on':<28}{'file':>8}{'rows':>13}{'own':>8}{'touched':>9}{'seconds':>9}")
    print(f"{'':<28}{'MiB':>8}{'':>13}{'MiB':>8}{'MiB':>9}")


def report(name: str, peaks: Peaks, size: int, rows: int) -> None:
    """Print a row of the first table."""
    print(
        f"{name:<28}{size / 2**20:>8,.0f}{rows:>13,}{peaks.anonymous:>8,.0f}{peaks.resident:>9,.0f}"
        f"{peaks.seconds:>9.1f}",
        flush=True,
    )


def rate(name: str, rows_per_second: float) -> None:
    """Print a row of the second table."""
    print(f"{name:<44}{rows_per_second:>14,.0f}", flush=True)


def train_on_csv(folder: Path, size: int, name: str) -> int:
    """Train on a CSV twice, first converted and then mapped; return its rows."""
    path = folder / CSV_FILE
    rows = write_csv(path, size)
    train = ("-m", "pipeline.train", *CSV, *LIMITS)
    for how in ("", ", again"):
        report(f"{name}{how}", measured(train, folder), path.stat().st_size, rows)
    return rows


def train_on_npy(folder: Path, size: int, name: str) -> None:
    """Train on an `.npy`."""
    rows = write_npy(folder, size)
    train = ("-m", "pipeline.train", *NPY, *LIMITS)
    report(name, measured(train, folder), (folder / "x.npy").stat().st_size, rows)


def compare_readers(folder: Path, rows: int) -> None:
    """Time our loader, the conversion before it, and two other readers on the CSV."""
    in_order, shuffled = printed(("-c", OUR_LOADER, *CSV, *LIMITS), folder)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    (seconds,) = printed(("-c", CONVERSION, *CSV), folder)
    (pandas,), (arrow,) = (printed(("-c", code, CSV_FILE), folder) for code in (PANDAS, PYARROW))
    print(f"\n{'read from the CSV':<44}{'rows a second':>14}")
    rate("our loader, in order, ready for the network", in_order)
    rate("our loader, shuffled, ready for the network", shuffled)
    rate("pandas.read_csv, parsed alone", pandas)
    rate("pyarrow.csv, parsed alone", arrow)
    rate(f"our one conversion, {seconds:.1f} s", rows / seconds)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=2.0, help="size of each file")
    parser.add_argument("--folder", type=Path, default=None, help="where they are made for a while")
    given = parser.parse_args()
    size = int(given.gib * 2**30)
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        folder = Path(made)
        heading()
        train_on_npy(folder, FEW_BYTES, "a few rows of .npy")
        train_on_npy(folder, size, ".npy")
        (folder / "x.npy").unlink()
        train_on_csv(folder, FEW_BYTES, "a few rows of CSV")
        compare_readers(folder, train_on_csv(folder, size, "CSV"))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
