"""Signals that ask for an orderly stop, turned into one exception."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.base.errors import Interrupted

WATCH_SECONDS = 1.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether a stop was requested; kept beside the exception, which a library may swallow."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget an earlier stop; from now on the stop is that of this process."""
        self.signal_number: int | None = None
        self.is_reported = False
        """Whether the user has been told what was stopped."""
        self._owner = os.getpid()
        self._defers = False

    def __call__(self, signal_number: int, _frame: FrameType | None) -> None:
        """Raise `Interrupted` at the first signal; end the process at the second."""
        if os.getpid() != self._owner:
            return  # a forked data loader, which ends with the process that it reads for
        if self.signal_number is not None:
            if signal_number == signal.SIGHUP:
                return  # a closing terminal sends several: its own and its shell's
            # Files are written under temporary names, so no file is left half-written.
            os._exit(128 + signal_number)
        self.signal_number = signal_number
        if not self._defers:
            raise Interrupted(signal_number)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the body check `signal_number` itself; a stop is raised after the body."""
        self._defers = True
        try:
            yield
        finally:
            self._defers = False
        self.check()

    def report(self, line: str) -> None:
        """Print what was stopped and how to continue; callers further out then print nothing."""
        from pipeline.base.terminal import folded  # imports Rich, which most processes do without

        self.is_reported = True
        print(folded(line, sys.stderr), file=sys.stderr, flush=True)

    def check(self) -> None:
        """Raise `Interrupted` again if a stop was requested and a library swallowed it."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)


stop = Stop()


def end_with_parent() -> None:
    """End this process once its parent has ended, whatever this process is doing."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


@contextmanager
def orderly_stop() -> Iterator[Stop]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted` during the body, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    stop.begin()
    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
