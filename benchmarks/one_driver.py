"""A driver whose trials train nothing, which does what it is told; `storage_scaling` starts it.

It runs with any version of the program that PYTHONPATH names. Each line of its input is an order
with a number, and it answers with one line of JSON.
"""

import json
import os
import sys
import time
from collections import deque
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.study_cost import open_ledger, value_of
from pipeline.study.space.space import Space

try:
    from pipeline.processes.lease import own_lease
    from pipeline.study.messages import TrialEnd
except ImportError:  # the program as it was before the wave that this benchmark measures
    from pipeline.study.ledger.ends import End as TrialEnd
    from pipeline.tracking.lease import own_lease

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

    def _memory(self) -> float:
        """Resident MiB of this process."""
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _take(self) -> None:
        taken = self._ledger.take(own_lease())
        assert taken is not None
        self._held.append(taken)

    def _finish(self) -> None:
        taken = self._held.popleft()
        self._ledger.finish(taken, TrialEnd(state="complete", values=(value_of(taken),)))

    def finished(self, trials: int) -> int:
        """Take and end so many trials."""
        for _ in range(trials):
            self._take()
            self._finish()
        return trials

    def running(self, trials: int) -> int:
        """Hold so many running trials."""
        while len(self._held) < trials:
            self._take()
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

    def work(self, seconds: int) -> tuple[int, float]:
        """Take a trial and end the one held longest, for so long.

        Returns how many were taken, and the processor's seconds that they took.
        """
        end, taken, used = time.monotonic() + seconds, 0, time.process_time()
        while time.monotonic() < end:
            self._take()
            self._ledger.progress()
            self._finish()
            taken += 1
        return taken, time.process_time() - used

    def memory(self, _: int) -> float:
        """Return the MiB of this process's memory that the study has taken since it was opened."""
        self._ledger.trials()
        self._ledger.progress()
        return self._memory() - self._before


def main() -> None:
    """Obey the orders of standard input."""
    Space.suggest = timed_suggest  # type: ignore[method-assign] # our own, and to be timed
    driver = Driver(sys.argv[1], json.loads(sys.argv[2]))
    for line in sys.stdin:
        order, number = line.split()
        print(json.dumps(getattr(driver, order)(int(number))), flush=True)


if __name__ == "__main__":
    main()
