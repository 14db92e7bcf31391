"""The process of a worker, which trains a study's trials; `pool.py` is the driver's side of it.

`python -m pipeline.study.workers.worker` takes orders from the driver that started it and answers
them. SIGINT and SIGTERM stop only the current job; the process ends when its driver is gone, even
in the middle of a job.

If torchrun has started the process as one of several ranks, the first rank serves the orders, and
the others train the same trials. If a rank dies or gets SIGTERM, all ranks end. They communicate
through torchrun's store, so that no training step waits for messages.
"""

import gc
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pipeline.base.ends import End, TrialEnd
from pipeline.base.errors import Interrupted
from pipeline.base.processes.child import Child, new_process, python_module, torchrun
from pipeline.base.processes.fork_server import ForkServer, launch_with_torch
from pipeline.base.processes.parent import Parent
from pipeline.base.ranks import ALONE, HERE_ALONE, Rank, launched_rank
from pipeline.base.signals import end_with_parent, stop
from pipeline.study import messages
from pipeline.study.messages import Job, Rung, TestJob, TestResult, WorkerDied

if TYPE_CHECKING:
    from pipeline.study.workers.trial import Ranks, TrialTrainer

WORKER = "pipeline.study.workers.worker"
TRIAL = "pipeline.study.workers.trial"
#: Environment of every worker: no imports from its folder, and ranks that meet on this machine.
#: A fork leaves the folder out of `sys.path` instead.
DEFAULTS = {"PYTHONSAFEPATH": "1", **HERE_ALONE}
#: Prefixes of variables with which srun and torchrun give a driver a rank, not to its workers.
LAUNCHERS = ("SLURM_", "TORCHELASTIC_")

Order = dict[str, Any]
_Result = TypeVar("_Result", TrialEnd, TestResult)


def worker_command(ranks: int = 1) -> tuple[str, ...]:
    """Return the command line of a worker, whose ranks train each trial together."""
    return python_module(WORKER) if ranks == 1 else torchrun(WORKER, ranks)


def worker_process(
    environment: Mapping[str, str], command: Sequence[str], server: ForkServer | None = None
) -> Child:
    """Return a worker's process on this machine, not started yet.

    `environment` is added to the variables of this process; `command` is from `worker_command`.
    `server` is from `worker_server`; `None` = the process loads its libraries itself.
    """
    launch = new_process if server is None else server.launch
    return Child(command, environment={**_variables(), **environment}, launch=launch)


def worker_server() -> ForkServer:
    """Return a server that forks workers of one rank, not started yet."""
    return ForkServer(WORKER, TRIAL, environment=_variables(), launch=launch_with_torch())


def _variables() -> dict[str, str | None]:
    variables: dict[str, str | None] = {}
    for name, value in DEFAULTS.items():
        if name not in os.environ:
            variables[name] = value
    for name in os.environ:
        if name.startswith(LAUNCHERS):
            variables[name] = None  # which removes it
    return variables


def main() -> None:
    """Serve orders until the driver is gone."""
    rank = launched_rank() or ALONE
    process = WorkerProcess(rank, Parent.claim())
    try:
        from pipeline.study.workers.trial import Ranks, TrialTrainer

        trainer = TrialTrainer()
        ranks = None if rank.world == 1 else Ranks(rank)
    except Exception as error:  # whatever a broken installation raises
        process.end(f"{type(error).__name__}: {' '.join(str(error).split())}")
    gc.collect()
    gc.freeze()  # loaded modules stay; scanning them again would cost each trial time
    if ranks is not None and not rank.leads:
        end_with_parent()
        follow(trainer, ranks)
    process.serve(trainer, ranks)


def follow(trainer: "TrialTrainer", ranks: "Ranks") -> NoReturn:
    """Train what the first rank trains, until a trial fails here other than by divergence."""
    end = End.COMPLETE
    while end in (End.COMPLETE, End.DIVERGED):
        ended = trainer.follow(ranks.next_job())
        ranks.report(ended)
        trainer.tidy()
        end = ended.end
    os._exit(0)  # with another code, torchrun would end the first rank before its last answer


class WorkerProcess:
    """The process of a worker, which handles signals, serves orders and sends answers.

    If a rank seems to have failed, torchrun ends all ranks with SIGTERM.
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
            driver.heartbeat = {"say": "beat"}
            # torchrun has started this rank and the others, which wait for each other.
            watched = os.getpid() if rank.world == 1 else os.getppid()
            driver.listen(self._receive, exit_code=self._exit_code, watched=watched)

    def serve(self, trainer: "TrialTrainer", ranks: "Ranks | None") -> NoReturn:
        """Serve the driver's orders, one job at a time; `ranks=None` = train in this process."""
        self._driver.say({"say": "ready", "pid": os.getpid()})
        while True:
            self._driver.heartbeat = {"say": "beat"}
            order = self._orders.get()
            if order["do"] == "train":
                self._train(trainer, messages.read(Job, order["job"]), ranks)
            elif order["do"] == "test":
                test = partial(trainer.test, messages.read(TestJob, order["job"]))
                tested = self._interruptible(test, TestResult(problem="interrupted"))
                self._driver.say(messages.encode(tested))
            # A verdict that arrives after its trial has ended is ignored.
            trainer.tidy()

    def end(self, why: str, *last: TrialEnd) -> NoReturn:
        """Send the answers `last` and the reason why this process can't go on, and exit."""
        self._driver.say(*map(messages.encode, last), messages.encode(WorkerDied(message=why)))
        os._exit(1)

    def _train(self, trainer: "TrialTrainer", job: Job, ranks: "Ranks | None") -> None:
        """Train a trial and send its end for all ranks; exit if they can't train another one."""

        def prunes(rung: Rung) -> bool:
            self._is_speaking = True
            self._driver.say(messages.encode(rung))
            self._is_speaking = False
            stop.check()
            return bool(self._orders.get()["prune"])

        def reached(epoch: int, value: float | None) -> None:
            self._driver.heartbeat = {
                "say": "beat",
                "trial": job.number,
                "epoch": epoch,
                "value": value,
            }

        if ranks is not None:
            ranks.send(job)
        interrupted = TrialEnd(end=End.INTERRUPTED)
        end = self._interruptible(lambda: trainer.train(job, prunes, reached), interrupted)
        if end.end is End.INTERRUPTED:
            recorded = messages.end_in_journal(Path(job.folder))
            if recorded is not None and recorded.end is not End.INTERRUPTED:
                end = recorded  # the signal came when the trial had ended
        if ranks is not None:
            common_end, can_go_on = ranks.agree(end)
            reason = "its ranks can no longer train together"
            if common_end is None:
                self.end(reason)
            if not can_go_on:
                self.end(reason, common_end)
            end = common_end
        self._driver.say(messages.encode(end))

    def _receive(self, order: Order) -> None:
        if order["do"] == "quit":
            os._exit(self._exit_code)
        if order["do"] == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            self._orders.put(order)

    def _interruptible(self, work: Callable[[], _Result], interrupted: _Result) -> _Result:
        """Return the result of `work`, or `interrupted` if SIGINT or SIGTERM has stopped it."""
        result: _Result | None = None
        stop.begin()
        self._is_interruptible = True
        try:
            result = work()
            self._is_interruptible = False
        except Interrupted as error:  # with a result, the signal came after the work
            result = result or replace(interrupted, exit_code=error.exit_code)
        self._is_interruptible = False
        return result

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        # A forked data loader has this handler too, but ends with the process that it serves.
        if self._is_interruptible and stop.signal_number is None and os.getpid() == self._pid:
            stop.signal_number = number
            if not self._is_speaking:  # else a message could be sent in part, or twice
                raise Interrupted(number)


if __name__ == "__main__":
    main()
