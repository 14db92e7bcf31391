"""Trials a second that the databases of a study take, and how that grows with trials and workers.

    python -m benchmarks.storage_scaling [--trials 5000] [--runs 400]
    python -m benchmarks.storage_scaling --trials 200 --window 50 --runs 20  # in a minute or two
    python -m benchmarks.storage_scaling --baseline TREE PYTHON  # beside another version alone

Processes take trials that train nothing and end them, each with a ledger of its own, as so many
drivers would: by 8 of them to see the growth from the first to the last thousand, for the random
sampler and for TPE, then shorter studies by 1, 4 and 16. In sqlite and on a PostgreSQL server that
is started for it and waits for the disk. Then recorders, each as a driver has one, fill MLflow with
runs of as many parameters, metrics and tags as a short trial has, and move the lease of a run, as
they do every ten seconds for each trial that runs for longer: in sqlite, on PostgreSQL, and through
tracking servers. One table each; all of it shares this machine.

With `--baseline` a table tells what taking a trial on PostgreSQL takes this program and the one in
the folder TREE, which PYTHON runs, in turn: at 1,000 ended trials by how many run, and how many
trials 8 drivers take while 300 run; then the memory that ended trials take in sqlite.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.outage import server
from benchmarks.study_cost import open_ledger, value_of
from pipeline.base.ends import End, TrialEnd
from pipeline.base.processes.lease import own_lease
from pipeline.study.ledger.rows import Row
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import Header
from pipeline.tracking.mlflow_store import Store
from tests.helpers.postgres_server import PASSWORD, Postgres, running_postgres

SPAWN = multiprocessing.get_context("spawn")
GROWTH_WORKERS = 8
WORKERS = (1, 4, 16)
RECORDERS = (1, 4)
LONGEST_SECONDS = 3600.0
PARAMS = {f"group.key{index}": index for index in range(60)}
TAGS = {f"pipeline.tag{index}": "value" for index in range(15)}
METRICS = {f"stage/metric{index}": 0.5 for index in range(10)}
EPOCHS = 2
ENDED = 1000
RUNNING = (0, 100, 300, 1000)
TAKES = 20
MANY, TOGETHER, SECONDS = 8, 300, 10
#: The folder of a version of the program, and the interpreter that runs it.
Program = tuple[Path, Path]


def take_all(url: str, options: dict[str, Any], ready: Barrier) -> None:
    """Take and end trials until none is left, as a driver does; note what each cost itself."""
    ledger = open_ledger(url, **options)
    ready.wait(LONGEST_SECONDS)
    used = time.process_time()
    while (taken := ledger.take(own_lease())) is not None:
        ledger.progress()
        before, used = used, time.process_time()
        cost = {"cost": used - before}
        ledger.finish(taken, TrialEnd(end=End.COMPLETE, values=(value_of(taken),), attributes=cost))
    ledger.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast trials went, over some of them.

    Args:
        rate: Trials a second.
        cost: Milliseconds of the processor that one trial took its driver, the median.
    """

    rate: float
    cost: float


def pace_of(rows: Sequence[Row]) -> Pace:
    """Return the pace of trials in the order of their ends."""
    seconds = (rows[-1].ended or 0.0) - (rows[0].ended or 0.0)
    costs = [1000 * row.attributes["cost"] for row in rows]
    return Pace(rate=(len(rows) - 1) / seconds, cost=median(costs))


def rows_of(url: str, options: dict[str, Any]) -> list[Row]:
    """Read the trials of a study in the order of their ends; none is lost or doubled."""
    ledger = open_ledger(url, **options)
    rows = sorted(ledger.trials(), key=lambda row: row.ended or 0.0)
    ledger.close()
    assert [row.state for row in rows] == ["complete"] * options["n_trials"]
    return rows


@contextmanager
def processes(target: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> Iterator[None]:
    """Let processes begin together; the body runs beside them, and then all have ended well."""
    ready = SPAWN.Barrier(len(calls) + 1)
    begun = [SPAWN.Process(target=target, args=(*call, ready), daemon=True) for call in calls]
    for process in begun:
        process.start()
    ready.wait(LONGEST_SECONDS)
    yield
    for process in begun:
        process.join()
        assert process.exitcode == 0


def studies(postgres: Postgres, *, trials: int, window: int) -> None:
    """Print a line for each study."""
    print(f"{'':44}trials per second     CPU ms per trial")
    print(
        "store       sampler  workers  trials  sessions    all  first   last    all  first   last"
    )
    plan = [(sampler, GROWTH_WORKERS, trials) for sampler in ("random", "tpe")]
    plan += [("random", workers, window) for workers in WORKERS]
    for sampler, workers, count in plan:
        for store in ("sqlite", "postgresql"):
            options = {"sampler": sampler, "n_trials": count, "pruner": "none"}
            with tempfile.TemporaryDirectory() as folder:
                database = postgres.database()
                url = f"sqlite:///{folder}/optuna.db"
                url = postgres.url(database) if store == "postgresql" else url
                with processes(take_all, [(url, options)] * workers):
                    time.sleep(0.5)
                    sessions = postgres.connections(database)
                rows = rows_of(url, options)
            few = min(window, count // 2)
            paces = [pace_of(rows), pace_of(rows[:few]), pace_of(rows[-few:])]
            rates = "  ".join(f"{pace.rate:5.1f}" for pace in paces)
            costs = "  ".join(f"{pace.cost:5.1f}" for pace in paces)
            print(
                f"{store:10}  {sampler:7}  {workers:7}  {count:6}  {sessions:8}  {rates}  {costs}",
                flush=True,
            )


class Driver:
    """A process of `benchmarks/one_driver.py`, which ends with this one."""

    def __init__(
        self, program: Program, url: str, sampler: str = "random", **options: object
    ) -> None:
        tree, python = program
        options = {"sampler": sampler, "n_trials": 1_000_000, "pruner": "none", **options}
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name("one_driver.py"), url, json.dumps(options)],
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, order: str, number: int = 0) -> None:
        """Give an order, whose answer `answer` awaits."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order} {number}\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Return the answer to the oldest order."""
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, order: str, number: int = 0) -> Any:
        """Give an order and return its answer."""
        self.tell(order, number)
        return self.answer()

    def end(self) -> None:
        """End the process, which would stay as long as this one otherwise."""
        self._process.communicate()


def beside(baseline: Program, *, rounds: int, ended: int) -> None:
    """Print what taking a trial takes two programs, in turn, and their memory."""
    here = Path(__file__).parents[1], Path(sys.executable)
    programs = {"baseline": baseline, "this": here}
    with running_postgres(fsync="on", max_connections="200") as postgres:
        for sampler, runs in (("random", RUNNING), ("tpe", RUNNING[::2])):
            urls = {name: postgres.url(postgres.database()) for name in programs}
            fillers = [Driver(here, url) for url in urls.values()]  # both can fill a study
            for filler in fillers:
                filler.tell("finished", ENDED)
            assert [filler.answer() for filler in fillers] == [ENDED, ENDED]
            print(
                f"\nms to take a trial after {ENDED}, sampler={sampler}: by the clock, of the "
                "processor, of that to choose its point"
            )
            drivers = {name: Driver(one, urls[name], sampler) for name, one in programs.items()}
            for running in runs:
                for filler in fillers:
                    filler.ask("running", running)
                take_alone(drivers, running, rounds)
            if sampler == "random":
                for filler in fillers:
                    filler.ask("running", 0)
                together = {
                    name: [drivers[name], *(Driver(one, urls[name]) for _ in range(MANY - 1))]
                    for name, one in programs.items()
                }
                take_together(together, rounds)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/optuna.db"
        assert Driver(here, url).ask("finished", ended) == ended
        for name, program in programs.items():
            opened = Driver(program, url).ask("memory")
            print(f"{name:8} {opened:6.1f} MiB for the {ended} trials of a study in sqlite")


def take_alone(drivers: Mapping[str, Driver], running: int, rounds: int) -> None:
    """Print the time of taking a trial by one driver while so many run."""
    found: dict[str, list[list[float]]] = {name: [] for name in drivers}
    for _ in range(rounds):
        for name, driver in drivers.items():
            found[name].append(driver.ask("take", TAKES))
    for name, rows in found.items():
        middle = "".join(f"{median(values):8.1f}" for values in zip(*rows, strict=True))
        print(f"{running:5} running, {name:8}{middle}", flush=True)


def take_together(drivers: Mapping[str, Sequence[Driver]], rounds: int) -> None:
    """Print how many trials several drivers take a second while some hundreds run."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in drivers}
    for together in drivers.values():
        for driver in together:
            driver.tell("running", TOGETHER // len(together))
        assert [driver.answer() for driver in together] == [TOGETHER // len(together)] * MANY
    for _ in range(rounds):
        for name, together in drivers.items():
            used = server_seconds()
            for driver in together:
                driver.tell("work", SECONDS)
            answers = [driver.answer() for driver in together]
            taken = sum(answer[0] for answer in answers)
            seconds = sum(answer[1] for answer in answers) + server_seconds() - used
            found[name].append((taken / SECONDS, 1000 * seconds / taken))
    print(
        f"\n{MANY} drivers while {TOGETHER} trials run: trials taken and ended per second, and "
        "CPU ms for each, of drivers and server"
    )
    for name, rows in found.items():
        rate, cost = (median(values) for values in zip(*rows, strict=True))
        each = ", ".join(f"{one:.1f}" for one, _ in rows)
        print(f"{name:8} {rate:6.1f} {cost:6.1f}  (rounds: {each} a second)", flush=True)


def server_seconds() -> float:
    """Seconds of the processor that the server and its sessions have taken."""
    seconds = 0.0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a session that has just ended
            if child.name() == "postgres":
                times = child.cpu_times()
                seconds += times.user + times.system
    return seconds


def record_all(uri: str, folder: Path, runs: int, ready: Barrier) -> None:
    """Record short runs one after another, as a driver's recorder does."""
    with RecorderClient() as recorder:
        recorder.connect(uri, experiment="pipeline")
        ready.wait(LONGEST_SECONDS)
        for number in range(runs):
            place = folder / f"{os.getpid()}-{number}"
            place.mkdir()
            journal = Journal(place)
            journal.begin(
                Header(name="run", experiment="pipeline", uri=uri, params=PARAMS, tags=TAGS)
            )
            for epoch in range(1, EPOCHS + 1):
                journal.epoch(epoch, METRICS)
            journal.end(End.COMPLETE)
            journal.close()
            while recorder.close(place):
                print("once more:", recorder.problem, flush=True)


def beat_all(uri: str, beats: int, ready: Barrier) -> None:
    """Move the lease of a run so many times, as a recorder does for each trial that runs long."""
    store, lease = Store(uri), own_lease()
    key = f"beats-{os.getpid()}"
    experiment = store.experiment("pipeline")
    run_id, _ = store.create(experiment, name="run", key=key, tags=TAGS, start=0)
    ready.wait(LONGEST_SECONDS)
    for counter in range(beats):
        store.log(run_id, tags=replace(lease, counter=counter).tags())


@contextmanager
def tracking(postgres: Postgres, folder: Path) -> Iterator[list[tuple[str, str, str]]]:
    """Give each kind of store that MLflow can be filled in: its name, address and database."""
    direct, one, four = (postgres.database() for _ in range(3))
    urls = [postgres.url(name, scheme="postgresql+psycopg") for name in (direct, one, four)]
    with (
        server(folder, urls[1], workers=1) as (first, _),
        server(folder, urls[2], workers=4) as (second, _),
    ):
        yield [
            ("sqlite file", f"sqlite:///{folder}/mlflow.db", ""),
            ("postgresql", urls[0], direct),
            ("server, 1 worker, postgresql", first, one),
            ("server, 4 workers, postgresql", second, four),
        ]


def recordings(postgres: Postgres, *, runs: int) -> None:
    """Print a line for each kind of store and number of recorders."""
    print("store                          recorders  runs  sessions  runs per second  beats")
    with tempfile.TemporaryDirectory() as name, tracking(postgres, Path(name)) as stores:
        for store, uri, database in stores:
            for recorders in RECORDERS:
                calls = [(uri, Path(name), runs // recorders)] * recorders
                with processes(record_all, calls):
                    started = time.perf_counter()
                    time.sleep(0.5)
                    sessions = postgres.connections(database)
                count = runs // recorders * recorders
                rate = count / (time.perf_counter() - started)
                with processes(beat_all, [(uri, runs // recorders)] * recorders):
                    started = time.perf_counter()
                beats = count / (time.perf_counter() - started)
                about = f"{store:29}  {recorders:9}  {runs:4}  {sessions:8}"
                print(f"{about}  {rate:15.1f}  {beats:5.1f}", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--window", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--baseline", nargs=2, type=Path, metavar=("TREE", "PYTHON"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ended", type=int, default=10_000)
    arguments = parser.parse_args()
    os.environ["PGPASSWORD"] = PASSWORD
    if arguments.baseline is not None:
        beside(arguments.baseline, rounds=arguments.rounds, ended=arguments.ended)
        return
    with running_postgres(fsync="on", max_connections="200") as postgres:
        studies(postgres, trials=arguments.trials, window=arguments.window)
        if arguments.runs:
            print()
            recordings(postgres, runs=arguments.runs)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
