"""The process that trains a study's trials: `python -m pipeline.study.workers.worker`.

It takes orders from the driver that started it and answers them. SIGINT and SIGTERM stop the job
in hand and nothing else; the process ends when its driver is gone, also in the middle of a job.

Where torchrun has started it as one of several ranks, the first serves the orders, and the others
train what it does. A rank that dies, or SIGTERM to one of them, ends all. The ranks speak through
the store in which torchrun has let them meet, so that no step of a training waits.
"""

import gc
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pipeline.errors import Interrupted
from pipeline.processes.child import Child, Parent, python_module, torchrun
from pipeline.ranks import ALONE, HERE_ALONE, Rank, launched_rank
from pipeline.signals import end_with_parent, stop
from pipeline.study.messages import Gone, Job, Rung, Tested, TestJob, TrialEnd, encode, read

if TYPE_CHECKING:
    from pipeline.study.workers.trial import TrialTrainer

WORKER = "pipeline.study.workers.worker"
#: Variables of every worker: it imports nothing from its folder, and its ranks meet here alone.
DEFAULTS = {"PYTHONSAFEPATH": "1", **HERE_ALONE}
#: Variables by which srun and torchrun give a driver a rank, which its workers don't have.
LAUNCHERS = ("SLURM_", "TORCHELASTIC_")
#: How long the other ranks may take to report how a trial ended, after the first has noticed.
REPORT_SECONDS = 10.0
#: After which a rank that waits for an order asks again.
WAIT = timedelta(minutes=5)

Order = dict[str, Any]
_Result = TypeVar("_Result", TrialEnd, Tested)


def worker_command(ranks: int = 1) -> tuple[str, ...]:
    """Return the words for Python that start a worker.

    Args:
        ranks: Processes that train each trial together.
    """
    return python_module(WORKER) if ranks == 1 else torchrun(WORKER, ranks)


def worker_process(environment: Mapping[str, str], command: Sequence[str]) -> Child:
    """Return the process of a worker on this machine, not started yet.

    Args:
        environment: Variables beside those of this process, such as CUDA_VISIBLE_DEVICES.
        command: Words for Python.
    """
    defaults = {name: value for name, value in DEFAULTS.items() if name not in os.environ}
    launched = dict.fromkeys(name for name in os.environ if name.startswith(LAUNCHERS))
    return Child(command, environment={**defaults, **launched, **environment})


def main() -> None:
    """Serve orders until nobody is left to give one."""
    rank = launched_rank() or ALONE
    process = WorkerProcess(rank, Parent.claim())
    try:
        from pipeline.study.workers.trial import TrialTrainer

        trainer = TrialTrainer()
        ranks = None if rank.world == 1 else Ranks(rank)
    except Exception as error:  # whatever a broken installation raises
        process.end(f"{type(error).__name__}: {' '.join(str(error).split())}")
    gc.collect()
    gc.freeze()  # what is loaded stays; looking through it again would cost each trial time
    if ranks is not None and not rank.leads:
        end_with_parent()
        follow(trainer, ranks)
    process.serve(trainer, ranks)


def follow(trainer: "TrialTrainer", ranks: "Ranks") -> NoReturn:
    """Train what the first rank trains, until it fails here for a reason of its own."""
    reason = None
    while reason in (None, "diverged"):
        report = trainer.follow(ranks.next_job())
        ranks.report(report)
        trainer.tidy()
        reason = report["reason"]
    os._exit(0)  # with any other code torchrun would end the first rank before it has said all


class WorkerProcess:
    """The process of a worker: its signals, its orders, its answers.

    Args:
        rank: This process. torchrun ends all ranks where one seems to have failed, and says by
            SIGTERM that another one has died.
        driver: Gives the orders.
    """

    def __init__(self, rank: Rank, driver: Parent) -> None:
        self._driver = driver
        self._orders: SimpleQueue[Order] = SimpleQueue()
        self._exit_code = int(rank.world > 1)
        self._is_interruptible = False
        self._is_speaking = False
        self._pid = os.getpid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, self._interrupt if rank.leads else signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._interrupt if rank.world == 1 else signal.SIG_DFL)
        if rank.leads:
            driver.listen(self._receive, exit_code=self._exit_code)

    def serve(self, trainer: "TrialTrainer", ranks: "Ranks | None") -> NoReturn:
        """Do what the driver orders, one job at a time.

        Args:
            trainer: Trains and tests.
            ranks: Those that train each trial together with this one; `None` = it trains alone.
        """
        self._driver.say({"say": "ready"})
        self._driver.heartbeat = {"say": "beat"}
        while True:
            order = self._orders.get()
            if order["do"] == "train":
                job = read(Job, order["job"])
                if ranks is not None:
                    ranks.send(job)
                self._end(self._train(trainer, job), ranks)
            elif order["do"] == "test":
                test = partial(trainer.test, read(TestJob, order["job"]))
                tested = self._interruptible(test, Tested(problem="interrupted"))
                self._driver.say(encode(tested))
            # A verdict that comes after its trial's end decides nothing.
            trainer.tidy()

    def end(self, why: str, *last: TrialEnd) -> NoReturn:
        """Say the last answers, and end this process.

        Args:
            why: Why it can't go on.
            last: How the job in hand ended.
        """
        self._driver.say(*map(encode, last), encode(Gone(message=why)))
        os._exit(1)

    def _train(self, trainer: "TrialTrainer", job: Job) -> TrialEnd:
        def prunes(rung: Rung) -> bool:
            self._is_speaking = True
            self._driver.say(encode(rung))
            self._is_speaking = False
            stop.check()
            return bool(self._orders.get()["prune"])

        interrupted = TrialEnd(state="failed", reason="interrupted")
        return self._interruptible(lambda: trainer.train(job, prunes), interrupted)

    def _end(self, end: TrialEnd, ranks: "Ranks | None") -> None:
        """Say how a trial ended for all ranks; where they can't go on, others take their place."""
        if ranks is None:
            self._driver.say(encode(end))
            return
        common, can_go_on = ranks.agree(end)
        if common is None or not can_go_on:
            last = () if common is None else (common,)
            self.end("its ranks can't train together any more", *last)
        self._driver.say(encode(common))

    def _receive(self, order: Order) -> None:
        if order["do"] == "quit":
            os._exit(self._exit_code)
        if order["do"] == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            self._orders.put(order)

    def _interruptible(self, work: Callable[[], _Result], interrupted: _Result) -> _Result:
        """Return what work comes to, which SIGINT and SIGTERM may interrupt, once."""
        result: _Result | None = None
        stop.begin()
        self._is_interruptible = True
        try:
            result = work()
            self._is_interruptible = False
        except Interrupted as error:  # it came between the end of the work and here
            result = result or replace(interrupted, exit_code=error.exit_code)
        self._is_interruptible = False
        return result

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        # A forked reader of data ends with the process that it reads for.
        if self._is_interruptible and stop.signal_number is None and os.getpid() == self._pid:
            stop.signal_number = number
            if not self._is_speaking:  # else half a message would be said, or one said twice
                raise Interrupted(number)


class Ranks:
    """The ranks of a worker that train each trial together.

    Args:
        rank: This one.
    """

    def __init__(self, rank: Rank) -> None:
        from torch._C._distributed_c10d import PrefixStore, TCPStore

        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=WAIT)
        self._rank = rank
        self._store = PrefixStore("trials", store)
        self._jobs = 0

    # ── the first rank ──────────────────────────────────────────────────────────────────────

    def send(self, job: Job) -> None:
        """Let the others train a trial, too."""
        self._store.set(f"job {self._jobs}", json.dumps(asdict(job)))
        self._jobs += 1

    def agree(self, end: TrialEnd) -> tuple[TrialEnd | None, bool]:
        """Return how a trial ended for all ranks, and whether they can train another one together.

        Args:
            end: How it ended for this one; that of another rank, if it failed first, counts.

        Returns:
            `None` for a trial that was lost with one of the processes.
        """
        if end.reason == "interrupted":  # the others wait in the middle of a step
            return end, False
        reports = self._reports()
        if end.state != "failed":
            return end, reports is not None and all(one["reason"] is None for one in reports)
        if reports is None:  # one of them is dead; a connection that breaks tells no more than that
            return (None if end.reason == "error" else end), False
        others = [one for one in reports if one["reason"] not in (None, "cut")]
        if end.reason == "error" and others:
            return TrialEnd(state="failed", **others[0]), False
        in_step = all(one["reason"] in (None, "diverged") for one in reports)
        return end, end.reason == "diverged" and in_step

    def _reports(self) -> list[dict[str, Any]] | None:
        from torch.distributed import DistStoreError

        keys = [f"end {self._jobs - 1} {number}" for number in range(1, self._rank.world)]
        try:
            self._store.wait(keys, timedelta(seconds=REPORT_SECONDS))
        except DistStoreError:
            return None
        return [json.loads(self._store.get(key)) for key in keys]

    # ── the others ──────────────────────────────────────────────────────────────────────────

    def next_job(self) -> Job:
        """Wait for the next trial."""
        from torch.distributed import DistStoreError

        while True:
            try:
                content = self._store.get(f"job {self._jobs}")
            except DistStoreError:
                continue
            self._jobs += 1
            return read(Job, json.loads(content))

    def report(self, report: dict[str, Any]) -> None:
        """Tell the first rank how a trial ended here.

        Args:
            report: `reason`, `message` and `exit_code` as `TrialEnd` has them; a reason of `cut`
                where another rank was first.
        """
        self._store.set(f"end {self._jobs - 1} {self._rank.number}", json.dumps(report))


if __name__ == "__main__":
    main()
