"""Preflight: a run of one batch of everything in the config tree, before long runs are started.

Workers train each model on each data set, each experiment, and the extreme points of each study's
space with one batch; nothing is recorded. What would fail is one list, with a line per reason.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from rich.text import Text

from pipeline.base.ends import End, TrialEnd
from pipeline.base.errors import RAISED, ConfigError
from pipeline.base.processes.fork_server import ForkServer
from pipeline.base.terminal import console, duration, redrawing, say
from pipeline.networks import MISFIT
from pipeline.running.devices import available
from pipeline.running.failures import BUG
from pipeline.study.messages import Job, WorkerDied
from pipeline.study.preflight_plan import PreflightPlan
from pipeline.study.rehearsals import ITS_OWN, Rehearsal, count_words, failure_lines
from pipeline.study.workers.pool import Worker, WorkerPool

#: Most workers on CPUs and on a GPU; a worker takes seconds to start, a run a fraction of one.
MOST_WORKERS = 8
WORKERS_A_GPU = 4
AHEAD = 2  # runs composed ahead for each worker
#: Time between two polls of the workers.
SECONDS = 0.25


def preflight(words: Sequence[str], config_dir: str | None, server: ForkServer | None) -> None:
    """Try all that a command line leaves open, and print what would fail; no files are kept.

    `words` are the overrides of the command line, `config_dir` the folder of the user's YAML,
    `server` what forks the workers, as for `WorkerPool`.

    Raises:
        ConfigError: Something would fail (one line per reason), or the command line is wrong.
        EnvironmentFaultError: Workers die before they are ready.
    """
    started_at = time.monotonic()
    plan = PreflightPlan(words, config_dir)
    with (
        TemporaryDirectory(prefix="preflight-") as folder,
        WorkerPool(server=server, grace=plan.options.grace) as pool,
    ):
        rehearsals = Preflight(plan, pool, Path(folder)).work()
    if plan.verbose != 0:
        say(console(), count_words(rehearsals, f" in {duration(time.monotonic() - started_at)}"))
    sys.stdout.flush()
    if lines := failure_lines(rehearsals):
        raise ConfigError(*lines)


class Preflight:
    """Tries all runs of a plan on the workers of `pool`, each in its own folder below `folder`."""

    def __init__(self, plan: PreflightPlan, pool: WorkerPool, folder: Path) -> None:
        self._plan = plan
        self._pool = pool
        self._folder = folder
        devices = available()
        most_workers = WORKERS_A_GPU if devices.gpus or devices.mps else MOST_WORKERS
        self._workers = plan.options.workers or min(devices.cores, most_workers)
        #: All runs in the order in which they are tried; the index is the number of the job.
        self._rehearsals: list[Rehearsal] = []
        self._waiting: list[Job] = []

    def work(self) -> list[Rehearsal]:
        """Try everything, and return it with what came of it."""
        pool = self._pool
        rehearsals = self._plan.rehearsals()
        all_queued = False
        shows = self._plan.verbose in (None, 1)
        with redrawing(self._progress) if shows else nullcontext():
            while not all_queued or self._waiting or pool.busy():
                pool.start(self._workers)
                if not all_queued and self._has_room_in_queue():
                    rehearsal = next(rehearsals, None)
                    if rehearsal is None:
                        all_queued = True
                    else:
                        self._queue(rehearsal)
                for worker in pool.idle()[: len(self._waiting)]:
                    worker.train(self._waiting.pop(0))
                composes_next = not all_queued and self._has_room_in_queue()
                self._listen(0.0 if composes_next else SECONDS)
        return self._rehearsals

    def _has_room_in_queue(self) -> bool:
        return len(self._waiting) < AHEAD * self._workers

    def _queue(self, rehearsal: Rehearsal) -> None:
        """Queue a run for the workers, unless it could not even be composed."""
        number = len(self._rehearsals)
        self._rehearsals.append(rehearsal)
        if rehearsal.message is not None:
            self._say_verdict(rehearsal)
            return
        folder = self._folder / str(number)
        folder.mkdir()
        job = Job(
            number=number,
            folder=str(folder),
            name="preflight",
            config=rehearsal.config,
            trust=self._plan.trust,
            objectives=list(rehearsal.objectives),
            keep=False,
        )
        self._waiting.append(job)

    def _listen(self, seconds: float) -> None:
        for worker, answer in self._pool.listen(seconds):
            if isinstance(answer, WorkerDied):
                self._pool.dismiss(worker, answer)
            if isinstance(answer, WorkerDied | TrialEnd) and worker.is_busy:
                self._judge(worker, answer)
        for worker in self._pool.busy():
            worker.end_if_slower_than(self._plan.options.trial_timeout)

    def _judge(self, worker: Worker, ended: TrialEnd | WorkerDied) -> None:
        """Note whether a run that has ended would fail, and why."""
        rehearsal = self._rehearsals[worker.number]
        worker.is_busy = False
        rmtree(worker.job.folder)
        if isinstance(ended, WorkerDied):
            died = f"its process died ({ended.message})"
            ended = TrialEnd(end=End.ERROR, message=died)
        elif worker.is_overdue and ended.end.is_failure:
            slow = f"it took longer than sweep.trial_timeout={self._plan.options.trial_timeout}"
            ended = TrialEnd(end=End.ERROR, message=slow, exit_code=ended.code)
        message = ended.message or f"it ended as {ended.end}"
        combines = rehearsal.cell.column != ITS_OWN  # the preflight has chosen the model
        is_misfit = combines and MISFIT in message
        diverged = ended.end is End.DIVERGED and rehearsal.cell.is_study
        if not ended.end.is_failure or is_misfit or diverged:
            message = ""
        elif ended.code == BUG or RAISED in message:
            command = rehearsal.train_command(self._plan.words, self._plan.config_dir)
            rehearsal.hint = f"; for the traceback: {command}"
        rehearsal.message = message
        self._say_verdict(rehearsal)

    def _say_verdict(self, rehearsal: Rehearsal) -> None:
        if self._plan.verbose == 2:
            verdict = "FAILS" if rehearsal.message else "ok"
            say(console(), f"{verdict:7}{rehearsal.cell.words}")

    def _progress(self) -> Text:
        line = f"preflight  {count_words(self._rehearsals)}"
        running = [self._rehearsals[worker.number].cell.words for worker in self._pool.busy()]
        if running:
            line += f"   now {', '.join(running)}"
        return Text(line, overflow="ellipsis", no_wrap=True)
