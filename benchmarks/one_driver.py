"""A driver whose trials train nothing, which does what it is told; `storage_scaling` starts it.

It runs with any version of the program that PYTHONPATH names. Each line of its input is an order
with a number, and it answers with one line of JSON.
"""

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from typing import Any, NoReturn

from benchmarks.study_cost import open_ledger, value_of
from pipeline.base.ends import End, TrialEnd
from pipeline.base.processes.lease import own_lease
from pipeline.study.space.space import Space

#: The rungs at which a trial is compared by default.
RUNGS = range(3, 10)
SUGGEST = Space.suggest
CHOOSING = [0.0]


def timed_suggest(space: Any, trial: Any) -> Any:
    """Choose a point, and add up the processor's time that this takes."""
    began = time.process_time()
    chosen = SUGGEST(space, trial)
    CHOOSING[0] += time.process_time() - began
    return chosen


class Driver:
    """Takes and ends trials of the study at an address."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._before = self._memory()
        self._ledger = open_ledger(url, **options)
        self._held: deque[Any] = deque()
        self._step = 1

    def _memory(self) -> float:
        """Resident MiB of this process."""
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _take(self, host: str | None = None) -> None:
        lease = own_lease()
        taken = self._ledger.take(lease if host is None else replace(lease, host=host))
        assert taken is not None
        self._held.append(taken)

    def _finish(self) -> None:
        taken = self._held.popleft()
        self._ledger.finish(taken, TrialEnd(end=End.COMPLETE, values=(value_of(taken),)))

    def _median_cost(self, call: Callable[[int], object], times: int, pause: float = 0.0) -> float:
        """Return the median CPU ms of a call, which gets its number."""
        costs = []
        for number in range(times):
            time.sleep(pause)
            used = time.process_time()
            call(number)
            costs.append(1000 * (time.process_time() - used))
        return median(costs)

    def finished(self, trials: int) -> int:
        """Take and end so many trials."""
        for _ in range(trials):
            self._take()
            self._finish()
        return trials

    def running(self, trials: int) -> int:
        """Hold so many running trials, as if on another machine."""
        while len(self._held) < trials:
            self._take("elsewhere")
        while len(self._held) > trials:
            self._finish()
        return trials

    def take(self, trials: int) -> list[float]:
        """Return the median ms of taking a trial: of the clock, of the processor, to choose it."""
        found = []
        for _ in range(trials):
            self._finish() if self._held else self._ledger.progress()
            CHOOSING[0], began, used = 0.0, time.perf_counter(), time.process_time()
            self._take()
            wall, cost = time.perf_counter() - began, time.process_time() - used
            found.append((1000 * wall, 1000 * cost, 1000 * CHOOSING[0]))
        return [median(values) for values in zip(*found, strict=True)]

    def work(self, seconds: int) -> tuple[int, float, int]:
        """Take a trial, compare the one held longest at its rungs and end it, for so long.

        Returns how many were taken, the processor's seconds that they took, and the number of
        comparisons.
        """
        end, taken, used, compared = time.monotonic() + seconds, 0, time.process_time(), 0
        while time.monotonic() < end:
            self._take()
            self._ledger.progress()
            compared += self._compare()
            taken += 1
        return taken, time.process_time() - used, compared

    def _compare(self) -> int:
        """Compare the trial held longest at its rungs, end it, and return the number of these."""
        if not self._ledger.prunes:
            self._finish()
            return 0
        oldest = self._held[0]
        for count, rung in enumerate(RUNGS, start=1):
            if self._ledger.report(oldest, step=rung, value=value_of(oldest) * rung / 10):
                self._held.popleft()
                self._ledger.finish(oldest, TrialEnd(end=End.PRUNED))
                return count
        self._finish()
        return len(RUNGS)

    def look(self, times: int) -> float:
        """Return the CPU ms of looking for lost trials."""
        return self._median_cost(lambda _: self._ledger.close_lost(lambda _: Path("none")), times)

    def progress(self, times: int) -> float:
        """Return the CPU ms of asking for the progress."""
        return self._median_cost(lambda _: self._ledger.progress(), times)

    def beat(self, times: int) -> float:
        """Return the CPU ms of moving the leases of the held trials."""
        numbers = [taken.number for taken in self._held]
        return self._median_cost(lambda _: self._ledger.beat(numbers), times)

    def report(self, times: int) -> float:
        """Return the CPU ms of comparing a held trial, so seldom that others are read again."""
        taken = self._held[0]
        self._held.rotate()
        first, self._step = self._step, self._step + times
        return self._median_cost(
            lambda number: self._ledger.report(taken, step=first + number, value=0.5), times, 1.0
        )

    def memory(self, _: int) -> float:
        """Return the MiB of this process's memory that the study has taken since it was opened."""
        self._ledger.trials()
        self._ledger.progress()
        return self._memory() - self._before


def listen(orders: SimpleQueue[str]) -> None:
    """Pass on the lines of standard input; its end ends this process, whatever it is doing."""
    for line in sys.stdin:
        orders.put(line)
    os._exit(0)


def main() -> NoReturn:
    """Obey the orders of standard input."""
    orders = SimpleQueue[str]()
    threading.Thread(target=listen, args=(orders,), daemon=True).start()
    Space.suggest = timed_suggest  # type: ignore[assignment, method-assign] # our own, and to be timed
    driver = Driver(sys.argv[1], json.loads(sys.argv[2]))
    while True:
        order, number = orders.get().split()
        print(json.dumps(getattr(driver, order)(int(number))), flush=True)


if __name__ == "__main__":
    main()
