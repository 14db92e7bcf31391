"""The process of a worker, which trains a study's trials; `pool.py` is the driver's side of it.

`python -m pipeline.study.workers.worker` takes orders from the driver that started it and answers
them. SIGINT and SIGTERM stop only the current job; the process ends when its driver is gone, even
in the middle of a job.

If several processes train each trial, this one starts the others, as a run does. It ends if one of
them dies, or if they can't train another trial together.
"""

import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pipeline.base.ends import End, TrialEnd
from pipeline.base.errors import Interrupted
from pipeline.base.processes.child import Child, new_process, python_module
from pipeline.base.processes.fork_server import SAFE_PATH, ForkServer, fork_here, launch_with_torch
from pipeline.base.processes.parent import Parent
from pipeline.base.signals import stop
from pipeline.study import messages
from pipeline.study.messages import Job, Rung, TestJob, TestResult, WorkerDied

if TYPE_CHECKING:
    from pipeline.running.peers import Peers
    from pipeline.study.workers.trial import TrialTrainer

WORKER = "pipeline.study.workers.worker"
TRIAL = "pipeline.study.workers.trial"
#: Variable with the number of processes that train each trial of a worker together.
PROCESSES = "PIPELINE_PROCESSES"
#: Prefixes of variables with which srun and torchrun give a driver a rank, not to its workers.
LAUNCHERS = ("SLURM_", "TORCHELASTIC_")
RANKS_LOST = "its ranks can no longer train together"

Order = dict[str, Any]
_Result = TypeVar("_Result", TrialEnd, TestResult)


def worker_process(environment: Mapping[str, str], server: ForkServer | None = None) -> Child:
    """Return a worker's process on this machine, not started yet.

    `environment` is added to the variables of this process. `server` is from `worker_server`;
    `None` = the process loads its libraries itself.
    """
    launch = new_process if server is None else server.launch
    variables = {**_variables(), **environment}
    return Child(python_module(WORKER), environment=variables, launch=launch)


def worker_server() -> ForkServer:
    """Return a server that forks workers, not started yet."""
    return ForkServer(WORKER, TRIAL, environment=_variables(), launch=launch_with_torch())


def _variables() -> dict[str, str | None]:
    variables: dict[str, str | None] = {PROCESSES: "1", SAFE_PATH: "1"}
    for name in os.environ:
        if name.startswith(LAUNCHERS):
            variables[name] = None  # which removes it
    return variables


def main() -> None:
    """Serve orders until the driver is gone."""
    process = WorkerProcess(Parent.claim())
    try:
        # Before the thread of `listen`, since a process with threads can't fork.
        peers = process.start_peers(int(os.environ[PROCESSES]))
        process.listen()
        from pipeline.study.workers.trial import TrialTrainer

        trainer = TrialTrainer(peers)
    except Exception as error:  # whatever a broken installation raises
        process.end(f"{type(error).__name__}: {' '.join(str(error).split())}")
    gc.collect()
    gc.freeze()  # loaded modules stay; scanning them again would cost each trial time
    process.serve(trainer, peers)


class WorkerProcess:
    """The process of a worker, which handles signals, serves orders and sends answers."""

    def __init__(self, driver: Parent) -> None:
        self._driver = driver
        self._orders: SimpleQueue[Order] = SimpleQueue()
        self._is_interruptible = False
        self._is_speaking = False
        self._pid = os.getpid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._interrupt)

    def listen(self) -> None:
        """Receive orders on a thread, which tells the driver once a second that this lives."""
        self._driver.heartbeat = {"say": "beat"}
        self._driver.listen(self._receive, exit_code=0)

    def start_peers(self, world: int) -> "Peers | None":
        """Start the others of `world` processes; `None` = this process trains alone."""
        if world == 1:
            return None
        from pipeline.running.peers import Peers

        # A fork of the server has loaded all libraries, and has not used them yet.
        launch = fork_here if TRIAL in sys.modules else new_process
        peers = Peers(world, keeps=True, launch=launch, on_death=lambda: self.end(RANKS_LOST))
        peers.start()
        return peers

    def serve(self, trainer: "TrialTrainer", peers: "Peers | None") -> NoReturn:
        """Serve the driver's orders, one job at a time; `peers` are those of the trainer."""
        self._driver.say({"say": "ready"})
        while True:
            self._driver.heartbeat = {"say": "beat"}
            order = self._orders.get()
            if order["do"] == "train":
                self._train(trainer, messages.read(Job, order["job"]), peers)
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

    def _train(self, trainer: "TrialTrainer", job: Job, peers: "Peers | None") -> None:
        """Train a trial and send its end; exit if the ranks can't train another one."""

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

        interrupted = TrialEnd(end=End.INTERRUPTED)
        end = self._interruptible(lambda: trainer.train(job, prunes, reached), interrupted)
        if end.end is End.INTERRUPTED:
            recorded = messages.end_in_journal(Path(job.folder))
            if recorded is not None and recorded.end is not End.INTERRUPTED:
                end = recorded  # the signal came when the trial had ended
        if peers is not None:
            is_stopped = end.end is End.INTERRUPTED  # the others wait in the middle of a step
            if is_stopped or not peers.can_go_on(end.end):
                self.end(RANKS_LOST, end)
        self._driver.say(messages.encode(end))

    def _receive(self, order: Order) -> None:
        if order["do"] == "quit":
            os._exit(0)
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
