"""What a kill in the first seconds of an empty folder costs: the next command must work.

    python -m benchmarks.first_kill [--kills 50] [--seed 1]

A run and a study are begun in turn, each in an empty folder. At a random moment of the three
seconds after the first sign of a database, SIGKILL ends the recorder, the driver or all of their
processes, in turn. The same command is then typed again: it must end with exit code 0, and leave
whole databases, a finished run and nothing half made beside them.
"""

import argparse
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil

SECONDS = 3.0
VICTIMS = ("recorder", "driver", "all")
BASE = ("model=mlp", "model.hidden=[4]", "data=iris", "trainer.max_epochs=2", "verbose=0")
LR = "optimizer.lr=tag(log, interval(1e-3, 1e-1))"
STUDY = ("sweep.name=study", "sweep.n_trials=1", "sweep.workers=1", LR)
COMMANDS = {"train": BASE, "sweep": (*BASE, *STUDY)}
RECORDER = "pipeline.tracking.recorder"


def start(command: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start a command in a folder, where a file takes what it says about problems."""
    with (folder / "errors.txt").open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", f"pipeline.{command}", *COMMANDS[command]],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def await_database(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until the first file of a database is there."""
    while not any(folder.glob("*.db*")) and not any(folder.glob(".*.db*")):
        if process.poll() is not None:
            raise RuntimeError((folder / "errors.txt").read_text(encoding="utf-8"))
        time.sleep(0.002)


def kill(process: subprocess.Popen[bytes], victim: str) -> None:
    """Kill one process of a command, or all."""
    with suppress(psutil.NoSuchProcess):
        driver = psutil.Process(process.pid)
        children = driver.children(recursive=True)
        victims = [driver] if victim != "recorder" else []
        if victim != "driver":
            victims += [one for one in children if victim == "all" or RECORDER in words_of(one)]
        for one in victims:
            with suppress(psutil.NoSuchProcess):
                one.kill()


def words_of(process: psutil.Process) -> list[str]:
    """Return a process's command line, without words once it has ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def failures(command: str, code: int, folder: Path) -> Iterator[str]:
    """Yield what is wrong after the second command."""
    if code != 0:
        yield f"exit code {code}: {(folder / 'errors.txt').read_text(encoding='utf-8')}"
        return
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        if (
            connection.execute("SELECT 1 FROM experiments WHERE experiment_id = 0").fetchone()
            is None
        ):
            yield "no experiment 0"
        ends = [status for (status,) in connection.execute("SELECT status FROM runs")]
        if "FINISHED" not in ends:
            yield f"no finished run: {ends}"
    if command == "sweep":
        with closing(sqlite3.connect(folder / "optuna.db")) as connection:
            states = [state for (state,) in connection.execute("SELECT state FROM trials")]
            if states.count("COMPLETE") != 1:
                yield f"trials: {states}"
    half_made = [
        path.name for path in folder.glob(".*") if path.name.endswith((".tmp", ".db.lock"))
    ]
    if half_made:
        yield f"left: {half_made}"


def one_kill(command: str, victim: str, seconds: float, folder: Path) -> list[str]:
    """Kill a command, type it again, and return what is wrong then."""
    process = start(command, folder)
    await_database(process, folder)
    time.sleep(seconds)
    kill(process, victim)
    process.wait()
    return list(failures(command, start(command, folder).wait(), folder))


def main() -> None:
    """Print each kill and how many of them the next command survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    survived = 0
    for number in range(arguments.kills):
        command = list(COMMANDS)[number % len(COMMANDS)]
        victim = VICTIMS[number % len(VICTIMS)]
        seconds = chance.uniform(0, SECONDS)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            problems = one_kill(command, victim, seconds, Path(folder))
        survived += not problems
        words = "; ".join(problems) or "the next command works"
        print(f"{number + 1:3} {command} {victim:8} at {seconds:.2f} s: {words}", flush=True)
    print(f"the next command works: {survived} of {arguments.kills}")
    sys.exit(survived < arguments.kills)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
