"""Waits for a database server that does not answer, and then does again what it cut short."""

import random
import sys
import time
from collections.abc import Callable

from pipeline.signals import stop
from pipeline.study.ledger.storage_faults import ServerGoneError
from pipeline.study.ledger.store import Result

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
"""Well below `sweep.grace`, so that nobody takes a driver for dead that waits a little longer."""
LOOK_SECONDS = 0.2


class Patience:
    """Repeats calls to a server while it does not answer.

    Args:
        seconds: How long it is waited for. What is left of that is shared by all calls until the
            server answers again, so that a command without hope ends.
        name: The database, as its user knows it.
    """

    def __init__(self, seconds: float, name: str) -> None:
        self._seconds = seconds
        self._name = name
        self._gone_at: float | None = None

    def call(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns, once the server lets it end.

        Args:
            work: Can be repeated, also where it was done before and nobody was told.

        Raises:
            ServerGoneError: The patience is over, or a signal asked for a stop.
        """
        pause = 0.0  # a server that has restarted meanwhile answers at once
        while True:
            try:
                result = work()
            except ServerGoneError as error:
                left = self._seconds_left()
                if left <= 0:
                    raise ServerGoneError(self._last_word(error)) from error
                if pause == FIRST_PAUSE:
                    self._tell(f"warning: {error}", f"waiting for it, {self._seconds:g} s at most")
                spread = random.uniform(0.5, 1.0)  # many drivers do not come back at once
                _sleep(min(left, pause * spread))
                pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * pause))
            else:
                if pause > FIRST_PAUSE:
                    self._tell(f"note: {self._name} answers again", "the study goes on")
                self._gone_at = None
                return result

    def _seconds_left(self) -> float:
        now = time.monotonic()
        if self._gone_at is None:
            self._gone_at = now
        return 0.0 if stop.signal_number is not None else self._gone_at + self._seconds - now

    def _last_word(self, error: ServerGoneError) -> str:
        waited = (
            f", and sweep.storage_patience={self._seconds:g} s are over" if self._seconds else ""
        )
        return f"{error}{waited}; see that it runs, then go on with the same command"

    def _tell(self, what: str, then: str) -> None:
        print(f"{what}; {then}", file=sys.stderr, flush=True)


def _sleep(seconds: float) -> None:
    """Sleep, unless a signal asks for a stop that its handler only notes."""
    end = time.monotonic() + seconds
    while stop.signal_number is None and (left := end - time.monotonic()) > 0:
        time.sleep(min(LOOK_SECONDS, left))
