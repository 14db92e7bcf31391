"""A study's workers as its driver sees them: started, told what to train, heard, and ended."""

import math
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Self

from pipeline.base.errors import EnvironmentFaultError
from pipeline.base.processes.child import Child, ChildGoneError
from pipeline.base.processes.fork_server import ForkServer
from pipeline.base.processes.lease import Lease, LeaseWatch, is_local, status
from pipeline.study import messages
from pipeline.study.messages import Answer, Job, TestJob, TestResult, WorkerDied
from pipeline.study.workers.ray import RayProcess, cluster_of
from pipeline.study.workers.worker import PROCESSES, worker_process
from pipeline.tracking.facts import command_tags

if TYPE_CHECKING:
    from pipeline.study.ledger.rows import Row
    from pipeline.study.study_plan import StudyPlan

#: Number of workers in a row that die before they are ready, after which the study fails.
FAILED_STARTS = 3
BEAT_PATIENCE = 5.0
#: Seconds of silence after which it matters whether a worker computes: code that never lets another
#: thread run sends no heartbeat.
QUIET_SECONDS = 2.0
KILL_SECONDS = 15.0


class Worker:
    """A process that trains trials one after another; creating a worker starts it.

    It is usable once `is_ready`.
    `job` is the last trial that it was given, and `taken` is the trial's row in the study.
    `reached` has the trial's last known epoch, and the value of the first objective after it.
    `is_busy` tells whether the trial is still being trained, and `is_overdue` whether it was
    stopped for taking too long. `is_left` tells whether it is gone without having ended.

    Args:
        process: The process, not started yet; it ends with this process, wherever it runs.
        slot: Number of the worker in this driver, which its successor gets again.
        grace: Seconds without a sign of life after which it is stuck.
    """

    job: Job
    taken: "Row"
    reached: tuple[int, float | None]

    def __init__(
        self, process: Child | RayProcess, *, slot: int = 0, grace: float = math.inf
    ) -> None:
        process.start()
        self.slot = slot
        #: Whether it has loaded its libraries.
        self.is_ready = False
        self.is_gone = self.is_left = False
        self.is_busy = self.is_overdue = False
        self._process = process
        self._given_at = 0.0
        self._spoke_at = self._heard_at = 0.0
        self._killed_at = math.inf
        self._watch = LeaseWatch(grace)
        #: Number of its signs of life: messages, and looks at which it was computing.
        self._signs = 0

    @property
    def lease(self) -> Lease:
        """The lease of the process, which shows whether it is alive; known once it is ready."""
        return self._process.lease

    @property
    def place(self) -> str:
        """Its process id, and its machine if that is another one, as text."""
        if is_local(self.lease):
            return str(self.lease.pid)
        return f"{self.lease.pid} on {self.lease.host}"

    @property
    def number(self) -> int:
        """Number of the last trial that the worker was given."""
        return self.job.number

    @property
    def seconds(self) -> float:
        """Seconds since the worker was given its last trial."""
        return time.monotonic() - self._given_at

    @property
    def epochs(self) -> int | None:
        """Number of epochs that its last trial may train; `None` = not known."""
        most = self.job.config["trainer"]["max_epochs"]
        return most if isinstance(most, int) and most > 0 else None

    def fileno(self) -> int:
        """Return the file descriptor to wait on for answers."""
        return self._process.fileno()

    def train(self, job: Job) -> None:
        """Let the worker train a trial; it answers with Rung at each rung, and then TrialEnd."""
        self.job = job
        self._given_at = time.monotonic()
        self.reached = (0, None)
        self.is_busy = True
        self.is_overdue = False
        job = replace(job, tags={**command_tags(), **job.tags})
        self._process.send({"do": "train", "job": asdict(job)})

    def test(self, job: TestJob) -> None:
        """Let the worker test the kept weights of a trial; it answers with TestResult."""
        self._process.send({"do": "test", "job": asdict(job)})

    def verdict(self, prune: bool) -> None:
        """Answer a Rung with whether the trial is ended."""
        self._process.send({"do": "verdict", "prune": prune})

    def interrupt(self) -> None:
        """Stop the current job; the worker answers as usual and stays ready for more."""
        self._process.send({"do": "interrupt"})

    def kill(self) -> None:
        """Kill the process and whatever it has started, at once."""
        self._killed_at = min(self._killed_at, time.monotonic())
        self._process.kill()

    def quit(self) -> None:
        """End the process, even during a job, and wait until it is gone, or left."""
        if self.is_left:
            self._process.abandon()
        else:
            self._process.send({"do": "quit"})
            self.is_left = not self._process.close() and self._signs > 0
        self.is_gone = True

    def answers(self) -> list[Answer]:
        """Return the answers since the last call, `WorkerDied` last, once, if the process died.

        A process that SIGKILL has not ended within `KILL_SECONDS` is gone as well: it is left.
        """
        if self.is_gone:
            return []
        answers: list[Answer] = []
        for message in self._process.messages():
            self._spoke_at = time.monotonic()
            if message.get("stuck"):
                continue
            self._heard_at = self._spoke_at
            self._signs += 1
            if message["say"] == "ready":
                self.is_ready = True
            elif message["say"] != "beat":
                answers.append(messages.decode(message))
            elif self.is_busy and message.get("trial") == self.number:
                self.reached = (message["epoch"], message["value"])
        reports_end = any(isinstance(answer, WorkerDied) for answer in answers)
        if reports_end or self._process.has_ended:
            end = self._process.see_end()
            self.is_gone = True
            if not reports_end:
                answers.append(WorkerDied(message=end))
        elif time.monotonic() - self._killed_at > KILL_SECONDS:
            self.is_gone = self.is_left = True
            answers.append(WorkerDied(message="does not end, not even by SIGKILL"))
        return answers

    def is_stuck(self) -> bool:
        """Return whether a worker that has spoken shows no sign of life for `grace` seconds.

        A sign is any message, unless it says that the worker stands still, and computing. Time in
        which this process did not look, because it was stopped itself, does not count.
        """
        if not self._signs or self.is_gone or self._killed_at < math.inf:
            return False
        if time.monotonic() - self._spoke_at > QUIET_SECONDS and is_local(self.lease):
            self._signs += status(self.lease.pid) == "running"
        return self._watch.judge_counter(None, self._signs) is True

    def is_alive(self) -> bool:
        """Return whether the worker has sent a message within `BEAT_PATIENCE` seconds."""
        return time.monotonic() - self._heard_at < BEAT_PATIENCE

    def end_if_slower_than(self, seconds: float | None) -> None:
        """Interrupt a trial that takes longer than `seconds`; kill the worker if it goes on."""
        if seconds is None:
            return
        elapsed = self.seconds
        if elapsed > seconds and not self.is_overdue:
            self.is_overdue = True
            self.interrupt()
        elif elapsed > seconds + KILL_SECONDS:
            self.kill()


class WorkerPool:
    """The workers of this process, in slots counted from 0; all of them end with the context.

    Args:
        process: Returns the process for a slot, not started yet; `None` = one on this machine.
        server: What forks the processes, already started; `None` = each loads its libraries.
        grace: Seconds without a sign of life after which a worker is killed.
    """

    def __init__(
        self,
        process: Callable[[int], Child | RayProcess] | None = None,
        *,
        server: ForkServer | None = None,
        grace: float = math.inf,
    ) -> None:
        self._process = process or (lambda _slot: worker_process({}, server))
        self._server = server
        self._grace = grace
        self._workers: list[Worker] = []
        self._failed_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            self.dismiss(worker)

    def start(self, workers: int) -> None:
        """Start workers until there are so many of them; idle workers are not ended.

        While a fork server loads its libraries, none is started. Raises EnvironmentFaultError if it
        has died, or could not fork, several times in a row.
        """
        while len(self._workers) < workers and self._can_start():
            used_slots = {worker.slot for worker in self._workers}
            slot = min(set(range(len(used_slots) + 1)) - used_slots)
            try:
                self._workers.append(Worker(self._process(slot), slot=slot, grace=self._grace))
            except ChildGoneError as error:
                if not self.has_lost_server:  # whose end counts by itself
                    self._count_failed_start(str(error))
                return

    def _can_start(self) -> bool:
        """Return whether a worker can be started now; a server that has died is started again."""
        if self._server is None:
            return True
        self._server.listen()
        if self._server.has_ended and not self._workers:  # which all tell of their ends first
            self._count_failed_start(self._server.see_end())
            self._server.start()
        return self._server.is_loaded

    @property
    def has_lost_server(self) -> bool:
        """Whether the fork server has died, and the workers with it."""
        return self._server is not None and self._server.has_ended

    def idle(self) -> list[Worker]:
        """Return the workers that wait for a trial."""
        return [worker for worker in self._workers if worker.is_ready and not worker.is_busy]

    def busy(self) -> list[Worker]:
        """Return the workers that train a trial."""
        return [worker for worker in self._workers if worker.is_busy]

    def listen(self, seconds: float) -> Iterator[tuple[Worker, Answer]]:
        """Yield the answers of the workers, after waiting up to `seconds` for the first one.

        A worker that is stuck is killed, with a warning; its death is its next answer.
        """
        poll = select.poll()
        for worker in self._workers:
            poll.register(worker, select.POLLIN)
        if self._server is not None:
            poll.register(self._server, select.POLLIN)
        poll.poll(seconds * 1000)
        for worker in list(self._workers):
            was_ready = worker.is_ready
            answers = worker.answers()
            if worker.is_ready and not was_ready:
                self._failed_starts = 0
            if worker.is_stuck():
                worker.kill()
                _warn(
                    f"the worker process {worker.place} gave no sign of life for "
                    f"{self._grace:g} s (sweep.grace); it is killed and replaced"
                )
            for answer in answers:
                yield worker, answer

    def test(self, job: TestJob, meanwhile: Iterator[object]) -> TestResult:
        """Test the weights of a trial with an idle worker; raises what `dismiss` raises.

        Until the answer is there, this process takes the steps of `meanwhile`.
        """
        while not self.idle():
            self.start(1)
            for worker, answer in self.listen(1.0):
                if isinstance(answer, WorkerDied):
                    self.dismiss(worker, answer)
        worker = self.idle()[0]
        worker.test(job)
        while True:
            has_steps = next(meanwhile, worker) is not worker  # `worker` stands for the end
            for sender, answer in self.listen(0.0 if has_steps else 1.0):
                if sender is worker and isinstance(answer, TestResult):
                    return answer
                if isinstance(answer, WorkerDied):
                    self.dismiss(sender)
                    if sender is worker:
                        return TestResult(problem=f"its process died ({answer.message})")

    def dismiss(self, worker: Worker, gone: WorkerDied | None = None) -> None:
        """End a worker, or remove one that has died, with its last answer `gone`.

        Raises EnvironmentFaultError if several workers in a row died before they were ready, or if
        no other worker can run there.
        """
        if worker in self._workers:
            self._workers.remove(worker)
            worker.quit()
            if worker.is_left:
                _warn(
                    f"the worker process {worker.place} does not end, not even by SIGKILL, and is "
                    "left; the disk, the mount or the machine that it uses does not answer"
                )
        if gone is None or worker.is_ready or self.has_lost_server:
            return
        if gone.final:
            raise EnvironmentFaultError(gone.message)
        self._count_failed_start(gone.message)

    def _count_failed_start(self, why: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= FAILED_STARTS:
            raise EnvironmentFaultError(
                f"{FAILED_STARTS} workers in a row died before they were ready "
                f"({why}); check that a single run works: pipeline train"
            )

    def kill(self) -> None:
        """Kill and remove all workers that still train."""
        for worker in self.busy():
            worker.kill()
            self.dismiss(worker)


@contextmanager
def worker_pool(plan: "StudyPlan", server: ForkServer | None) -> Iterator[WorkerPool]:
    """Yield the workers of a study, none started yet, on this machine or a Ray cluster.

    `server` is a started `worker_server`; `None` if the study is to go without.
    """
    from pipeline.running.devices import worker_environment

    processes = {PROCESSES: str(plan.options.devices_per_trial)}
    on_ray = plan.options.launcher == "ray"
    with cluster_of(plan, processes) if on_ray else nullcontext() as cluster:

        def process(slot: int) -> Child | RayProcess:
            if cluster is not None:
                return cluster.worker()
            # A substudy, such as the tuning of a cell, may have more workers than this study.
            gpus = plan.gpus[slot % plan.workers]
            return worker_process({**processes, **worker_environment(gpus)}, server)

        with WorkerPool(process, server=server, grace=plan.options.grace) as pool:
            yield pool


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)
