"""The process that trains a study's trials: `python -m pipeline.study.workers.worker`.

It takes orders as JSON lines on its standard input and answers with messages on its standard
output. SIGINT and SIGTERM stop the trial in hand and nothing else; the process ends when nobody
is left to give an order, also in the middle of a trial.
"""

import gc
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any

from pipeline.errors import Interrupted
from pipeline.signals import stop
from pipeline.study.workers.job import Job, TestJob
from pipeline.study.workers.messages import Beat, Ended, Gone, Message, Ready, Rung, Tested, encode
from pipeline.tracking.recorder import claim_output

if TYPE_CHECKING:
    from pipeline.study.workers.trial import Bench

BEAT_SECONDS = 1.0

Order = dict[str, Any]


def main() -> None:
    """Serve orders until nobody is left to give one."""
    interruption = Interruption()
    voice, inbox = Voice(claim_output()), Inbox(_claim_input())
    inbox.start()
    try:
        from pipeline.study.workers.trial import Bench

        bench = Bench()
    except Exception as error:  # whatever a broken installation raises
        voice.say(Gone(message=f"{type(error).__name__}: {' '.join(str(error).split())}"))
        os._exit(1)
    gc.collect()
    gc.freeze()  # what is loaded stays; looking through it again would cost each trial time
    voice.say(Ready())
    Beats(voice).start()
    while True:
        carry_out(inbox.next_order(), bench, voice, inbox, interruption)


def carry_out(
    order: Order, bench: "Bench", voice: "Voice", inbox: "Inbox", interruption: "Interruption"
) -> None:
    """Do what one order says; a verdict that comes after its trial's end says nothing."""
    if order["do"] == "train":

        def prunes(rung: Rung) -> bool:
            voice.say(rung)
            return inbox.next_verdict()

        voice.say(_trained(Job.from_json(order["job"]), prunes, bench, interruption))
    elif order["do"] == "test":
        voice.say(_tested(TestJob.from_json(order["job"]), bench, interruption))
    bench.tidy()


def _trained(job: Job, prunes: Any, bench: "Bench", interruption: "Interruption") -> Ended:
    ended: Ended | None = None
    try:
        with interruption.allowed():
            ended = bench.train(job, prunes)
    except Interrupted as error:  # it came between the trial's end and here
        ended = ended or Ended(state="failed", reason="interrupted", exit_code=error.exit_code)
    return ended


def _tested(job: TestJob, bench: "Bench", interruption: "Interruption") -> Tested:
    tested: Tested | None = None
    try:
        with interruption.allowed():
            tested = bench.test(job)
    except Interrupted as error:
        tested = tested or Tested(problem="interrupted", exit_code=error.exit_code)
    return tested


class Interruption:
    """Turns SIGINT and SIGTERM into `Interrupted` where there is something to stop."""

    def __init__(self) -> None:
        self._allowed = False
        self._owner = os.getpid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let the body be interrupted, once."""
        stop.begin()
        self._allowed = True
        try:
            yield
        finally:
            self._allowed = False

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        # A forked reader of data ends with the process that it reads for.
        if self._allowed and stop.signal_number is None and os.getpid() == self._owner:
            stop.signal_number = number
            raise Interrupted(number)


class Voice:
    """Says one message at a time, whole.

    Args:
        descriptor: The pipe to the driver.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def say(self, message: Message) -> None:
        """Write a message; a driver that is gone shows on the other pipe."""
        line = encode(message)
        with self._lock:
            while line:
                try:
                    line = line[os.write(self._descriptor, line) :]
                except OSError:
                    return


class Inbox(threading.Thread):
    """Reads orders as they come, and ends the process when none can come any more.

    Args:
        descriptor: The pipe from the driver.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(name="inbox", daemon=True)
        self._descriptor = descriptor
        self._orders: SimpleQueue[Order] = SimpleQueue()

    def run(self) -> None:
        """Read until the end."""
        rest = b""
        while content := os.read(self._descriptor, 1 << 16):
            *lines, rest = (rest + content).split(b"\n")
            for line in lines:
                order: Order = json.loads(line)
                if order["do"] == "quit":
                    os._exit(0)
                self._orders.put(order)
        os._exit(0)

    def next_order(self) -> Order:
        """Wait for an order."""
        return self._orders.get()

    def next_verdict(self) -> bool:
        """Wait for the verdict on the trial in hand; those on an earlier one came before it."""
        return bool(self._orders.get()["prune"])


class Beats(threading.Thread):
    """Says once a second that the process runs, and ends it once its parent is gone.

    Args:
        voice: Says it.
    """

    def __init__(self, voice: Voice) -> None:
        super().__init__(name="beats", daemon=True)
        self._voice = voice
        self._parent = os.getppid()

    def run(self) -> None:
        """Beat for as long as there is somebody to hear it."""
        while True:
            time.sleep(BEAT_SECONDS)
            if os.getppid() != self._parent:
                os._exit(0)
            self._voice.say(Beat())


def _claim_input() -> int:
    """Return a private copy of standard input, of which nobody else reads a word."""
    orders = os.dup(0)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    return orders


if __name__ == "__main__":
    main()
