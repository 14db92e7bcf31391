"""A CSV read as a table: seconds, peak memory and bytes read, beside `pandas.read_csv`.

    python -m benchmarks.reading_tables [--rows 1000000] [--rounds 3] [--other ROOT]

`--other` names the root of another version of the program, which reads the same file in turn. The
file has 20 columns; with `--commas` their numbers have decimal commas. Bytes are those of `rchar`
in `/proc/self/io`, from before the file is opened until its rows are numbers, as a ratio to the
size of the file.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

COLUMNS = 20
BLOCK_ROWS = 50_000
MEASURE = """
import resource, sys
from pathlib import Path
from time import perf_counter

def bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])

{prepare}
size = Path(sys.argv[1]).stat().st_size
before, started_at = bytes_read(), perf_counter()
{read}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(perf_counter() - started_at, peak, (bytes_read() - before) / size)
"""
OURS = MEASURE.format(
    prepare="""
import pyarrow.compute, pyarrow.csv, torch
from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.running.plan import build_source
source = build_source(check(compose(["model=mlp", "data=table", f"data.path={sys.argv[1]}"])))
""",
    read="source.read()",
)
PANDAS = MEASURE.format(
    prepare="import pandas, torch",
    read="pandas.read_csv(sys.argv[1], sep=sys.argv[2], decimal=sys.argv[3])",
)


def write(path: Path, rows: int, *, commas: bool) -> None:
    """Write a table of numbers and two classes."""
    draw = np.random.default_rng(0)
    sep = ";" if commas else ","
    names = [f"n{number}" for number in range(COLUMNS - 1)]
    with path.open("w", encoding="utf-8") as file:
        print(*names, "y", sep=sep, file=file)
        for start in range(0, rows, BLOCK_ROWS):
            values = draw.normal(0, 100, (min(BLOCK_ROWS, rows - start), COLUMNS - 1))
            for row in values:
                text = sep.join(f"{value:.2f}" for value in row)
                text = text.replace(".", ",") if commas else text
                print(text, "yes" if row[0] > 0 else "no", sep=sep, file=file)


def measured(code: str, words: list[str], root: Path) -> list[float]:
    """Return seconds, MiB and the ratio of bytes read that a new process prints."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(figure) for figure in ended.stdout.split()[-3:]]


def main() -> None:
    """Print a row for each reader."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--commas", action="store_true")
    parser.add_argument("--other", type=Path, default=None)
    options = parser.parse_args()
    here = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        write(path, options.rows, commas=options.commas)
        words = [str(path), *((";", ",") if options.commas else (",", "."))]
        readers = {"ours": (OURS, here), "pandas.read_csv": (PANDAS, here)}
        if options.other is not None:
            readers["ours, the other version"] = (OURS, options.other.resolve())
        figures: dict[str, list[list[float]]] = {name: [] for name in readers}
        for _ in range(options.rounds):
            for name, (code, root) in readers.items():
                figures[name].append(measured(code, words, root))
        print(f"{path.stat().st_size / 2**20:,.0f} MiB, {options.rows:,} rows × {COLUMNS} columns")
        print(f"{'':<26}{'seconds':>9}{'peak MiB':>10}{'bytes read':>12}")
        for name, rounds in figures.items():
            seconds, peak, ratio = (median(column) for column in zip(*rounds, strict=True))
            print(f"{name:<26}{seconds:>9.2f}{peak:>10,.0f}{ratio:>11.2f} ×")


if __name__ == "__main__":
    main()
