"""What commands cost around their training, beside an older checkout, in turn.

    python -m benchmarks.fixed_cost CHECKOUT PYTHON [--rounds 5] [--only train]

`CHECKOUT` holds the older version, for instance a git worktree, and `PYTHON` is the interpreter of
its environment. Each command runs in a terminal in a folder of its own, and ends when no process
that it has started is left. Prints medians: the first line, the first and the last epoch, the
result table, the last line and the end.

1. `train model=mlp data=mnist1d`, 20 epochs: result table at most 0.62 of the older version's
   time, at most 0.5 s after the last epoch.
2. `predict` for 100 rows, of arrays and of a CSV, and `report run=last`: at most 0.6 of the older
   version's time.
3. A sweep of 10 trials; a wrong value.
"""

import argparse
import csv
import ctypes
import os
import pty
import re
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from statistics import median
from time import perf_counter, time

MLP = ("model=mlp", "data=mnist1d", "data.batch_size=100", "model.hidden=[64,128,64]")
TRAIN = ("train", *MLP, "trainer.max_epochs=20")
SPACE = (
    "optimizer.lr=tag(log, interval(0.0001, 0.1))",
    "trainer.max_epochs=int(interval(5, 20))",
    "trainer.gradient_clip_val=tag(log, interval(0.1, 10))",
)
TABLE = ("model=mlp", "data=table", "data.path=table.csv", "output=tables", "tracking=none")
PREDICT = ("predict", "model_from=last", "output=answers.csv", "overwrite=true")
COMMANDS: dict[str, Sequence[str]] = {
    "train": TRAIN,
    "sweep": ("sweep", *MLP, *SPACE, "sweep.n_trials=10"),
    "wrong value": ("train", "model=mlp", "trainer.max_epochs=-3"),
    "predict": (*PREDICT, "input=rows.npz"),
    "predict a table": (*PREDICT, "input=rows.csv", "runs=tables"),
    "report": ("report", "run=last"),
}
EXIT_CODES = {"trainer.max_epochs=-3": 2}
#: Moments of a command's output: a line that begins so.
MOMENTS = {
    "first line": re.compile(r"\S"),
    "first epoch": re.compile(r"\s*\d+/\d+\s+train/loss"),
    "result table": re.compile(r".*\bnaive(: |\s+linear)"),
}
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BECOME_SUBREAPER = 36


def run(python: str, checkout: Path, words: Sequence[str]) -> dict[str, float]:
    """Run a command in the current folder; return the seconds until each of its moments."""
    started_at, clock = perf_counter(), time()
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(PYTHONPATH=str(checkout), COLUMNS="100")
        os.execv(python, [python, "-m", f"pipeline.{words[0]}", *words[1:]])
    seconds: dict[str, float] = {}
    printed = rest = b""
    with suppress(OSError):  # the terminal is closed
        while piece := os.read(terminal, 65536):
            now = perf_counter() - started_at
            printed += piece
            *lines, rest = re.split(rb"[\r\n]+", rest + piece)
            for line in lines:
                _mark(seconds, CONTROL.sub("", line.decode(errors="replace")), now)
    _, status = os.waitpid(pid, 0)
    seconds["end"] = perf_counter() - started_at
    with suppress(ChildProcessError):  # what the command has left running is a child of this one
        while True:
            os.wait()
    seconds["no process left"] = perf_counter() - started_at
    os.close(terminal)
    if os.waitstatus_to_exitcode(status) != EXIT_CODES.get(words[-1], 0):
        raise SystemExit(printed.decode(errors="replace"))
    if words[0] == "sweep":
        ends = "SELECT min(datetime_complete), max(datetime_complete) FROM trials"
        with closing(sqlite3.connect("optuna.db")) as database:
            for moment, end in zip(
                ("first trial", "last trial"), database.execute(ends).fetchone(), strict=True
            ):
                seconds[moment] = datetime.fromisoformat(end).timestamp() - clock
    return seconds


def _mark(seconds: dict[str, float], line: str, now: float) -> None:
    for moment, beginning in MOMENTS.items():
        if beginning.match(line):
            seconds.setdefault(moment, now)
    if MOMENTS["first epoch"].match(line):
        seconds["last epoch"] = now
    if line.strip():
        seconds["last line"] = now


def compare(name: str, versions: dict[str, tuple[str, Path]], rounds: int) -> None:
    """Run a command of each version in turn, and print the medians of its moments."""
    found: dict[str, list[dict[str, float]]] = {version: [] for version in versions}
    for count in range(rounds + 1):
        for version, (python, checkout) in versions.items():
            folder = Path(version)
            if name.startswith(("predict", "report")):  # of the runs that were trained first
                if not (folder / "runs").exists():
                    _make_rows(folder)
                    _in(folder, python, checkout, TRAIN)
                    _in(folder, python, checkout, ("train", *TABLE, "trainer.max_epochs=2"))
                seconds = _in(folder, python, checkout, COMMANDS[name])
            else:
                with tempfile.TemporaryDirectory(dir=".") as empty:
                    seconds = _in(Path(empty), python, checkout, COMMANDS[name])
            if count:  # the first fills caches
                found[version].append(seconds)
    print(f"\n{name}: {' '.join(COMMANDS[name])}", flush=True)
    runs = [one for rows in found.values() for one in rows]
    moments = sorted(set.intersection(*map(set, runs)), key=runs[0].__getitem__)
    for moment in moments:
        now, then = (median(one[moment] for one in found[version]) for version in found)
        print(f"  {moment:<16} {now:6.2f} s beside {then:6.2f} s  {now / then:5.2f}", flush=True)
    for last in {"last epoch", "last trial"} & set(moments):
        now, then = (
            median(one["result table"] - one[last] for one in rows) for rows in found.values()
        )
        print(f"  {last} to the result table: {now:.2f} s beside {then:.2f} s", flush=True)


def _in(folder: Path, python: str, checkout: Path, words: Sequence[str]) -> dict[str, float]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        return run(python, checkout, words)
    finally:
        os.chdir(before)


def _make_rows(folder: Path) -> None:
    import numpy as np

    folder.mkdir(exist_ok=True)
    rows = np.random.default_rng(0).standard_normal((100, 40, 1)).astype(np.float32)
    np.savez(folder / "rows.npz", x=rows)
    names = [f"column {number}" for number in range(8)]
    cells = [[*row[:8, 0], "no" if row[0, 0] < row[1, 0] else "yes"] for row in rows]
    for name, width in (("table.csv", 9), ("rows.csv", 8)):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(row[:width] for row in ([*names, "label"], *cells))


def main() -> None:
    """Print a table for each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("python")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=COMMANDS, action="append")
    given = parser.parse_args()
    here = Path(__file__).parents[1]
    versions = {"now": (sys.executable, here), "then": (given.python, given.checkout.absolute())}
    ctypes.CDLL(None).prctl(BECOME_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for version in versions:
            Path(version).mkdir()
        for name in given.only or COMMANDS:
            compare(name, versions, given.rounds)


if __name__ == "__main__":
    main()
