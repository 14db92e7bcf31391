"""How far a long command has come, told now and then on standard error."""

import sys
import time
from collections.abc import Callable

from pipeline.terminal import duration

PATIENCE = 2.0
"""Seconds before anything is said."""


class RowsDone:
    """Says how many rows are done: on one line of a terminal, on a line each time elsewhere.

    Args:
        verbose: 0 silent, 1 a line that is written over, 2 a line each time.
        total: Rows in all; None = nobody knows.
        clock: Gives seconds.
    """

    def __init__(
        self, *, verbose: int, total: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self._verbose = verbose
        self._clock = clock
        self._began = clock()
        self._next = self._began + PATIENCE
        self._said = False

    def __call__(self, rows: int) -> None:
        """Hear how many rows are done; say so if it is time."""
        now = self._clock()
        if self._verbose == 0 or now < self._next:
            return
        self._next = now + (0.5 if self._verbose == 1 else 10.0)
        self._said = True
        of = "" if self.total is None else f" of {self.total:,}"
        spent = now - self._began
        line = f"{rows:,}{of} rows, {rows / spent:,.0f} a second, {duration(spent)}"
        sys.stderr.write(f"\r{line}\x1b[K" if self._verbose == 1 else f"{line}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Take the line away that is written over."""
        if self._said and self._verbose == 1:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
