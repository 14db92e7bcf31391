"""The process that trains a study's trials: `python -m pipeline.study.workers.worker`.

It takes orders as JSON lines on its standard input and answers with messages on its standard
output. SIGINT and SIGTERM stop the trial in hand and nothing else; the process ends when nobody
is left to give an order, also in the middle of a trial.

Where torchrun has started it as one of several ranks, the first serves the orders, and the others
train what it does. A rank that dies, or SIGTERM to one of them, ends all.
"""

import gc
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.errors import Interrupted
from pipeline.ranks import ALONE, Rank, launched_rank
from pipeline.signals import end_with_parent, stop
from pipeline.study.trial_end import TrialEnd
from pipeline.study.workers.job import Job, TestJob
from pipeline.study.workers.messages import Beat, Gone, Message, Ready, Rung, Tested, encode

if TYPE_CHECKING:
    from pipeline.study.workers.fellows import Fellows
    from pipeline.study.workers.trial import Bench

BEAT_SECONDS = 1.0

Order = dict[str, Any]


def main() -> None:
    """Serve orders until nobody is left to give one."""
    rank = launched_rank() or ALONE
    interruption = Interruption(rank)
    voice, inbox = Voice(claim_output()), Inbox(_claim_input(), rank)
    if rank.leads:
        inbox.start()
    try:
        from pipeline.study.workers.trial import Bench

        bench = Bench()
        fellows = _fellows(rank)
    except Exception as error:  # whatever a broken installation raises
        voice.say(Gone(message=f"{type(error).__name__}: {' '.join(str(error).split())}"))
        os._exit(1)
    gc.collect()
    gc.freeze()  # what is loaded stays; looking through it again would cost each trial time
    if fellows is not None and not rank.leads:
        end_with_parent()
        follow(fellows, bench)
    voice.say(Ready())
    Beats(voice).start()
    at = Place(bench, voice, inbox, interruption, fellows)
    while True:
        carry_out(inbox.next_order(), at)


def follow(fellows: "Fellows", bench: "Bench") -> NoReturn:
    """Train what the first rank trains, until it fails here for a reason of its own."""
    reason = None
    while reason in (None, "diverged"):
        word = bench.follow(fellows.next_order())
        fellows.tell(word)
        bench.tidy()
        reason = word["reason"]
    os._exit(0)  # with any other code torchrun would end the first rank before it has said all


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker works with, and whom it speaks with."""

    bench: "Bench"
    voice: "Voice"
    inbox: "Inbox"
    interruption: "Interruption"
    fellows: "Fellows | None" = None


def carry_out(order: Order, at: Place) -> None:
    """Do what one order says; a verdict that comes after its trial's end says nothing."""
    if order["do"] == "train":
        job = Job.from_json(order["job"])
        if at.fellows is None:
            at.voice.say(_trained(job, at))
        else:
            at.fellows.order(job)
            _say_together(_trained(job, at), at.fellows, at.voice)
    elif order["do"] == "test":
        at.voice.say(_tested(TestJob.from_json(order["job"]), at))
    at.bench.tidy()


def _say_together(ended: TrialEnd, fellows: "Fellows", voice: "Voice") -> None:
    """Say how a trial ended for all ranks; where they can't go on, others take their place."""
    judged, go_on = fellows.judged(ended)
    if go_on and judged is not None:
        voice.say(judged)
        return
    told = [] if judged is None else [judged]
    voice.say(*told, Gone(message="its ranks can't train together any more"))
    os._exit(1)


def _fellows(rank: Rank) -> "Fellows | None":
    if rank.world == 1:
        return None
    from pipeline.study.workers.fellows import Fellows

    return Fellows(rank)


def _trained(job: Job, at: Place) -> TrialEnd:
    ended: TrialEnd | None = None

    def prunes(rung: Rung) -> bool:
        at.voice.say(rung)
        return at.inbox.next_verdict()

    try:
        with at.interruption.allowed():
            ended = at.bench.train(job, prunes)
    except Interrupted as error:  # it came between the trial's end and here
        ended = ended or TrialEnd(state="failed", reason="interrupted", exit_code=error.exit_code)
    return ended


def _tested(job: TestJob, at: Place) -> Tested:
    tested: Tested | None = None
    try:
        with at.interruption.allowed():
            tested = at.bench.test(job)
    except Interrupted as error:
        tested = tested or Tested(problem="interrupted", exit_code=error.exit_code)
    return tested


class Interruption:
    """Turns SIGINT and SIGTERM into `Interrupted` where there is something to stop.

    Args:
        rank: SIGTERM ends one of several ranks: by it torchrun says that another one has died.
    """

    def __init__(self, rank: Rank = ALONE) -> None:
        self._allowed = False
        self._owner = os.getpid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, self._stop if rank.leads else signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._stop if rank.world == 1 else signal.SIG_DFL)

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

    def say(self, *messages: Message) -> None:
        """Write messages, all at once; a driver that is gone shows on the other pipe."""
        line = b"".join(map(encode, messages))
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
        rank: Of a process that leads others; torchrun ends those where it seems to have failed.
    """

    def __init__(self, descriptor: int, rank: Rank = ALONE) -> None:
        super().__init__(name="inbox", daemon=True)
        self._descriptor = descriptor
        self._code = int(rank.world > 1)
        self._orders: SimpleQueue[Order] = SimpleQueue()

    def run(self) -> None:
        """Read until the end."""
        rest = b""
        while content := os.read(self._descriptor, 1 << 16):
            *lines, rest = (rest + content).split(b"\n")
            for line in lines:
                order: Order = json.loads(line)
                if order["do"] == "quit":
                    os._exit(self._code)
                if order["do"] == "interrupt":
                    os.kill(os.getpid(), signal.SIGINT)
                else:
                    self._orders.put(order)
        os._exit(self._code)

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


def claim_output() -> int:
    """Return a private copy of standard output, and silence what libraries print."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def _claim_input() -> int:
    """Return a private copy of standard input, of which nobody else reads a word."""
    orders = os.dup(0)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    return orders


if __name__ == "__main__":
    main()
