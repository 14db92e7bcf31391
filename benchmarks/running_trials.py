"""What trials that run cost the drivers of a study on PostgreSQL, and how fast trials may go.

    python -m benchmarks.running_trials [--running 100 1000] [--rounds 5]
    python -m benchmarks.running_trials --baseline TREE PYTHON  # beside another version

First table: CPU ms of one driver for what it does regularly while so many trials run on other
machines, beside a plain SELECT of their leases by the database's own driver. It looks for lost
trials every two seconds, asks for the progress four times a second, moves the leases of its eight
trials every ten seconds, and compares each of them at up to seven rungs.

Second table: trials that train nothing, taken, compared at each rung and ended by 8 drivers while
so many run, by sampler and pruner: trials and commits per second, and CPU ms per trial of the
drivers and of the server. `--baseline` adds the same of the program in the folder TREE, which
PYTHON runs, in turn.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import median

import psycopg

from benchmarks.storage_scaling import Driver, Program, server_seconds
from tests.helpers.postgres_server import PASSWORD, Postgres, running_postgres

HERE = Path(__file__).parents[1], Path(sys.executable)
ENDED = 300
OWN = 8
CALLS = 7
MANY = 8
#: Seconds without a sign of life, more than a measurement takes.
ENDLESS = 86400.0
ORDERS = ("look", "progress", "beat", "report")
COSTS = ("look", "progress", "leases moved", "median rung", "asha rung")
RATES = ("trials/s", "commits/s", "driver CPU ms", "server CPU ms", "rungs/trial")
SEARCHES = (("random", "none"), ("random", "median"), ("tpe", "none"), ("tpe", "median"))
LEASES = """
    SELECT trials.number, value_json FROM trials JOIN trial_user_attributes USING (trial_id)
    WHERE state = 'RUNNING' AND key = 'lease'
"""


def cost_of(call: Callable[[], object]) -> float:
    """Return the CPU ms of a call in this process, the median of a few."""
    costs = []
    for _ in range(CALLS):
        used = time.process_time()
        call()
        costs.append(1000 * (time.process_time() - used))
    return median(costs)


def regular_costs(
    postgres: Postgres, programs: Mapping[str, Program], running: int, rounds: int
) -> None:
    """Print what a driver of each program does regularly while so many trials run."""
    drivers: dict[str, list[Driver]] = {}
    holders: list[Driver] = []
    for name, program in programs.items():
        url = postgres.url(postgres.database())
        holders.append(holder_of(url, running))
        pruners = ("median", "asha")
        drivers[name] = [Driver(program, url, pruner=one, grace=ENDLESS) for one in pruners]
        for driver in drivers[name]:
            driver.ask("running", OWN)
    selects: list[float] = []
    found: dict[str, list[list[float]]] = {name: [] for name in programs}
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(rounds):
            selects.append(cost_of(lambda: connection.execute(LEASES).fetchall()))
            for name, (driver, halving) in drivers.items():
                costs = [driver.ask(order, CALLS) for order in ORDERS]
                found[name].append([*costs, halving.ask("report", CALLS)])
    for name, measured in found.items():
        cells = "".join(f"{median(values):14.1f}" for values in zip(*measured, strict=True))
        print(f"{running:7}  {name:8}{median(selects):14.1f}{cells}", flush=True)
    for driver in [*holders, *chain(*drivers.values())]:
        driver.end()


def holder_of(url: str, running: int) -> Driver:
    """Return a process that has ended some trials of a study and holds so many running ones."""
    holder = Driver(HERE, url, grace=ENDLESS)
    holder.ask("finished", ENDED)
    holder.ask("running", running)
    return holder


def rates(
    postgres: Postgres,
    programs: Mapping[str, Program],
    search: tuple[str, str],
    *,
    running: int,
    rounds: int,
    seconds: int,
) -> None:
    """Print how fast trials go through a study of a sampler and a pruner while so many run."""
    sampler, pruner = search
    together: dict[str, list[Driver]] = {}
    holders: list[Driver] = []
    databases = {name: postgres.database() for name in programs}
    for name, program in programs.items():
        url = postgres.url(databases[name])
        holders.append(holder_of(url, running))
        drivers = [Driver(program, url, sampler, pruner=pruner, grace=ENDLESS) for _ in range(MANY)]
        for driver in drivers:
            driver.tell("progress", 1)
        for driver in drivers:
            driver.answer()
        together[name] = drivers
    found: dict[str, list[list[float]]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, drivers in together.items():
            found[name].append(work(drivers, postgres, databases[name], seconds))
    for name, measured in found.items():
        cells = "".join(f"{median(values):14.1f}" for values in zip(*measured, strict=True))
        print(f"{sampler:7}  {pruner:6}  {running:7}  {name:8}{cells}", flush=True)
    for driver in [*holders, *chain(*together.values())]:
        driver.end()


def work(drivers: Sequence[Driver], postgres: Postgres, database: str, seconds: int) -> list[float]:
    """Return trials and commits per second; CPU ms of drivers and server, and rungs, per trial."""
    used, before = server_seconds(), transactions(postgres, database)
    for driver in drivers:
        driver.tell("work", seconds)
    answers = [driver.answer() for driver in drivers]
    taken, cpu_seconds, compared = (sum(column) for column in zip(*answers, strict=True))
    server_ms = 1000 * (server_seconds() - used) / taken
    count = transactions(postgres, database) - before
    driver_ms = 1000 * cpu_seconds / taken
    return [taken / seconds, count / seconds, driver_ms, server_ms, compared / taken]


def transactions(postgres: Postgres, database: str) -> int:
    """Return how many transactions of a database have been committed, as the server counts them."""
    query = f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{database}'"
    ((count,),) = postgres.ask("postgres", query)
    return int(count)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--running", nargs="+", type=int, default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10, help="of a round; 0 = first table only")
    parser.add_argument("--baseline", nargs=2, type=Path, metavar=("TREE", "PYTHON"))
    arguments = parser.parse_args()
    os.environ["PGPASSWORD"] = PASSWORD
    programs: dict[str, Program] = {"this": HERE}
    if arguments.baseline is not None:
        tree, python = arguments.baseline
        programs = {"baseline": (tree, python), **programs}
    with running_postgres(fsync="on", max_connections="200") as postgres:
        columns = "".join(f"{column:>14}" for column in ("plain SELECT", *COSTS))
        print(f"running  program {columns}")
        for running in arguments.running:
            regular_costs(postgres, programs, running, arguments.rounds)
        if arguments.seconds == 0:
            return
        columns = "".join(f"{column:>14}" for column in RATES)
        print(f"\nsampler  pruner  running  program {columns}")
        for running in arguments.running:
            for search in SEARCHES:
                rates(
                    postgres,
                    programs,
                    search,
                    running=running,
                    rounds=arguments.rounds,
                    seconds=arguments.seconds,
                )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
